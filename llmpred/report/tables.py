"""Tables and pages as data, and how values are written: on screens, in Markdown, in HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "text",
    "score",
    "signed",
    "interval",
    "p",
    "share",
    "count",
    "number",
    "change",
    "time",
    "bytes",
]
NOTHING = "–"
ROUNDS_UP = 999.5  # three digits of it are 1e+03
LARGE = 1e12  # has an exponent, as nobody counts so many digits


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: how its values are written: a score in [0, 1], a signed difference of scores, an
            interval (pair of scores), a p-value, a share, a count, a number of any size, a change
            (pair of numbers, each may be None), seconds, bytes, or text.
    """

    name: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """A table: values as they are; `written` says them.

    Attributes:
        title: what it shows.
        columns: of each row.
        rows: values, None where there is none.
        notes: sentences below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def written(self) -> list[list[str]]:
        """Return the cells as text."""
        kinds = [column.kind for column in self.columns]
        return [[written(v, k) for v, k in zip(row, kinds, strict=True)] for row in self.rows]

    def json(self) -> dict[str, Any]:
        """Return the table as JSON: a mapping a row."""
        names = [column.name for column in self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": [*self.notes]}


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        path: .png file.
        about: what it shows, for those who do not see it too.
        small: whether it stands beside other small ones where there is room.
    """

    path: Path
    about: str
    small: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        lead: paragraphs above the tables.
        warnings: what a reader should know before believing the tables.
        tables, pictures: in their order.
        advice: one line, at its end.
    """

    title: str
    lead: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    advice: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: its heading.
        lead: paragraphs below it.
        sections: in their order.
    """

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def written(value: Any, kind: Kind) -> str:
    """Return a value as tables show it."""
    if value is None:
        return NOTHING
    match kind:
        case "score":
            return f"{value:.3f}"
        case "signed":
            return f"{100 * value:+.1f} pt"
        case "interval":
            return f"{value[0]:.3f} to {value[1]:.3f}"
        case "p":
            return "< 0.001" if value < 0.001 else f"{value:.3f}"
        case "share":
            return _percent(value)
        case "count":
            return f"{value:,}"
        case "number":
            return number(value)
        case "change":
            return " → ".join(written(each, "number") for each in value)
        case "time":
            return duration(value)
        case "bytes":
            return _bytes(value)
        case _:
            return str(value)


def number(value: float) -> str:
    """Return a number to three digits, or to the whole where it has more, but not very many."""
    return f"{value:,.0f}" if ROUNDS_UP <= abs(value) < LARGE else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return seconds as people say them, from microseconds to hours."""
    if 1000 * seconds < ROUNDS_UP:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.1f} %" if percent >= 1 or not percent else f"{percent:.2g} %"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < ROUNDS_UP:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{number(count)} GB"


@dataclass(frozen=True)
class Part:
    """What a task adds to the comparison of a group.

    Attributes:
        majority: the commonest answer and the score of always giving it.
        columns: further ones of the table of scores.
        values: of those columns, by scheme.
        tables, pictures: further ones.
        warnings: what to know before believing them.
        files: by scheme, what goes into its folder: file name -> JSON.
        drawn: by scheme, the pictures that go there: file name -> what draws it at a path.
        advice: what to take, where what the task knows overrules the scores.
    """

    majority: tuple[str, float] | None = None
    columns: tuple[Column, ...] = ()
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    warnings: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drawn: Mapping[str, Mapping[str, Callable[[Path], None]]] = field(default_factory=dict)
    advice: str | None = None
