"""What every perturbation is: the places of a text that may change, and a share of them changed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llmpred.data.text import Language

Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """A stretch of a text that may change.

    Attributes:
        start, end: of the stretch, in characters; equal where something is put in.
        write: what to put there; never what stands there.
    """

    start: int
    end: int
    write: Callable[[random.Random], str]


@dataclass(frozen=True)
class Perturbation:
    """One way to change a text.

    Attributes:
        name: as it is asked for and reported.
        about: what it does, in a sentence.
        languages: whose texts it changes.
        places: the places of a text that can change, in order and apart from each other.
        keeps_label: whether the text means the same afterwards; else it means the opposite.
    """

    name: str
    about: str
    languages: tuple[Language, ...]
    places: Callable[[str], Sequence[Place]]
    keeps_label: bool = True

    def fn(self, text: str, strength: float, rng: random.Random) -> str | None:
        """Return the text with a share of its places changed.

        Args:
            text: any.
            strength: the share, in (0, 1]: so many places, rounded, change, and at least one. What
                turns a text into its opposite knows no half, and takes no notice.
            rng: chooses the places and what is written there.

        Returns:
            The text itself where there is no such place; None where it should have become its
            opposite and has no place for that.
        """
        places = self.places(text)
        if not places:
            return text if self.keeps_label else None
        count = max(1, round(strength * len(places))) if self.keeps_label else len(places)
        # Only `random()` is promised to give the same numbers in every Python.
        ranks = [rng.random() for _ in places]
        chosen = sorted(sorted(range(len(places)), key=ranks.__getitem__)[:count])
        pieces, at = [], 0
        for place in (places[i] for i in chosen):
            pieces += [text[at : place.start], place.write(rng)]
            at = place.end
        return "".join([*pieces, text[at:]])


def generator(seed: int, kind: str, strength: float, text: str) -> random.Random:
    """Return the generator of one text: no other text, and no order, has a say in it."""
    named = json.dumps([seed, kind, float(strength), text])
    return random.Random(int.from_bytes(hashlib.sha256(named.encode()).digest()))


def pick(options: Sequence[Item], rng: random.Random) -> Item:
    """Return one of the options, each as likely as another."""
    return options[int(rng.random() * len(options))]


def one_of(*options: str) -> Callable[[random.Random], str]:
    """Return a `write` that puts one of the options in the place."""
    return lambda rng: pick(options, rng)
