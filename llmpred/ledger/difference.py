"""What differs between two specs: why a run is not already paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from llmpred.spec.canonical import canonical_json


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


@dataclass(frozen=True)
class Difference:
    """One path whose values differ; `ABSENT` stands for a side that does not have it."""

    path: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.left)} -> {_shown(self.right)}"


def diff(left: Any, right: Any) -> list[Difference]:
    """Return where two JSON values differ, such as the payloads two keys are made of.

    As in canonical JSON, a None in a mapping is the same as no entry, and 1 differs from 1.0.

    Returns:
        Differences with paths such as `optim.betas[1]`, sorted by path within each level.
    """
    return _diff(left, right, "")


def _diff(left: Any, right: Any, path: str) -> list[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        found = []
        for name in sorted({*left, *right}):
            inner = f"{path}.{name}" if path else str(name)
            found += _diff(_item(left, name), _item(right, name), inner)
        return found
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        found = []
        for place in range(max(len(left), len(right))):
            one, other = (s[place] if place < len(s) else ABSENT for s in (left, right))
            found += _diff(one, other, f"{path}[{place}]")
        return found
    if left == right and type(left) is type(right):
        return []
    return [Difference(path, left, right)]


def _item(mapping: Mapping[str, Any], name: str) -> Any:
    value = mapping.get(name)
    return ABSENT if value is None else value


def _shown(value: Any) -> str:
    return repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)


def told_apart(payloads: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return for each of several payloads what it has where they differ, such as `lr 0.001`."""
    paths = {d.path.split("[")[0]: None for p in payloads[1:] for d in diff(payloads[0], p)}
    return [[_told(payload, path) for path in paths] for payload in payloads]


def _told(payload: Mapping[str, Any], path: str) -> str:
    value: Any = payload
    for name in path.split("."):
        value = (value or {}).get(name)
    text = value if isinstance(value, str) else canonical_json(value)
    said = "unset" if value is None else shorten(text, 60)
    return f"{path.rpartition('.')[2]} {said}"
