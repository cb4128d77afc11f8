import math

import numpy as np
import pytest

from llmpred.meta import metrics

TARGET = np.array([0.50, 0.60, 0.70, 0.80])


def test_figures_by_hand():
    found = metrics.scores(TARGET, np.array([0.51, 0.57, 0.70, 0.84]))
    assert found["rmse"] == pytest.approx(math.sqrt((0.01**2 + 0.03**2 + 0 + 0.04**2) / 4))
    assert found["mae"] == pytest.approx(0.02)
    assert found["within_1pp"] == 0.5
    assert found["within_3pp"] == 0.75  # 0.60 - 0.57 counts, though floats put it above 0.03
    assert found["r2"] == pytest.approx(1 - 0.0026 / 0.05)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef(TARGET, [0.51, 0.57, 0.70, 0.84])[0, 1])


def test_what_is_not_defined_is_nan():
    constant = np.full(4, 0.6)
    assert math.isnan(metrics.scores(TARGET, constant)["spearman"])
    assert math.isnan(metrics.scores(constant, TARGET)["r2"])
    assert math.isnan(metrics.decision_accuracy(constant, TARGET))
    assert math.isnan(metrics.noise_floor(TARGET, np.arange(4)))


def test_spearman_takes_ties_at_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    found = metrics.spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert found == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_ranks_within_and_across_groups():
    target = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 0.5, 0.5])
    predicted = np.array([0.3, 0.2, 0.1, 0.7, 0.8, 0.9, 0.4, 0.6])
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    # The third group has two rows and no order: it says nothing. Means: 0.2, 0.8, 0.5 both.
    assert metrics.spearman_within(target, predicted, groups) == pytest.approx(0.0)
    assert metrics.spearman_across(target, predicted, groups) == pytest.approx(1.0)


def test_decisions_of_pairs():
    # Of the five pairs that differ, one is the wrong way round and one undecided.
    target, predicted = np.array([1.0, 2.0, 3.0, 3.0]), np.array([1.0, 3.0, 3.0, 2.0])
    assert metrics.decision_accuracy(target, predicted) == pytest.approx((3 + 0.5) / 5)


def test_decisions_of_many_pairs_are_sampled():
    draw = np.random.default_rng(0)
    target = draw.normal(size=3000)
    assert metrics.decision_accuracy(target, target) == 1.0
    shuffled = metrics.decision_accuracy(target, draw.permutation(target))
    assert shuffled == pytest.approx(0.5, abs=0.02)


def test_regret_is_what_the_choice_costs():
    predicted = np.array([0.9, 0.8, 0.7, 0.1])
    assert metrics.regret(TARGET, predicted, 1) == pytest.approx(0.3)
    assert metrics.regret(TARGET, predicted, 3) == pytest.approx(0.1)
    assert metrics.regret(TARGET, predicted, 9) == 0
    assert metrics.regret(TARGET, predicted, 1, lower_is_better=True) == pytest.approx(0.3)


def test_noise_floor_weighs_repeats_by_their_degrees_of_freedom():
    target = np.array([1.0, 3.0, 5.0, 5.0, 8.0, 9.0])
    repeats = np.array([0, 0, 1, 1, 1, 2])
    # Squares about the means 2 and 6: 2 and 6, over 1 + 2 degrees of freedom.
    assert metrics.noise_floor(target, repeats) == pytest.approx(math.sqrt(8 / 3))


def test_coverage_includes_the_borders():
    lower, upper = TARGET.copy(), TARGET + 0.1
    lower[3] = 0.81
    assert metrics.coverage(TARGET, lower, upper) == 0.75


def test_bootstrap_draws_groups_not_rows():
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 50)
    values = draw.normal(size=20)[groups]  # rows of a group are all alike
    low, high = metrics.bootstrap_mean(values, groups)
    naive_low, naive_high = metrics.bootstrap_mean(values, np.arange(1000))
    assert high - low > 4 * (naive_high - naive_low)
    expected = 2 * 1.96 * values[::50].std() / math.sqrt(20)
    assert high - low == pytest.approx(expected, rel=0.15)
