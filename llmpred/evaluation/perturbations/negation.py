"""Texts turned into their opposite: a probe, the only kind that does not keep the label.

A classifier that reads words one by one takes "not good" for praise. Contrast sets make this test
by hand (Gardner et al., 2020, "Evaluating Models' Local Decision Boundaries via Contrast Sets"),
CheckList from templates (Ribeiro et al., 2020). Here rules do it, so only where they are sure to:
an English text must have one opinion word, and it a rule; a Chinese one may have several of one
polarity, each with a rule. Long texts, and those with a contrast, a question, a condition or any
other negation, are left out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from llmpred.data.text import Language, cut
from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of
from llmpred.evaluation.perturbations.words import (
    CHINESE,
    TOKEN,
    article,
    cased,
    lists,
    negates,
    negations,
    pairs,
    table,
)

Edit = tuple[int, int, str]  # start, end, what stands there instead


@functools.cache
def _en(name: str) -> frozenset[str]:
    return frozenset(lists("en")[name])


@functools.cache
def _zh(name: str) -> frozenset[str]:
    return frozenset(lists("zh")[name])


@functools.cache
def _opposites(language: Language) -> dict[str, str]:
    """Return the antonyms; the English ones both ways."""
    found = pairs(language, "opposites")
    return found | ({other: word for word, other in found.items()} if language == "en" else {})


@functools.cache
def _verbs() -> dict[str, tuple[str, str]]:
    """Return the auxiliary and the base form of each English verb."""
    return {
        word: (auxiliary, base or word)
        for auxiliary in ("do", "does", "did")
        for word, base in pairs("en", auxiliary).items()
    }


# English

_LONGEST = 25  # words: what a longer text says hangs on more than one of them
_SHORT = 8  # words of a text that one word decides wherever it stands


def _english(text: str) -> list[Edit] | None:
    found = list(TOKEN.finditer(text))
    tokens = [token[0].lower().replace("’", "'") for token in found]
    words = table("en")
    opinions = [i for i, t in enumerate(tokens) if t in words.positive or t in words.negative]
    if len(opinions) != 1 or sum(t[0].isalpha() for t in tokens) > _LONGEST:
        return None
    (at,) = opinions
    beside = {*tokens[max(at - 1, 0) : at], *tokens[at + 1 : at + 2]}
    if not _is_clear(tokens[at]) or beside & _en("joints"):
        return None
    edit = _denied(found, tokens, at) or _affirmed(found, tokens, at)
    if edit is None:
        return None
    others = {t for i, t in enumerate(tokens) if i not in edit[1]}
    return None if others & (_en("open") | negations("en")) else [edit[0]]


def _is_clear(word: str) -> bool:
    words = table("en")
    return word in words.synonyms or word in _en("clear") or word in _opposites("en")


def _denied(
    found: Sequence[re.Match[str]], tokens: Sequence[str], at: int
) -> tuple[Edit, set[int]] | None:
    """Return the edit that takes the negation from a word, with the tokens it accounts for."""
    i = at - 1
    while i >= 0 and tokens[i] in _en("grading"):
        i -= 1
    if i >= 0 and tokens[i] in ("a", "an"):
        i -= 1
    if i < 1 or tokens[i] not in ("not", "n't") or tokens[i - 1] not in _en("be"):
        return None
    return (found[i - 1].end(), found[i].end(), ""), {*range(i, at + 1)}


def _affirmed(
    found: Sequence[re.Match[str]], tokens: Sequence[str], at: int
) -> tuple[Edit, set[int]] | None:
    """Return the edit that negates a word, with the tokens it accounts for."""
    word, here = tokens[at], found[at]
    dropped = _en("emphasis") if word in table("en").positive else _en("emphasis") | _en("grading")
    first = at  # of the adverbs before the word
    while first and tokens[first - 1] in _en("grading") | _en("emphasis"):
        first -= 1
    # "Not very good" denies, where "not very bad" still blames.
    drop = any(t in dropped for t in tokens[first:at])
    kept = here if drop else found[first]
    before = tokens[first - 1] if first else ""
    spent = {*range(first, at + 1)}
    if word in _en("superlatives"):
        return None
    if word in _verbs():
        auxiliary, base = _verbs()[word]
        if before in _en("modals") and word == base:
            return (found[first - 1].end(), here.start(), " not "), spent | {first - 1}
        if before in _en(f"{auxiliary}_subjects"):
            return (found[first].start(), here.end(), f"{auxiliary} not {base}"), spent
        return None
    short = sum(t[0].isalpha() for t in tokens) <= _SHORT
    noun = first - 1 if before in ("a", "an") else first  # where a nominal begins
    if word in _opposites("en") and (short or _is_be(tokens, noun - 1)):
        return _opposite(found, tokens, at)
    if noun < first:
        shown = article(kept[0]) if drop else before
        if _is_be(tokens, noun - 1):
            return (found[noun - 1].end(), kept.start(), f" not {shown} "), spent
        if short and noun == 0 and "," not in tokens and not any(t in _en("be") for t in tokens):
            lead = "Not" if found[0][0][0].isupper() else "not"
            return (found[0].start(), kept.start(), f"{lead} {shown} "), spent
        return None
    if word in _en("nouns"):
        return None
    if _is_be(tokens, first - 1):
        return (found[first - 1].end(), kept.start(), " not "), spent
    if short and first == 0 and "," not in tokens and not any(t in _en("be") for t in tokens):
        lead = "Not" if found[0][0][0].isupper() else "not"
        stated = kept[0] if kept[0].isupper() else kept[0].lower()
        return (found[0].start(), kept.end(), f"{lead} {stated}"), spent
    return None


def _opposite(
    found: Sequence[re.Match[str]], tokens: Sequence[str], at: int
) -> tuple[Edit, set[int]]:
    """Return the edit that puts the antonym, with its article, in a word's place."""
    here = found[at]
    other = cased(_opposites("en")[tokens[at]], here[0])
    if not at or tokens[at - 1] not in ("a", "an"):
        return (here.start(), here.end(), other), {at}
    written = found[at - 1]
    fitting = article(other)
    if written[0][0].isupper():
        fitting = fitting.capitalize()
    return (written.start(), here.end(), f"{fitting} {other}"), {at}


def _is_be(tokens: Sequence[str], at: int) -> bool:
    if at < 0 or tokens[at] not in _en("be"):
        return False
    return tokens[at] != "'s" or (at > 0 and tokens[at - 1] in _en("its"))


# Chinese

_LONGEST_CHINESE = 60  # characters
_ENDS = frozenset("，。！？；、,.!?;~～…）) \n\t")


def _chinese(text: str) -> list[Edit] | None:
    if len(text) > _LONGEST_CHINESE or any(word in text for word in _zh("open")):
        return None
    words = table("zh")
    tokens, starts, at = cut(text), [], 0
    for token in tokens:
        starts.append(at)
        at += len(token)
    opinions = [
        i
        for i, t in enumerate(tokens)
        if (t in words.positive or t in words.negative or t in _opposites("zh"))
        and not (t in _zh("degrees") and i + 1 < len(tokens) and tokens[i + 1] in words.all)
    ]
    if len({_sign(tokens, i) for i in opinions}) != 1:
        return None
    edits, spent = [], set()
    for i in opinions:
        edit = _chinese_edit(tokens, starts, i)
        if edit is None:
            return None
        edits.append(edit[0])
        spent |= edit[1]
    rest = "".join(" " if i in spent else t for i, t in enumerate(tokens))
    # jieba may have cut an opinion into a longer word: 怕麻烦.
    return None if negates(rest) or any(o in rest for o in _opinions()) else edits


@functools.cache
def _opinions() -> tuple[str, ...]:
    words = table("zh")
    return (*words.positive, *words.negative, *"快亮烦靓坑")


def _sign(tokens: Sequence[str], at: int) -> bool:
    """Whether what a word says, with a negation before it, is praise."""
    word, before = tokens[at], tokens[at - 1] if at else ""
    if word in _opposites("zh"):
        return word in ("不错", "有意思", "有用")
    return (word in table("zh").positive) != (before == "不")


def _chinese_edit(
    tokens: Sequence[str], starts: Sequence[int], at: int
) -> tuple[Edit, set[int]] | None:
    word, start = tokens[at], starts[at]
    end = start + len(word)
    before = tokens[at - 1] if at else ""
    if not _closes(tokens, at + 1) and word not in _zh("verbs"):
        return None
    if before == "的":  # attributes, and 得 so written
        return None
    if word in _opposites("zh"):
        first = at - 1 if before in _zh("doubtful") else at
        return (starts[first], end, _opposites("zh")[word]), {first, at}
    if before == "不":
        degree = at >= 2 and tokens[at - 2] in _zh("degrees")
        return (starts[at - 1], start, "" if degree or at < 2 else "很"), {at - 1, at}
    if word in _zh("verbs") and not _is_verb(tokens, at):
        return None
    degree = before in _zh("degrees")
    praise = word in _zh("verbs") and word in table("zh").positive
    if praise or word in _zh("adjectives"):
        if degree and before in _zh("doubtful"):
            return (starts[at - 1], start, "不"), {at - 1, at}
        return (start, start, "不"), {at}
    if word in _zh("faults") or word in _zh("verbs"):
        # 很不差 is not said; 并不差 is.
        first = starts[at - 1] if degree or before == "太" else start
        return (first, start, "并不"), {at}
    return None


def _closes(tokens: Sequence[str], at: int) -> bool:
    """Whether the clause ends there, but for a particle."""
    if at < len(tokens) and tokens[at] in _zh("particles"):
        at += 1
    return at >= len(tokens) or tokens[at][0] in _ENDS


def _is_verb(tokens: Sequence[str], at: int) -> bool:
    """Whether 推荐 and the like say what the writer does: at the start of a clause, or after 很."""
    before = tokens[at - 1] if at else "，"
    return before[0] in _ENDS or before in _zh("degrees") or before in _zh("subjects")


def _places(text: str) -> list[Place]:
    edits = _chinese(text) if CHINESE.search(text) else _english(text)
    return [Place(start, end, one_of(other)) for start, end, other in edits or ()]


NEGATION = Perturbation(
    "negation",
    "The text turned into its opposite, its opinion words negated or their negation taken away; "
    "for two labels of polarity. Texts on which no rule is sure are left out.",
    ("en", "zh"),
    _places,
    keeps_label=False,
)
