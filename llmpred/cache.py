"""Where downloaded and derived files live on this machine; safe to delete at any time."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from llmpred.errors import InputError

FAILURE_SECONDS = 60.0

_KEPT: list[dict[object, Any]] = []

Args = ParamSpec("Args")
Result = TypeVar("Result")


def cache_root() -> Path:
    """Return `$LLMPRED_CACHE`, or `~/.cache/llmpred`."""
    return Path(os.environ.get("LLMPRED_CACHE") or "~/.cache/llmpred").expanduser()


def remembered(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Keep what a function returns for this process, and the InputError it raises for a minute.

    For what asks a hub: every run of a space asks the same, and a hub that cannot be reached takes
    half a minute to say so. Arguments must be hashable.
    """
    results: dict[object, Result] = {}
    failures: dict[object, tuple[float, InputError]] = {}
    _KEPT.extend((results, failures))

    @functools.wraps(function)
    def asked(*args: Args.args, **options: Args.kwargs) -> Result:
        key = (args, tuple(sorted(options.items())))
        if key not in results:
            when, failure = failures.get(key, (0.0, None))
            if failure is not None and time.monotonic() - when < FAILURE_SECONDS:
                raise failure
            try:
                results[key] = function(*args, **options)
            except InputError as error:
                failures[key] = (time.monotonic(), error)
                raise
        return results[key]

    return asked


def forget() -> None:
    """Ask everything that is remembered anew."""
    for kept in _KEPT:
        kept.clear()
