"""Where the training rows say something: which runs lie outside them, and in which features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.meta.table import Table
from llmpred.meta.transforms import Category, Encoder, Number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 0.1  # of a column's range; so far beyond its ends a number still counts as seen


@dataclass(frozen=True)
class Support:
    """The ranges of the training rows.

    Attributes:
        encoder: the columns, and which of them are taken as logarithms.
        low, high: ends of each number column, logarithms where they are taken; 0 for texts.
    """

    encoder: Encoder
    low: tuple[float, ...]
    high: tuple[float, ...]

    def beyond(self, table: Table) -> NDArray[np.bool_]:
        """Return bool [rows, columns]: whether a number lies clearly beyond those seen."""
        import numpy as np

        made = np.zeros((len(table), len(self.low)), dtype=bool)
        for i, column in enumerate(self.encoder.columns):
            if isinstance(column, Number):
                values = _scaled(column, table)
                margin = MARGIN * (self.high[i] - self.low[i])
                made[:, i] = (values < self.low[i] - margin) | (values > self.high[i] + margin)
        return made

    def outside(self, table: Table) -> list[tuple[str, ...]]:
        """Return for each row the features that put it outside: numbers beyond, texts unseen."""
        import numpy as np

        made = self.beyond(table)
        for i, column in enumerate(self.encoder.columns):
            if isinstance(column, Category):
                seen = {*column.levels, None}
                made[:, i] = [value not in seen for value in table.features[column.name]]
        names = np.asarray(self.encoder.names)
        return [tuple(map(str, names[row])) for row in made]


def fit_support(table: Table, encoder: Encoder) -> Support:
    """Return the ranges of the training rows."""
    import numpy as np

    ends = []
    for column in encoder.columns:
        values = _scaled(column, table) if isinstance(column, Number) else np.zeros(1)
        known = values[~np.isnan(values)]
        ends.append((float(known.min()), float(known.max())))
    return Support(encoder, tuple(low for low, _ in ends), tuple(high for _, high in ends))


def _scaled(column: Number, table: Table) -> NDArray[np.float64]:
    import numpy as np

    values: NDArray[np.float64] = table.features[column.name]
    if column.shift is None:
        return values
    return np.asarray(np.log(np.maximum(values, 0) + max(column.shift, 1e-12)))
