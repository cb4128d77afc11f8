"""What a trained model says of candidates: scores, intervals, seconds, and where it guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.meta import decisions
from llmpred.meta.decisions import Quantiles
from llmpred.meta.model import Prediction
from llmpred.meta.schema import candidates, differing
from llmpred.meta.support import outside
from llmpred.meta.table import is_number
from llmpred.meta.trained import Trained

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """Predictions for rows.

    Attributes:
        interval: middle and interval at the level that was asked for.
        quantiles: the whole distributions.
        seconds: float64 [rows], what each run takes; None where the model was not told.
        outside: for each row the columns in which it lies outside the training rows.
        unknown: columns that most training rows have and none of these.
    """

    interval: Prediction
    quantiles: Quantiles
    seconds: Floats | None
    outside: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...]


def forecast(trained: Trained, rows: pa.Table, level: float = 0.9, where: str = "") -> Forecast:
    """Return what a model says of rows.

    Args:
        trained: the model.
        rows: with the columns of its schema.
        level: of the interval.
        where: file, for messages.
    """
    table = candidates(rows, trained.schema, where)
    beyond = outside(trained.model.blend.parts.encoder, table)
    other = differing(rows, trained.schema)
    found = trained.model.intervals(table, [*decisions.LEVELS, level])
    return Forecast(
        found[-1],
        decisions.quantiles(found[:-1]),
        None if trained.cost is None else trained.cost(table),
        tuple((*one, *two) for one, two in zip(beyond, other, strict=True)),
        tuple(
            name
            for name in trained.schema.columns
            if _missing(table.features[name]) == 1 and _missing(trained.sample.features[name]) < 0.5
        ),
    )


def _missing(values: NDArray[Any]) -> float:
    """Return the share of cells that are empty."""
    import numpy as np

    empty = np.isnan(values) if is_number(values) else [value is None for value in values]
    return float(np.mean(empty))
