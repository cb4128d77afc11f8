"""`llmpred evaluate`: of a recorded run, of kept weights, and on a file of one's own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score

from llmpred.ledger import Ledger
from llmpred.tasks.prepare import Examples, prepare
from tests.quick import quick
from tests.runs import carry_out, run_spec

__all__ = ["quick"]

Run = Callable[..., Any]
NAMES = {"metrics.json", "confidence_analysis.json"}
PLOTS = {"confusion_matrix.png", "reliability.png", "confidence.png", "coverage.png"}


@dataclass(frozen=True)
class Made:
    """A run in a ledger, and the folder of its weights."""

    storage: str
    key: str
    folder: Path
    targets: list[str]
    answers: list[str]


@pytest.fixture(scope="module")
def made(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("evaluate")
    spec = run_spec(tiny_causal, optim={"lr": 1e-2})
    outcome = carry_out(spec, folder / "run", keep_adapter=True)
    assert outcome.adapter is not None
    ledger = Ledger(folder / "storage")
    place = f"adapters/{outcome.record.train_key}"
    ledger.storage.put_folder(outcome.adapter, place)
    record = ledger.put(outcome.record.model_copy(update={"adapter": place}), outcome.predictions)
    rows = outcome.predictions.to_pylist()
    targets, answers = ([json.loads(row[n]) for row in rows] for n in ("target", "prediction"))
    return Made(ledger.storage.root, record.key, outcome.adapter, targets, answers)


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def test_a_recorded_run_is_measured_by_its_stored_predictions(
    made: Made, llmpred: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("llmpred.inference.Predictor")  # no model is asked
    out = tmp_path / "out"
    said = llmpred("evaluate", made.key[:8], "--storage", made.storage, "--out", out)
    assert said.code == 0, said.err
    assert {p.name for p in out.iterdir()} == NAMES | PLOTS
    told = load(out, "metrics.json")
    labels = ["negative", "positive"]
    assert told["accuracy"] == accuracy_score(made.targets, made.answers)
    assert (
        told["confusion_matrix"]
        == confusion_matrix(made.targets, made.answers, labels=labels).tolist()
    )
    of = {"pos_label": "positive", "zero_division": 0}
    assert told["f1"] == pytest.approx(f1_score(made.targets, made.answers, **of))
    assert told["precision"] == pytest.approx(precision_score(made.targets, made.answers, **of))
    sure = load(out, "confidence_analysis.json")
    assert len(sure["confidence_distribution"]) == 10
    assert sum(row["count"] for row in sure["confidence_distribution"]) == len(made.targets)
    spec = Ledger(made.storage).get(made.key).spec
    assert spec is not None
    texts = {row["text"] for row in Examples(prepare(spec).evaluation)}
    assert {sample["text"] for sample in sure["low_confidence_samples"]} <= texts
    assert len(said.out.splitlines()) < 50  # a screen


def test_the_other_label_may_be_the_positive_one(made: Made, llmpred: Run) -> None:
    command = ("evaluate", made.key, "--storage", made.storage, "--suite", "metrics", "--json")
    told = json.loads(llmpred(*command, "--positive", "negative").out)["metrics"]
    of = {"pos_label": "negative", "zero_division": 0}
    assert told["f1"] == pytest.approx(f1_score(made.targets, made.answers, **of))
    said = llmpred(*command, "--positive", "neutral")
    assert said.code == 2
    assert "the positive class is one of the labels" in said.err


def test_kept_weights_answer_as_their_run_did(made: Made, llmpred: Run, tmp_path: Path) -> None:
    command = ("evaluate", made.folder, "--suite", "metrics", "--json", "--storage")
    stored = json.loads(llmpred(*command, made.storage).out)
    asked = json.loads(llmpred(*command, tmp_path / "nothing").out)
    assert stored["source"].startswith("stored predictions")
    assert asked["source"].startswith("answers to")
    assert asked["metrics"] == stored["metrics"]


def test_a_file_of_ones_own_is_answered(made: Made, llmpred: Run, tmp_path: Path) -> None:
    spec = Ledger(made.storage).get(made.key).spec
    assert spec is not None
    file = tmp_path / "mine.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["what", "how"])
        writer.writerows([row["text"], row["label"]] for row in Examples(prepare(spec).evaluation))
    command = ("evaluate", made.key, "--storage", made.storage, "--data", file, "--json")
    columns = ("--columns", "text=what,label=how")
    told = json.loads(llmpred(*command, *columns).out)
    assert told["metrics"]["accuracy"] == accuracy_score(made.targets, made.answers)
    few = json.loads(llmpred(*command, *columns, "--limit", "5").out)
    assert few["metrics"]["n"] == 5

    file.write_text(file.read_text().replace("positive", "superb"))
    said = llmpred(*command, *columns)
    assert said.code == 2
    assert "superb" in said.err


def test_robustness_asks_the_model(made: Made, llmpred: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = llmpred(
        *("evaluate", made.key, "--storage", made.storage, "--suite", "robustness"),
        *("--kinds", "synonym_replace,typo_insertion,punctuation_change"),
        *("--strengths", "0.2,0.4", "--out", out),
    )
    assert said.code == 0, said.err
    told = load(out, "robustness_result.json")
    assert told["original_accuracy"] == accuracy_score(made.targets, made.answers)
    assert set(told["perturbation_tests"]) == {
        *("synonym_replace", "typo_insertion", "punctuation_change"),
    }
    assert told["strengths"] == [0.2, 0.4]
    assert "typo_insertion" in said.out
    assert {p.name for p in out.iterdir()} == {"robustness_result.json"}


def test_bad_options_are_told_before_anything_is_loaded(
    made: Made, llmpred: Run, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    command = ("evaluate", made.key, "--storage", made.storage)
    for options, law in [
        (("--suite", "metric"), "Did you mean `metrics`?"),
        (("--kinds", "typo_insertion"), "belongs to robustness"),
        (("--suite", "robustness", "--kinds", "typo_insert"), "Did you mean `typo_insertion`?"),
        (("--suite", "robustness", "--strengths", "much"), "a strength must be a number"),
        (("--columns", "text=a"), "--data"),
        (("--device", "tpu"), "cpu"),
        (("--out", tmp_path / "full"), "new or empty"),
    ]:
        said = llmpred(*command, *options)
        assert said.code == 2, options
        assert law in said.err


def test_what_does_not_apply_to_a_task_is_said(
    tiny_causal: Path, llmpred: Run, tmp_path: Path
) -> None:
    source = "synthetic:qa"
    spec = run_spec(
        tiny_causal,
        task={"name": "qa", "labels": None, "max_length": 256},
        dataset={"source": source, "options": {"n": 8, "part": "train"}},
        method={"head": "causal_lm", "adapter": {"kind": "none"}},
        evaluation={
            "data": {"source": source, "options": {"n": 6, "part": "test"}},
            "max_new_tokens": 4,
        },
    )
    outcome = carry_out(spec, tmp_path / "run")
    ledger = Ledger(tmp_path / "storage")
    record = ledger.put(outcome.record, outcome.predictions)
    said = llmpred(
        *("evaluate", record.key, "--storage", ledger.storage.root),
        *("--suite", "metrics,confidence,robustness", "--json"),
    )
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert set(told["without"]) == {"confidence", "robustness"}
    assert told["metrics"]["f1"] == record.metrics["f1"]
