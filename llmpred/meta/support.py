"""Where the training rows say something: which runs lie outside them, and in which features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmpred.meta.table import Table
from llmpred.meta.transforms import Category, Encoder, Number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 0.1  # of a column's range; so far beyond its ends a number still counts as seen


def beyond(encoder: Encoder, table: Table) -> NDArray[np.bool_]:
    """Return bool [rows, columns]: whether a number lies clearly beyond those seen.

    Args:
        encoder: of the training rows. Ranges are of logarithms where the column takes them.
        table: rows to judge; missing cells are inside.
    """
    import numpy as np

    made = np.zeros((len(table), len(encoder.columns)), dtype=bool)
    for i, column in enumerate(encoder.columns):
        if isinstance(column, Number):
            low, high = column.ends
            values = column.scaled(table.features[column.name])
            margin = MARGIN * (high - low)
            made[:, i] = (values < low - margin) | (values > high + margin)
    return made


def outside(encoder: Encoder, table: Table) -> list[tuple[str, ...]]:
    """Return for each row the features that put it outside: numbers beyond, texts never seen."""
    import numpy as np

    made = beyond(encoder, table)
    for i, column in enumerate(encoder.columns):
        if isinstance(column, Category):
            seen = {*column.levels, None}
            made[:, i] = [value not in seen for value in table.features[column.name]]
    names = np.asarray(encoder.names)
    return [tuple(map(str, names[row])) for row in made]
