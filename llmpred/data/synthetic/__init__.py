"""Generated datasets, for demos and for tests that must know the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmpred.data.synthetic.reviews import reviews
from llmpred.errors import DataError, Problem, nearest

GENERATORS: dict[str, Callable[..., list[dict[str, Any]]]] = {"reviews": reviews}


def generate(name: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `synthetic:NAME`; equal options give equal rows on any machine.

    Raises:
        DataError: if there is no such source, or an option does not hold.
    """
    where = f"synthetic:{name}"
    if name not in GENERATORS:
        law = f"a synthetic source must exist, but there is no {name!r}"
        raise DataError(Problem(law, where, nearest(name, list(GENERATORS))))
    generator = GENERATORS[name]
    known = generator.__kwdefaults__ or {}
    unknown = [option for option in options if option not in known]
    if unknown:
        raise DataError(
            Problem(f"`options.{o}` must be one that exists", where, nearest(o, list(known)))
            for o in unknown
        )
    return generator(**options)
