"""The options of generated sources: what each means, its default, and the law it must obey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llmpred.data.synthetic.world import FEWEST, LANGUAGES, MOST, PARTS
from llmpred.errors import DataError, Problem, nearest

LENGTHS = ("short", "normal", "long")


class Option(NamedTuple):
    """One option.

    Attributes:
        default: its value where none is given.
        law: what must hold, as in "must be …".
        holds: whether a value does.
        meaning: for the documentation.
    """

    default: Any
    law: str
    holds: Callable[[Any], bool]
    meaning: str


def _whole(value: Any, least: int, most: float = float("inf")) -> bool:
    return type(value) is int and least <= value <= most


def _share(default: float, meaning: str) -> Option:
    def holds(value: Any) -> bool:
        return type(value) in (int, float) and 0 <= value <= 1

    return Option(default, "a share from 0 to 1", holds, meaning)


def _one_of(values: Sequence[str], meaning: str, default: str) -> Option:
    law = " or ".join(f"`{value}`" for value in values)
    return Option(default, law, lambda value: value in values, meaning)


OPTIONS = {
    "n": Option(600, "a whole number of at least 1", lambda v: _whole(v, 1), "how many rows."),
    "seed": Option(0, "a whole number", lambda v: type(v) is int, "of the draws."),
    "language": _one_of(LANGUAGES, "`en` or `zh`.", "en"),
    "part": _one_of(PARTS, "`train` or `test`; they share no entity and no phrasing.", "train"),
    "foreign": _share(0.0, "share of the rows in the other language."),
    "entities": Option(
        500,
        f"a whole number from {FEWEST} to {MOST}",
        lambda v: _whole(v, FEWEST, MOST),
        "how many people (towns, companies, animals, products) the rows are about.",
    ),
    "phrasings": Option(
        24,
        "a whole number of at least 1",
        lambda v: _whole(v, 1),
        "how many ways of saying the same thing are used, where there are as many.",
    ),
    "format_drift": _share(0.0, "share of the rows in another form than the evaluation's."),
    "shift": _share(0.0, "share of the rows from another domain than the evaluation's."),
    "length": _one_of(LENGTHS, "of the texts: `short`, `normal` or `long`.", "normal"),
}


def settle(where: str, names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a source: those given, and the defaults of the others.

    Raises:
        DataError: naming every option that is unknown or does not hold.
    """
    problems = [
        Problem(f"`options.{name}` must be one that exists", where, nearest(name, names))
        for name in given
        if name not in names
    ]
    settled = {name: given.get(name, OPTIONS[name].default) for name in names}
    problems += [
        Problem(f"`options.{name}` must be {OPTIONS[name].law}, but got {value!r}", where)
        for name, value in settled.items()
        if not OPTIONS[name].holds(value)
    ]
    if problems:
        raise DataError(problems)
    return settled
