"""The tables of words: synonyms, opinions, negations, and what may not be taken for them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from llmpred.data.text import CJK, Language

# Words of English with the n't of a contraction apart, and everything else sign by sign.
TOKEN = re.compile(
    r"n['’]t\b|[a-z]+?(?=n['’]t\b)|['’](?:s|re|m|ve|ll|d)\b|[a-z]+(?:-[a-z]+)*|[^\sa-z]", re.I
)
CHINESE = re.compile(f"[{CJK}]+")
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Words:
    """The table of a language.

    Attributes:
        synonyms: word -> those that may stand for it.
        positive, negative: opinion words, those of the synonyms among them.
        phrases: in which words mean something else.
        articles: word -> `a` or `an`, where spelling misleads.
    """

    synonyms: Mapping[str, tuple[str, ...]]
    positive: frozenset[str]
    negative: frozenset[str]
    phrases: frozenset[str]
    articles: Mapping[str, str]

    @functools.cached_property
    def all(self) -> frozenset[str]:
        """Every word with a synonym, and every opinion word."""
        return frozenset(self.synonyms) | self.positive | self.negative


@functools.cache
def table(language: Language) -> Words:
    """Return the table of the language, as `tables/words.<language>.txt` has it."""
    synonyms: dict[str, tuple[str, ...]] = {}
    opinions: dict[str, set[str]] = {"+": set(), "-": set(), "=": set()}
    phrases: set[str] = set()
    articles: dict[str, str] = {}
    for line in lines(f"words.{language}.txt"):
        sign, _, rest = line.partition(" ")
        if sign == "!":
            phrases.add(rest)
        elif sign in ("a", "an"):
            articles |= dict.fromkeys(rest.split(), sign)
        else:
            before, _, after = rest.partition(" > ")
            given, options = before.split(), after.split()
            opinions[sign[0]] |= {*given, *options}
            if sign in opinions:
                for word in given:
                    synonyms[word] = tuple(w for w in options or given if w != word)
    return Words(
        synonyms, frozenset(opinions["+"]), frozenset(opinions["-"]), frozenset(phrases), articles
    )


def lines(name: str) -> list[str]:
    """Return the lines of a table, without comments and empty ones."""
    text = (files(__package__) / "tables" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@functools.cache
def lists(language: Language) -> Mapping[str, tuple[str, ...]]:
    """Return the lists of words of `tables/negation.<language>.txt` by their names."""
    named = (line.partition(": ") for line in lines(f"negation.{language}.txt"))
    return {name: tuple(rest.split()) for name, _, rest in named}


def pairs(language: Language, name: str) -> dict[str, str]:
    """Return a list of pairs `word:other`."""
    return dict(_pair(entry) for entry in lists(language)[name])


def _pair(entry: str) -> tuple[str, str]:
    word, _, other = entry.partition(":")
    return word, other


def article(word: str) -> str:
    """Return `a` or `an`, whichever the word takes."""
    word = word.lower()
    known = table("en").articles.get(word)
    return known or ("an" if word[0] in "aeiou" else "a")


def cased(word: str, like: str) -> str:
    """Return the word in the case of another: upper, capitalised, or as it is."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


@functools.cache
def negations(language: Language) -> frozenset[str]:
    """Return what negates: English words and n't, Chinese characters."""
    return frozenset(lists(language)["negations" if language == "en" else "negating"])


def negates(text: str) -> list[str]:
    """Return the negations in a text: English words and n't in order, then Chinese characters.

    A character that negates nothing in its word, as in 非常, is none.
    """
    english = (token.lower().replace("’", "'") for token in TOKEN.findall(text))
    found = _chinese_negation().finditer(text)
    return [t for t in english if t in negations("en")] + [m[1] for m in found if m[1]]


@functools.cache
def _chinese_negation() -> re.Pattern[str]:
    harmless = "|".join(lists("zh")["harmless"])
    return re.compile(f"(?:{harmless})|([{''.join(sorted(negations('zh')))}])")
