"""Emoji of things, which say neither good nor bad, after sentences."""

from __future__ import annotations

import random
from functools import partial

from llmpred.evaluation.perturbations.base import Perturbation, Place, pick
from llmpred.evaluation.perturbations.punctuation import sentence_ends
from llmpred.evaluation.perturbations.words import CHINESE, LETTER

# No faces, hands, hearts, stars, weather or animals: all of them praise or blame somewhere.
NEUTRAL = ("📌", "📝", "📎", "📅", "🕒", "📍", "🔖", "📋", "🔹", "📄", "🔎", "📁")


def _places(text: str) -> list[Place]:
    if not LETTER.search(text):
        return []
    return [Place(end, end, partial(_write, text[:end])) for end in sentence_ends(text)]


def _write(before: str, rng: random.Random) -> str:
    chinese = CHINESE.search(before[-8:])
    return ("" if chinese else " ") + pick(NEUTRAL, rng)


EMOJI = Perturbation(
    "emoji",
    "An emoji of a thing (pin, memo, clock) after a sentence or the whole. No faces and no "
    "emoticons: none of them is without a feeling.",
    ("en", "zh"),
    _places,
)
