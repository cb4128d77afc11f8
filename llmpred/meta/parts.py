"""What the meta-model is composed of: parts that each predict alone, fitted on the same rows.

Trees are strong where there are many rows and steps; on small and near-linear tables a regularised
line or a Gaussian process is stronger, and outside the rows seen only those follow a trend. So each
has its part, and `model` weighs them by what they predict for rows they were not fitted on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.meta import predictors
from llmpred.meta.predictors import Line, OnResiduals, Predictor, Process
from llmpred.meta.splits import fold_numbers
from llmpred.meta.support import beyond
from llmpred.meta.table import Table
from llmpred.meta.transforms import Encoder, fit_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

PARTS = (
    "lightgbm",
    "lightgbm_on_residuals",
    "extra_trees",
    "gaussian_process",
    "gaussian_process_log",
    "linear",
)
LARGE_PARTS = ("lightgbm", "lightgbm_on_residuals", "linear")
FLAT = ("lightgbm", "extra_trees")  # beyond the rows seen they say what they say at the border
DOUBTING = "gaussian_process"  # the part that tells how much it doubts
FOLDS = 5
LEAST = 10  # from fewer rows nothing is learnt but their mean


@dataclass(frozen=True)
class Said:
    """What fitted parts say of rows.

    Attributes:
        names: of the parts.
        each: float64 [rows, parts], what each predicts.
        deviation: float64 [rows], the standard deviation of a new run's outcome as the Gaussian
            process sees it; zeros where there is none.
        beyond: bool [rows], whether a number lies clearly beyond those that they were fitted on.
    """

    names: tuple[str, ...]
    each: Floats
    deviation: Floats
    beyond: NDArray[np.bool_]

    def take(self, rows: Rows) -> Said:
        """Return what they say of these rows."""
        return Said(self.names, self.each[rows], self.deviation[rows], self.beyond[rows])


def together(pieces: Iterable[Said]) -> Said:
    """Return what was said of several pieces of rows as one."""
    import numpy as np

    every = list(pieces)
    return Said(
        every[0].names,
        np.concatenate([said.each for said in every]),
        np.concatenate([said.deviation for said in every]),
        np.concatenate([said.beyond for said in every]),
    )


@dataclass(frozen=True)
class Parts:
    """The fitted parts.

    Attributes:
        names: of the parts, as in `PARTS`.
        predictors: one a part.
        encoder: the columns of the rows that they were fitted on.
    """

    names: tuple[str, ...]
    predictors: tuple[Predictor, ...]
    encoder: Encoder

    def say(self, table: Table) -> Said:
        """Return what the parts say of a table's rows."""
        return together(self._say(table.take(rows)) for rows in predictors.blocks(len(table)))

    def _say(self, table: Table) -> Said:
        import numpy as np

        view = self.encoder.view(table)
        deviation = np.zeros(len(table))
        answers: dict[int, Floats] = {}  # a part that others build on is asked once

        def ask(predictor: Predictor) -> Floats:
            if id(predictor) not in answers:
                answers[id(predictor)] = (
                    ask(predictor.base) + predictor.trees(view)
                    if isinstance(predictor, OnResiduals)
                    else predictor(view)
                )
            return answers[id(predictor)]

        for name, predictor in zip(self.names, self.predictors, strict=True):
            if name == DOUBTING and isinstance(predictor, Process):
                answers[id(predictor)], deviation = predictor.doubting(view)
        each = np.column_stack([ask(predictor) for predictor in self.predictors])
        far: NDArray[np.bool_] = np.any(beyond(self.encoder, table), axis=1)
        return Said(self.names, each, deviation, far)


def fit_parts(table: Table, seed: int, *, large: bool = False) -> Parts:
    """Return the parts fitted on all rows of a table; what they tune, they tune by its groups.

    Args:
        table: training rows.
        seed: of folds, trees and the rows that a process takes.
        large: fit `LARGE_PARTS` alone, and spare time where rows abound.
    """
    import numpy as np

    encoder = fit_encoder(table)
    view = encoder.view(table)
    folds = folds_of(table, seed)
    target = table.target

    names = LARGE_PARTS if large else PARTS
    if len(table) < LEAST or not encoder.columns or np.ptp(target) == 0:
        # What folds leave may be next to nothing, or alike, although all rows together are neither.
        same = Line("plain", np.zeros(view("plain").shape[1]), float(target.mean()))
        return Parts(names, (same,) * len(names), encoder)
    rows = predictors.binned(view, folds == 0, encoder.categorical, large=large)

    def boosted(target: Floats) -> predictors.Boosted:
        return predictors.fit_boosted(rows, target, seed)

    if large:
        line, held_out = predictors.fit_ridge(encoder, table, folds)
        missed = target - held_out
        return Parts(names, (boosted(target), OnResiduals(line, boosted(missed)), line), encoder)
    process = predictors.fit_process(view, "both", target, seed)
    missed = target - predictors.held_out_process(process, view, folds)
    fitted = (
        boosted(target),
        OnResiduals(process, boosted(missed)),
        predictors.fit_forest(view, target, len(encoder.columns), seed),
        process,
        predictors.fit_process(view, "log", target, seed),
        predictors.fit_elastic_net(view, target, folds),
    )
    return Parts(names, fitted, encoder)


def folds_of(table: Table, seed: int, folds: int = FOLDS) -> Rows:
    """Return the fold of each row: by group, or by row where there are fewer than three groups."""
    import numpy as np

    count = len(np.unique(table.groups))
    if count < 3:
        return fold_numbers(np.arange(len(table)), folds, seed)
    return fold_numbers(table.groups, min(folds, count), seed)
