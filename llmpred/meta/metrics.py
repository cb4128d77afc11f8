"""How good predictions are: errors, ranks, decisions, coverage, and how sure all of that is.

Scores are fractions in [0, 1], so an error of 0.01 is a percentage point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

PAIRS = 2_000_000  # so many pairs at most decide on the decision accuracy


def scores(target: Floats, predicted: Floats) -> dict[str, float]:
    """Return the figures of a prediction.

    Args:
        target: float64 [rows], what came out.
        predicted: float64 [rows].

    Returns:
        `rmse` and `mae` in the target's unit; `within_1pp` and `within_3pp`, shares of rows that
        are off by 0.01 and 0.03 at most; `r2` against the mean of these rows; `pearson`;
        `spearman`. NaN where a figure is not defined, as a correlation with a constant.
    """
    import numpy as np

    error = np.abs(predicted - target)
    spread = float(np.sum((target - target.mean()) ** 2))
    return {
        "rmse": rmse(target, predicted),
        "mae": float(error.mean()),
        "within_1pp": float(np.mean(within(error, 0.01))),
        "within_3pp": float(np.mean(within(error, 0.03))),
        "r2": 1 - float(np.sum(error**2)) / spread if spread else math.nan,
        "pearson": pearson(target, predicted),
        "spearman": spearman(target, predicted),
    }


def within(error: Floats, bound: float) -> Floats:
    """Return 1.0 for each absolute error of at most the bound, else 0.0."""
    # Half a unit in the last place must not decide: 0.53 - 0.50 is above 0.03 in floats.
    return (error <= bound + 1e-12).astype(float)


def rmse(target: Floats, predicted: Floats) -> float:
    """Return the root of the mean squared error."""
    import numpy as np

    return float(np.sqrt(np.mean((predicted - target) ** 2)))


def pearson(target: Floats, predicted: Floats) -> float:
    """Return the linear correlation; NaN where one of the two does not vary."""
    import numpy as np

    if len(target) < 2 or np.ptp(target) == 0 or np.ptp(predicted) == 0:
        return math.nan
    return float(np.corrcoef(target, predicted)[0, 1])


def spearman(target: Floats, predicted: Floats) -> float:
    """Return the rank correlation, ties at their mean rank; NaN where one does not vary."""
    from scipy.stats import rankdata

    return pearson(rankdata(target), rankdata(predicted))


def spearman_within(target: Floats, predicted: Floats, groups: Rows) -> float:
    """Return the mean of the groups' rank correlations, weighted by their rows.

    Groups of fewer than three rows, or in which one of the two does not vary, say nothing.
    """
    import numpy as np

    weighted, weight = 0.0, 0
    for group in np.unique(groups):
        rows = groups == group
        found = spearman(target[rows], predicted[rows])
        if rows.sum() >= 3 and not math.isnan(found):
            weighted += found * int(rows.sum())
            weight += int(rows.sum())
    return weighted / weight if weight else math.nan


def spearman_across(target: Floats, predicted: Floats, groups: Rows) -> float:
    """Return the rank correlation of the groups' means."""
    return spearman(_means(target, groups), _means(predicted, groups))


def _means(values: Floats, groups: Rows) -> Floats:
    import numpy as np

    _, place = np.unique(groups, return_inverse=True)
    means: Floats = np.bincount(place, values) / np.bincount(place)
    return means


def decision_accuracy(target: Floats, predicted: Floats, seed: int = 0) -> float:
    """Return the share of pairs of runs that the prediction puts in the right order.

    Pairs with the same outcome say nothing; a pair predicted equal counts half. Above `PAIRS` pairs
    a random sample of as many is taken.
    """
    import numpy as np

    rows = len(target)
    if rows * (rows - 1) // 2 <= PAIRS:
        left, right = np.triu_indices(rows, 1)
    else:
        draw = np.random.default_rng(seed)
        left, right = draw.integers(0, rows, (2, PAIRS))
    truth = np.sign(target[left] - target[right])
    guess = np.sign(predicted[left] - predicted[right])
    decided = truth != 0
    if not decided.any():
        return math.nan
    return float(np.mean((1 + truth[decided] * guess[decided]) / 2))


def regret(target: Floats, predicted: Floats, k: int, *, lower_is_better: bool = False) -> float:
    """Return how far the best of the k runs predicted best falls short of the best run.

    Args:
        target: float64 [rows], what came out.
        predicted: float64 [rows].
        k: how many runs are paid for.
        lower_is_better: for losses.

    Returns:
        At least 0, in the target's unit.
    """
    import numpy as np

    sign = -1.0 if lower_is_better else 1.0
    chosen = np.argsort(-sign * predicted, kind="stable")[:k]
    return float((sign * target).max() - (sign * target)[chosen].max())


def noise_floor(target: Floats, repeats: Rows) -> float:
    """Return what no model can go below: the root of the mean variance of repeated runs.

    Args:
        target: float64 [rows], without diverged runs.
        repeats: int64 [rows]; runs that differ in nothing but their seed share a number.

    Returns:
        In the target's unit; variances are unbiased and weigh as their degrees of freedom. NaN
        where nothing was repeated.
    """
    import numpy as np

    _, place, counts = np.unique(repeats, return_inverse=True, return_counts=True)
    freedom = int((counts - 1).sum())
    if not freedom:
        return math.nan
    mean = np.bincount(place, target) / counts
    return float(np.sqrt(np.sum((target - mean[place]) ** 2) / freedom))


def coverage(target: Floats, lower: Floats, upper: Floats) -> float:
    """Return the share of rows whose outcome lies in its interval, borders included."""
    import numpy as np

    return float(np.mean((target >= lower) & (target <= upper)))


def bootstrap_mean(
    values: Floats, groups: Rows, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of a mean over rows when groups are drawn anew.

    Rows of a dataset share what is particular to it, so groups are drawn with replacement, not rows
    (Efron & Tibshirani, 1993, ch. 8).

    Args:
        values: float64 [rows].
        groups: int64 [rows].
        draws: how many samples.
        level: of the interval.
        seed: of the draws.
    """
    import numpy as np

    _, place = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    draw = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        chosen = draw.integers(0, len(counts), len(counts))
        means[i] = sums[chosen].sum() / counts[chosen].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
