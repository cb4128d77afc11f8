"""`llmpred compare`: a space of real, tiny runs in this process; and through Ray, in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmpred.ledger import Ledger, safe_name
from tests import browser
from tests.quick import quick

__all__ = ["quick"]

Run = Callable[..., Any]
LORA = {"kind": "lora", "r": 4, "alpha": 8}
NONE = {"kind": "none"}
METHODS: list[dict[str, Any]] = [
    {"name": "LoRA, classifier head", "head": "classifier", "adapter": LORA},
    {"name": "LoRA, label scoring", "head": "label_scoring", "adapter": LORA},
    {"name": "zero-shot", "head": "label_scoring", "adapter": NONE},
    {
        "name": "zero-shot, calibrated",
        "head": "label_scoring",
        "adapter": NONE,
        "evaluation": {"calibration": "contextual"},
    },
    {"name": "frozen base, trained head", "head": "classifier", "adapter": NONE},
    {
        "name": "adapter off",
        "head": "classifier",
        "adapter": LORA,
        "evaluation": {"adapter_off": True},
    },
]


def space_of(folder: Path, bases: list[str], methods: list[dict[str, Any]], **more: Any) -> Path:
    """Write a space of short runs on generated reviews, and return its file."""
    source = "synthetic:sentiment"
    space = {
        "name": "schemes",
        "sampler": "grid",
        "task": {
            "name": "sentiment",
            "labels": {"negative": "negative", "positive": "positive"},
            "max_length": 64,
        },
        "datasets": [{"name": "reviews", "source": source, "options": {"n": 32, "part": "train"}}],
        "bases": bases,
        "methods": methods,
        "optim": {"lr": 1e-2, "max_steps": 3, "batch_size": 8, "precision": "fp32"},
        "evaluation": {"data": {"source": source, "options": {"n": 16, "part": "test"}}},
        "execution": {"device": "cpu", "keep": "all"},
        **more,
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    return path


def carry_out_all(space: Path, ledger: Ledger, scratch: Path) -> None:
    """Carry out the runs of a space in this process, and record them as a worker does."""
    from llmpred.cli.runs import plan_of
    from llmpred.engine.models import LoadedBases
    from llmpred.engine.run import execute

    _, planned = plan_of(str(space), [], ledger)
    bases = LoadedBases()
    for run in planned.todo:
        folder = scratch / run.key
        folder.mkdir(parents=True)
        outcome = execute(run, bases, folder, keep_adapter=True)
        record = outcome.record
        if outcome.adapter is not None:
            place = f"adapters/{record.train_key}"
            ledger.storage.put_folder(outcome.adapter, place)
            record = record.model_copy(update={"adapter": place})
        ledger.put(record, outcome.predictions)


@pytest.fixture(scope="module")
def collected(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A space and the storage that has all of its runs."""
    folder = tmp_path_factory.mktemp("compare")
    published = {
        "method": "zero-shot",
        "base": "Another-7B",
        "data": "elsewhere",
        "metrics": {"accuracy": 0.88},
        "source": "a paper",
    }
    three = [METHODS[0], METHODS[1], METHODS[2]]
    space = space_of(folder, [str(tiny_causal)], three, published=[published])
    storage = folder / "storage"
    carry_out_all(space, Ledger(storage), folder / "scratch")
    return space, str(storage)


def test_what_is_there_is_compared(
    collected: tuple[Path, str], llmpred: Run, tmp_path: Path
) -> None:
    space, storage = collected
    out = tmp_path / "out"
    said = llmpred(
        *("compare", space, "--storage", storage, "--no-collect", "--no-tracking"),
        *("--out", out, "--latency", "3", "--suite", "metrics,confidence,robustness"),
    )
    assert said.code == 0, said.err
    assert "against LoRA, classifier head" in said.out
    assert "Take " in said.out
    told = json.loads((out / "comparison.json").read_text())
    [group] = told["groups"]
    assert [row["scheme"] for row in group["rows"]] == [
        *("zero-shot", "LoRA, classifier head", "LoRA, label scoring"),
    ]
    ledger = Ledger(storage)
    scores = {r.spec.method.name: r.accuracy_r for r in ledger.records() if r.spec}
    for row in group["rows"]:
        assert row["score"] == scores[row["scheme"]]
        assert row["latency"]["texts"] == 3
        assert row["latency"]["median"] > 0
        folder = out / safe_name(row["scheme"])
        robust = json.loads((folder / "robustness_result.json").read_text())
        assert {
            *("original_accuracy", "perturbed_accuracy", "robustness_score"),
            "perturbation_tests",
        } <= set(robust)
        assert robust["original_accuracy"] == row["score"]
    assert "Another-7B on elsewhere (a paper)" in (out / "report.html").read_text()

    again = llmpred(
        *("compare", space, "--storage", storage, "--no-collect", "--no-tracking"),
        *("--out", out, "--latency", "0", "--reference", "zero-shot", "--json"),
    )
    assert again.code == 0, again.err
    [group] = json.loads(again.out)["groups"]
    assert group["reference"] == "zero-shot"
    assert group["rows"][0]["apart"] is None


def test_mistakes_are_told_before_anything_runs(
    collected: tuple[Path, str], llmpred: Run, tmp_path: Path
) -> None:
    space, storage = collected
    command = ("compare", space, "--storage", storage, "--no-tracking", "--out")
    for options, law in [
        (("--reference", "zeroshot"), "Did you mean `zero-shot`?"),
        (("--suite", "metric"), "Did you mean `metrics`?"),
        (("--set", "mode=search"), "mode"),
    ]:
        said = llmpred(*command, tmp_path / "new", *options)
        assert said.code == 2
        assert law in said.err
        assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    said = llmpred(*command, tmp_path / "mine")
    assert said.code == 2
    assert "thesis.txt" in said.err


def test_nothing_collected_is_nothing_to_compare(
    collected: tuple[Path, str], llmpred: Run, tmp_path: Path
) -> None:
    space, _ = collected
    empty = tmp_path / "empty"
    command = ("compare", space, "--storage", empty, "--no-collect", "--no-tracking")
    said = llmpred(*command, "--out", tmp_path / "out")
    assert said.code == 2
    assert "needs a run with a score" in said.err
    assert not (tmp_path / "out").exists()


def test_unfit_schemes_are_left_out_and_said(
    tiny_encoder: Path, llmpred: Run, tmp_path: Path
) -> None:
    methods = [METHODS[1], METHODS[4]]
    space = space_of(tmp_path, [str(tiny_encoder)], methods, unfit="skip", zero_shot=False)
    ledger = Ledger(tmp_path / "storage")
    carry_out_all(space, ledger, tmp_path / "scratch")
    out = tmp_path / "out"
    command = ("compare", space, "--storage", ledger.storage.root, "--no-collect")
    said = llmpred(*command, "--no-tracking", "--out", out, "--latency", "0")
    assert said.code == 0, said.err
    assert "1 run left out" in (out / "report.md").read_text()
    [group] = json.loads((out / "comparison.json").read_text())["groups"]
    assert [row["scheme"] for row in group["rows"]] == ["frozen base, trained head"]


@pytest.mark.slow
@pytest.mark.cluster
def test_all_schemes_through_ray_and_in_a_browser(
    tiny_causal: Path, llmpred: Run, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    space = space_of(tmp_path, [str(tiny_causal)], METHODS, seeds=[0, 1])
    storage, out = tmp_path / "storage", tmp_path / "out"
    command = (
        *("compare", space, "--storage", storage, "--out", out, "--latency", "5"),
        *("--suite", "metrics,confidence,robustness"),
    )
    said = llmpred(*command)
    assert said.code == 0, said.err
    [group] = json.loads((out / "comparison.json").read_text())["groups"]
    rows = {row["scheme"]: row for row in group["rows"]}
    assert set(rows) == {method["name"] for method in METHODS}
    assert all(row["latency"] for row in rows.values())
    assert [rows[m["name"]]["seeds"] for m in METHODS] == [2, 2, 1, 1, 2, 2]
    assert rows["adapter off"]["train_seconds"] == rows["LoRA, classifier head"]["train_seconds"]
    kinds = {"LoRA, label scoring": "lora_adapter", "frozen base, trained head": "head"}
    for name, kind in kinds.items():
        assert (out / safe_name(name) / kind / "run.json").is_file()
        assert (out / safe_name(name) / "seed-1" / kind / "run.json").is_file()
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("llmpred")
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.`llmpred.sweep` LIKE '%'")
    [parent] = [run for run in parents if "mlflow.parentRunId" not in run.data.tags]
    assert {"report.html", "comparison.json", "plots"} <= {
        a.path for a in client.list_artifacts(parent.info.run_id)
    }

    again = llmpred(*command, "--no-tracking")  # all is paid for: compared anew
    assert again.code == 0, again.err

    page = out / "report.html"
    assert browser.console_of(page) == []
    assert browser.measured(page, 1100, tmp_path)["wide"] == ""
    seen = browser.measured(page, 400, tmp_path)
    assert int(seen["width"]) <= 400
    assert seen["wide"] == ""
    assert int(seen["drawn"]) == page.read_text().count("<img ")
    assert int(seen["text"]) > 1000
