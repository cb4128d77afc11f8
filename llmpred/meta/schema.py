"""What a meta-model must be given of a run, and reading runs to predict into that form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmpred.errors import DataError, Problem, nearest
from llmpred.meta.table import Table, cells, is_number

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 8  # names of columns in one message


@dataclass(frozen=True)
class Schema:
    """Columns of a table that a model was trained on.

    Attributes:
        numbers: number columns that it predicts from.
        texts: text columns that it predicts from.
        target: column that it predicts.
        group: columns that named a row's group.
        log: number columns that the user wanted taken as logarithms.
        constants: columns that said the same of every training row, and what.
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    target: str
    group: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    constants: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row to predict must have."""
        return (*self.numbers, *self.texts)


def schema_of(table: Table, used: Sequence[str], group: Sequence[str] = ()) -> Schema:
    """Return the schema of training rows.

    Args:
        table: training rows.
        used: columns that the model reads.
        group: columns that name a row's group.
    """
    numbers = tuple(name for name in used if is_number(table.features[name]))
    texts = tuple(name for name in used if name not in numbers)
    log = tuple(sorted(table.log & set(numbers)))
    return Schema(numbers, texts, table.target_name, tuple(group), log, table.constants)


def differing(source: pa.Table, schema: Schema) -> list[tuple[str, ...]]:
    """Return for each row the columns that were the same in all training rows, and are not here.

    What such a column does was never seen. Empty cells, and columns that are not there, count as
    the same.
    """
    import numpy as np

    found: list[list[str]] = [[] for _ in range(source.num_rows)]
    for name, constant in schema.constants.items():
        values = cells(source[name]) if name in source.column_names else None
        if values is None:
            continue
        if is_number(values) and isinstance(constant, float):
            other = ~(np.isnan(values) | np.isclose(values, constant))
        else:
            other = np.array([value is not None and str(value) != constant for value in values])
        for row in np.flatnonzero(other):
            found[row].append(name)
    return [tuple(names) for names in found]


def candidates(source: pa.Table, schema: Schema, where: str = "") -> Table:
    """Return rows to predict; their target is unknown, and each is its own group.

    Args:
        source: a row a run; columns that the schema does not name are passed over.
        schema: of the model.
        where: file, for messages.

    Raises:
        DataError: if a column is missing or of the wrong kind. An empty cell is fine: it counts as
            unknown.
    """
    import numpy as np

    problems = []
    features = {}
    absent = [name for name in schema.columns if name not in source.column_names]
    if absent:
        shown = ", ".join(f"`{name}`" for name in absent[:SHOWN])
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        law = (
            f"the rows must have the columns that the model was trained on, but lack {shown}{more}"
        )
        fix = f"{nearest(absent[0], source.column_names)} Leave the cells of what is unknown empty."
        problems.append(Problem(law, where, fix))
    for name in schema.columns:
        if name in absent:
            continue
        values = cells(source[name])
        wanted = name in schema.numbers
        if values is not None and is_number(values) and not wanted and np.isnan(values).all():
            values = np.full(len(values), None, dtype=object)  # an empty column has no kind
        if values is None or is_number(values) != wanted:
            law = (
                f"`{name}` must hold {'numbers' if wanted else 'text'}, but is {source[name].type}"
            )
            problems.append(Problem(law, where, "As in the rows that the model was trained on."))
            continue
        features[name] = np.where(np.isinf(values), np.nan, values) if wanted else values
    if problems:
        raise DataError(problems)
    alone = np.arange(source.num_rows)
    unknown = np.full(source.num_rows, np.nan)
    log = frozenset(schema.log)
    return Table(features, unknown, schema.target, alone, (), alone, alone, log=log)
