"""What each task adds to a comparison. A further task is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmpred.report import classification, complexity, numeric
from llmpred.report.comparison import Group
from llmpred.report.tables import Part

# Task -> what it adds to a group's comparison; see `part_of` for the arguments.
PARTS: dict[str, Callable[[Group, Path, bool], Part]] = {
    "complexity": complexity.part,
    "numeric": numeric.part,
    "sentiment": classification.part,
}


def part_of(group: Group, folder: Path, *, confidence: bool) -> Part:
    """Return what the group's task adds; nothing if it has no part of its own.

    Args:
        group: the schemes.
        folder: for plots.
        confidence: whether to tell how sure the answers are.
    """
    task = group.schemes[0].spec.task.name
    return PARTS[task](group, folder, confidence) if task in PARTS else Part()
