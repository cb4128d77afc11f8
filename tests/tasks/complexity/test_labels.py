"""Bins against pandas, clusters against what they must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from llmpred.errors import DataError
from llmpred.spec.run import ClusterSpec
from llmpred.tasks.complexity.labels import (
    BIN_INDEX_EDGES,
    NAMED_EDGES,
    WAIT_EDGES,
    WEIGHTED_EDGES,
    assigned,
    beyond,
    equal_width_edges,
    fit_clusters,
    majority,
    nearest,
    outside,
    quality,
    quantile_edges,
    summary,
)

HEAVY = np.random.default_rng(0).lognormal(2.5, 1.2, 2000).round()
COUNTS = {
    "heavy tail": HEAVY,
    "ties": np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 5.0]),
    "half units": np.array([0.5, 1.5, 2.0, 2.5, 40.0, 41.5]),
    "fewer rows than bins": np.array([3.0, 1.0, 2.0]),
}


def drawn(n: int = 400, seed: int = 0, flags: bool = True) -> tuple[Any, Any]:
    """Return counts, and features of prompts whose flags tell them apart, or never occur."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    features = np.zeros((n, 9))
    features[:, 0] = rng.integers(5, 40, n)
    features[:, 1] = features[:, 0] * 5 + rng.integers(0, 9, n)
    if flags:
        features[np.arange(n), 3 + kind] = 1
    return rng.lognormal(2 + kind, 0.4).round(), features


# --- bins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("bins", [2, 8, 10])
def test_bins_are_those_of_pandas(counts: Any, bins: int):
    edges = equal_width_edges(counts, bins)
    assert edges.merged == 0
    assert len(edges.edges) == bins + 1
    np.testing.assert_array_equal(assigned(counts, edges.edges), pd.cut(counts, bins, labels=False))
    edges = quantile_edges(counts, bins)
    expected = pd.qcut(counts, bins, labels=False, duplicates="drop")
    np.testing.assert_array_equal(assigned(counts, edges.edges), expected)
    assert edges.merged == bins - (expected.max() + 1)


@pytest.mark.parametrize("edges", NAMED_EDGES.values(), ids=NAMED_EDGES)
def test_manual_edges_are_closed_on_the_right_and_at_the_lowest(edges: tuple[float, ...]):
    counts = np.arange(0.0, edges[-1] + 0.5, 0.5)
    expected = pd.cut(counts, edges, labels=False, include_lowest=True)
    np.testing.assert_array_equal(assigned(counts, edges), expected)
    assert outside(counts, edges) == (0, 0)


def test_published_edges():
    assert [len(edges) - 1 for edges in (BIN_INDEX_EDGES, WEIGHTED_EDGES)] == [10, 10]
    waits = np.array([0, 1, 2, 3, 4, 5, 8, 9, 5000])
    assert assigned(waits, WAIT_EDGES).tolist() == [0, 1, 2, 3, 4, 5, 5, 6, 6]


def test_no_row_is_lost():
    counts, edges = np.array([0, 1, 2, 3, 50, 51, 99.0]), (1, 2, 10, 50)
    assert assigned(counts, edges).tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert outside(counts, edges) == (1, 2)
    assert np.isnan(pd.cut(counts, edges, labels=False, include_lowest=True)).sum() == 3


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_counts_that_are_all_the_same(value: float):
    counts = np.full(5, value)
    edges = quantile_edges(counts, 10)
    assert (len(edges.edges), edges.merged) == (2, 9)
    assert edges.edges[0] < value < edges.edges[1]
    assert assigned(counts, edges.edges).tolist() == [0] * 5
    wide = equal_width_edges(counts, 10)
    assert len(set(assigned(counts, wide.edges))) == 1


@pytest.mark.parametrize(
    ("counts", "law"),
    [
        ([1, np.nan, 2], "row 2 has nan"),
        ([1, 2, np.inf], "row 3 has inf"),
        ([-1, 2], "row 1 has -1"),
        ([], "shape is (0,)"),
        ([[1, 2]], "shape is (1, 2)"),
    ],
)
def test_counts_that_are_none(counts: Any, law: str):
    for function in (equal_width_edges, quantile_edges):
        with pytest.raises(DataError) as error:
            function(np.array(counts, float), 4)
        assert law in str(error.value)
    with pytest.raises(DataError):
        assigned(np.array(counts, float), (0, 1, 2))


def test_equal_width_is_accurate_and_worth_nothing():
    wide = assigned(HEAVY, equal_width_edges(HEAVY, 10).edges)
    label, share, macro_f1 = majority(wide)
    assert label == 0
    assert share > 0.85
    assert macro_f1 < 0.15
    always = np.full(len(wide), label)
    assert macro_f1 == pytest.approx(f1_score(wide, always, average="macro", zero_division=0))
    even = assigned(HEAVY, quantile_edges(HEAVY, 10).edges)
    assert majority(even)[1] < 0.2


# --- clusters --------------------------------------------------------------------------------


def test_clusters_are_ordered_by_counts_and_hold_every_row():
    counts, features = drawn()
    found = fit_clusters(counts, features, k=6, outliers="keep")
    labels = nearest(counts, features, found)
    means = [counts[labels == label].mean() for label in range(6)]
    assert means == sorted(means)
    centers = [found.center[0] + found.scale[0] * each[0] for each in found.centroids]
    assert centers == pytest.approx(means, rel=1e-3)
    assert found.limit is None
    assert not beyond(counts, found).any()


def test_they_are_those_of_scikit_learn():
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler

    counts, features = drawn()
    found = fit_clusters(counts, features, k=3, outliers="keep")
    rows = np.column_stack([counts, features])
    other = KMeans(3, n_init=10, random_state=1).fit_predict(StandardScaler().fit_transform(rows))
    assert adjusted_rand_score(nearest(counts, features, found), other) == 1


def test_equal_rows_give_equal_clusters_in_any_order():
    counts, features = drawn()
    order = np.random.default_rng(3).permutation(len(counts))
    for k in (5, "auto"):
        first = fit_clusters(counts, features, k=k, outliers="remove")
        assert fit_clusters(counts, features, k=k, outliers="remove") == first
        assert fit_clusters(counts[order], features[order], k=k, outliers="remove") == first


@pytest.mark.parametrize("flags", [True, False])
def test_constant_features_do_no_harm(flags: bool):
    counts, features = drawn(flags=flags)
    found = fit_clusters(counts, features, k=4, outliers="keep")
    assert np.isfinite(found.centroids).all()
    assert found.scale[-1] == 1
    assert len(np.unique(nearest(counts, features, found))) == 4


@pytest.mark.parametrize(
    ("counts", "limit", "left_out"),
    [
        ([*range(1, 100), 131], 130, 1),
        ([*range(1, 101)], np.quantile(range(1, 101), 0.99), 1),  # 130 would remove none,
        ([*range(1, 1001)], np.quantile(range(1, 1001), 0.99), 10),  # or nearly all
    ],
)
def test_outliers(counts: list[int], limit: float, left_out: int):
    values = np.array(counts, float)
    features = np.zeros((len(values), 9))
    found = fit_clusters(values, features, k=2, outliers="remove")
    assert found.limit == pytest.approx(limit)
    assert beyond(values, found).sum() == left_out
    longest = nearest(np.array([1e6]), np.zeros((1, 9)), found)
    assert longest.tolist() == [1]


def test_auto_finds_how_many_there_are():
    counts, features = drawn()
    features[:, :2] = 0
    found = fit_clusters(counts, features, k="auto", outliers="keep")
    assert len(found.centroids) == 3
    three = quality(counts, features, found)
    for k in (2, 5, 9):
        other = quality(counts, features, fit_clusters(counts, features, k=k, outliers="keep"))
        assert other["score"] < three["score"]


def test_quality_is_silhouette_and_balance():
    from sklearn.metrics import silhouette_score

    counts = np.array([0, 1, 100, 101.0])
    features = np.zeros((4, 9))
    even = fit_clusters(counts, features, k=2, outliers="keep")
    found = quality(counts, features, even)
    scaled = ((counts - even.center[0]) / even.scale[0])[:, None]
    assert found["balance"] == pytest.approx(1)
    assert found["silhouette"] == pytest.approx(silhouette_score(scaled, [0, 0, 1, 1]))
    uneven = ClusterSpec(
        center=(0,) * 10, scale=(1,) * 10, centroids=((0, *[0] * 9), (101, *[0] * 9))
    )
    uneven_rows = np.array([0, 0, 0, 0, 0, 0, 0, 101.0])
    assert quality(uneven_rows, np.zeros((8, 9)), uneven)["balance"] == pytest.approx(0.5436, 1e-3)
    alone = quality(np.zeros(5), np.zeros((5, 9)), uneven)
    assert (alone["silhouette"], alone["balance"]) == (0, 0)


@pytest.mark.parametrize(("rows", "k"), [(3, 4), (2, "auto"), (1, 2)])
def test_too_few_different_rows(rows: int, k: Any):
    counts = np.tile(np.arange(rows, dtype=float), 5)
    with pytest.raises(DataError, match="rows must differ"):
        fit_clusters(counts, np.zeros((len(counts), 9)), k=k, outliers="keep")


def test_as_many_clusters_as_rows():
    counts = np.array([5.0, 1.0, 3.0])
    found = fit_clusters(counts, np.zeros((3, 9)), k=3, outliers="keep")
    assert nearest(counts, np.zeros((3, 9)), found).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("features", "law"),
    [
        (np.zeros((4, 8)), r"shape \(4, 9\), but have \(4, 8\)"),
        (np.zeros((3, 9)), "but have"),
        (np.where(np.eye(4, 9) > 0, np.nan, 0), "row 1"),
    ],
)
def test_features_that_do_not_hold(features: Any, law: str):
    with pytest.raises(DataError, match=law):
        fit_clusters(np.arange(4.0), features, k=2, outliers="keep")


# --- what labels are -------------------------------------------------------------------------


def test_summary():
    features = np.zeros((8, 9))
    features[0:2, 5] = 1  # calculate
    features[2:4, 7] = 1  # why, both
    features[2, 3] = 1  # explain, one of two
    features[4, 3] = features[5, 4] = features[6, 8] = 1  # no two alike
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 4])
    table = summary(labels, np.array([1, 3, 5, 6, 7, 8, 12, 20.0]), features, k=5)
    assert [row["label"] for row in table] == [0, 1, 2, 3, 4]
    assert [row["type"] for row in table] == ["calculate", "why+explain", "mixed", None, "plain"]
    assert [row["complexity"] for row in table] == ["low", "low", "medium", "high", "high"]
    assert [row["mean_counts"] for row in table] == [2, 5.5, 9, None, 20]
    assert [row["median_counts"] for row in table] == [2, 5.5, 8, None, 20]
    assert [row["n"] for row in table] == [2, 2, 3, 0, 1]
    assert sum(row["share"] for row in table) == 1
    assert len(summary(labels, np.ones(8), features)) == 5


@pytest.mark.parametrize(
    ("k", "places"),
    [(1, "medium"), (2, "low high"), (3, "low medium high"), (4, "low medium medium high")],
)
def test_complexity_is_the_third_a_label_is_in(k: int, places: str):
    table = summary(np.arange(k), np.arange(float(k)), np.zeros((k, 9)))
    assert [row["complexity"] for row in table] == places.split()
