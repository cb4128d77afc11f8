"""What every task must hold: run it on a task of your own from its tests.

from llmpred.tasks.testing import check_task

def test_conforms():
    check_task(Toxicity(), [{"text": "How kind!", "label": "ok"}, …])
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from llmpred.data.fields import Example
from llmpred.errors import DataError
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction, Task, perfect
from llmpred.tasks.numeric.numbers import NUM
from llmpred.tasks.prompts import render, slot_names
from llmpred.tasks.registry import score

LANGUAGES: tuple[Literal["en", "zh"], ...] = ("en", "zh")
HEADS = {"causal_lm", "label_scoring", "classifier", "boosted", "numeric"}


def check_task(task: Task, rows: Sequence[Mapping[str, Any]]) -> None:
    """Check a task on a few rows of one language (two or more, not all with the same answer).

    Raises:
        AssertionError: saying which law the task breaks.
    """
    _check_declaration(task)
    examples = [task.parse(row) for row in rows]
    for example in examples:
        assert json.loads(json.dumps(example)) == example, "an example must survive JSON"
        assert task.parse(example) == example, "parsing an example again must change nothing"
    targets = {field.name for field in task.fields if field.role == "target"}
    for row, example in zip(rows, examples, strict=True):
        asked = task.parse({name: value for name, value in row.items() if name not in targets})
        inputs = {name: value for name, value in example.items() if name not in targets}
        assert asked == inputs, "an example must be parsed alike without its targets"
    for language in LANGUAGES:
        spec = task.settle(TaskSpec(name=task.name, language=language), examples)
        assert spec.prompt == task.prompts[language], "the default prompt must be settled"
        for example in examples:
            _check_example(task, example, spec)
    spec = task.settle(TaskSpec(name=task.name), examples)
    assert task.settle(spec, examples) == spec, "settling twice must change nothing"
    _check_metrics(task, examples, spec)


def _check_declaration(task: Task) -> None:
    fields = {field.name: field for field in task.fields}
    assert len(fields) == len(task.fields), "field names must differ"
    assert any(field.role == "target" for field in task.fields), "a task needs a target field"
    assert fields[task.long_field].role == "input", "long_field must be an input field"
    assert task.heads, "a task needs a head"
    assert set(task.heads) <= HEADS, f"heads must be among {HEADS}"
    assert set(task.prompts) == set(LANGUAGES), "a task needs a prompt in English and in Chinese"
    assert task.version >= 1, "version must be at least 1"
    assert task.max_new_tokens >= 1, "max_new_tokens must be at least 1"


def _check_example(task: Task, example: Example, spec: TaskSpec) -> None:
    slots, target = task.slots(example, spec), task.target(example, spec)
    assert set(slots) == set(task.slot_names()), "slots must fill what slot_names declares"
    assert all(isinstance(text, str) for text in slots.values()), "slots must be texts"
    text = render(spec.prompt or "", slots)
    assert all(slots[name] in text for name in slot_names(spec.prompt or "")), "slots must show"
    assert target.strip(), "a target must not be empty"
    candidates, classes = task.candidates(example, spec), task.classes(spec)
    if "label_scoring" in task.heads:
        assert candidates, "label scoring needs candidates"
    if "classifier" in task.heads:
        assert task.outputs(spec, None), "a classifier needs outputs"
    if "numeric" in task.heads:
        text, values = task.with_numbers(example, spec)
        assert text.count(NUM) == len(values), f"each {NUM} of a target must have its value"
    if candidates is not None or classes is not None:
        right = task.answer_index(example, spec)
        assert task.answer(example, spec, right) == task.gold(example, spec)
    if candidates is not None:
        assert len(set(candidates)) == len(candidates), "candidates must differ"
        assert candidates[right] == target, "the target must be the right candidate"
    if classes is not None:
        assert classes[right] == task.gold(example, spec), "the right class must be the gold one"


def _check_metrics(task: Task, examples: Sequence[Example], spec: TaskSpec) -> None:
    right = [perfect(task, example, spec) for example in examples]
    if "causal_lm" in task.heads:
        read = [task.read(task.target(example, spec) + "\n\n\n", spec) for example in examples]
        generated = [Prediction(p.id, p.target, r) for p, r in zip(right, read, strict=True)]
        assert _primary(task, generated, spec) == 1.0, "reading the targets must score 1.0"
    assert _primary(task, right, spec) == 1.0, "perfect predictions must score 1.0"
    wrong = [dataclasses.replace(p, prediction=_wrong(p.prediction)) for p in right]
    assert _primary(task, wrong, spec) < 1.0, "wrong predictions must score lower"
    mixed = [*wrong[:1], *right[1:]]
    assert _primary(task, wrong, spec) <= _primary(task, mixed, spec) < 1.0
    stored = [Prediction(**json.loads(json.dumps(dataclasses.asdict(p)))) for p in mixed]
    assert score(task, spec, stored) == score(task, spec, mixed), "metrics must survive JSON"
    try:
        task.score([], spec)
    except DataError:
        return
    raise AssertionError("scoring no predictions must raise DataError")


def _primary(task: Task, predictions: Sequence[Prediction], spec: TaskSpec) -> float:
    return score(task, spec, predictions)[task.metric]


def _wrong(prediction: Any) -> Any:
    """Return an answer of the same kind that is surely not the one given."""
    if isinstance(prediction, dict):
        return {name: _wrong(value) for name, value in prediction.items()}
    if isinstance(prediction, list):
        return [_wrong(value) for value in prediction]
    if prediction is None or isinstance(prediction, bool):
        return None if prediction is None else not prediction
    return prediction + 1 if isinstance(prediction, int | float) else "ⓍⓎⓏ 这不是答案"
