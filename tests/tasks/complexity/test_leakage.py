"""What can be read off prompts alone: clusters can, bins of counts and chance cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmpred.data.synthetic import generate
from llmpred.errors import DataError
from llmpred.tasks.complexity.labels import (
    assigned,
    fit_clusters,
    majority,
    nearest,
    quantile_edges,
)
from llmpred.tasks.complexity.leakage import leakage, rank_leakage, share_of

# Words by which a generated prompt has a flag, in the order of the last six features.
FLAGS = {
    "en": ("explain", "write", "calculate", "list", "why", "how"),
    "zh": ("解释", "写", "计算", "列出", "为什么", "怎么"),
}


def prompts(language: str) -> tuple[Any, Any]:
    """Return counts of thoughts, and features, of 600 generated prompts."""
    rows = generate("complexity", {"n": 600, "language": language})
    features = [
        [
            len(row["prompt"].split()),
            len(row["prompt"]),
            row["prompt"].count("?") + row["prompt"].count("？"),
            *(word in row["prompt"].lower() for word in FLAGS[language]),
        ]
        for row in rows
    ]
    thoughts = [row["response"].partition("</think>")[0] for row in rows]
    counts = [thought.count(". ") + thought.count("。") for thought in thoughts]
    return np.array(counts, float), np.array(features, float)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("k", "outliers"), [(10, "keep"), (8, "remove"), ("auto", "keep")])
def test_clusters_can_be_read_off_prompts(language: str, k: Any, outliers: Any):
    counts, features = prompts(language)
    clusters = fit_clusters(counts, features, k=k, outliers=outliers)
    found = leakage(features, nearest(counts, features, clusters))
    assert found.fires()
    assert found.macro_f1 > 0.6 > 0.2 > found.majority_macro_f1
    assert leakage(features, nearest(counts, features, clusters)) == found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_counts_and_chance_cannot(language: str):
    counts, features = prompts(language)
    binned = leakage(features, assigned(counts, quantile_edges(counts, 8).edges))
    assert not binned.fires()
    assert 0 < (binned.share() or 0) < 0.4  # kinds of prompts differ in length of thought
    chance = leakage(features, np.random.default_rng(0).integers(0, 10, len(counts)))
    assert not chance.fires()
    assert (chance.share() or 0) < 0.1


def test_the_share_is_of_what_the_method_has():
    counts, features = prompts("en")
    labels = assigned(counts, quantile_edges(counts, 8).edges)
    found = leakage(features, labels)
    assert found.fires(found.macro_f1)
    assert found.share(found.macro_f1) == pytest.approx(1)
    assert not found.fires(found.majority_macro_f1)
    _, share, macro_f1 = majority(labels)
    assert found.majority_accuracy == pytest.approx(share, abs=0.02)
    assert found.majority_macro_f1 == pytest.approx(macro_f1, abs=0.02)


@pytest.mark.parametrize(
    ("score", "tree", "baseline", "share"),
    [
        (0.9, 0.5, 0.1, 0.5),
        (0.9, 0.9, 0.1, 1.0),
        (0.5, 0.9, 0.1, 2.0),
        (0.9, 0.05, 0.1, 0.0),
        (0.1, 0.5, 0.1, None),
        (0.05, 0.5, 0.1, None),
    ],
)
def test_share(score: float, tree: float, baseline: float, share: float | None):
    assert share_of(score, tree, baseline) == (None if share is None else pytest.approx(share))


def test_ranks():
    counts, features = prompts("en")
    found = rank_leakage(features, counts)
    assert found > 0.5
    assert rank_leakage(features, np.log1p(counts)) == pytest.approx(found, abs=0.05)
    chance = np.random.default_rng(0).random(len(counts))
    assert abs(rank_leakage(features, chance)) < 0.15
    assert rank_leakage(features, np.full(len(counts), 3.0)) == 0
    assert rank_leakage(np.zeros((50, 9)), np.arange(50.0)) <= 0


def test_labels_of_one_class_have_nothing_to_read_off():
    found = leakage(np.zeros((10, 9)), np.zeros(10, int))
    assert (found.accuracy, found.majority_accuracy, found.share()) == (1, 1, None)
    assert not found.fires()


def test_too_few_rows():
    with pytest.raises(DataError, match="5 folds"):
        leakage(np.zeros((4, 9)), np.zeros(4, int))
