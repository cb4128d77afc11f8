"""The meta-model: parts, weighed by what they predict for rows held out, with calibrated intervals.

Everything is decided inside the training rows, by folds of the same groups as the split outside:

- the weights, by predictions for rows of folds that the parts were not fitted on;
- the intervals, by errors on folds that neither the parts nor the weights nor the width model saw.
  The model that predicts calibration fold k is weighed by predictions for fold j of parts fitted
  without both j and k. Those parts serve fold k and fold j alike, so strict nesting of K folds
  takes K(K - 1)/2 further fits rather than K².
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.meta.conformal import MIN_GROUPS, Width, cv_plus, fit_width, quantile
from llmpred.meta.parts import LARGE, PARTS, Parts, fit_parts, folds_of
from llmpred.meta.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

SHRINK = 0.1  # pull of the weights towards equal ones, in target variances a row


@dataclass(frozen=True)
class Blend:
    """Parts, their weights, and the width model of their errors."""

    parts: Parts
    weights: Floats
    width: Width

    def predict(self, table: Table) -> tuple[Floats, Floats]:
        """Return the prediction and the width of its error that is expected, both [rows]."""
        each = self.parts.predict(table)
        middle = each @ self.weights
        return middle, self.width(_signs(each, self.weights, self.parts.deviation(table)))


@dataclass(frozen=True)
class Calibration:
    """Runs that took no part in the fit of the model that predicted them.

    Attributes:
        scores: float64 [rows], error in units of the width expected.
        groups: int64 [rows].
        folds: int64 [rows], the place in `blends` of the model that predicted each.
        blends: that model of each fold; none where the final model predicted all.
    """

    scores: Floats
    groups: Rows
    folds: Rows
    blends: tuple[Blend, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a table's rows: middle, and ends of the interval; each [rows]."""

    mean: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class MetaModel:
    """A fitted meta-model.

    Attributes:
        blend: fitted on all training rows.
        calibration: what the intervals rest on.
        warnings: where its promises are weaker, a sentence each.
    """

    blend: Blend
    calibration: Calibration
    warnings: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each part, together 1."""
        return dict(zip(self.blend.parts.names, map(float, self.blend.weights), strict=True))

    def predict(self, table: Table, level: float = 0.9) -> Prediction:
        """Return predictions with intervals.

        Args:
            table: rows with the columns of the training rows; targets are not read.
            level: share of new runs that lie inside their interval.
        """
        import numpy as np

        middle, width = self.blend.predict(table)
        found = self.calibration
        if len(np.unique(found.groups)) >= MIN_GROUPS or not found.blends:
            reach = quantile(found.scores, found.groups, level) * width
            return Prediction(middle, middle - reach, middle + reach)
        pairs = [blend.predict(table) for blend in found.blends]
        predicted = np.column_stack([mean for mean, _ in pairs])
        widths = np.column_stack([width for _, width in pairs])
        lower, upper = cv_plus(predicted, widths, found.scores, found.folds, level)
        return Prediction(middle, np.minimum(lower, middle), np.maximum(upper, middle))


def fit(table: Table, seed: int = 0) -> MetaModel:
    """Return the meta-model of a table.

    Args:
        table: training rows; its groups are what inner folds hold out.
        seed: of folds and trees.
    """
    import numpy as np

    warnings = []
    groups = len(np.unique(table.groups))
    large = len(table) > LARGE
    if groups < MIN_GROUPS and not large:
        warnings.append(
            f"Only {groups} groups to calibrate on: runs are taken as exchangeable, and intervals "
            "are CV+, which promises less (1 - 2α instead of 1 - α) and for new groups nothing."
        )
    if large:
        warnings.append(
            f"{len(table)} rows: one split instead of nested folds, and no Gaussian process."
        )
        if groups < 5 * MIN_GROUPS:
            warnings.append(
                f"Only {groups} groups, so that too few calibrate: runs are taken as exchangeable, "
                "and for new groups the intervals promise nothing."
            )
        return MetaModel(*_fit_large(table, seed), tuple(warnings))
    folds = folds_of(table, seed)
    calibration, held_out = _calibrate(table, folds, seed)
    blend = _blend(fit_parts(table, seed), *held_out, table.target)
    return MetaModel(blend, calibration, tuple(warnings))


def _calibrate(table: Table, folds: Rows, seed: int) -> tuple[Calibration, tuple[Floats, Floats]]:
    """Return the calibration, and each row's predictions and deviation by parts without its fold.

    The latter are what the final blend is weighed by: float64 [rows, parts] and [rows].
    """
    import numpy as np

    numbers = np.unique(folds)

    def without(left_out: set[int]) -> Parts:
        return fit_parts(table.take(np.flatnonzero(~np.isin(folds, list(left_out)))), seed)

    def empty() -> tuple[Floats, Floats]:
        return np.full((len(table), len(PARTS)), np.nan), np.full(len(table), np.nan)

    # For calibration fold k: what the parts without k and j say of the rows in j, for all j.
    inner = {int(k): empty() for k in numbers}
    for j, k in itertools.combinations(map(int, numbers), 2):
        parts = without({j, k})
        for predicted, calibrated in ((j, k), (k, j)):
            _fill(inner[calibrated], parts, table, folds == predicted)
    outer = empty()
    blends = []
    scores = np.empty(len(table))
    for k in map(int, numbers):
        parts = without({k})
        rows, others = folds == k, folds != k
        _fill(outer, parts, table, rows)
        each, deviation = inner[k]
        blend = _blend(parts, each[others], deviation[others], table.target[others])
        middle = outer[0][rows] @ blend.weights
        width = blend.width(_signs(outer[0][rows], blend.weights, outer[1][rows]))
        scores[rows] = np.abs(table.target[rows] - middle) / width
        blends.append(blend)
    return Calibration(scores, table.groups, folds, tuple(blends)), outer


def _fill(
    made: tuple[Floats, Floats], parts: Parts, table: Table, where: NDArray[np.bool_]
) -> None:
    import numpy as np

    rows = np.flatnonzero(where)
    part = table.take(rows)
    made[0][rows] = parts.predict(part)
    made[1][rows] = parts.deviation(part)


def _fit_large(table: Table, seed: int) -> tuple[Blend, Calibration]:
    """Fit on seven tenths of the groups, weigh by one, calibrate by two."""
    import numpy as np

    folds = folds_of(table, seed, 10)
    parts = fit_parts(table.take(np.flatnonzero(folds >= 3)), seed)
    weighed = table.take(np.flatnonzero(folds == 0))
    blend = _blend(parts, parts.predict(weighed), parts.deviation(weighed), weighed.target)
    held = table.take(np.flatnonzero((folds == 1) | (folds == 2)))
    middle, width = blend.predict(held)
    scores = np.abs(held.target - middle) / width
    # With fewer groups than a quantile takes, each run stands for itself.
    few = len(np.unique(held.groups)) < MIN_GROUPS
    groups = np.arange(len(held)) if few else held.groups
    return blend, Calibration(scores, groups, np.zeros(len(held), dtype=np.int64))


def _blend(parts: Parts, each: Floats, deviation: Floats, target: Floats) -> Blend:
    """Weigh the parts by what they predict for rows they were not fitted on."""
    import numpy as np

    weights = weigh(each, target)
    errors = np.abs(target - each @ weights)
    return Blend(parts, weights, fit_width(_signs(each, weights, deviation), errors))


def weigh(each: Floats, target: Floats) -> Floats:
    """Return the weights, at least 0 and together 1, with the least squared error.

    They are pulled a little towards equal weights: between parts that are alike, chance decides.

    Args:
        each: float64 [rows, parts], predictions for rows that were not fitted on.
        target: float64 [rows].
    """
    import numpy as np
    from scipy.optimize import nnls

    rows, count = each.shape
    scale = math.sqrt(rows) * float(np.abs(each - target[:, None]).mean() or 1.0)
    errors = each - target[:, None]  # since the weights sum to 1
    heavy = 1e3 * scale
    system = np.vstack(
        [errors, math.sqrt(SHRINK) * scale * np.eye(count), heavy * np.ones((1, count))]
    )
    wanted = np.concatenate(
        [np.zeros(rows), np.full(count, math.sqrt(SHRINK) * scale / count), [heavy]]
    )
    weights, _ = nnls(system, wanted)
    normed: Floats = weights / weights.sum()
    return normed


def _signs(each: Floats, weights: Floats, deviation: Floats) -> Floats:
    """Return the signs of doubt: how the parts disagree, what the process expects; [rows, 2]."""
    import numpy as np

    middle = each @ weights
    apart = np.sqrt(np.square(each - middle[:, None]) @ np.full(len(weights), 1 / len(weights)))
    return np.column_stack([apart, deviation])
