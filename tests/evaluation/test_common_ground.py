"""Figures of predicted counts, each against a second implementation."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
)

from llmpred.errors import DataError
from llmpred.evaluation.common_ground import (
    answers,
    binned,
    by_length,
    by_rules,
    common_edges,
    compare_paired,
    constant,
    figures,
    own,
    resampled,
)
from llmpred.evaluation.significance import paired_bootstrap
from llmpred.tasks.complexity.mapping import LEVELS

SPREAD = norm.ppf(LEVELS)


def counts_and_answers(n: int, noise: float, seed: int = 0):
    """Return whole counts, with ties, and answers that know them but for noise."""
    draw = np.random.default_rng(seed)
    actual = np.floor(np.expm1(np.random.default_rng(99).normal(2.5, 1, n).clip(0)))
    guess = np.log1p(actual) + draw.normal(0, noise, n)
    quantiles = np.expm1(guess[:, None] + noise * SPREAD).clip(0)
    return actual, np.round(np.expm1(guess).clip(0), 1), quantiles


def test_figures_are_those_of_scikit_learn_and_scipy():
    actual, mean, quantiles = counts_and_answers(500, 0.7)
    edges = common_edges(actual[:300])
    found = figures(actual, mean, quantiles, edges)
    assert found["mse"] == pytest.approx(mean_squared_error(actual, mean))
    assert found["rmse"] == pytest.approx(mean_squared_error(actual, mean) ** 0.5)
    assert found["mae"] == pytest.approx(mean_absolute_error(actual, quantiles[:, 2]))
    each = [mean_pinball_loss(actual, quantiles[:, i], alpha=a) for i, a in enumerate(LEVELS)]
    assert found["pinball"] == pytest.approx(np.mean(each))
    assert found["spearman"] == pytest.approx(spearmanr(actual, mean).statistic)
    first, second = (np.digitize(c, edges[1:-1], right=True) for c in (actual, quantiles[:, 2]))
    assert found["macro_f1_common"] == pytest.approx(f1_score(first, second, average="macro"))
    inside = [
        low <= a <= high for a, low, high in zip(actual, *quantiles[:, [0, 4]].T, strict=True)
    ]
    assert found["coverage"] == pytest.approx(np.mean(inside))
    assert found["width"] == pytest.approx(np.mean(quantiles[:, 4] - quantiles[:, 0]))
    assert (found["n"], found["notes"]) == (500, [])


def test_a_bin_without_rows_is_not_counted():
    edges = [0, 1, 2, 3]
    quantiles = np.tile([0.5, 0.5, 0.5, 0.5, 0.5], (4, 1))
    quantiles[3] = 2.5  # the bin that no row is in
    found = figures([0.5, 0.5, 1.5, 1.5], [1, 2, 3, 4], quantiles, edges)
    assert found["macro_f1_common"] == pytest.approx((2 * 2 / (2 + 3) + 0) / 2)
    assert figures([1, 2], [1, 2], np.ones((2, 5)), None)["macro_f1_common"] is None


@pytest.mark.parametrize(
    ("count", "label"), [(-1, 0), (0, 0), (10, 0), (10.5, 1), (20, 1), (21, 2), (30, 2), (99, 2)]
)
def test_bins_are_closed_on_the_right(count: float, label: int):
    assert binned([count], [0, 10, 20, 30]).tolist() == [label]


@pytest.mark.parametrize(
    ("counts", "bins", "expected"),
    [
        (range(101), 4, [0, 25, 50, 75, 100]),
        ([0] * 90 + [5] * 10, 10, [0, 0.5, 5]),  # np.quantile interpolates once, near 90 %
        ([7, 7, 7], 10, [7]),
    ],
)
def test_common_edges_that_fall_together_are_one(counts, bins: int, expected: list[float]):
    assert common_edges([*counts], bins) == pytest.approx(expected)
    assert set(binned(counts, expected)) <= set(range(max(1, len(expected) - 1)))


@pytest.mark.parametrize(
    ("actual", "mean", "said"),
    [
        ([1, 2, 3], [4, 4, 4], "Predicted means are all the same"),
        ([2, 2, 2], [1, 2, 3], "Counts are all the same"),
    ],
)
def test_no_order_is_a_correlation_of_0_with_a_note(actual, mean, said: str):
    found = figures(actual, mean, np.ones((3, 5)), [0, 2, 4])
    assert found["spearman"] == 0
    assert len(found["notes"]) == 1
    assert said in found["notes"][0]


@pytest.mark.parametrize(
    ("actual", "mean", "quantiles", "said"),
    [
        ([], [], np.ones((0, 5)), "one row at least"),
        ([1, 2], [1], np.ones((2, 5)), r"`mean` of 2 rows has the shape \(2,\)"),
        ([1, 2], [1, 2], np.ones((2, 3)), r"`quantiles` of 2 rows has the shape \(2, 5\)"),
        ([1, 2], [1, np.nan], np.ones((2, 5)), "`mean` must be finite, but row 1"),
    ],
)
def test_bad_predictions_are_refused(actual, mean, quantiles, said: str):
    with pytest.raises(DataError, match=said):
        answers(actual, mean, quantiles)


# --- own labels -----------------------------------------------------------------------------------


def test_own_labels_are_scored_as_scikit_learn_does():
    draw = np.random.default_rng(1)
    actual = draw.choice(4, 300, p=[0.6, 0.3, 0.08, 0.02])
    predicted = np.where(draw.random(300) < 0.6, actual, 0)
    found = own(actual, predicted, 6)
    assert found["accuracy"] == pytest.approx(accuracy_score(actual, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro"))
    each = f1_score(actual, predicted, average=None, labels=range(4))
    assert found["f1"] == [*map(pytest.approx, each), None, None]
    assert found["lowest_f1"] == pytest.approx(min(each))
    assert (found["k"], found["n"], found["smallest"]) == (6, 300, 0)
    assert found["majority"] == 0
    assert found["majority_share"] == pytest.approx(np.mean(actual == 0))


def test_labels_never_right_are_counted():
    found = own([0, 0, 0, 1, 2], [0, 0, 0, 0, 1], 3)
    assert found["zeros"] == 2
    assert found["smallest"] == 1
    assert found["lowest_f1"] == 0


@pytest.mark.parametrize(
    ("actual", "predicted", "said"),
    [([0, 3], [0, 1], r"0 to 2, but got \[3\]"), ([0], [0, 1], "1 and 2"), ([], [], "one row")],
)
def test_bad_labels_are_refused(actual, predicted, said: str):
    with pytest.raises(DataError, match=said):
        own(actual, predicted, 3)


# --- resampling -----------------------------------------------------------------------------------


def test_statistics_of_resamples_are_those_of_the_rows_drawn():
    """The same draws, row by row, with scipy's ranks."""
    actual, mean, quantiles = counts_and_answers(60, 0.8)
    found = resampled([answers(actual, mean, quantiles)], draws=40, seed=3)
    rows = np.random.default_rng(3).integers(0, 60, (40, 60))
    for name, second in {
        "spearman": lambda r: spearmanr(actual[r], mean[r]).statistic,
        "mae": lambda r: mean_absolute_error(actual[r], quantiles[r, 2]),
        "pinball": lambda r: np.mean(
            [mean_pinball_loss(actual[r], quantiles[r, i], alpha=a) for i, a in enumerate(LEVELS)]
        ),
    }.items():
        assert found.drawn[name] == pytest.approx([second(r) for r in rows]), name
        assert found.values[name] == pytest.approx(second(np.arange(60))), name
    low, high = found.interval("spearman")
    assert (low, high) == pytest.approx(np.quantile(found.drawn["spearman"], [0.025, 0.975]))


def test_differences_are_those_of_the_paired_bootstrap():
    good, bad = counts_and_answers(300, 0.5), counts_and_answers(300, 0.9, seed=1)
    one, other = (resampled([answers(*each)]) for each in (good, bad))
    found = compare_paired(one, other)
    assert set(found) == {"spearman", "pinball", "mae"}
    actual = good[0]

    def correlation(means, rows):
        return float(spearmanr(actual[rows], means[rows]).statistic)

    second = paired_bootstrap(good[1], bad[1], correlation, n=1000)
    first = found["spearman"]
    assert first.difference == pytest.approx(second.difference)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=0.01)
    assert first.lower > 0  # the less noisy one is better
    assert first.p < 0.01
    losses = [answers(*each).pinball for each in (good, bad)]
    second = paired_bootstrap(*losses)
    first = found["pinball"]
    assert first.difference == pytest.approx(second.difference)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), rel=0.05)
    assert first.upper < 0


def test_a_method_is_not_apart_from_itself():
    one = resampled([answers(*counts_and_answers(50, 0.5))])
    for apart in compare_paired(one, one).values():
        assert (apart.difference, apart.lower, apart.upper, apart.p) == (0, 0, 0, 1)


def test_seeds_are_taken_together():
    runs = [answers(*counts_and_answers(80, 0.6, seed)) for seed in (0, 1)]
    both, (first, second) = resampled(runs), [resampled([run]) for run in runs]
    for name in both.values:
        assert both.values[name] == pytest.approx((first.values[name] + second.values[name]) / 2)
        assert both.drawn[name] == pytest.approx((first.drawn[name] + second.drawn[name]) / 2)


def test_only_the_same_rows_are_compared():
    one = answers(*counts_and_answers(50, 0.5))
    other = answers(one.actual[::-1], one.mean, one.quantiles)
    with pytest.raises(DataError, match="same rows"):
        compare_paired(resampled([one]), resampled([other]))
    with pytest.raises(DataError, match="as many resamples"):
        compare_paired(resampled([one]), resampled([one], draws=10))
    with pytest.raises(DataError, match="same rows"):
        resampled([one, other])
    with pytest.raises(DataError, match="one run at least"):
        resampled([])


def test_a_constant_answer_can_be_resampled():
    actual, _, _ = counts_and_answers(50, 0.5)
    found = resampled([answers(actual, *constant(actual, 50))])
    assert not found.drawn["spearman"].any()


def test_a_thousand_rows_take_seconds():
    began = time.process_time()
    one, other = (resampled([answers(*counts_and_answers(1000, s))], draws=1000) for s in (0.5, 1))
    compare_paired(one, other)
    assert time.process_time() - began < 10


# --- baselines ------------------------------------------------------------------------------------


def test_the_constant_is_of_training_rows():
    mean, quantiles = constant([0, 1, 2, 3, 14], 2)
    assert mean.tolist() == [4, 4]
    assert quantiles[0] == pytest.approx(np.quantile([0, 1, 2, 3, 14], LEVELS))
    assert quantiles.shape == (2, 5)


@pytest.mark.parametrize("sign", [1, -1])
def test_lengths_are_read_monotonously_both_ways(sign: int):
    draw = np.random.default_rng(0)
    lengths = draw.uniform(0, 4, 4000)
    logs = 3 + sign * 0.5 * lengths + draw.normal(0, 0.3, 4000)
    counts = np.expm1(logs.clip(0))
    mean, quantiles = by_length(counts[:3000], lengths[:3000], lengths[3000:])
    assert spearmanr(mean, sign * lengths[3000:]).statistic > 0.98
    expected = np.expm1((3 + sign * 0.5 * lengths[3000:])[:, None] + 0.3 * SPREAD)
    assert np.median(np.abs(quantiles / expected - 1)) < 0.06
    found = figures(counts[3000:], mean, quantiles, None)
    assert found["coverage"] == pytest.approx(0.8, abs=0.04)
    known = figures(counts[3000:], expected[:, 2], expected, None)
    assert found["pinball"] < 1.05 * known["pinball"]


def test_lengths_without_meaning_are_no_better_than_the_constant():
    draw = np.random.default_rng(0)
    counts, lengths = draw.poisson(20, 1000).astype(float), draw.integers(5, 500, 1000)
    mean, quantiles = by_length(counts[:500], lengths[:500], lengths[500:])
    told = figures(counts[500:], mean, quantiles, None)
    free = figures(counts[500:], *constant(counts[:500], 500), None)
    assert told["pinball"] == pytest.approx(free["pinball"], rel=0.1)
    same, _ = by_length(counts, np.full(1000, 7), [7, 8])  # nothing to tell prompts apart by
    assert same == pytest.approx(counts.mean())


def test_rules_find_the_leaf():
    draw = np.random.default_rng(0)
    features = draw.integers(0, 2, (600, 3))
    counts = np.where(features[:, 1] == 1, 100, 10) + draw.integers(0, 5, 600).astype(float)
    mean, quantiles = by_rules(counts, features, [[0, 0, 0], [0, 1, 0]])
    for i, asked in enumerate(([0, 0, 0], [0, 1, 0])):
        alike = counts[features[:, 1] == asked[1]]
        assert mean[i] == pytest.approx(alike.mean(), abs=0.6)
        assert quantiles[i] == pytest.approx(np.quantile(alike, LEVELS), abs=1)


def test_rules_of_few_rows_are_the_constant():
    counts = np.arange(30.0)
    mean, quantiles = by_rules(counts, counts[:, None], [[0], [29]])
    expected = constant(counts, 2)
    assert mean == pytest.approx(expected[0])
    assert quantiles == pytest.approx(expected[1])
