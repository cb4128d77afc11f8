"""Generated datasets about an invented world, for demos and for tests that must know the truth.

Equal options give equal rows on every machine. A row is made from a generator of its own, seeded by
source, seed, part and its number. Shares of rows are exact, and grow: what drifts at a share of 0.2
drifts at 0.4 too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llmpred.data.seeds import Indices, generator, permutation
from llmpred.data.synthetic import (
    complexity,
    documents,
    multiple_choice,
    numeric,
    qa,
    quantities,
    sentiment,
    summarization,
)
from llmpred.data.synthetic.draw import Draw
from llmpred.data.synthetic.options import OPTIONS, settle
from llmpred.data.synthetic.world import LANGUAGES
from llmpred.errors import DataError, Problem, nearest


class Source(NamedTuple):
    """A kind of generated rows, and the options that it takes."""

    row: Callable[[Draw], dict[str, Any]]
    options: tuple[str, ...] = tuple(OPTIONS)


SOURCES = {
    "documents": Source(documents.row, ("n", "seed", "language", "entities")),
    "sentiment": Source(sentiment.row),
    "qa": Source(qa.row),
    "summarization": Source(summarization.row),
    "multiple_choice": Source(multiple_choice.row),
    "numeric": Source(numeric.row),
    "complexity": Source(complexity.row),
    "quantities": Source(
        quantities.row, ("n", "seed", "language", "part", "foreign", "entities", "phrasings")
    ),
}


def generate(name: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `synthetic:NAME`.

    Raises:
        DataError: if there is no such source, or options do not hold; with all problems.
    """
    where = f"synthetic:{name}"
    if name not in SOURCES:
        law = f"a synthetic source must exist, but there is no {name!r}"
        raise DataError(Problem(law, where, nearest(name, list(SOURCES))))
    source = SOURCES[name]
    given = settle(where, source.options, options)
    n, seed = given.pop("n"), given.pop("seed")
    # What a source takes no option for has its default.
    how = {option: law.default for option, law in OPTIONS.items()} | given
    language, part = how["language"], how["part"]
    other = LANGUAGES[1 - LANGUAGES.index(language)]

    def ranks(what: str) -> Indices:
        return permutation(generator(name, seed, part, what), n)

    def drawn(share: str) -> list[bool]:
        return list(ranks(share) < round(how[share] * n))

    foreign, drifted, shifted = drawn("foreign"), drawn("format_drift"), drawn("shift")
    return [
        source.row(
            Draw(
                rng=generator(name, seed, part, i),
                place=int(place),
                language=other if foreign[i] else language,
                part=part,
                entities=how["entities"],
                phrasings=how["phrasings"],
                length=how["length"],
                drifted=bool(drifted[i]),
                shifted=bool(shifted[i]),
            )
        )
        for i, place in enumerate(ranks("place"))
    ]
