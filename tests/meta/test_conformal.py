import numpy as np
import pytest

from llmpred.meta.conformal import cv_plus, fit_width, quantile


def test_the_quantile_follows_the_n_plus_1_rule():
    scores = np.arange(1.0, 20.0)  # 19 rows: the 18th is the 90 % quantile of 20
    assert quantile(scores, np.arange(19), 0.9) == 18
    assert quantile(scores[:9], np.arange(9), 0.9) == 9
    assert quantile(scores[:8], np.arange(8), 0.9) == np.inf


def test_groups_weigh_the_same_whatever_their_size():
    # Nine rows of group 0 score 1, the others are single rows with 2 to 10.
    scores = np.array([1.0] * 9 + list(range(2, 11)))
    groups = np.array([0] * 9 + list(range(1, 10)))
    assert quantile(scores, groups, 0.5) == 6  # the 6th of 10 groups: 6 / 11 > 0.5
    assert quantile(scores, np.arange(18), 0.5) == 2


def test_a_new_groups_run_is_covered_as_promised():
    draw = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        sizes = draw.integers(1, 8, 16)
        groups = np.repeat(np.arange(16), sizes)
        offset = draw.normal(size=16)[groups]
        scores = np.abs(offset + 0.3 * draw.normal(size=len(groups)))
        fitted = groups < 15
        inside.append(np.mean(scores[~fitted] <= quantile(scores[fitted], groups[fitted], 0.9)))
    assert 0.87 <= np.mean(inside) <= 0.97  # between 0.9 and 0.9 + 1/16, give or take


def test_width_follows_doubt_and_ignores_noise():
    draw = np.random.default_rng(0)
    doubt = 10 ** draw.uniform(-3, -1, 400)
    signs = np.column_stack([doubt, 10 ** draw.uniform(-3, -1, 400)])
    errors = np.abs(draw.normal(size=400)) * doubt
    width = fit_width(signs, errors)
    low, high = width(np.array([[0.002, 0.01], [0.05, 0.01]]))
    assert high / low > 8  # of 25 that the errors grow by
    assert width.slopes[1] < 0.2 * width.slopes[0]


def test_width_is_constant_where_nothing_tells():
    errors = np.abs(np.random.default_rng(0).normal(size=200))
    assert np.ptp(fit_width(np.zeros((200, 2)), errors)(np.zeros((5, 2)))) == 0


def test_cv_plus_by_hand():
    # Two models that predict 0 and 1; the third smallest and the third largest of four ends.
    predicted, widths = np.array([[0.0, 1.0]]), np.ones((1, 2))
    scores, folds = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])
    lower, upper = cv_plus(predicted, widths, scores, folds, 0.6)
    assert upper == pytest.approx([1.3])  # 0.1, 0.2, 1.3, 1.4: rank ceil(0.6 * 5)
    assert lower == pytest.approx([-0.1])  # -0.2, -0.1, 0.6, 0.7: second smallest
    lower, upper = cv_plus(predicted, widths, scores, folds, 0.9)
    assert (lower[0], upper[0]) == (-np.inf, np.inf)


def test_cv_plus_covers():
    draw = np.random.default_rng(0)
    folds = np.arange(40) % 4
    scores = np.abs(draw.normal(size=40))
    new = draw.normal(size=(2000, 1))
    predicted = np.zeros((2000, 4)) + draw.normal(scale=0.05, size=4)
    lower, upper = cv_plus(predicted, np.ones((2000, 4)), scores, folds, 0.9)
    assert np.mean((new[:, 0] >= lower) & (new[:, 0] <= upper)) >= 0.8
