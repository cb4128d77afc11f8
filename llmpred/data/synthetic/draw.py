"""What a row is made with: its random draws, its options, and sentences about the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from llmpred.data.seeds import below
from llmpred.data.synthetic.statements import QUESTIONS, frames, questions, statements
from llmpred.data.synthetic.world import ATTRIBUTES, KINDS, NOUNS, Entity, Words, entity

T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """The draws of one row.

    Attributes:
        rng: of the row alone.
        place: of the row in a random order of all rows; what must be balanced goes by it.
        language: of the row.
        part, entities, phrasings, length: as the options say.
        drifted: whether the row has another form than the evaluation's.
        shifted: whether it is from another domain.
        wording: the part whose frames the row is told by; None is its own.
    """

    rng: np.random.Generator
    place: int
    language: str
    part: str
    entities: int
    phrasings: int
    length: str
    drifted: bool
    shifted: bool
    wording: str | None = None

    # --- draws ---------------------------------------------------------------------------------

    def below(self, n: int) -> int:
        """Return one of 0 … n-1."""
        return below(self.rng, n)

    def chance(self, share: float) -> bool:
        """Return whether something happens that does so in a share of the cases."""
        return self.rng.random() < share

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` of the options in random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return all options in random order."""
        return self.some(options, len(options))

    def phrase(self, frames: Sequence[str]) -> str:
        """Return one of the frames that the row may use."""
        return self.pick(frames[: self.phrasings])

    def frame(self, table: Mapping[tuple[str, str], str]) -> str:
        """Return one of the frames that a table has for the row's wording and language."""
        return self.phrase(frames(self.worded(table)))

    def worded(self, table: Mapping[tuple[str, str], T]) -> T:
        """Return what a table has for the row's wording and language."""
        return table[self.wording or self.part, self.language]

    # --- the world -----------------------------------------------------------------------------

    def one(self, kind: str) -> Entity:
        """Return an entity of a kind."""
        return entity(kind, self.part, self.below(self.entities))

    def several(self, kind: str, count: int) -> list[Entity]:
        """Return different entities of a kind."""
        found: list[int] = []
        while len(found) < count:
            index = self.below(self.entities)
            if index not in found:
                found.append(index)
        return [entity(kind, self.part, index) for index in found]

    def rivals(self, kind: str, attribute: str, count: int) -> list[Entity]:
        """Return different entities of a kind whose values of an attribute differ too."""
        found: dict[str, Entity] = {}
        while len(found) < count:
            who = self.one(kind)
            if who not in found.values():
                found.setdefault(self.value(who, attribute), who)
        return list(found.values())

    def attributes(self, kind: str, count: int) -> list[str]:
        """Return attributes of a kind in random order."""
        return self.some(ATTRIBUTES[kind], count)

    # --- sentences -----------------------------------------------------------------------------

    def word(self, words: Words) -> str:
        """Return the words of the row's language."""
        return words[self.language]

    def name(self, who: Entity) -> str:
        """Return the name of an entity."""
        return who.name[self.language]

    def value(self, who: Entity, attribute: str) -> str:
        """Return the value of an attribute."""
        return who.facts[attribute].words[self.language]

    def say(self, who: Entity, attribute: str, *, again: bool = False) -> str:
        """State a fact as a clause; `again` lets a pronoun stand for the entity."""
        frame = self.phrase(statements(self.part, self.language, who.kind, attribute))
        pronoun = again and frame.startswith("{x}") and self.chance(0.6)
        return frame.format(
            x=(who.pronoun if pronoun else who.subject)[self.language],
            v=self.value(who, attribute),
            n=NOUNS[attribute][self.language],
        )

    def ask(self, who: Entity, attribute: str, x: str = "") -> str:
        """Ask for a fact; `x` describes the entity, where it is not to be named."""
        frame = self.phrase(questions(self.part, self.language, who.kind, attribute))
        return frame.format(x=x or who.subject[self.language], n=NOUNS[attribute][self.language])

    def ask_which(self, who: Entity, attribute: str) -> str:
        """Ask which entity has that value of an attribute."""
        frame = self.phrase(frames(QUESTIONS[self.part, self.language]["inverse"]))
        question = frame.format(
            k=KINDS[who.kind][self.language],
            n=NOUNS[attribute][self.language],
            v=self.value(who, attribute),
        )
        return capital(question)

    def ask_most(self, kind: str, attribute: str) -> str:
        """Ask which entity of a kind has the highest value of an attribute."""
        frame = self.phrase(frames(QUESTIONS[self.part, self.language]["most"]))
        return frame.format(k=KINDS[kind][self.language], n=NOUNS[attribute][self.language])

    def sentence(self, clause: str) -> str:
        """Return a clause as a sentence."""
        stop = "。" if self.language == "zh" else "."
        return capital(clause) + ("" if clause.endswith(("?", "？")) else stop)

    def text(self, sentences: Sequence[str]) -> str:
        """Join sentences."""
        return ("" if self.language == "zh" else " ").join(sentences)

    def listed(self, items: Sequence[str]) -> str:
        """Join items by commas and an `and`."""
        comma, and_ = ("、", "和") if self.language == "zh" else (", ", " and ")
        return and_.join([comma.join(items[:-1]), items[-1]] if len(items) > 1 else items)


def capital(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
