"""How numbers of things are said to people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number and what it is of: 1 run, 2 runs, 1,000 runs."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
