"""From a table's columns to matrices: what is learnt from the training rows, and applied to any.

Trees get columns as they are. Linear parts and Gaussian processes get missing numbers filled, texts
as one column a value, and columns that span orders of magnitude as logarithms; all standardised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from llmpred.meta.table import Table, is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Form = Literal["trees", "plain", "log", "both"]

SPAN = 10.0  # from this ratio of the 95th to the 5th percentile on, logarithms are taken
LEVELS = 30  # so many values of a text column get a column of their own, the most frequent ones


@dataclass(frozen=True)
class Number:
    """A number column, as the training rows have it.

    Attributes:
        name: of the column.
        median: what stands for missing cells.
        missing: whether cells are missing, so that an indicator goes with it.
        shift: its logarithm is log(x + shift); None where none is taken.
        low, high: the least and the greatest number.
    """

    name: str
    median: float
    missing: bool
    shift: float | None
    low: float
    high: float

    def scaled(self, values: Floats) -> Floats:
        """Return the values as logarithms where the column takes them."""
        import numpy as np

        if self.shift is None:
            return values
        # Rows to predict may go below what was seen, down to where there is no logarithm.
        logs: Floats = np.log(np.maximum(values, 0) + max(self.shift, 1e-12))
        return logs

    @property
    def ends(self) -> tuple[float, float]:
        """The range of `scaled`."""
        import numpy as np

        low, high = self.scaled(np.array([self.low, self.high]))
        return float(low), float(high)


@dataclass(frozen=True)
class Category:
    """A text column and its values, the most frequent first."""

    name: str
    levels: tuple[str, ...]

    def codes(self, values: NDArray[Any]) -> Floats:
        """Return float64 [rows], the place of each value in `levels`; NaN for all others."""
        import numpy as np

        places = {level: float(code) for code, level in enumerate(self.levels)}
        return np.fromiter((places.get(v, np.nan) for v in values), float, len(values))


@dataclass(frozen=True)
class Encoder:
    """What the training rows say of the columns; columns that do not vary in them are left out."""

    columns: tuple[Number | Category, ...]

    @property
    def names(self) -> list[str]:
        """Columns of `trees`."""
        return [column.name for column in self.columns]

    @property
    def categorical(self) -> list[int]:
        """Places of text columns in `trees`."""
        return [i for i, column in enumerate(self.columns) if isinstance(column, Category)]

    def view(self, table: Table) -> Callable[[Form], Floats]:
        """Return the function from a form to the rows' matrix in it, which makes each form once."""

        @cache
        def made(form: Form) -> Floats:
            return self.trees(table) if form == "trees" else self.dense(table, form)

        return made

    def trees(self, table: Table) -> Floats:
        """Return float64 [rows, columns]: numbers with NaN, texts as the number of their value."""
        import numpy as np

        made = np.empty((len(table), len(self.columns)))
        for i, column in enumerate(self.columns):
            values = table.features[column.name]
            if isinstance(column, Number):
                made[:, i] = values
            else:
                made[:, i] = column.codes(values)
        return made

    def dense(self, table: Table, form: Form) -> Floats:
        """Return float64 [rows, inputs] without missing cells, not yet standardised.

        A trend leads on beyond the numbers seen as far as their range again, and of a column that
        takes logarithms, in these alone: a hundredfold number would swamp a line.

        Args:
            table: any rows with the columns of the training rows.
            form: columns that span orders of magnitude as they are (`plain`), as logarithms
                (`log`), or `both`.
        """
        import numpy as np

        made = []
        for column in self.columns:
            values = table.features[column.name]
            if isinstance(column, Category):
                codes = column.codes(values)
                shown = min(len(column.levels), LEVELS)
                made += [(codes == code).astype(float) for code in range(shown)]
                continue
            unknown = np.isnan(values)
            known = np.where(unknown, column.median, values)
            low, high = column.ends
            led = np.clip(column.scaled(known), 2 * low - high, 2 * high - low)
            if column.shift is None:
                made.append(led)
            else:
                if form != "log":
                    made.append(np.clip(known, column.low, column.high))
                if form != "plain":
                    made.append(led)
            if column.missing:
                made.append(unknown.astype(float))
        return np.column_stack(made) if made else np.empty((len(table), 0))


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the training rows' inputs."""

    mean: Floats
    deviation: Floats

    def __call__(self, inputs: Floats) -> Floats:
        """Return the inputs standardised."""
        scaled: Floats = (inputs - self.mean) / self.deviation
        return scaled


def fit_scale(inputs: Floats) -> Scale:
    """Return the scale of the training rows' inputs; what does not vary is only centred."""
    import numpy as np

    deviation = inputs.std(axis=0)
    return Scale(inputs.mean(axis=0), np.where(deviation > 1e-12, deviation, 1.0))


def fit_encoder(table: Table) -> Encoder:
    """Return the encoder of the training rows."""
    import numpy as np

    columns: list[Number | Category] = []
    for name, values in table.features.items():
        if is_number(values):
            known = values[~np.isnan(values)]
            missing = len(known) < len(values)
            if len(known) and (missing or np.ptp(known) > 0):
                shift = log_shift(known, wanted=name in table.log)
                low, high = float(known.min()), float(known.max())
                columns.append(Number(name, float(np.median(known)), missing, shift, low, high))
        else:
            texts, counts = np.unique([v for v in values if v is not None], return_counts=True)
            if len(texts) > 1 or (len(texts) == 1 and counts[0] < len(values)):
                order = np.argsort(-counts, kind="stable")
                columns.append(Category(name, tuple(str(texts[i]) for i in order)))
    return Encoder(tuple(columns))


def log_shift(known: Floats, *, wanted: bool = False) -> float | None:
    """Return what to add to a column before its logarithm, or None where none should be taken.

    A column asks for logarithms if it is nowhere negative and its positive values span a factor of
    `SPAN`. Zeros, and rare values far below the others, are lifted to where the column's scale
    begins: the logarithm of a share of 0.0001 says no more than that it is next to nothing.

    Args:
        known: float64 [cells], not missing.
        wanted: whether the user asked for it.
    """
    import numpy as np

    positive = known[known > 0]
    if not len(positive) or known.min() < 0:
        return None
    low, high = np.quantile(positive, [0.05, 0.95])
    if not wanted and (high < SPAN * low or len(np.unique(positive)) < 3):
        return None
    return 0.0 if known.min() >= low / SPAN else 3 * float(low)
