"""The errors people see: each says the law, the value that broke it, where, and the fix.

Every error llmpred raises on purpose derives from `LlmpredError`; the command line shows its text
without a traceback and ends with exit code 2. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class LlmpredError(Exception):
    """Base class of all errors that are about the user's input, files or machine."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Attributes:
        law: what must hold and what was got, as one sentence.
        where: file and key path, such as `search_spaces/qa.yaml, methods[0].adapter.r`.
        fix: what to do about it, as one sentence; may be empty.
    """

    law: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        law = self.law.rstrip(".")
        place = f" ({self.where})" if self.where else ""
        return f"{law}{place}." + (f" {self.fix}" if self.fix else "")


class InputError(LlmpredError):
    """Something the user gave does not hold; carries every problem found, not only the first."""

    SHOWN = 20

    def __init__(self, problems: Problem | str | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems)} problems:"]
        lines += [f"  {i}. {p}" for i, p in enumerate(self.problems[: self.SHOWN], 1)]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  … and {len(self.problems) - self.SHOWN} more.")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        # Exceptions cross process borders (Ray); the default would pass the text alone.
        return type(self), (self.problems,)


class SpecError(InputError):
    """A RunSpec or a search space is not valid."""


class UnfitError(SpecError):
    """A method that cannot be used with a base of this kind, whatever its other settings."""


class DataError(InputError):
    """A data file or a row of it is not valid."""


class BaseError(InputError):
    """A base model is unknown, absent, damaged or unsuited."""


class StorageError(InputError):
    """The storage folder or bucket cannot be used, or holds damaged records."""


def nearest(name: str, names: Sequence[str]) -> str:
    """Return `Did you mean …?` for a misspelt name, or the list of valid names if none is near."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"Valid names: {shown}."
