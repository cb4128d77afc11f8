"""How long a run will take, learnt from how long others took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.meta.predictors import Line, fit_elastic_net
from llmpred.meta.splits import fold_numbers
from llmpred.meta.table import Table
from llmpred.meta.transforms import Encoder, fit_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_ROWS = 10
FOLDS = 5


@dataclass(frozen=True)
class Cost:
    """A line for the logarithm of a run's seconds in its columns and their logarithms.

    Attributes:
        encoder: of the runs that it was fitted on.
        line: log seconds.
        least, most: of the seconds that it was fitted on; it answers within a factor of 10 of them.
        factor: median factor between what it says of runs held out and what they took.
    """

    encoder: Encoder
    line: Line
    least: float
    most: float
    factor: float

    def __call__(self, table: Table) -> Floats:
        """Return float64 [rows], the seconds that runs take, in the median."""
        import numpy as np

        seconds: Floats = np.exp(self.line(self.encoder.view(table)))
        return np.clip(seconds, self.least / 10, self.most * 10)


def fit_cost(table: Table, seconds: Floats, seed: int = 0) -> Cost | None:
    """Return what runs cost, or None where fewer than `MIN_ROWS` say what they took.

    Args:
        table: runs; its target is not read.
        seconds: float64 [rows], NaN or at most 0 where unknown.
        seed: of the folds, which keep groups together.
    """
    import numpy as np

    known = np.flatnonzero(seconds > 0)
    if len(known) < MIN_ROWS:
        return None
    runs, target = table.take(known), np.log(seconds[known])
    encoder = fit_encoder(runs)
    if not encoder.columns:
        return None
    names = np.unique(runs.groups)
    groups = runs.groups if len(names) >= FOLDS else np.arange(len(runs))
    folds = fold_numbers(groups, FOLDS, seed)
    missed = np.empty(len(runs))
    for fold in range(FOLDS):
        rest, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        inner = fold_numbers(np.arange(len(rest)), FOLDS, seed)
        line = fit_elastic_net(encoder.view(runs.take(rest)), target[rest], inner)
        missed[held] = np.abs(line(encoder.view(runs.take(held))) - target[held])
    line = fit_elastic_net(encoder.view(runs), target, folds)
    factor = float(np.exp(np.median(missed)))
    shortest, longest = float(seconds[known].min()), float(seconds[known].max())
    return Cost(encoder, line, shortest, longest, factor)
