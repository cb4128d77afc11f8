"""`jobs/finetune.py`: one run, by one process or several, whose weights are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmpred.ledger import Ledger, RunRecord

from .conftest import ROOT, submit

RUN = ROOT / "jobs" / "finetune.yaml"
SHORT = ("--set", "optim.max_steps=20", "--set", "evaluation.limit=40")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage that the command line uses where none is named."""
    monkeypatch.setenv("LLMPRED_STORAGE", str(tmp_path / "storage"))
    return str(tmp_path / "storage")


def only(storage: str) -> RunRecord:
    [key] = Ledger(storage).keys()
    return Ledger(storage).get(key)


@pytest.mark.slow
def test_it_leaves_adapter_record_and_mlflow_run(
    storage: str, llmpred: Any, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    out = tmp_path / "mine"
    said = llmpred("finetune", RUN, *SHORT, "--out", out)
    assert said.code == 0, said.err
    record = only(storage)
    assert record.status == "ok"
    assert f"accuracy_r  {record.accuracy_r:.4g}" in said.out
    assert {path.name for path in out.iterdir()} == {
        *("lora_adapter", "train_results.json", "test_results.json", "predictions.parquet"),
    }
    assert _scores_by_peft(out / "lora_adapter", record) == record.accuracy_r
    assert json.loads((out / "test_results.json").read_text())["accuracy_r"] == record.accuracy_r
    trained = json.loads((out / "train_results.json").read_text())
    assert trained["steps"] == 20
    assert trained["loss_curve"] == [*record.loss_curve]
    adapter = out / "lora_adapter" / "adapter_model.safetensors"
    assert trained["weights_bytes"] == adapter.stat().st_size
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("llmpred")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`llmpred.key` = '{record.key}'")
    [run] = runs
    assert any(a.path == "adapter" for a in client.list_artifacts(run.info.run_id))

    again = llmpred("finetune", RUN, *SHORT)
    assert again.code == 0
    assert "nothing to do" in again.err
    assert len(list(Ledger(storage).storage.list("records/"))) == 1

    # The run of a record whose weights are gone is trained once more, to the same score.
    shutil.rmtree(Path(storage) / "adapters")
    third = llmpred("finetune", record.key[:8], "--json")
    assert third.code == 0, third.err
    assert json.loads(third.out)["accuracy_r"] == record.accuracy_r
    assert only(storage).revision == 1
    assert (Path(storage) / only(storage).adapter / "adapter_model.safetensors").exists()


def _scores_by_peft(adapter: Path, record: RunRecord) -> float:
    """Return the score that the kept adapter has when PEFT itself loads it."""
    from llmpred.bases.resolve import resolve
    from llmpred.engine.imported import score

    assert record.spec is not None
    found = score(resolve(record.spec), adapter, adapter.parent / "scratch").record.accuracy_r
    assert found is not None
    return found


def test_a_run_that_trains_nothing_is_refused(storage: str, llmpred: Any) -> None:
    said = llmpred("finetune", RUN, "--set", "method.adapter.kind=none")
    assert said.code == 2
    assert "must train something" in said.err


def test_an_out_that_is_there_is_refused(storage: str, llmpred: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    said = llmpred("finetune", RUN, "--out", tmp_path / "full")
    assert said.code == 2
    assert "new or empty" in said.err
    assert (tmp_path / "full" / "x").exists()


# --- several processes, submitted to a cluster ---------------------------------------------------


@pytest.mark.slow
@pytest.mark.cluster
def test_submitted_runs_of_two_processes_are_those_of_one(cluster: str, tmp_path: Path) -> None:
    """LoRA by ZeRO-2 and ZeRO-3 and QLoRA (NF4) by ZeRO-2, against one process each."""
    run = yaml.safe_load(RUN.read_text())
    run["optim"]["lr"] = 1e-3
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    nf4 = ("--set", "base.quantization=nf4")
    for strategy, options, tolerance in [
        (None, (), 0.0),
        ("zero2", (), 1e-3),
        ("zero3", (), 1e-3),
        (None, nf4, 0.0),
        ("zero2", nf4, 0.05),  # bf16: sums in another order differ in the third digit
    ]:
        name = "-".join([strategy or "alone", *options[1:]])
        storage = str(tmp_path / name)
        several = ["--workers", "2", "--strategy", strategy] if strategy else []
        arguments = [str(tmp_path / "run.yaml"), *SHORT, *options, *several, "--storage", storage]
        done = submit(cluster, "finetune", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        record = only(storage)
        if strategy is None:
            expected = record
            continue
        assert record.key == expected.key
        distributed = record.provenance["execution"]["distributed"]
        assert (distributed["workers"], distributed["strategy"]) == (2, strategy)
        assert expected.provenance["execution"]["distributed"] is None
        ours, theirs = ([row["loss"] for row in r.loss_curve] for r in (record, expected))
        assert ours == pytest.approx(theirs, abs=tolerance)
        assert record.accuracy_r == pytest.approx(expected.accuracy_r, abs=0.026)  # 1 of 40
        adapter = Path(storage) / str(record.adapter)
        assert _scores_by_peft(adapter, record) == pytest.approx(record.accuracy_r, abs=0.026)
