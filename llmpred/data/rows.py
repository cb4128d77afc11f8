"""What every reader yields, and how large it may be."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

ROW_LIMIT = 8 * 2**20  # characters of one row; a longer one is damage, not data


@dataclass(frozen=True, slots=True)
class Row:
    """One row as its source has it, or why it could not be read.

    Attributes:
        where: file and line, such as `reviews.jsonl:7`.
        values: column -> value as JSON knows it; empty if the row could not be read.
        problem: the law that the row breaks; empty if it was read.
    """

    where: str
    values: dict[str, Any]
    problem: str = ""


def too_long(length: int) -> str:
    """Return the law that a row of `length` characters breaks."""
    return f"a row must have at most {ROW_LIMIT:,} characters (8 MB), but this one has {length:,}"


def peek(rows: Iterable[Row], count: int = 100) -> tuple[list[Row], Iterator[Row]]:
    """Return the first `count` rows, and all rows again."""
    rest = iter(rows)
    head = list(islice(rest, count))
    return head, chain(head, rest)


def column_names(rows: Iterable[Row]) -> list[str]:
    """Return the names of all columns of `rows`, in the order they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def show(value: Any) -> str:
    """Return `value` as messages show it: as JSON has it, and short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value != value:
        return "NaN"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2
