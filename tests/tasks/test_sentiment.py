from __future__ import annotations

import random

import pytest

from llmpred.errors import DataError, SpecError
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction
from llmpred.tasks.registry import get

TASK = get("sentiment")


def settle(found: list[str], text: str = "Good film.", **spec: object) -> TaskSpec:
    examples = [{"text": text, "label": label} for label in found]
    return TASK.settle(TaskSpec(name="sentiment", **spec), examples)


@pytest.mark.parametrize(
    ("found", "text", "labels"),
    [
        (["1", "0"], "good", {"0": "negative", "1": "positive"}),
        (["1", "0"], "很好", {"0": "负面", "1": "正面"}),
        (["positive", "negative"], "good", {"negative": "negative", "positive": "positive"}),
        (["positive", "negative"], "很好", {"negative": "负面", "positive": "正面"}),
        (["5", "1", "3"], "good", {"1": "1", "3": "3", "5": "5"}),
        (["joy", "anger"], "很好", {"anger": "anger", "joy": "joy"}),
    ],
)
def test_labels_are_settled(found: list[str], text: str, labels: dict[str, str]) -> None:
    spec = settle(found, text)
    assert list(spec.labels.items()) == list(labels.items())
    assert settle(found, text, **spec.model_dump(exclude={"name"})) == spec


def test_english_words_follow_a_space() -> None:
    example = {"text": "x", "label": "1"}
    spec = settle(["0", "1"])
    assert TASK.target(example, spec) == " positive"
    assert TASK.candidates(example, spec) == (" negative", " positive")
    own = settle(["0", "1"], prompt="{text} It was ")
    assert TASK.target(example, own) == "positive"
    assert TASK.candidates(example, settle(["0", "1"], "很好")) == ("负面", "正面")


def test_label_order_is_that_of_canonical_json() -> None:
    spec = settle(["b", "a"], labels={"b": "B", "a": "A"})
    assert TASK.classes(spec) == ("a", "b")
    assert TASK.answer_index({"text": "x", "label": "b"}, spec) == 1


@pytest.mark.parametrize(
    ("found", "labels", "law"),
    [
        (["1"], None, "at least two labels"),
        (
            ["0", "1", "2"],
            {"0": "bad", "1": "good"},
            r"one of '0', '1', but the data have '2' \(rows: 1\)",
        ),
        (["0", "1"], {"0": "same", "1": "same"}, "'same'"),
        (["0", "1"], {"0": " ", "1": "good"}, "word of its own"),
        ([f"text {i}" for i in range(300)], None, "at most 200 labels"),
    ],
)
def test_bad_labels(found: list[str], labels: dict[str, str] | None, law: str) -> None:
    with pytest.raises(SpecError, match=law):
        settle(found, labels=labels)


@pytest.mark.parametrize(
    ("prompt", "law"),
    [
        ("{review}", "names the slot {review}, but the task's slots are {text}"),
        ("{text.__class__}", "{text.__class__}"),
        ("{text!r}", "bare name"),
        ("{text:>10}", "bare name"),
        ("{text", "not a valid template"),
        ("{} {0}", "names the slot"),
        ("Say it:", "names no slot"),
    ],
)
def test_bad_prompts(prompt: str, law: str) -> None:
    with pytest.raises(SpecError) as error:
        settle(["0", "1"], prompt=prompt)
    assert law in str(error.value)
    assert error.value.problems[0].where == "task.prompt"


def test_all_problems_at_once() -> None:
    with pytest.raises(SpecError) as error:
        settle(["0", "1", "2"], prompt="{a} {b}", labels={"0": "x", "1": "x"})
    assert len(error.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" positive", "1"),
        ("Positive.", "1"),
        ("\nnegative\nReview: more", "0"),
        ("positively", "positively"),
        ("it is positive", "it is positive"),
        ("1", "1"),
        ("", ""),
    ],
)
def test_read(text: str, label: str) -> None:
    assert TASK.read(text, settle(["0", "1"])) == label


def test_read_takes_the_longest_word() -> None:
    spec = settle(["0", "1", "2"], labels={"0": "very bad", "1": "very", "2": "正"})
    assert TASK.read("very bad", spec) == "0"
    assert TASK.read("very good", spec) == "1"
    assert TASK.read("正面的", spec) == "2"


@pytest.mark.parametrize("labels", [["0", "1"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(labels: list[str], seed: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = random.Random(seed)
    target = rng.choices(labels, k=40)
    # Some seeds leave the last label out on both sides; some answers are no label at all.
    answer = rng.choices([*labels[: -(seed % 2) or None], "no idea"], k=40)
    predictions = [
        Prediction(str(i), *pair) for i, pair in enumerate(zip(target, answer, strict=True))
    ]
    metrics = TASK.score(predictions, settle(labels))
    used = [label for label in labels if label in {*target, *answer}]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(target, answer))
    macro = f1_score(target, answer, labels=used, average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(macro)
    by_label = f1_score(target, answer, labels=used, average=None, zero_division=0)
    assert [metrics[f"f1_{label}"] for label in used] == pytest.approx(list(by_label))


def test_macro_f1_is_scikit_learns_default_when_all_answers_are_labels() -> None:
    from sklearn.metrics import f1_score

    target, answer = ["a", "b", "b", "a"], ["a", "a", "b", "b"]
    predictions = [Prediction("", t, a) for t, a in zip(target, answer, strict=True)]
    spec = settle(["a", "b", "c"])  # c occurs nowhere
    assert TASK.score(predictions, spec)["macro_f1"] == f1_score(target, answer, average="macro")


def test_all_answers_unreadable() -> None:
    metrics = TASK.score([Prediction("0", "1", "?")], settle(["0", "1"]))
    assert metrics == {"accuracy": 0.0, "macro_f1": 0.0, "f1_1": 0.0}


def test_nothing_to_score() -> None:
    with pytest.raises(DataError, match="no predictions"):
        TASK.score([], settle(["0", "1"]))


def test_language_needs_rows() -> None:
    with pytest.raises(SpecError, match="no rows"):
        TASK.settle(TaskSpec(name="sentiment"), [])
