import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmpred.errors import DataError, InputError
from llmpred.evaluation.significance import holm, mcnemar, paired, paired_bootstrap, wilson


def flags(both: int, b: int, c: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + b) + [False] * (c + neither)
    second = [True] * both + [False] * b + [True] * c + [False] * neither
    return first, second


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test_of_what_differs(b: int, c: int):
    found = mcnemar(*flags(3, b, c, 2))
    assert (found.b, found.c) == (b, c)
    assert found.p == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1)
    # As statsmodels writes it out.
    twice = 1.0 if b == c else 2 * stats.binom.cdf(min(b, c), b + c, 0.5)
    assert found.p == pytest.approx(min(1.0, twice))
    assert found.mid_p <= found.p
    swapped = mcnemar(*flags(3, c, b, 2))
    assert (swapped.p, swapped.mid_p) == pytest.approx((found.p, found.mid_p))


def test_mcnemar_on_the_published_example():
    # Bentur et al. in Fagerland et al. (2013): 1 and 7 pairs differ; exact 0.0703, mid-p 0.0391.
    found = mcnemar(*flags(1, 1, 7, 12))
    assert found.p == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar(*flags(0, 2, 2, 0)).mid_p == pytest.approx(1 - 0.5 * 6 / 16)
    assert mcnemar([True], [True]) == mcnemar([False], [False])
    assert mcnemar([True], [True]).p == 1


def test_mcnemar_finds_what_is_not_there_as_seldom_as_it_says():
    draw = np.random.default_rng(0)
    right = draw.random((2, 600, 80)) < 0.7
    p = np.array([mcnemar(a, b).mid_p for a, b in zip(*right, strict=True)])
    assert np.mean(p <= 0.05) <= 0.065
    assert np.mean(p <= 0.05) >= 0.02


def test_the_bootstrap_of_a_mean_by_hand():
    a, b = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    found = paired_bootstrap(a, b, n=20_000)
    assert found.difference == 0.5
    assert (found.lower, found.upper) == (0.0, 1.0)
    # A draw of none of the two that differ: 1 in 16, on both sides.
    assert found.p == pytest.approx(2 / 16, abs=0.01)
    assert paired_bootstrap(b, a).difference == -0.5
    assert paired_bootstrap(a, a).p == 1
    assert paired_bootstrap(a, b) == paired_bootstrap(a, b)


def test_a_statistic_of_rows_is_resampled_as_the_mean_is():
    draw = np.random.default_rng(0)
    a, b = draw.normal(0.3, 1, 60), draw.normal(0, 1, 60)
    mean = paired_bootstrap(a, b, n=3000)
    same = paired_bootstrap(a, b, lambda values, rows: float(values[rows].mean()), n=3000)
    assert (same.difference, same.lower, same.upper, same.p) == pytest.approx(
        (mean.difference, mean.lower, mean.upper, mean.p)
    )


def test_few_kinds_of_values_are_resampled_as_many_are():
    a, b = np.array([1.0] * 60 + [0.0] * 20), np.array([0.0] * 10 + [1.0] * 70)
    few = paired_bootstrap(a, b)
    many = paired_bootstrap(a + np.arange(80) * 1e-9, b)
    assert (few.difference, few.lower, few.upper) == pytest.approx(
        (many.difference, many.lower, many.upper), abs=0.013
    )
    assert few.p == pytest.approx(many.p, abs=0.02)


def test_a_rank_correlation_can_be_compared():
    draw = np.random.default_rng(0)
    target = draw.normal(size=80)
    close, far = target + draw.normal(0, 0.3, 80), target + draw.normal(0, 2, 80)

    def spearman(values: np.ndarray, rows: np.ndarray) -> float:
        return float(stats.spearmanr(target[rows], values[rows]).statistic)

    found = paired_bootstrap(close, far, spearman, n=300)
    assert found.difference == pytest.approx(
        stats.spearmanr(target, close).statistic - stats.spearmanr(target, far).statistic
    )
    assert 0 < found.lower < found.difference < found.upper
    assert found.p == pytest.approx(2 / 301)


def test_resamples_without_the_statistic_are_counted():
    def ratio(values: np.ndarray, rows: np.ndarray) -> float:
        drawn = values[rows]
        return float(drawn.sum() / (drawn > 0).sum()) if (drawn > 0).any() else float("nan")

    found = paired_bootstrap([1, 0, 0], [0, 2, 0], ratio, n=2000)
    assert found.undefined + found.draws == 2000
    # Rows 0 and 1 are both drawn in 12 of 27.
    assert found.draws / 2000 == pytest.approx(12 / 27, abs=0.04)
    with pytest.raises(DataError, match="not defined"):
        paired_bootstrap([0, 0], [0, 1], ratio, n=10)


def test_bootstrap_intervals_hold_as_often_as_they_say():
    draw = np.random.default_rng(0)
    inside = wrong = 0
    for seed in range(300):
        ability = draw.normal(size=150)
        a, b = (ability + draw.normal(shift, 1, 150) > 0 for shift in (0.4, 0.0))
        truth = stats.norm.cdf(0.4 / np.sqrt(2)) - 0.5
        found = paired_bootstrap(a, b, n=500, seed=seed)
        inside += found.lower <= truth <= found.upper
        null = paired_bootstrap(
            ability + draw.normal(size=150), ability + draw.normal(size=150), n=500
        )
        wrong += null.p <= 0.05
    assert 0.91 <= inside / 300 <= 0.98
    assert 0.02 <= wrong / 300 <= 0.085


def test_holm_by_hand():
    # Times 4, 3, 2, 1 in order, never falling: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7]) == pytest.approx([0.7])
    assert len(holm([])) == 0
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        holm([0.1, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_rejects_step_by_step(p: list[float]):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    rejected = []
    for rank, i in enumerate(order):  # the procedure as it is stated
        if p[i] * (len(p) - rank) > 0.05:
            break
        rejected.append(i)
    assert set(np.flatnonzero(adjusted <= 0.05)) == set(rejected)


def test_wilson_by_its_formula():
    for k, n in [(0, 5), (3, 5), (5, 5), (70, 100)]:
        z, p = stats.norm.ppf(0.975), k / n
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert wilson(k, n) == pytest.approx((middle - half, middle + half), abs=1e-12)
    for k, n in [(0, 0), (-1, 3), (4, 3)]:
        with pytest.raises(InputError, match="a share is k of n"):
            wilson(k, n)


def test_runs_are_aligned_by_id():
    first, second = ["b", "a", "c"], ["a", "b", "c"]
    rows = paired(first, second)
    assert [second[i] for i in rows] == first
    with pytest.raises(DataError, match=r"the first alone has b, c \(examples: 2\)"):
        paired(["a", "b", "c"], ["a"])
    with pytest.raises(DataError, match=r"the second alone has a, b, c, … \(examples: 4\)"):
        paired([], ["a", "b", "c", "d"])
    with pytest.raises(DataError, match="ids of the second occur more than once"):
        paired(["a"], ["a", "a"])


def test_runs_of_other_lengths_are_refused():
    with pytest.raises(DataError, match="got 2 and 1"):
        mcnemar([True, False], [True])
    with pytest.raises(DataError, match="one at least"):
        paired_bootstrap([], [])
