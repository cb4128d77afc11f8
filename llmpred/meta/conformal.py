"""Intervals that hold: calibrated on runs that took no part in fitting, as wide as each run needs.

The score of a run is its error in units of the width that a small model expects for it. Where at
least `MIN_GROUPS` groups are there, the groups are what is exchangeable, so each weighs the same
and the quantile follows the (n + 1) rule over groups: a new group's run lies inside with the stated
probability (Lei et al., 2018; groups: Lee, Barber & Willett, 2023). With fewer groups the rows take
their place and the intervals are CV+ (Barber et al., 2021), whose guarantee is 1 - 2α and, for new
groups, none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

MIN_GROUPS = 10  # fewer cannot calibrate 90 %: the largest of nine errors stands for 90 % at best
TINY = 1e-9


@dataclass(frozen=True)
class Width:
    """How wide an error to expect, from signs of doubt.

    Attributes:
        base: log of the width of a run without any sign.
        slopes: float64 [signs], at least 0: more doubt never narrows.
        centre, spread: float64 [signs], of the logs of the signs that it was fitted on.
    """

    base: float
    slopes: Floats
    centre: Floats
    spread: Floats

    def __call__(self, signs: Floats) -> Floats:
        """Return float64 [rows], the width expected.

        Args:
            signs: float64 [rows, signs], in the target's unit, at least 0.
        """
        import numpy as np

        logs = (np.log(signs + TINY) - self.centre) / self.spread
        # What is far beyond the rows it was fitted on widens as at its border, and no further.
        return np.exp(self.base + np.clip(logs, -3, 6) @ self.slopes)


def fit_width(signs: Floats, errors: Floats) -> Width:
    """Return the width model of the errors of rows that were not fitted on.

    A line for the log of the error in the logs of the signs, its slopes shrunk towards 0, where all
    intervals are equally wide.

    Args:
        signs: float64 [rows, signs], such as the deviation that a Gaussian process expects and how
            much the parts disagree.
        errors: float64 [rows], absolute.
    """
    import numpy as np
    from scipy.optimize import nnls

    logs = np.log(signs + TINY)
    centre, spread = logs.mean(axis=0), logs.std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1.0)
    # An error may be 0 by chance, and its log far off: all below a tenth of the median are alike.
    floor = max(float(np.median(errors)) / 10, TINY)
    wanted = np.log(np.maximum(errors, floor))
    base = float(wanted.mean())
    rows = len(errors)
    inputs = np.vstack([(logs - centre) / spread, np.sqrt(0.05 * rows) * np.eye(logs.shape[1])])
    target = np.concatenate([wanted - base, np.zeros(logs.shape[1])])
    slopes, _ = nnls(inputs, target)
    return Width(base, slopes, centre, spread)


def quantile(scores: Floats, groups: Rows, level: float) -> float:
    """Return the score that a new group's run stays below with at least the given probability.

    Args:
        scores: float64 [rows], of calibration runs.
        groups: int64 [rows]; every group weighs 1 / (groups + 1), shared by its rows, and what is
            left stands for the new one.
        level: such as 0.9.

    Returns:
        Infinity where there are too few groups for the level.
    """
    import numpy as np

    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = (1 / counts[place]) / (len(counts) + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) >= level - 1e-12
    return float(scores[order][reached.argmax()]) if reached.any() else float("inf")


def cv_plus(
    predicted: Floats, widths: Floats, scores: Floats, folds: Rows, level: float
) -> tuple[Floats, Floats]:
    """Return the ends of CV+ intervals.

    Args:
        predicted: float64 [rows, folds], what the model without each fold predicts for new rows.
        widths: float64 [rows, folds], the width that it expects.
        scores: float64 [calibration rows], each by the model without its fold.
        folds: int64 [calibration rows], the fold of each, from 0.
        level: such as 0.9.
    """
    import numpy as np

    count = len(scores)
    rank = int(np.ceil(level * (count + 1) - 1e-9))
    if rank > count:
        return np.full(len(predicted), -np.inf), np.full(len(predicted), np.inf)
    reach = widths[:, folds] * scores
    upper = np.partition(predicted[:, folds] + reach, rank - 1, axis=1)[:, rank - 1]
    lower = np.partition(predicted[:, folds] - reach, count - rank, axis=1)[:, count - rank]
    return lower, upper
