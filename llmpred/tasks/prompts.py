"""Prompt templates: literal text with the task's fields in braces, and nothing else.

Python's brace syntax without its conversions, formats and attribute access, so a template from a
file can name a field and do no more. A literal brace is written twice: `{{` or `}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter

from llmpred.errors import Problem, nearest


def pieces(template: str) -> list[tuple[str, str | None]]:
    """Split a template into (literal text, slot after it); the last slot may be None.

    Raises:
        ValueError: if a brace is not matched, or a slot has a conversion or a format.
    """
    found: list[tuple[str, str | None]] = []
    for literal, slot, form, conversion in Formatter().parse(template):
        if form or conversion:
            raise ValueError(
                f"slot {{{slot}}} has a format or a conversion; it must be a bare name"
            )
        found.append((literal, slot))
    return found


def render(template: str, slots: Mapping[str, str]) -> str:
    """Return the template with each slot replaced by its text."""
    return "".join(
        literal + ("" if slot is None else slots[slot]) for literal, slot in pieces(template)
    )


def slot_names(template: str) -> tuple[str, ...]:
    """Return the slots that a template names, in order, each once."""
    return tuple(dict.fromkeys(slot for _, slot in pieces(template) if slot is not None))


def prompt_problems(template: str, valid: Sequence[str]) -> list[Problem]:
    """Return what is wrong with a template whose slots must be among `valid`."""
    where = "task.prompt"
    shown = ", ".join(f"{{{name}}}" for name in valid)
    try:
        named = slot_names(template)
    except ValueError as error:
        return [
            Problem(
                f"the prompt is not a valid template: {error}",
                where,
                f"Write literal braces twice, `{{{{` and `}}}}`, and fields as {shown}.",
            )
        ]
    problems = [
        Problem(
            f"the prompt names the slot {{{name}}}, but the task's slots are {shown}",
            where,
            f"{nearest(name, valid)} Literal braces are written twice.",
        )
        for name in named
        if name not in valid
    ]
    if not named:
        problems.append(
            Problem(
                "the prompt names no slot, so every example would read the same",
                where,
                f"Name at least one of {shown}.",
            )
        )
    return problems
