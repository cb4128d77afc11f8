"""Simplified Chinese as traditional, traditional as simplified."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

from llmpred.data.text import cut
from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of
from llmpred.evaluation.perturbations.words import CHINESE

if TYPE_CHECKING:
    from opencc import OpenCC

Direction = Literal["s2t", "t2s"]


def _places(text: str) -> list[Place]:
    if not CHINESE.search(text):
        return []
    direction = _direction(text)
    places, at = [], 0
    for word in cut(text):
        other = _converted(word, direction)
        if other != word:
            places.append(Place(at, at + len(word), one_of(other)))
        at += len(word)
    return places


def _direction(text: str) -> Direction:
    """Return the way that changes more: a text in one script has little to convert into it."""
    changed = {way: _different(text, _converter(way).convert(text)) for way in ("s2t", "t2s")}
    return "t2s" if changed["t2s"] > changed["s2t"] else "s2t"


def _different(text: str, other: str) -> int:
    return sum(a != b for a, b in zip(text, other, strict=False)) + abs(len(text) - len(other))


@functools.lru_cache(50_000)
def _converted(word: str, direction: Direction) -> str:
    return _converter(direction).convert(word) if CHINESE.search(word) else word


@functools.cache
def _converter(direction: str) -> OpenCC:
    from opencc import OpenCC

    return OpenCC(direction)


SCRIPT = Perturbation(
    "script",
    "Simplified words in traditional characters, or traditional ones in simplified (OpenCC's s2t "
    "and t2s: characters, not regional vocabulary).",
    ("zh",),
    _places,
)
