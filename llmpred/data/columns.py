"""From a source's columns to a task's fields: which column, and what its values must be."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from llmpred.data.fields import Field
from llmpred.data.rows import ROW_LIMIT, show, too_long
from llmpred.errors import DataError, Problem, nearest


def match_columns(
    fields: Sequence[Field], given: Mapping[str, str], columns: Sequence[str], where: str
) -> dict[str, str]:
    """Return field -> column: as given, else of the same name, else by alias.

    A column given for one field, or named like one, is no alias of another.

    Raises:
        DataError: naming every field without a column, the columns there are, and a mapping.
    """
    names = [field.name for field in fields]
    problems = [
        Problem(
            f"`columns` maps `{name}`, which must be a field of the task",
            where,
            nearest(name, names),
        )
        for name in given
        if name not in names
    ]
    problems += [
        Problem(
            f"`columns` takes `{name}` from `{column}`, which must be a column",
            where,
            nearest(column, list(columns)),
        )
        for name, column in given.items()
        if name in names and column not in columns
    ]
    matched = {name: column for name, column in given.items() if name in names}
    matched |= {n: n for n in names if n not in matched and n in columns}
    lower = {column.lower(): column for column in reversed(columns)}
    for field in fields:
        if field.name in matched:
            continue
        taken = set(matched.values())
        for alias in (field.name, *field.aliases):
            column = lower.get(alias.lower())
            if column is not None and column not in taken:
                matched[field.name] = column
                break
        else:
            if field.required:
                problems.append(_unmatched(field, columns, taken, where))
    if problems:
        raise DataError(problems)
    return {name: matched[name] for name in names if name in matched}


def _unmatched(field: Field, columns: Sequence[str], taken: set[str], where: str) -> Problem:
    free = [column for column in columns if column not in taken] or list(columns)
    listed = ", ".join(show(column) for column in columns[:20])
    return Problem(
        f"field `{field.name}` must have a column, but the columns are {listed}",
        where,
        f"Say which one it is, as in `columns: {{{field.name}: {free[0] if free else '…'}}}`.",
    )


def convert(
    values: Mapping[str, Any], fields: Sequence[Field], matched: Mapping[str, str]
) -> dict[str, Any]:
    """Return field -> checked value of one row; optional fields without a value are left out.

    Raises:
        ValueError: with the law that the row breaks.
    """
    row: dict[str, Any] = {}
    length = 0
    for field in fields:
        if field.name not in matched:
            continue
        value = values.get(matched[field.name])
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        if missing and not field.required:
            continue
        try:
            checked = CHECKS[field.kind](value)
        except ValueError as law:
            if value == "" and not field.required:
                continue
            column = matched[field.name]
            name = f"`{field.name}`" + (f" (column `{column}`)" if column != field.name else "")
            raise ValueError(f"{name} must be {law}, but got {show(value)}") from None
        row[field.name] = checked
        if not isinstance(checked, int | float):
            length += len(checked) if isinstance(checked, str) else sum(map(len, checked))
    if length > ROW_LIMIT:
        raise ValueError(too_long(length))
    return row


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = " ".join(value)  # sentence lists, as SciTLDR has them
    if not isinstance(value, str) or not value.strip() or value in ("nan", "NaN"):
        raise ValueError("text that is not empty")
    return sound(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = value["text"]  # SQuAD and ARC on the hub: {text: […], answer_start: […]}
    if isinstance(value, str):
        value = _json_list(value) or [value]
    if not isinstance(value, list):
        raise ValueError("a list of texts")
    texts = [str(item) if _is_number(item) else item for item in value]
    if not all(isinstance(item, str) for item in texts) or texts == [""]:
        raise ValueError("a list of texts")
    return [sound(item) for item in texts]


def _json_list(text: str) -> list[Any] | None:
    """Return the texts that a cell of a CSV file holds as JSON; None if it is a text itself."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    listed = isinstance(value, list) and all(_is_number(v) or isinstance(v, str) for v in value)
    return value if listed else None  # an answer may be JSON of another shape


def _label(value: Any) -> str:
    """Accept texts and numbers; 1, 1.0, "1" and "1.0" are the same label in any file format."""
    if isinstance(value, bool):
        return str(value).lower()
    if _is_number(value) and math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    if not isinstance(value, str) or not value.strip() or value.strip() in ("nan", "NaN"):
        raise ValueError("a label: a word or a number")
    label = value.strip()
    return sound(label[:-2] if re.fullmatch(r"-?\d+\.0", label) else label)


def _index(value: Any) -> int | str:
    """Accept a whole number, or a text that the task makes one of (`B`, `answer2`)."""
    if _is_number(value) and math.isfinite(value) and value == int(value) and value >= 0:
        return int(value)
    if isinstance(value, str) and value.strip() and value.strip() not in ("nan", "NaN"):
        return sound(value.strip())
    raise ValueError("a whole number from 0, or the name of a choice")


def _number(value: Any) -> float:
    """Accept a finite number, or a text that says one, as CSV files have them."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if not _is_number(value) or not abs(value) <= sys.float_info.max:
        raise ValueError("a finite number")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sound(text: str) -> str:
    """Return a text that any tokenizer takes.

    Raises:
        ValueError: with the law that it breaks.
    """
    if "\x00" in text:
        raise ValueError("free of null bytes (U+0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("valid Unicode, without lone surrogates") from None
    return text


CHECKS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "texts": _texts,
    "label": _label,
    "index": _index,
    "number": _number,
}
