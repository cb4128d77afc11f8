"""Depths, types of tasks and budgets."""

from __future__ import annotations

import numpy as np
import pytest

from llmpred.errors import DataError, InputError
from llmpred.tasks.complexity.routes import (
    KEYWORDS,
    budget_curve,
    depth,
    limits_of,
    task_type,
    unexpectedly_long,
)


def test_depths_split_training_rows_in_thirds():
    counts = np.arange(1.0, 10.0)
    limits = limits_of(counts)
    found = depth(counts, limits)
    assert found == ["direct"] * 3 + ["standard"] * 3 + ["deep"] * 3
    assert depth(np.array([5.0, 5.1, 50.0]), (5, 20)) == ["direct", "standard", "deep"]
    assert limits_of(counts, (0.0, 1.0)) == (1, 9)


def test_limits_must_ascend():
    with pytest.raises(InputError, match="must ascend"):
        depth(np.ones(2), (5, 1))


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Debug my program: it prints 3 twice.", "code"),
        ("Write a Python function that sorts a list.", "code"),
        ("请调试这段代码。", "code"),
        ("Calculate 12 times 7.", "analytical"),
        ("Why is the sky blue?", "analytical"),
        ("Prove that there is no largest prime.", "analytical"),
        ("Comparing A and B, which is larger?", "analytical"),
        ("请计算12乘7。", "analytical"),
        ("为什么天是蓝的？", "analytical"),
        ("Write a poem about the sea.", "creative"),
        ("Tell me two stories.", "creative"),
        ("写一首关于大海的诗。", "creative"),
        ("请write一个story", "creative"),
        ("List 3 things to do in Rome.", "general"),
        ("列出在罗马可做的三件事。", "general"),
        ("", "general"),
        ("A codex of encoded history", "general"),  # neither code nor story
        ("Calculate how long this function takes", "code"),  # one each: the table's first
    ],
)
def test_types(prompt: str, kind: str):
    assert task_type(prompt) == kind


def test_every_keyword_shows_its_own_type():
    for kind, words in KEYWORDS.items():
        for word in words:
            assert task_type(f"…{word.upper()}…") == kind


@pytest.mark.parametrize(("actual", "long"), [(10.5, True), (10, False), (0, False)])
def test_unexpectedly_long(actual: float, long: bool):
    assert unexpectedly_long(actual, 10.0) is long


def test_budgets_by_hand():
    quantiles = np.array([[10.0], [20.0], [50.0], [500.0]])
    actual = np.array([8, 25, 50, 90.0])
    rows = budget_curve(quantiles, actual, 100, levels=(0.5,), shares=(0, 0.25, 0.5, 0.75, 1))
    assert [row["prompts"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["saved"] for row in rows] == pytest.approx([0, 0.225, 0.425, 0.55, 0.55])
    assert [row["accuracy"] for row in rows] == [1, 1, 0.75, 0.75, 0.75]
    assert {row["level"] for row in rows} == {0.5}


def test_higher_quantiles_save_less_and_fit_more():
    rng = np.random.default_rng(0)
    center = rng.lognormal(3, 1, 500)
    actual = center * rng.lognormal(0, 0.5, 500)
    quantiles = center[:, None] * np.exp(0.5 * np.array([-1.28, -0.67, 0, 0.67, 1.28]))
    rows = [r for r in budget_curve(quantiles, actual, actual.max()) if r["share"] == 1]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9], abs=0.05)
    saved = [row["saved"] for row in rows]
    assert saved == sorted(saved, reverse=True)
    assert saved[-1] > 0.5


def test_what_does_not_fit():
    with pytest.raises(DataError, match="must be finite numbers of shape"):
        budget_curve(np.ones((3, 4)), np.ones(3), 10)
    with pytest.raises(InputError, match="above 0"):
        budget_curve(np.ones((3, 5)), np.ones(3), 0)
