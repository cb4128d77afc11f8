from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmpred.errors import SpecError
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction, candidate_lengths
from llmpred.tasks.multiple_choice import embedded_choices, which
from llmpred.tasks.prompts import render
from llmpred.tasks.registry import get

TASK = get("multiple_choice")
EXAMPLE = {"question": "Sky?", "choices": ["red", "deep blue"], "answer": 1}


@pytest.mark.parametrize(
    ("answer", "choices", "index"),
    [
        (0, "abc", 0),
        (2, ["x", "y", "z"], 2),
        ("2", ["x", "y", "z"], 2),  # an index from 0, as text
        ("A", ["x", "y"], 0),
        ("d", ["w", "x", "y", "z"], 3),
        ("answer1", ["x", "y"], 0),
        ("Answer 2", ["x", "y"], 1),
        ("solution2", ["x", "y"], 1),
        ("ending3", ["x", "y", "z"], 2),
        ("true", ["true", "false"], 0),
        ("  Deep Blue ", ["red", "deep blue"], 1),
        (1, ["4", "1", "2"], 1),  # a number is an index, never a text
        (2, ["2", "1", "0"], 2),
        ("9", ["7", "9"], 1),  # too large for an index, so the text
        ("B", ["A", "B", "C"], 1),  # letter and text agree
        ("A", ["B", "A"], 0),  # an upper-case letter is a letter
        ("D", ["C", "D"], 1),  # unless there are not so many choices
        ("x", ["X", "x"], 1),
    ],
)
def test_which(answer: Any, choices: Any, index: int) -> None:
    assert which(answer, list(choices)) == index


@pytest.mark.parametrize(
    ("answer", "choices", "law"),
    [
        ("2", ["2", "3", "4"], "several ways"),  # index 2, or the text of the first
        ("a", ["the", "a"], "several ways"),
        ("x", ["X", "X"], "several ways"),
        ("answer1", ["answer2", "answer1"], "several ways"),
        (3, ["x", "y", "z"], "must name one of the 3 choices"),
        ("C", ["x", "y"], "must name one of"),
        ("answer3", ["x", "y"], "must name one of"),
        ("answer0", ["x", "y"], "must name one of"),
        ("-1", ["x", "y"], "must name one of"),
        ("green", ["red", "blue"], "must name one of"),
    ],
)
def test_which_refuses(answer: Any, choices: list[str], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        which(answer, choices)


@pytest.mark.parametrize(
    ("choices", "law"), [(["one"], "at least two"), ([], "at least two"), (["a", " "], "empty")]
)
def test_bad_choices(choices: list[str], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        TASK.parse({"question": "q", "choices": choices, "answer": 0})


def test_embedded_choices() -> None:
    text = (
        "Please choose the correct answer to the question: What is Answer A: good?\n\n"
        "Answer1: yes Answer2: no, never Answer3: 3: maybe\n\n"
        "Answer format: answer1/answer2/answer3"
    )
    assert embedded_choices(text) == (
        "What is Answer A: good?",
        ["yes", "no, never", "3: maybe"],
    )
    text = "Please answer with true or false, question: is it?\n\nAnswer format: true/false"
    assert embedded_choices(text) == ("is it?", ["true", "false"])
    text = (
        "Please choose the correct solution: Goal\n\nSolution1: a\n\nSolution2: b\n\n"
        "Answer format: solution1/solution2"
    )
    assert embedded_choices(text) == ("Goal", ["a", "b"])


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("What?", "map a column to `choices`"),
        ("Q Answer1: x Answer format: answer1/answer2", "names, answer1, answer2, but lists 1"),
        ("Q Answer format: answer1/answer2", "but lists none"),
    ],
)
def test_embedded_choices_refuse(text: str, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        embedded_choices(text)


def test_candidates_are_texts_or_letters() -> None:
    spec = TASK.settle(TaskSpec(name="multiple_choice", language="en"), [EXAMPLE])
    assert TASK.candidates(EXAMPLE, spec) == (" red", " deep blue")
    assert TASK.target(EXAMPLE, spec) == " deep blue"
    lettered = TASK.settle(
        TaskSpec(name="multiple_choice", language="en", prompt="{question}\n{options}\nAnswer:"),
        [EXAMPLE],
    )
    assert TASK.candidates(EXAMPLE, lettered) == (" A", " B")
    text = render(lettered.prompt or "", TASK.slots(EXAMPLE, lettered))
    assert text == "Sky?\nA. red\nB. deep blue\nAnswer:"
    chinese = lettered.model_copy(update={"language": "zh"})
    assert TASK.target(EXAMPLE, chinese) == "B"


def test_escaped_options_are_no_slot() -> None:
    spec = TaskSpec(name="multiple_choice", language="en", prompt="{{options}} {question}")
    settled = TASK.settle(spec, [EXAMPLE])
    assert TASK.candidates(EXAMPLE, settled) == (" red", " deep blue")
    assert render(settled.prompt or "", TASK.slots(EXAMPLE, settled)) == "{options} Sky?"


def test_too_many_choices_for_letters() -> None:
    example = {"question": "q", "choices": [str(i) for i in range(27)], "answer": 3}
    spec = TaskSpec(name="multiple_choice", language="en", prompt="{question}{options}")
    with pytest.raises(SpecError, match="26 letters, but a row has 27"):
        TASK.settle(spec, [example])


def test_labels_do_not_belong_here() -> None:
    spec = TaskSpec(name="multiple_choice", language="en", labels={"0": "A"})
    with pytest.raises(SpecError, match="`labels` belongs to classification"):
        TASK.settle(spec, [EXAMPLE])


def test_acc_and_acc_norm() -> None:
    """As lm-evaluation-harness: argmax of the sum; of the sum a character; first of equals."""
    spec = TaskSpec(name="multiple_choice")
    predictions = [
        # the short one has the higher sum, the long one the higher rate
        Prediction("0", 1, 0, (-4.0, -6.0), candidate_lengths((" red", " deep blue"))),
        Prediction("1", 0, 0, (-4.0, -6.0), candidate_lengths((" red", " deep blue"))),
        Prediction("2", 1, 1, (-9.0, -2.0), (3, 3)),
        Prediction("3", 0, 0, (-3.0, -3.0), (3, 3)),
    ]
    assert TASK.score(predictions, spec) == {"accuracy": 0.75, "acc_norm": 0.75}
    assert TASK.score(predictions[:1], spec) == {"accuracy": 0.0, "acc_norm": 1.0}
    assert TASK.score([Prediction("0", 1, 1)], spec) == {"accuracy": 1.0}


def test_lengths_are_characters_without_the_joining_space() -> None:
    assert candidate_lengths((" red", " café", "北京")) == (3, 4, 2)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("mmlu_dev.json", 285),
        ("mmlu_val.json", 1531),
        ("boolq/test.json", None),
        ("openbookqa/test.json", None),
        ("arc-easy/test.json", None),
    ],
)
def test_real_rows(shared_data: Path, file: str, count: int | None) -> None:
    rows = json.loads((shared_data / "multiple_choice" / file).read_text(encoding="utf-8"))
    assert count is None or len(rows) == count
    bad = []
    for row in rows:
        mapped = {
            "question": row.get("question", row.get("instruction")),
            "answer": row["answer"],
            **({"choices": row["choices"]} if "choices" in row else {}),
        }
        try:
            example = TASK.parse(mapped)
        except ValueError as error:
            bad.append((mapped, str(error)))
            continue
        if "output" in row:
            number = re.search(r"(\d+)$", row["answer"])
            right = example["choices"][example["answer"]]
            assert right in row["instruction"] if number else right == row["answer"]
    assert bad == []
