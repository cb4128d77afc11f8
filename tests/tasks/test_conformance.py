"""Every registered task, English and Chinese, through the suite that plugin tasks use too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from llmpred.data.fields import Field
from llmpred.errors import SpecError
from llmpred.spec.run import TaskSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Task, mean
from llmpred.tasks.testing import check_task

ROWS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("sentiment", "en"): [
        {"text": "A moving film — naïve, but “honest” 🙂", "label": "1", "id": "a"},
        {"text": "Dull {and} long.\nVery long.", "label": "0"},
        {"text": "Fine", "label": "1"},
    ],
    ("sentiment", "zh"): [
        {"text": "房间很大，服务也好。", "label": "positive"},
        {"text": "太吵了！𠮷野家也没有", "label": "negative"},
        {"text": "一般般 ok 吧", "label": "negative"},
    ],
    ("qa", "en"): [
        {
            "context": "Paris is in France.",
            "question": "Where?",
            "answers": ["in France", "Fr"],
        },
        {"context": "Café Ω opened in 1999.", "question": "When?", "answers": ["1999"]},
        {"context": "Nothing {here}.", "question": "Who?", "answers": []},
    ],
    ("qa", "zh"): [
        {"context": "《红楼梦》是曹雪芹所著。", "question": "谁写的？", "answers": ["曹雪芹"]},
        {
            "context": "由韩国Nexon开发。",
            "question": "谁？",
            "answers": ["韩国Nexon", "Nexon"],
        },
        {"context": "没有写。", "question": "哪一年？", "answers": []},
    ],
    ("summarization", "en"): [
        {"document": "A long story\n\nabout a dog.", "summary": ["A dog story.", "Dogs!"]},
        {"document": "Rain {today}", "summary": ["Rain.\n\nMore rain"]},
    ],
    ("summarization", "zh"): [
        {"document": "今天北京下了很大的雨，地铁停运。", "summary": ["北京大雨，地铁停运"]},
        {"document": "苹果公司发布iPhone 15。", "summary": ["苹果发布iPhone 15", "新机"]},
    ],
    ("multiple_choice", "en"): [
        {"question": "2 + 2?", "choices": ["3", "4", "five"], "answer": 1},
        {"question": "Sky {colour}?", "choices": ["blue", "café"], "answer": "A", "subject": "art"},
    ],
    ("multiple_choice", "zh"): [
        {"question": "中国的首都是哪里？", "choices": ["上海", "北京", "𠮷林"], "answer": "B"},
        {"question": "一加一等于几？", "choices": ["二", "三"], "answer": "二"},
    ],
    ("numeric", "en"): [
        {"text": "It weighs 40 kg {net}. So it weighs", "value": 40, "next": "kg.", "set": "basic"},
        {"text": "Anna has 3 and buys 4.5. She has", "value": 7.5, "id": "a"},
        {"text": "It weighs 40 kg. So it is", "next": "heavy."},
        {"text": "1,200 of 3,000 stayed at", "value": -1e-7, "next": "or so, 5 at most"},
    ],
    ("numeric", "zh"): [
        {"text": "箱子重三百五十公斤。它的重量是", "value": 350, "next": "公斤。"},
        {"text": "气温是-4度。更冷的是", "next": "𠮷野。", "set": "基本"},
        {"text": "原有1240人，走了40人，还剩", "value": 1200},
    ],
    ("complexity", "en"): [
        {"prompt": "Why is the {sky} blue?", "counts": 12.0, "id": "a"},
        {"prompt": "List two towns.", "counts": 0.0},
        {"prompt": "Calculate 12 times 13, then compare.", "counts": 3.5},
    ],
    ("complexity", "zh"): [
        {"prompt": "天空为什么是蓝色的？", "counts": 12.0},
        {"prompt": "列出两个城市。", "counts": 1.0},
        {"prompt": "𠮷野家在哪里？", "counts": 3.0},
    ],
}


@pytest.mark.parametrize(("name", "language"), ROWS)
def test_conforms(name: str, language: str) -> None:
    check_task(registry.get(name), ROWS[name, language])


def test_every_built_in_task_is_checked_in_both_languages() -> None:
    assert {(name, lang) for name in registry.BUILT_IN for lang in ("en", "zh")} == set(ROWS)


class Parity(Task):
    """A small task of one's own, right in every respect."""

    name = "parity"
    fields = (Field("n", "text", "input"), Field("parity", "label", "target"))
    long_field = "n"
    heads: ClassVar[tuple[str, ...]] = ("causal_lm",)
    metric = "accuracy"
    prompts: ClassVar[Mapping[str, str]] = {"en": "Number: {n}\nIs", "zh": "数：{n}\n是"}

    def target(self, example: Any, spec: TaskSpec) -> str:
        return " " + str(example["parity"])

    def gold(self, example: Any, spec: TaskSpec) -> str:
        return str(example["parity"])

    def score(self, predictions: Any, spec: TaskSpec) -> dict[str, float]:
        return {"accuracy": mean([float(p.prediction == p.target) for p in predictions])}


PARITY_ROWS = [{"n": "one", "parity": "odd"}, {"n": "two", "parity": "even"}]


def test_own_task_conforms() -> None:
    check_task(Parity(), PARITY_ROWS)


class Forgetful(Parity):
    def score(self, predictions: Any, spec: TaskSpec) -> dict[str, float]:
        return {"accuracy": 1.0}


class Percent(Parity):
    def score(self, predictions: Any, spec: TaskSpec) -> dict[str, float]:
        return {"accuracy": 100 * super().score(predictions, spec)["accuracy"]}


class Monolingual(Parity):
    prompts: ClassVar[Mapping[str, str]] = {"en": "Number: {n}\nIs"}


class Headless(Parity):
    heads: ClassVar[tuple[str, ...]] = ("oracle",)


class Unstable(Parity):
    def parse(self, row: Mapping[str, Any]) -> Any:
        return {**row, "n": row["n"] + "!"}


@pytest.mark.parametrize("broken", [Forgetful, Percent, Monolingual, Headless, Unstable])
def test_suite_finds_a_broken_task(broken: type[Task]) -> None:
    with pytest.raises((AssertionError, SpecError)):
        check_task(broken(), PARITY_ROWS)
