"""Slips of the finger and of the input method."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable

from llmpred.data.text import CJK, cut, frequencies
from llmpred.evaluation.perturbations.base import Perturbation, Place, pick
from llmpred.evaluation.perturbations.words import (
    CHINESE,
    lines,
    lists,
    negations,
    table,
)

SHORTEST = 4  # letters; shorter words are seldom mistyped unseen, and many are negations
FREQUENT = 3000  # characters, the most frequent of which take the place of others
HOMOPHONES = 5  # of a character, the most frequent ones

# A run of letters with no digit, apostrophe, mark or sign of an address beside it.
_WORD = re.compile(
    rf"(?:(?<![\w'’@/\\#.:&+=-])|(?<=[{CJK}]))[a-zA-Z]{{{SHORTEST},}}"
    rf"(?!['’@/\\#&+=-]|[.:][\w/]|[^\W{CJK}]|[\u0300-\u036f\ufe0f\u200d])"
)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: "".join(
        other
        for r, row in enumerate(_ROWS)
        for c, other in enumerate(row)
        # Each row of a QWERTY keyboard starts half a key to the right of the one above it.
        if (r == y and abs(c - x) == 1)
        or (r == y + 1 and x - 1 <= c <= x)
        or (r == y - 1 and x <= c <= x + 1)
    )
    for y, letters in enumerate(_ROWS)
    for x, letter in enumerate(letters)
}

Slips = tuple[tuple[str, ...], ...]  # by sort, so that a sort with many ways is no likelier


def _places(text: str) -> list[Place]:
    found = [(m.start(), m.end(), _english(m[0])) for m in _WORD.finditer(text)]
    if CHINESE.search(text):
        at = 0
        for word in cut(text):
            if len(word) > 1 and CHINESE.fullmatch(word):
                found.append((at, at + len(word), _chinese(word)))
            at += len(word)
    return [Place(s, e, _slip(slips)) for s, e, slips in sorted(found, key=_start) if slips]


def _start(found: tuple[int, int, Slips]) -> int:
    return found[0]


def _slip(slips: Slips) -> Callable[[random.Random], str]:
    return lambda rng: pick(pick(slips, rng), rng)


@functools.lru_cache(50_000)
def _english(word: str) -> Slips:
    """Return how a word may be mistyped: neighbouring keys, swaps, letters dropped and doubled."""
    words = table("en")
    if word.lower() in negations("en"):
        return ()
    inside = range(1, len(word))
    sorts = (
        [word[:i] + _key(c, word[i]) + word[i + 1 :] for i in inside for c in _near(word[i])],
        [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in inside[:-1]],
        [word[:i] + word[i + 1 :] for i in inside],
        [word[:i] + word[i] + word[i:] for i in inside],
    )
    taken = words.all | negations("en") | {*lists("en")["unapostrophed"], word.lower()}
    left = (tuple(t for t in dict.fromkeys(sort) if t.lower() not in taken) for sort in sorts)
    return tuple(sort for sort in left if sort)


def _near(letter: str) -> str:
    return _NEIGHBOURS[letter.lower()]


def _key(letter: str, like: str) -> str:
    return letter.upper() if like.isupper() else letter


@functools.lru_cache(50_000)
def _chinese(word: str) -> Slips:
    """Return how a word may be mistyped: one character by one of the same sound, or alike in shape.

    A word with a negation in it stays, also where it negates nothing: 非常. So does a character
    that is an opinion by itself: 做得好.
    """
    if negations("zh") & set(word):
        return ()
    from pypinyin import lazy_pinyin

    words = table("zh")
    banned = negations("zh") | words.all
    sounds = lazy_pinyin(word)
    sorts = (
        [(i, c) for i, s in enumerate(sounds) if word[i] in _common() for c in _homophones(s)],
        [(i, c) for i, old in enumerate(word) for c in _lookalikes().get(old, ())],
    )
    left = (
        tuple(
            typo
            for i, c in sort
            if not {c, word[i]} & banned and c != word[i]
            if (typo := word[:i] + c + word[i + 1 :]) not in words.all
        )
        for sort in sorts
    )
    return tuple(sort for sort in left if sort)


@functools.cache
def _common() -> dict[str, None]:
    """Return the most frequent characters, the most frequent first."""
    counts = frequencies()
    return dict.fromkeys(sorted(counts, key=lambda c: (-counts[c], c))[:FREQUENT])


@functools.cache
def _by_sound() -> dict[str, str]:
    from pypinyin import lazy_pinyin

    found: dict[str, str] = {}
    for character in _common():
        (sound,) = lazy_pinyin(character)
        found[sound] = found.get(sound, "") + character
    return found


def _homophones(sound: str) -> str:
    return _by_sound().get(sound, "")[: HOMOPHONES + 1]


@functools.cache
def _lookalikes() -> dict[str, str]:
    found: dict[str, str] = {}
    for group in lines("shapes.zh.txt"):
        for character in group:
            alike = found.get(character, "") + group.replace(character, "")
            found[character] = "".join(dict.fromkeys(alike))
    return found


TYPO_INSERTION = Perturbation(
    "typo_insertion",
    "One slip a word: a neighbouring key, two letters swapped, one dropped or doubled, never the "
    "first, in English words of four letters and more; a homophone or a character alike in shape "
    "in Chinese words of two characters and more. Negations neither change nor come about.",
    ("en", "zh"),
    _places,
)
