"""The job's options, and jobs submitted to a cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import submit


def few(sweep: Any, *rates: float) -> None:
    """Make the sweep one run a learning rate."""
    sweep.space["optim"]["lr"] = {"grid": list(rates)}
    sweep.space["seeds"] = [0]


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_forced_runs_supersede_and_the_old_records_stay(sweep: Any) -> None:
    few(sweep, 1e-2)
    said(sweep.run("--json"))
    before = sweep.records()
    said(sweep.run("--json", "--force"))
    after = sweep.records()
    assert len(before) == 1
    assert len(after) == 2
    assert before.items() <= after.items()
    [key] = sweep.ledger.keys()
    assert sweep.ledger.get(key).revision == 1
    assert sweep.ledger.get(key, 0).accuracy_r == sweep.ledger.get(key).accuracy_r
    assert sweep.executions() == 2


@pytest.mark.slow
def test_kept_weights_are_evaluated_anew_without_training(sweep: Any) -> None:
    few(sweep, 1e-2)
    sweep.space["execution"] = {"keep": "all"}
    said(sweep.run("--json"))
    [first] = map(sweep.ledger.get, sweep.ledger.keys())
    folder = Path(sweep.storage) / f"adapters/{first.train_key}"
    assert first.adapter == f"adapters/{first.train_key}"
    assert (folder / "adapter_model.safetensors").exists()

    rows = (sweep.folder / "test.jsonl").read_text().splitlines()
    (sweep.folder / "fewer.jsonl").write_text("\n".join(rows[:20]))
    sweep.space["evaluation"]["data"]["source"] = "fewer.jsonl"
    [key] = [row["key"] for row in said(sweep.run("--json"))["run_list"]]
    second = sweep.ledger.get(key)
    assert second.train_key == first.train_key
    assert second.key != first.key
    assert "train" not in second.wall_seconds
    assert second.loss_curve == first.loss_curve
    assert second.tokens == first.tokens
    assert second.provenance["trained_by"] == first.key
    before, after = map(sweep.ledger.predictions, (first.key, second.key))
    assert after.select(["prediction"]).equals(before.slice(0, 20).select(["prediction"]))


@pytest.mark.slow
def test_of_kept_weights_only_the_best_stay(sweep: Any) -> None:
    few(sweep, 1e-5, 1e-2)
    sweep.space["execution"] = {"keep": "best"}
    rows = said(sweep.run("--json"))["run_list"]
    best = max(rows, key=lambda row: row["accuracy_r"])["key"]
    kept = [path.name for path in (Path(sweep.storage) / "adapters").iterdir()]
    assert kept == [sweep.ledger.get(best).train_key]


@pytest.mark.slow
def test_a_dry_run_measures_and_records_nothing(sweep: Any) -> None:
    done = sweep.run("--dry-run", "1", "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["state"] == "ok"
    assert row["expected_seconds"] > row["load_seconds"] > 0
    assert row["peak_memory_bytes"] > 10**8
    assert sweep.records() == {}
    assert sweep.executions() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [("--max-hours", "0.0001"), ("--max-cost", "0.001", "--price-per-hour", "10")],
)
def test_a_limit_stops_the_sweep_and_it_can_be_resumed(
    sweep: Any, options: tuple[str, ...]
) -> None:
    done = sweep.run(*options)
    assert done.returncode == 1
    assert "stopped: the limit of time or cost is reached" in done.stderr
    assert "The same command resumes" in done.stderr
    assert len(sweep.records()) < 12


def test_a_limit_of_cost_needs_a_price(sweep: Any) -> None:
    done = sweep.run("--max-cost", "20")
    assert done.returncode == 2
    assert "--price-per-hour" in done.stderr


# --- submitted to a cluster --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.cluster
def test_eight_runs_by_ray_job_submit_are_in_the_ledger_and_in_mlflow(
    cluster: str, sweep: Any, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    few(sweep, 1e-3, 3e-3, 1e-2, 3e-2)
    sweep.space["seeds"] = [0, 1]
    for part in ("train", "test"):  # of a submitted job, relative paths start in what is uploaded
        source = str(sweep.folder / f"{part}.jsonl")
        if part == "train":
            sweep.space["datasets"][0]["source"] = source
        else:
            sweep.space["evaluation"]["data"]["source"] = source
    space = sweep.folder / "space.yaml"
    space.write_text(json.dumps(sweep.space))
    done = submit(cluster, "collect_ground_truth", "--space", str(space))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(sweep.ledger.keys()) == 8
    client = MlflowClient(f"sqlite:///{tmp_path}/storage/mlflow.db")
    experiment = client.get_experiment_by_name("llmpred")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    keys = {run.data.tags.get("llmpred.key") for run in runs}
    assert sweep.ledger.keys() <= keys
    again = submit(cluster, "collect_ground_truth", "--space", str(space))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to do" in again.stdout


@pytest.mark.slow
@pytest.mark.cluster
def test_without_a_space_the_demo_is_collected(cluster: str, sweep: Any) -> None:
    done = submit(cluster, "collect_ground_truth", "--set", "optim.max_steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    records = list(map(sweep.ledger.get, sweep.ledger.keys()))
    assert len(records) == 22  # 18 fine-tunes, 4 evaluation sets scored untrained
    assert {record.spec.base.name for record in records} == {"proxy"}
