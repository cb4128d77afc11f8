"""Words replaced by words of the same sense, polarity, strength and inflection."""

from __future__ import annotations

import re
import unicodedata

from llmpred.data.text import cut
from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of
from llmpred.evaluation.perturbations.words import CHINESE, TOKEN, article, cased, table

LONGEST = 3  # tokens of a phrase in the English table, at most


def _places(text: str) -> list[Place]:
    return sorted(_english(text) + _chinese(text), key=lambda place: place.start)


def _english(text: str) -> list[Place]:
    words = table("en")
    found = list(TOKEN.finditer(text))
    tokens = [token[0].lower().replace("’", "'") for token in found]
    places = []
    for i, token in enumerate(found):
        options = words.synonyms.get(tokens[i], ())
        if i and tokens[i - 1] in ("a", "an"):
            options = tuple(w for w in options if article(w) == tokens[i - 1])
        if options and not _in_phrase(tokens, i) and _is_word(text, token) and _plain(token[0]):
            places.append(Place(*token.span(), one_of(*(cased(w, token[0]) for w in options))))
    return places


def _in_phrase(tokens: list[str], at: int) -> bool:
    """Whether the token at a place belongs to a phrase in which it means something else."""
    phrases = table("en").phrases
    return any(
        " ".join(tokens[start : start + length]) in phrases
        for length in range(2, LONGEST + 2)
        for start in range(max(0, at - length + 1), at + 1)
    )


def _plain(word: str) -> bool:
    """Whether a word is in lower or upper case or capitalised: others are names, as iPhone."""
    return word.islower() or word.isupper() or word.istitle()


def _is_word(text: str, token: re.Match[str]) -> bool:
    """Whether a token stands alone: not in an address, a file name, a hyphenated word or a tag."""
    around = text[token.start() - 1 : token.start()], text[token.end() : token.end() + 1]
    dotted = around[1] == "." and text[token.end() + 1 : token.end() + 2].isalnum()
    return not dotted and not any(c and _joins(c) for c in around)


def _joins(sign: str) -> bool:
    """Whether a sign beside a word is part of it: a letter, a mark upon one, a hyphen, a slash."""
    if CHINESE.match(sign):
        return False
    marks = unicodedata.category(sign) in ("Mn", "Mc", "Me", "Cf")
    return sign in "-_@/\\#&+=" or sign.isalnum() or marks


def _chinese(text: str) -> list[Place]:
    if not CHINESE.search(text):
        return []
    words, places, at = table("zh"), [], 0
    protected = [
        range(start, start + len(phrase))
        for phrase in words.phrases
        for start in _starts(text, phrase)
    ]
    for word in cut(text):
        options = words.synonyms.get(word)
        if options and not any(at in span for span in protected):
            places.append(Place(at, at + len(word), one_of(*options)))
        at += len(word)
    return places


def _starts(text: str, phrase: str) -> list[int]:
    return [found.start() for found in re.finditer(f"(?={re.escape(phrase)})", text)]


SYNONYM_REPLACE = Perturbation(
    "synonym_replace",
    "Words give way to synonyms of the same polarity, strength and inflection; names, idioms and "
    "negations stay.",
    ("en", "zh"),
    _places,
)
