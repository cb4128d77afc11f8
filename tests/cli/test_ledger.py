from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpred.bases.resolve import resolve
from llmpred.cli.ledger import sparkline
from llmpred.ledger import Ledger, RunRecord
from llmpred.spec.space import load_run

Run = Callable[..., Any]


def at(ledger: Ledger) -> list[str]:
    return ["--storage", ledger.storage.root]


def one(ledger: Ledger, **wanted: Any) -> str:
    """Return the key of the one run with these values."""
    (row,) = (
        row
        for row in ledger.table().to_pylist()
        if all(row[name] == value for name, value in wanted.items())
    )
    return str(row["key"])


# --- ls and show -------------------------------------------------------------------------------


def test_ls_sorts_filters_and_limits(ledger: Ledger, llmpred: Run):
    rows = json.loads(llmpred("ledger", "ls", *at(ledger), "--sort", "accuracy_r", "--json").out)
    assert [row["accuracy_r"] for row in rows] == [0.9, 0.7, None]
    rows = json.loads(
        llmpred("ledger", "ls", *at(ledger), "--where", "dataset=reviews,status=ok", "--json").out
    )
    assert [row["accuracy_r"] for row in rows] == [0.7]
    rows = json.loads(
        llmpred(
            *("ledger", "ls", *at(ledger), "--where", "optim.lr=1e-4"),
            *("--columns", "key,optim.lr", "--columns", "base", "--json"),
        ).out
    )
    assert [list(row) for row in rows] == [["key", "optim.lr", "base"]]
    ran = llmpred("ledger", "ls", *at(ledger), "--limit", "1")
    assert "1 of 3 runs" in ran.out


def test_ls_shows_why_attempts_failed(ledger: Ledger, llmpred: Run):
    assert "the node died" not in llmpred("ledger", "ls", *at(ledger)).out
    ran = llmpred("ledger", "ls", *at(ledger), "--attempts")
    assert ran.code == 0
    assert "the node died" in ran.out


def test_ls_of_nothing_that_fits(ledger: Ledger, llmpred: Run):
    ran = llmpred("ledger", "ls", *at(ledger), "--where", "dataset=none")
    assert ran.code == 0
    assert "no runs" in ran.out


def test_show_takes_a_prefix(ledger: Ledger, llmpred: Run):
    key = one(ledger, accuracy_r=0.7)
    ran = llmpred("ledger", "show", key[:8], *at(ledger))
    assert ran.code == 0
    assert key in ran.out
    assert "█" in ran.out
    assert "1 failed before: the node died" in ran.out
    shown = json.loads(llmpred("ledger", "show", key[:8], *at(ledger), "--json").out)
    assert shown["record"]["accuracy_r"] == 0.7
    assert [row["right"] for row in shown["predictions"]] == [False, True, True]
    assert RunRecord.model_validate(shown["record"]) == ledger.get(key)


def test_show_of_a_run_that_diverged(ledger: Ledger, llmpred: Run):
    key = one(ledger, status="diverged")
    ran = llmpred("ledger", "show", key, *at(ledger))
    assert ran.code == 0
    assert "diverged" in ran.out


def test_sparkline_spans_its_bars():
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert len(sparkline([float(i) for i in range(1000)])) == 60


# --- export, import, retract, compact, verify --------------------------------------------------


def test_export_by_suffix(ledger: Ledger, llmpred: Run, tmp_path: Path):
    for suffix in ("csv", "parquet", "jsonl"):
        file = tmp_path / f"runs.{suffix}"
        ran = llmpred("ledger", "export", file, *at(ledger), "--json")
        assert (ran.code, json.loads(ran.out)["rows"]) == (0, 3)
    raw = (tmp_path / "runs.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
    assert {row["accuracy_r"] for row in rows} == {"0.7", "0.9", ""}


def test_import_a_table_twice_adds_it_once(llmpred: Run, tmp_path: Path):
    table = tmp_path / "runs.csv"
    table.write_text("task,model,score,seed\nsst2,bert,91.5,1\nsst2,bert,90.0,2\n")
    command = ["ledger", "import", table, "--map", "accuracy_r=score,dataset=task,base=model"]
    command += ["--map", "seed=seed", "--scale", "100", "--storage", tmp_path / "store"]
    ran = llmpred(*command)
    assert (ran.code, ran.out[:15]) == (0, "2 runs imported")
    done = json.loads(llmpred(*command, "--json").out)
    assert (len(done["added"]), len(done["known"])) == (0, 2)
    assert {Ledger(tmp_path / "store").get(key).accuracy_r for key in done["known"]} == {0.915, 0.9}


def test_retract_keeps_the_record_and_unpays_the_run(ledger: Ledger, llmpred: Run):
    key = one(ledger, accuracy_r=0.9)
    ran = llmpred("ledger", "retract", key[:10], "--why", "wrong labels", *at(ledger))
    assert ran.code == 0
    assert not ledger.has(key)
    again = llmpred("ledger", "retract", key, "--why", "wrong labels", *at(ledger))
    assert again.code == 2


def test_compact_and_verify(ledger: Ledger, llmpred: Run):
    done = json.loads(
        llmpred("ledger", "compact", "--grace-seconds", "0", *at(ledger), "--json").out
    )
    assert done["folded"] == 3
    assert not list(Path(ledger.storage.root).glob("records/*/*.json"))
    ran = llmpred("ledger", "verify", *at(ledger))
    assert ran.code == 0
    assert "3 runs" in ran.out
    assert len(json.loads(llmpred("ledger", "ls", *at(ledger), "--json").out)) == 3


def test_verify_finds_what_was_changed(ledger: Ledger, llmpred: Run):
    key = one(ledger, accuracy_r=0.7)
    (path,) = Path(ledger.storage.root).glob(f"records/*/{key}.json")
    path.write_text(path.read_text().replace('"accuracy_r":0.7', '"accuracy_r":0.9'))
    ran = llmpred("ledger", "verify", *at(ledger))
    assert ran.code == 1
    assert "tampered" in ran.out
    (found,) = json.loads(llmpred("ledger", "verify", *at(ledger), "--json").out)
    assert (found["kind"], found["key"]) == ("tampered", key)
    assert "damaged" in llmpred("ledger", "ls", *at(ledger)).err


def test_sync_mlflow_logs_each_run_once(
    ledger: Ledger, llmpred: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ran = llmpred("ledger", "sync-mlflow", *at(ledger), "--json")
    assert (ran.code, json.loads(ran.out)["logged"]) == (0, 3)
    ran = llmpred("ledger", "sync-mlflow", *at(ledger))
    assert "0 runs logged, 3 were logged before" in ran.out


def test_sync_to_a_server_that_is_down_says_so(ledger: Ledger, llmpred: Run):
    start = time.perf_counter()
    ran = llmpred("ledger", "sync-mlflow", *at(ledger), "--uri", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "not logged" in ran.err
    assert time.perf_counter() - start < 30


# --- diff ----------------------------------------------------------------------------------------


SPEC = """
task: {{name: sentiment, max_length: 64}}
dataset: {{source: {data}}}
base: {{name: {base}}}
method: {{head: {head}, adapter: {{r: {r}}}}}
optim: {{lr: {lr}, max_steps: 2, batch_size: 4}}
evaluation: {{holdout: 0.5}}
"""


@pytest.fixture
def write_spec(
    tmp_path: Path, write_reviews: Callable[..., Path], tiny_encoder: Path
) -> Callable[..., Path]:
    def write(name: str, count: int = 40, **changes: Any) -> Path:
        values = {"base": tiny_encoder, "head": "classifier", "r": 4, "lr": 1e-3} | changes
        path = tmp_path / name
        path.write_text(SPEC.format(data=write_reviews(f"data{count}.tsv", count), **values))
        return path

    return write


@pytest.fixture
def paid(tmp_path: Path, write_spec: Callable[..., Path]) -> tuple[Ledger, str]:
    """A ledger with the record of `a.yaml`, and its key."""
    run = resolve(load_run(write_spec("a.yaml")))
    ledger = Ledger(tmp_path / "store")
    ledger.put(
        RunRecord(
            key=run.key,
            train_key=run.train_key,
            dataset=run.dataset,
            base=run.base,
            spec=run.spec,
            hashes=run.hashes,
            versions=run.versions,
            counts=run.counts,
            status="ok",
            accuracy_r=0.5,
        )
    )
    return ledger, run.key


def test_diff_of_a_paid_run(
    paid: tuple[Ledger, str], write_spec: Callable[..., Path], llmpred: Run
):
    ledger, key = paid
    ran = llmpred("ledger", "diff", key[:8], write_spec("a.yaml"), *at(ledger), "--json")
    said = json.loads(ran.out)
    assert (ran.code, said["same"], said["paid"], said["differences"]) == (0, True, True, [])
    ledger.retract(key, "a doubt")
    ran = llmpred("ledger", "diff", key[:8], write_spec("a.yaml"), *at(ledger))
    assert "retracted" in ran.out


def test_diff_names_the_settings_that_differ(
    paid: tuple[Ledger, str], write_spec: Callable[..., Path], llmpred: Run
):
    ledger, key = paid
    other = write_spec("b.yaml", lr=2e-3, r=8)
    said = json.loads(llmpred("ledger", "diff", key, other, *at(ledger), "--json").out)
    assert not said["paid"]
    assert [d["path"] for d in said["differences"]] == [
        "train.method.adapter.r",
        "train.optim.lr",
    ]
    assert said["differences"][1] == {"path": "train.optim.lr", "record": 0.001, "run": 0.002}
    ran = llmpred("ledger", "diff", key, other, *at(ledger))
    assert ran.code == 0
    assert "differs from the record in 2 places" in ran.out


def test_diff_says_what_is_behind_a_hash(
    paid: tuple[Ledger, str], write_spec: Callable[..., Path], llmpred: Run
):
    ledger, key = paid
    other = write_spec("b.yaml", count=60)
    said = json.loads(llmpred("ledger", "diff", key, other, *at(ledger), "--json").out)
    assert {d["path"] for d in said["differences"]} == {"train.data.train", "evaluation.data"}
    because = {d["path"]: (d["record"], d["run"]) for d in said["because"]}
    assert because.keys() == {"dataset.source", "rows.train", "rows.evaluation"}
    assert because["rows.train"] == (20, 30)


def test_diff_of_a_file_whose_rows_changed(
    paid: tuple[Ledger, str], write_spec: Callable[..., Path], llmpred: Run
):
    ledger, key = paid
    spec = write_spec("a.yaml")
    data = spec.parent / "data40.tsv"
    data.write_text(data.read_text().replace("film", "story"))
    ran = llmpred("ledger", "diff", key, spec, *at(ledger))
    assert "its content has changed" in ran.out
    assert "differs from the record in 2 places" in ran.out


def test_diff_with_a_space_takes_its_nearest_run(
    paid: tuple[Ledger, str],
    write_reviews: Callable[..., Path],
    tiny_encoder: Path,
    tmp_path: Path,
    llmpred: Run,
):
    ledger, key = paid
    space = tmp_path / "space.yaml"
    space.write_text(
        f"""
sampler: grid
task: {{name: sentiment, max_length: 64}}
datasets: [{{source: {write_reviews("data40.tsv")}}}]
bases: [{tiny_encoder}]
methods: [{{head: classifier, adapter: {{r: {{grid: [4, 8]}}}}}}]
optim: {{lr: {{grid: [0.002, 0.003]}}, max_steps: 2, batch_size: 4}}
evaluation: {{holdout: 0.5}}
"""
    )
    said = json.loads(llmpred("ledger", "diff", key, space, *at(ledger), "--json").out)
    assert said["runs_compared"] == 4
    assert [d["path"] for d in said["differences"]] == ["train.optim.lr"]
    said = json.loads(
        llmpred("ledger", "diff", key, space, *at(ledger), "--set", "optim.lr=1e-3", "--json").out
    )
    assert said["same"]


# --- adapters made elsewhere -------------------------------------------------------------------


@pytest.fixture
def adapter(
    tmp_path: Path, write_spec: Callable[..., Path], tiny_causal: Path
) -> tuple[Path, Path]:
    """Folder of a trained adapter, the spec of its run."""
    from llmpred.engine.models import LoadedBases
    from llmpred.engine.run import execute

    spec = write_spec("lora.yaml", base=tiny_causal, head="label_scoring", lr=1e-2)
    outcome = execute(resolve(load_run(spec)), LoadedBases(), tmp_path / "run", keep_adapter=True)
    Ledger(tmp_path / "trained").put(outcome.record, outcome.predictions)
    assert outcome.adapter is not None
    return outcome.adapter, spec


def test_an_adapter_is_scored_as_its_run_was(
    adapter: tuple[Path, Path], llmpred: Run, tmp_path: Path
):
    folder, spec = adapter
    command = ["ledger", "import", "--adapter", folder, "--spec", spec]
    command += ["--storage", tmp_path / "store", "--json"]
    ran = llmpred(*command)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    trained = Ledger(tmp_path / "trained")
    run = trained.get(one(trained, status="ok"))
    imported = Ledger(tmp_path / "store").get(said["key"])
    assert imported.origin == "imported"
    assert imported.accuracy_r == run.accuracy_r
    assert not {imported.key, imported.train_key} & {run.key, run.train_key}
    scores = [
        ledger.predictions(record.key)["scores"].to_pylist()
        for ledger, record in ((trained, run), (Ledger(tmp_path / "store"), imported))
    ]
    assert scores[0] == scores[1]
    again = json.loads(llmpred(*command).out)
    assert again == {"key": said["key"], "accuracy_r": run.accuracy_r, "known": True}


def test_an_adapter_of_other_settings_is_refused(
    adapter: tuple[Path, Path], write_spec: Callable[..., Path], tiny_causal: Path, llmpred: Run
):
    folder, spec = adapter
    other = write_spec("other.yaml", base=tiny_causal, head="label_scoring", r=8)
    other.write_text(
        other.read_text().replace("{r: 8}", "{r: 8, alpha: 32, target_modules: [q_proj]}")
    )
    store = spec.parent / "store"
    ran = llmpred("ledger", "import", "--adapter", folder, "--spec", other, "--storage", store)
    assert ran.code == 2
    for part in ("r must be that of the spec, 8, but got 4", "lora_alpha", "target_modules"):
        assert part in ran.err
    assert not list(store.rglob("*.json"))
