from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpred.errors import DataError, LlmpredError, SpecError
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import Examples, Prepared, prepare

Rows = list[dict[str, Any]]
Prepare = Callable[..., Prepared]


def reviews(n: int, labels: str = "01", word: str = "film") -> Rows:
    return [{"text": f"The {word} number {i}.", "label": labels[i % len(labels)]} for i in range(n)]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return str(path)


@pytest.fixture
def run(tmp_path: Path) -> Prepare:
    """Prepare a sentiment run on 60 training and 20 evaluation rows, with parts replaced."""
    train = write(tmp_path / "train.jsonl", reviews(60))
    test = write(tmp_path / "test.jsonl", reviews(20, word="book"))

    def build(kind: str = "lora", head: str = "label_scoring", **parts: Any) -> Prepared:
        spec = {
            "task": {"name": "sentiment", **parts.get("task", {})},
            "dataset": {"source": train, **parts.get("dataset", {})},
            "base": {"name": "b"},
            "method": {"head": head, "adapter": {"kind": kind}},
            "optim": {"max_steps": 1, **parts.get("optim", {})},
            "evaluation": parts.get("evaluation") or {"data": {"source": test}},
            "seed": parts.get("seed", 0),
        }
        return prepare(RunSpec.model_validate(spec), cache=tmp_path / "cache")

    return build


def test_plain_run(run: Prepare) -> None:
    data = run()
    assert data.counts == {"train": 60, "validation": 0, "evaluation": 20, "skipped": 0}
    assert set(data.hashes) == {"train", "evaluation"}
    assert data.spec.language == "en"
    assert data.spec.labels == {"0": "negative", "1": "positive"}
    assert data.notes == ()
    assert Examples(data.train)[0] == {"text": "The film number 0.", "label": "0"}


def test_seed_and_optimiser_do_not_touch_the_data(run: Prepare) -> None:
    limited = {"limit": 10, "validation": 0.2}
    first = run(dataset=limited)
    again = run(dataset={**limited, "name": "shown"}, seed=7, optim={"lr": 1e-3})
    assert again is first  # remembered, not computed again


def test_another_process_gets_the_same(run: Prepare, tmp_path: Path) -> None:
    recipe = [{"label_noise": {"share": 0.2}}, {"duplicate": {"share": 0.1}}]
    parts = {
        "task": {"name": "sentiment"},
        "dataset": {
            "source": str(tmp_path / "train.jsonl"),
            "recipe": recipe,
            "limit": 40,
            "validation": 0.25,
        },
        "base": {"name": "b"},
        "method": {"head": "label_scoring"},
        "optim": {"max_steps": 1},
        "evaluation": {"holdout": 0.2, "limit": 9},
    }
    code = (
        "import json, sys; from pathlib import Path; from llmpred.spec.run import RunSpec;"
        "from llmpred.tasks.prepare import prepare;"
        "spec = RunSpec.model_validate_json(sys.argv[1]);"
        "print(json.dumps(prepare(spec, cache=Path(sys.argv[2])).hashes))"
    )
    hashes = prepare(RunSpec.model_validate(parts), cache=tmp_path / "a").hashes
    other = subprocess.run(
        [sys.executable, "-c", code, json.dumps(parts), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(other.stdout) == hashes
    assert set(hashes) == {"train", "validation", "evaluation"}


def test_changed_file_is_read_again(run: Prepare, tmp_path: Path) -> None:
    first = run()
    write(tmp_path / "train.jsonl", reviews(61))
    second = run()
    assert (first.counts["train"], second.counts["train"]) == (60, 61)
    assert first.hashes["evaluation"] == second.hashes["evaluation"]
    assert first.hashes["train"] != second.hashes["train"]


def test_zero_shot_does_not_read_the_training_data(run: Prepare, tmp_path: Path) -> None:
    data = run("none", dataset={"source": str(tmp_path / "absent.jsonl")})
    assert data.counts == {"train": 0, "validation": 0, "evaluation": 20, "skipped": 0}
    assert set(data.hashes) == {"evaluation"}
    assert data.hashes["evaluation"] == run().hashes["evaluation"]
    assert data.spec == run().spec


def test_zero_shot_and_trained_hold_out_the_same_rows(run: Prepare) -> None:
    evaluation = {"holdout": 0.25}
    zero, trained = run("none", evaluation=evaluation), run(evaluation=evaluation)
    assert zero.hashes["evaluation"] == trained.hashes["evaluation"]
    assert trained.counts["train"] + trained.counts["evaluation"] == 60
    texts = [set(table["text"].to_pylist()) for table in (trained.train, trained.evaluation)]
    assert not texts[0] & texts[1]


def test_parts_are_disjoint_and_limited(run: Prepare) -> None:
    data = run(dataset={"limit": 30, "validation": 0.2}, evaluation={"holdout": 0.3, "limit": 11})
    assert data.counts["train"] + data.counts["validation"] == 30
    assert data.counts["evaluation"] == 11
    sets = [set(t["text"].to_pylist()) for t in (data.train, data.validation, data.evaluation)]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_labels_do_not_depend_on_limits(run: Prepare, tmp_path: Path) -> None:
    source = write(tmp_path / "stars.jsonl", reviews(50, "12345"))
    dataset = {"source": source}
    evaluation = {"data": {"source": source}, "limit": 2}
    small = run(dataset={**dataset, "limit": 2}, evaluation=evaluation)
    assert list(small.spec.labels or ()) == ["1", "2", "3", "4", "5"]
    assert run("none", evaluation=evaluation).spec == small.spec


def test_language_is_that_of_the_evaluation_rows(run: Prepare, tmp_path: Path) -> None:
    source = write(
        tmp_path / "zh.jsonl", [{"text": "很好", "label": "1"}, {"text": "差", "label": "0"}]
    )
    evaluation = {"data": {"source": source}}
    assert run(evaluation=evaluation).spec == run("none", evaluation=evaluation).spec
    assert run(evaluation=evaluation).spec.language == "zh"


def test_recipe_with_a_mixture(run: Prepare, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", reviews(60, word="song"))
    mix = {"mix": {"sources": [{"source": other, "weight": 3.0}], "n": 40}}
    data = run(dataset={"recipe": [mix]})
    songs = sum("song" in text for text in data.train["text"].to_pylist())
    assert (data.counts["train"], songs) == (40, 30)
    write(tmp_path / "other.jsonl", reviews(60, word="poem"))
    assert run(dataset={"recipe": [mix]}).hashes["train"] != data.hashes["train"]


def test_recipe_seed_matters(run: Prepare) -> None:
    noise = {"recipe": [{"label_noise": {"share": 0.5}}]}
    assert (
        run(dataset=noise).hashes["train"]
        != run(dataset={**noise, "recipe_seed": 1}).hashes["train"]
    )


def test_skipped_rows_are_counted_and_said(run: Prepare, tmp_path: Path) -> None:
    source = write(tmp_path / "holes.jsonl", [*reviews(10), {"text": "", "label": "1"}])
    data = run(dataset={"source": source, "on_bad_row": "skip"})
    assert data.counts["skipped"] == 1
    assert any(source in note for note in data.notes)


def test_label_never_trained_is_said(run: Prepare, tmp_path: Path) -> None:
    source = write(tmp_path / "three.jsonl", reviews(9, "012"))
    data = run(evaluation={"data": {"source": source}})
    assert list(data.spec.labels or ()) == ["0", "1", "2"]
    assert data.notes == ("evaluation rows have labels that no training row has: ['2']",)


def test_training_on_the_evaluation_rows_is_said(run: Prepare, tmp_path: Path) -> None:
    data = run(evaluation={"data": {"source": str(tmp_path / "train.jsonl")}})
    assert data.notes == ("the training rows and the evaluation rows are the same",)


@pytest.mark.parametrize(
    ("parts", "law"),
    [
        ({"task": {"name": "sentimant"}}, "Did you mean `sentiment`"),
        ({"task": {"name": "qa"}, "head": "classifier"}, "must be one of causal_lm, but got class"),
        ({"task": {"prompt": "{review}"}}, "names the slot {review}"),
        ({"task": {"labels": {"0": "bad", "2": "good"}}}, "must be one of '0', '2'"),
        ({"dataset": {"recipe": [{"subsample": {"n": 61}}]}}, "at most the number of rows"),
        ({"evaluation": {"holdout": 0.999}}, "both sides of a split"),
        ({"dataset": {"limit": 1, "validation": 0.5}}, "both sides of a split"),
        ({"dataset": {"source": "no/such/file.jsonl"}}, "no folder"),
    ],
)
def test_bad_input(run: Prepare, parts: dict[str, Any], law: str) -> None:
    with pytest.raises(LlmpredError) as error:
        run(**parts)
    assert law in str(error.value)


def test_misspelt_metric_is_found_before_training(run: Prepare, tmp_path: Path) -> None:
    data = {"source": str(tmp_path / "test.jsonl")}
    run(evaluation={"data": data, "metrics": ["macro_f1", "f1_1"]})
    with pytest.raises(SpecError, match="Did you mean `macro_f1`"):
        run(evaluation={"data": data, "metrics": ["macrof1"]})


def test_single_row_cannot_be_split(run: Prepare, tmp_path: Path) -> None:
    source = write(tmp_path / "one.jsonl", reviews(1))
    with pytest.raises(DataError):
        run(dataset={"source": source}, evaluation={"holdout": 0.5})


def test_examples_is_a_sequence(run: Prepare) -> None:
    rows = Examples(run().train)
    assert len(rows) == 60
    assert rows[-1] == list(rows)[59]
    assert list(rows[10:20:3]) == [rows[i] for i in (10, 13, 16, 19)]
    with pytest.raises(IndexError):
        rows[60]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("task", "head", "source", "evaluation", "language", "counts"),
    [
        (
            *("sentiment", "label_scoring"),
            *("sentiment/sst2_train.tsv", "sentiment/sst2_test.tsv", "en", (60614, 872)),
        ),
        (
            *("sentiment", "classifier"),
            *("sentiment/chnsenticorp_train.tsv", "sentiment/chnsenticorp_dev.tsv"),
            *("zh", (9600, 1200)),
        ),
        ("qa", "causal_lm", "qa/squad_v1.1_20_articles.json", None, "en", None),
        ("qa", "causal_lm", "qa/cmrc2018_trial.json", None, "zh", None),
        (
            *("summarization", "causal_lm"),
            *("summarization/scitldr_train.jsonl", "summarization/scitldr_test.jsonl"),
            *("en", (1992, 618)),
        ),
        ("summarization", "causal_lm", "summarization/xsum_1000.jsonl", None, "en", None),
        (
            *("multiple_choice", "label_scoring"),
            *("multiple_choice/openbookqa/train.json", "multiple_choice/openbookqa/test.json"),
            *("en", None),
        ),
        (
            *("multiple_choice", "label_scoring"),
            *("multiple_choice/boolq/train.json", "multiple_choice/boolq/test.json", "en", None),
        ),
        (
            *("multiple_choice", "label_scoring"),
            *("multiple_choice/mmlu_val.json", "multiple_choice/mmlu_dev.json", "en", (1531, 285)),
        ),
    ],
)
def test_real_data_needs_no_mapping(
    shared_data: Path,
    tmp_path: Path,
    task: str,
    head: str,
    source: str,
    evaluation: str | None,
    language: str,
    counts: tuple[int, int] | None,
) -> None:
    skip = {"on_bad_row": "skip"} if "cmrc" in source else {}  # two questions there are empty
    data = prepare(
        RunSpec.model_validate(
            {
                "task": {"name": task},
                "dataset": {"source": str(shared_data / source), **skip},
                "base": {"name": "b"},
                "method": {"head": head},
                "optim": {"max_steps": 1},
                "evaluation": {"data": {"source": str(shared_data / evaluation)}}
                if evaluation
                else {"holdout": 0.2},
            }
        ),
        cache=tmp_path,
    )
    assert data.spec.language == language
    assert data.counts["skipped"] == 2 * len(skip)
    if counts:
        assert (data.counts["train"], data.counts["evaluation"]) == counts
