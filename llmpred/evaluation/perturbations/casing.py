"""Words in capitals, in small letters, or in both at random."""

from __future__ import annotations

import random
import re
from functools import partial

from llmpred.evaluation.perturbations.base import Perturbation, Place, pick

# A-Z, and the letters of Latin-1 and Latin Extended-A and -B; not the signs × and ÷ among them.
_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]+(?:['’][A-Za-zÀ-ÖØ-öø-ɏ]+)*")


def _places(text: str) -> list[Place]:
    return [
        Place(*found.span(), partial(_write, found[0]))
        for found in _WORD.finditer(text)
        if any(_swapped(letter) != letter for letter in found[0])
    ]


def _write(word: str, rng: random.Random) -> str:
    lower = "".join(_swapped(c) if c.isupper() else c for c in word)
    upper = "".join(_swapped(c) if c.islower() else c for c in word)
    mixed = "".join(pick((low, up), rng) for low, up in zip(lower, upper, strict=True))
    options = [w for w in dict.fromkeys((lower, upper, mixed)) if w != word]
    return pick(options, rng)


def _swapped(letter: str) -> str:
    """Return the letter in the other case, if there is one that leads back: ß, ı and İ stay."""
    other = letter.swapcase()
    return other if len(other) == 1 and other.swapcase() == letter else letter


CASING = Perturbation(
    "casing",
    "Latin words in capitals, in small letters, or in both at random.",
    ("en", "zh"),
    _places,
)
