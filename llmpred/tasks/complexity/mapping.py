"""From what a method answers back to counts, by its training rows alone.

A mean is best for the squared error, a median for the absolute one, quantiles for the pinball
loss; so all of them are told, for labels, for probabilities of labels and for numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from llmpred.errors import DataError, Problem
from llmpred.spec.run import Frozen
from llmpred.tasks.base import LEVELS
from llmpred.tasks.complexity.labels import checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

BATCH = 1_000  # rows whose mixtures are held at once


class LabelCounts(Frozen):
    """The counts of the training rows with a label; of all training rows where none has it.

    Attributes:
        n: training rows with the label.
        mean, median: of the counts.
        quantiles: at the levels asked for, between neighbours linearly.
        counts: of the rows with the label, ascending; none where no row has it.
    """

    n: int
    mean: float
    median: float
    quantiles: tuple[float, ...]
    counts: tuple[float, ...]


def counts_by_label(
    labels: Rows, counts: Floats, k: int, levels: Sequence[float] = LEVELS
) -> list[LabelCounts]:
    """Return the counts that each of k labels stands for.

    Args:
        labels: int64 [rows], of training rows, from 0.
        counts: float64 [rows], of the same rows.
        k: how many labels there are.
        levels: of the quantiles, ascending.

    Raises:
        DataError: if counts do not hold.
    """
    import numpy as np

    counts = checked(counts)
    table = []
    for label in range(k):
        own = counts[labels == label]
        meant = np.sort(own if len(own) else counts)
        table.append(
            LabelCounts(
                n=len(own),
                mean=float(meant.mean()),
                median=float(np.median(meant)),
                quantiles=tuple(np.quantile(meant, levels).tolist()),
                counts=tuple(np.sort(own).tolist()),
            )
        )
    return table


def plain(predicted: Rows, table: Sequence[LabelCounts]) -> tuple[Floats, Floats]:
    """Return what predicted labels stand for: the counts of the training rows that have them.

    Args:
        predicted: int64 [rows].
        table: of the labels.

    Returns:
        Means, float64 [rows], and quantiles, float64 [rows, levels].
    """
    import numpy as np

    means = np.array([label.mean for label in table])
    quantiles = np.array([label.quantiles for label in table])
    return means[predicted], quantiles[predicted]


def expected(
    probabilities: Floats, table: Sequence[LabelCounts], levels: Sequence[float] = LEVELS
) -> tuple[Floats, Floats]:
    """Return what probabilities of labels stand for: the mixture of the labels' training counts.

    Args:
        probabilities: float64 [rows, K], each row summing to 1.
        table: of the K labels.
        levels: of the quantiles, ascending.

    Returns:
        Means of the mixtures, float64 [rows]; and their quantiles, float64 [rows, levels]: the
        least count at which the mixture's distribution function reaches the level.

    Raises:
        DataError: if probabilities do not hold.
    """
    import numpy as np

    probabilities = np.asarray(probabilities, dtype=np.float64)
    sums = probabilities.sum(axis=-1)
    fits = probabilities.ndim == 2 and probabilities.shape[1] == len(table)
    if not fits or not (probabilities >= 0).all() or not np.allclose(sums, 1, atol=1e-4):
        law = f"probabilities of {len(table)} labels must be [rows, {len(table)}] and sum to 1"
        raise DataError(Problem(f"{law}, but their shape is {probabilities.shape}", "predictions"))
    means = probabilities @ np.array([label.mean for label in table])
    everything = np.sort(np.concatenate([label.counts for label in table]))
    values = np.unique(everything)
    own = [label.counts or everything for label in table]
    reached = np.array([np.searchsorted(c, values, side="right") / len(c) for c in own])
    quantiles = np.empty((len(probabilities), len(levels)))
    for start in range(0, len(probabilities), BATCH):
        batch = slice(start, start + BATCH)
        below = (probabilities[batch] @ reached) / sums[batch, None]
        for i, level in enumerate(levels):
            # The last value is reached at 1, or a rounding below it.
            first = (below >= level - 1e-12).argmax(axis=1)
            quantiles[batch, i] = values[first]
    return means, quantiles


class Scalar(Frozen):
    """How numbers become counts.

    Attributes:
        x, y: numbers, ascending, and the mean counts at them; linear between, constant beyond.
        residuals: quantiles of log1p(counts) about log1p(mean), by level.
    """

    x: tuple[float, ...] = Field(min_length=1)
    y: tuple[float, ...]
    residuals: tuple[float, ...]

    @model_validator(mode="after")
    def _ascending(self) -> Scalar:
        if len(self.x) != len(self.y) or any(a > b for a, b in itertools.pairwise(self.x)):
            raise ValueError("`x` must ascend, and `y` have a value for each")
        return self

    def apply(self, scores: Floats) -> tuple[Floats, Floats]:
        """Return mean counts, float64 [rows], and quantiles, float64 [rows, levels].

        Raises:
            DataError: if a score is not a finite number.
        """
        import numpy as np

        means = np.interp(_finite(scores), self.x, self.y)
        spread = np.log1p(means)[:, None] + np.asarray(self.residuals)
        return means, np.maximum(np.expm1(spread), 0.0)


def from_scores(
    train_scores: Floats, train_counts: Floats, levels: Sequence[float] = LEVELS
) -> Scalar:
    """Fit how the numbers that a regression puts out become counts.

    Isotonic regression gives the mean counts at a number, rising with it or constant (Barlow et
    al., 1972). Quantiles lie about it as residuals of these rows do on the log1p scale, by the same
    factor everywhere. Both are as narrow as a model is sure of rows it was trained on; scores of
    rows held out of training say more where there are any.

    Args:
        train_scores: float64 [rows], what the method puts out for training rows.
        train_counts: float64 [rows].
        levels: of the quantiles, ascending.

    Raises:
        DataError: if counts do not hold, or a score is not a finite number.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    counts, scores = checked(train_counts), _finite(train_scores)
    fitted = IsotonicRegression(increasing=True, out_of_bounds="clip").fit(scores, counts)
    x, y = fitted.X_thresholds_, fitted.y_thresholds_
    residuals = np.log1p(counts) - np.log1p(np.interp(scores, x, y))
    return Scalar(
        x=tuple(x.tolist()),
        y=tuple(y.tolist()),
        residuals=tuple(np.quantile(residuals, levels).tolist()),
    )


class Readings(Frozen):
    """How a model's scores are read as counts.

    Attributes:
        labels: what each label stands for; None of a regression.
        mixture: whether probabilities of labels are read, rather than the likeliest label.
        values: what a number stands for; None of labels.
        limits: thirds of the training counts, for routes.
    """

    labels: tuple[LabelCounts, ...] | None = None
    mixture: bool = False
    values: Scalar | None = None
    limits: tuple[float, float]


def _finite(scores: Any) -> Floats:
    import numpy as np

    found: Floats = np.asarray(scores, dtype=np.float64)
    if bad := int((~np.isfinite(found)).sum()):
        law = f"scores must be finite numbers, but {bad:,} of {found.size:,} are not"
        raise DataError(Problem(law, "predictions", "The model diverged; take a lower lr."))
    return found
