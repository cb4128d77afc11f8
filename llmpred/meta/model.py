"""The meta-model: parts, weighed by what they predict for rows held out, with calibrated intervals.

Everything is decided inside the training rows, by folds of the same groups as the split outside:

- the weights, by predictions for rows of folds that the parts were not fitted on;
- the intervals, by errors on folds that neither the parts nor the weights nor the width model saw.
  The model that predicts calibration fold k is weighed by predictions for fold j of parts fitted
  without both j and k. Those parts serve fold k and fold j alike, so strict nesting of K folds
  takes K(K - 1)/2 further fits rather than K².
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from llmpred.meta.conformal import MIN_GROUPS, Width, cv_plus, fit_width, quantile
from llmpred.meta.parts import FLAT, Parts, Said, fit_parts, folds_of, together
from llmpred.meta.splits import fold_numbers
from llmpred.meta.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

Fitted = TypeVar("Fitted")
LARGE = 50_000  # above so many rows there is one split instead of folds
LARGE_FOLDS = 10  # of which that split takes seven, one and two
SHRINK = 0.1  # pull of the weights towards equal ones, in target variances a row


@dataclass(frozen=True)
class Blend:
    """Parts, their weights, and the width model of their errors."""

    parts: Parts
    weights: Floats
    width: Width

    def predict(self, table: Table) -> tuple[Floats, Floats]:
        """Return the prediction and the width of its error that is expected, both [rows]."""
        return self.of(self.parts.say(table))

    def of(self, said: Said) -> tuple[Floats, Floats]:
        """Return `predict` of rows that the parts were asked about before."""
        middle, apart = mix(said, self.weights)
        return middle, self.width(_signs(apart, said))


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
        return self.intervals(table, [level])[0]

    def intervals(self, table: Table, levels: Sequence[float]) -> list[Prediction]:
        """Return `predict` at several levels, for hardly more than one takes."""
        import numpy as np

        middle, width = self.blend.predict(table)
        found = self.calibration
        if len(np.unique(found.groups)) >= MIN_GROUPS or not found.blends:
            reaches = [quantile(found.scores, found.groups, level) * width for level in levels]
            return [Prediction(middle, middle - reach, middle + reach) for reach in reaches]
        pairs = [blend.predict(table) for blend in found.blends]
        predicted = np.column_stack([mean for mean, _ in pairs])
        widths = np.column_stack([width for _, width in pairs])
        made = []
        for level in levels:
            lower, upper = cv_plus(predicted, widths, found.scores, found.folds, level)
            ends = np.minimum(lower, middle), np.maximum(upper, middle)
            made.append(Prediction(middle, *ends))
        return made


def _few_threads(fit: Callable[[Table, int], Fitted]) -> Callable[..., Fitted]:
    """Fit on one thread unless the table is large: small matrices wait for threads.

    Twice as much on two idle cores, and many times as much on busy ones.
    """

    @functools.wraps(fit)
    def fitted(table: Table, seed: int = 0) -> Fitted:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(None if len(table) > LARGE else 1):
            return fit(table, seed)

    return fitted


@_few_threads
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
    blend = _blend(fit_parts(table, seed), held_out, table.target)
    return MetaModel(blend, calibration, tuple(warnings))


@_few_threads
def fit_blend(table: Table, seed: int = 0) -> Blend:
    """Return the blend alone, without intervals: six fits instead of sixteen.

    Args:
        table: training rows; its groups are what inner folds hold out.
        seed: of folds and trees.
    """
    import numpy as np

    if len(table) > LARGE:
        return _fit_large(table, seed)[0]
    folds = folds_of(table, seed)
    pieces, order = [], []
    for fold in np.unique(folds):
        rest, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        pieces.append(fit_parts(table.take(rest), seed).say(table.take(held)))
        order.append(held)
    target = table.target[np.concatenate(order)]
    return _blend(fit_parts(table, seed), together(pieces), target)


def _calibrate(table: Table, folds: Rows, seed: int) -> tuple[Calibration, Said]:
    """Return the calibration, and what parts without a row's fold say of it, for every row."""
    import numpy as np

    numbers = np.unique(folds)

    def without(left_out: set[int]) -> Parts:
        return fit_parts(table.take(np.flatnonzero(~np.isin(folds, list(left_out)))), seed)

    rows = {int(k): np.flatnonzero(folds == k) for k in numbers}
    # What the parts without folds j and k say of the rows in j; [k][j].
    inner: dict[int, dict[int, Said]] = {k: {} for k in rows}
    for j, k in itertools.combinations(rows, 2):
        parts = without({j, k})
        inner[k][j] = parts.say(table.take(rows[j]))
        inner[j][k] = parts.say(table.take(rows[k]))
    outer: dict[int, Said] = {}
    blends = []
    scores = np.empty(len(table))
    for k, held in rows.items():
        parts = without({k})
        outer[k] = parts.say(table.take(held))
        others = np.concatenate([rows[j] for j in inner[k]])
        blend = _blend(parts, together(inner[k].values()), table.target[others])
        middle, width = blend.of(outer[k])
        scores[held] = np.abs(table.target[held] - middle) / width
        blends.append(blend)
    order = np.argsort(np.concatenate(list(rows.values())), kind="stable")
    held_out = together(outer.values()).take(order)
    return Calibration(scores, table.groups, folds, tuple(blends)), held_out


def _fit_large(table: Table, seed: int) -> tuple[Blend, Calibration]:
    """Fit on seven tenths of the groups, weigh by one, calibrate by two; of few groups, of rows."""
    import numpy as np

    few = len(np.unique(table.groups)) < LARGE_FOLDS
    folds = fold_numbers(np.arange(len(table)) if few else table.groups, LARGE_FOLDS, seed)
    parts = fit_parts(table.take(np.flatnonzero(folds >= 3)), seed, large=True)
    weighed = table.take(np.flatnonzero(folds == 0))
    blend = _blend(parts, parts.say(weighed), weighed.target)
    held = table.take(np.flatnonzero((folds == 1) | (folds == 2)))
    middle, width = blend.predict(held)
    scores = np.abs(held.target - middle) / width
    # With fewer groups than a quantile takes, each run stands for itself.
    few = len(np.unique(held.groups)) < MIN_GROUPS
    groups = np.arange(len(held)) if few else held.groups
    return blend, Calibration(scores, groups, np.zeros(len(held), dtype=np.int64))


def _blend(parts: Parts, said: Said, target: Floats) -> Blend:
    """Weigh the parts by what they said of rows they were not fitted on."""
    import numpy as np

    weights = weigh(said.each, target)
    middle, apart = mix(said, weights)
    width = fit_width(_signs(apart, said), np.abs(target - middle))
    return Blend(parts, weights, width)


def mix(said: Said, weights: Floats) -> tuple[Floats, Floats]:
    """Return the weighted mean of what the parts say, and how far apart they are; both [rows].

    Of a row beyond those fitted on, parts that are flat there have no say: weights tell who is
    right among known rows, and there only trends lead on. That they differ still counts as doubt.
    """
    import numpy as np

    sloped = weights * [name not in FLAT for name in said.names]
    shares = weights
    if sloped.sum() > 0:
        shares = np.where(said.beyond[:, None], sloped / sloped.sum(), weights)
    middle = (said.each * shares).sum(axis=1)
    apart = np.sqrt((np.square(said.each - middle[:, None]) * weights).sum(axis=1))
    return middle, apart


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


def _signs(apart: Floats, said: Said) -> Floats:
    """Return the signs of doubt, float64 [rows, 2]: parts that disagree, a process that doubts."""
    import numpy as np

    return np.column_stack([apart, said.deviation])
