"""Predictions of counts by methods with labels of any kind, judged on the same scale: counts.

A method may be taught bins, clusters or numbers; mapped back to counts, its answers are a mean and
quantiles for each row, and these are compared. Its own labels are judged beside that, since a good
score on them can be had by labels that are easy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem
from llmpred.evaluation.significance import Difference, drawn_difference
from llmpred.tasks.base import LEVELS
from llmpred.tasks.complexity.labels import binned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

MEDIAN = LEVELS.index(0.5)
BINS = 10
DRAWS = 2_000
CELLS = 4_000_000  # weights held at once while resampling
LEAVES = 16  # of the tree that stands for rules
LEAF = 20  # training rows in each, at least


@dataclass(frozen=True)
class Answers:
    """What a run answered on n rows, in counts; see `answers`.

    Attributes:
        actual: float64 [n], what was counted.
        mean: float64 [n], predicted mean.
        quantiles: float64 [n, 5], predicted quantiles at `LEVELS`.
    """

    actual: Floats
    mean: Floats
    quantiles: Floats

    @property
    def pinball(self) -> Floats:
        """Pinball loss of each row, float64 [n], mean over `LEVELS` (Koenker & Bassett, 1978)."""
        import numpy as np

        above = self.actual[:, None] - self.quantiles
        levels = np.array(LEVELS)
        return np.asarray(np.maximum(levels * above, (levels - 1) * above).mean(axis=1))

    @property
    def off(self) -> Floats:
        """Absolute error of the predicted median of each row, float64 [n]."""
        import numpy as np

        return np.asarray(np.abs(self.actual - self.quantiles[:, MEDIAN]))


def answers(actual: ArrayLike, mean: ArrayLike, quantiles: ArrayLike) -> Answers:
    """Return the answers of a run, checked.

    Raises:
        DataError: if there are none, shapes do not fit, or a number is not finite.
    """
    import numpy as np

    found = Answers(*(np.asarray(each, float) for each in (actual, mean, quantiles)))
    n = len(found.actual)
    shapes = {"actual": (n,), "mean": (n,), "quantiles": (n, len(LEVELS))}
    problems = [] if n else [Problem("predictions have one row at least, but there are none")]
    for name, shape in shapes.items():
        values = getattr(found, name)
        if values.shape != shape:
            law = f"`{name}` of {n} rows has the shape {shape}, but got {values.shape}"
            problems.append(Problem(law))
        elif not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            problems.append(Problem(f"`{name}` must be finite, but row {row} is not"))
    if problems:
        raise DataError(problems)
    return found


# --- figures --------------------------------------------------------------------------------------


def common_edges(train_counts: ArrayLike, bins: int = BINS) -> Floats:
    """Return ascending edges, float64 [≤ bins + 1], that part training counts evenly.

    Edges that fall together are one, so there may be fewer bins.
    """
    import numpy as np

    return np.unique(np.quantile(np.asarray(train_counts, float), np.linspace(0, 1, bins + 1)))


def figures(
    actual: ArrayLike, mean: ArrayLike, quantiles: ArrayLike, edges: ArrayLike | None
) -> dict[str, Any]:
    """Return how good predictions of counts are.

    Args:
        actual: [n], what was counted.
        mean: [n], predicted mean.
        quantiles: [n, 5], predicted quantiles at `LEVELS`.
        edges: of the common bins, the same for every method; see `common_edges`. None where the
            training rows are gone.

    Returns:
        `n`; `mse`, `rmse` of the mean and `mae` of the median, in counts; `pinball`, mean over
        `LEVELS` and rows; `spearman` of the mean; `macro_f1_common` of the median, on those common
        bins that have rows (None without edges); `coverage` of the interval between the outer
        quantiles and `width`, its mean in counts; `notes`: sentences.

    Raises:
        DataError: if there are no rows, shapes do not fit, or a number is not finite.
    """
    import numpy as np

    found = answers(actual, mean, quantiles)
    low, high = found.quantiles[:, 0], found.quantiles[:, -1]
    mse = float(np.mean((found.actual - found.mean) ** 2))
    notes = [
        f"{what} are all the same, so there is no order: Spearman's correlation counts as 0."
        for what, values in (("Counts", found.actual), ("Predicted means", found.mean))
        if np.ptp(values) == 0
    ]
    return {
        "n": len(found.actual),
        "mse": mse,
        "rmse": mse**0.5,
        "mae": float(found.off.mean()),
        "pinball": float(found.pinball.mean()),
        "spearman": float(_spearman(found.actual, found.mean, np.ones((1, len(found.actual))))[0]),
        "macro_f1_common": None if edges is None else _macro_f1_common(found, edges),
        "coverage": float(np.mean((low <= found.actual) & (found.actual <= high))),
        "width": float(np.mean(high - low)),
        "notes": notes,
    }


def _macro_f1_common(found: Answers, edges: ArrayLike) -> float:
    import numpy as np
    from sklearn.metrics import f1_score

    actual, predicted = binned(found.actual, edges), binned(found.quantiles[:, MEDIAN], edges)
    # Bins that no row is in would be counted for the methods alone that answer them.
    return float(
        f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0)
    )


def own(labels_actual: ArrayLike, labels_predicted: ArrayLike, k: int) -> dict[str, Any]:
    """Return how good predictions of a method's own labels are.

    Args:
        labels_actual: [n], in 0 … k-1.
        labels_predicted: [n], likewise.
        k: how many labels there are.

    Returns:
        `n`, `k`; `accuracy`; `macro_f1`, over labels that are right or answered anywhere;
        `f1` [k], None of other labels; `lowest_f1`; `zeros`, how many labels have F1 0; `smallest`,
        rows of the rarest label, which may be 0; `majority` and `majority_share`, the commonest
        label and the accuracy of always answering it.

    Raises:
        DataError: if there are no rows, lengths differ, or a label is not in 0 … k-1.
    """
    import numpy as np
    from sklearn.metrics import f1_score

    actual, predicted = np.asarray(labels_actual), np.asarray(labels_predicted)
    if not len(actual) or actual.shape != predicted.shape:
        law = "each row has a right and a predicted label, and there is one row at least"
        raise DataError(Problem(f"{law}, but got {len(actual)} and {len(predicted)}"))
    there = np.union1d(actual, predicted)
    if strange := [label for label in there.tolist() if label not in range(k)]:
        raise DataError(Problem(f"labels are 0 to {k - 1}, but got {strange[:3]}"))
    scores = f1_score(actual, predicted, labels=there, average=None, zero_division=0)
    by_label: list[float | None] = [None] * k
    for label, score in zip(there.tolist(), scores.tolist(), strict=True):
        by_label[label] = score
    rows = np.bincount(actual, minlength=k)
    return {
        "n": len(actual),
        "k": k,
        "accuracy": float(np.mean(actual == predicted)),
        "macro_f1": float(scores.mean()),
        "f1": by_label,
        "lowest_f1": float(scores.min()),
        "zeros": int(np.sum(scores == 0)),
        "smallest": int(rows.min()),
        "majority": int(rows.argmax()),
        "majority_share": float(rows.max() / len(actual)),
    }


# --- how sure, and whether a difference is more than chance ---------------------------------------


@dataclass(frozen=True)
class Resampled:
    """The statistics of a method on its rows and on resamples of them; see `resampled`.

    Attributes:
        actual: float64 [n], what was counted.
        values: statistic (`spearman`, `pinball`, `mae`) -> its value on the rows.
        drawn: statistic -> float64 [draws], its values on the resamples.
    """

    actual: Floats
    values: Mapping[str, float]
    drawn: Mapping[str, Floats]

    def interval(self, statistic: str, level: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval of a statistic over rows."""
        import numpy as np

        low, high = np.quantile(self.drawn[statistic], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def resampled(runs: Sequence[Answers], *, draws: int = DRAWS, seed: int = 0) -> Resampled:
    """Return Spearman's correlation, pinball loss and MAE of a method, with its rows resampled.

    Methods with as many rows get the same resamples, so what they are drawn to can be compared.

    Args:
        runs: of the method, one a seed, on the same rows; statistics are means over them.
        draws: how many resamples.
        seed: of the draws.

    Raises:
        DataError: if there are no runs, or they are not on the same rows.
    """
    import numpy as np

    if not runs:
        raise DataError(Problem("a method is judged by one run at least, but there are none"))
    actual = runs[0].actual
    if not all(np.array_equal(run.actual, actual) for run in runs):
        raise DataError(Problem("the runs of a method are on the same rows, but theirs differ"))
    n, draw = len(actual), np.random.default_rng(seed)
    size = max(1, CELLS // n)
    parts = [
        _statistics(runs, _weights(min(size, draws - start), n, draw))
        for start in range(0, draws, size)
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole = _statistics(runs, np.ones((1, n)))
    return Resampled(actual, {name: float(value[0]) for name, value in whole.items()}, drawn)


def compare_paired(one: Resampled, other: Resampled, level: float = 0.95) -> dict[str, Difference]:
    """Return how far two methods are apart on the same rows: the first less the other.

    A paired bootstrap over rows, as `llmpred.evaluation.significance.paired_bootstrap` with these
    statistics, for all resamples at once. Lower pinball loss and MAE are better, higher Spearman.

    Returns:
        Statistic -> difference.

    Raises:
        DataError: if they are not on the same rows, or were not resampled as often.
    """
    import numpy as np

    if not np.array_equal(one.actual, other.actual):
        law = "two methods are compared on the same rows, but their counts differ"
        raise DataError(Problem(law, "", "Compare methods with the same evaluation data."))
    if {len(each.drawn["mae"]) for each in (one, other)} != {len(one.drawn["mae"])}:
        raise DataError(Problem("two methods are compared on as many resamples, but theirs differ"))
    return {
        name: drawn_difference(
            one.values[name] - other.values[name], one.drawn[name] - other.drawn[name], level
        )
        for name in one.values
    }


def _weights(draws: int, n: int, draw: np.random.Generator) -> Floats:
    """Return float64 [draws, n], how often each row is in a resample of n rows."""
    import numpy as np

    rows = draw.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(rows.ravel(), minlength=draws * n).reshape(draws, n).astype(float)


def _statistics(runs: Sequence[Answers], weights: Floats) -> dict[str, Floats]:
    """Return float64 [draws] of each statistic, mean over runs, for rows weighted [draws, n]."""
    import numpy as np

    n = weights.shape[1]
    found = [
        {
            "spearman": _spearman(run.actual, run.mean, weights),
            "pinball": weights @ run.pinball / n,
            "mae": weights @ run.off / n,
        }
        for run in runs
    ]
    return {name: np.asarray(np.mean([one[name] for one in found], axis=0)) for name in found[0]}


def _spearman(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Return Spearman's correlation for each row of weights; 0 where one side does not vary."""
    import numpy as np

    total = weights.sum(axis=1, keepdims=True)
    sides = []
    for values in (one, other):
        ranks = _ranks(values, weights)
        # Mid-ranks have the same mean whatever the ties.
        sides.append(ranks - (total + 1) / 2)
    first, second = sides
    both = np.einsum("ij,ij,ij->i", weights, first, second)
    spread = np.einsum("ij,ij,ij->i", weights, first, first)
    spread *= np.einsum("ij,ij,ij->i", weights, second, second)
    there = spread > 0
    return np.asarray(np.divide(both, np.sqrt(spread), out=np.zeros(len(weights)), where=there))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Return float64 [draws, n], mid-ranks of values [n] that are there as often as weights say."""
    import numpy as np

    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    return np.asarray((np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, place])


# --- what needs no model --------------------------------------------------------------------------


def constant(train_counts: ArrayLike, rows: int) -> tuple[Floats, Floats]:
    """Return mean [rows] and quantiles [rows, 5] of the training counts, the same for every row."""
    import numpy as np

    counts = np.asarray(train_counts, float)
    return np.full(rows, counts.mean()), np.tile(np.quantile(counts, LEVELS), (rows, 1))


def by_length(
    train_counts: ArrayLike, train_lengths: ArrayLike, lengths: ArrayLike
) -> tuple[Floats, Floats]:
    """Return mean [n] and quantiles [n, 5] of counts as a monotone function of prompt length.

    Isotonic regressions (Barlow et al., 1972), falling where longer prompts have lower counts: of
    counts for the mean, of log(1 + counts) for the quantiles, which are its value and quantiles of
    its residuals.

    Args:
        train_counts: [rows], of training rows.
        train_lengths: [rows], of their prompts, in any unit.
        lengths: [n], of the prompts asked about.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    counts = np.asarray(train_counts, float)
    before, now = np.asarray(train_lengths, float), np.asarray(lengths, float)
    rises = bool(_spearman(before, counts, np.ones((1, len(counts))))[0] >= 0)

    def fitted(targets: Floats) -> Any:
        return IsotonicRegression(increasing=rises, out_of_bounds="clip").fit(before, targets)

    logs = np.log1p(counts)
    line = fitted(logs)
    residuals = np.quantile(logs - line.predict(before), LEVELS)
    quantiles = np.expm1(line.predict(now)[:, None] + residuals)
    return np.asarray(fitted(counts).predict(now)), np.maximum(quantiles, 0.0)


def by_rules(
    train_counts: ArrayLike, train_features: ArrayLike, features: ArrayLike
) -> tuple[Floats, Floats]:
    """Return mean [n] and quantiles [n, 5] of counts by rules on what is seen of a prompt.

    The rules are a regression tree of log(1 + counts) (Breiman et al., 1984) with few leaves; a
    prompt gets the mean and the quantiles of the training rows in its leaf.

    Args:
        train_counts: [rows], of training rows.
        train_features: [rows, features], of their prompts.
        features: [n, features], of the prompts asked about.
    """
    import numpy as np
    from sklearn.tree import DecisionTreeRegressor

    counts = np.asarray(train_counts, float)
    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=LEAF, random_state=0)
    tree.fit(train_features, np.log1p(counts))
    before, now = tree.apply(train_features), tree.apply(features)
    leaves, place = np.unique(before, return_inverse=True)
    told = [constant(counts[place == i], 1) for i in range(len(leaves))]
    mean, quantiles = (np.concatenate(each) for each in zip(*told, strict=True))
    asked = np.searchsorted(leaves, now)
    return mean[asked], quantiles[asked]
