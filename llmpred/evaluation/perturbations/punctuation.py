"""Punctuation marks dropped, doubled, or replaced by others of their sort."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmpred.data.text import CJK
from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of
from llmpred.evaluation.perturbations.words import CHINESE, LETTER, negates

_MARKS = re.compile(r"[,.;!?…，。；！？、]+|--+|—+")
_CLOSING = "\"'”’」』)）\\]】》"
# After a mark that is one: a number, an address, a file name and an emoticon go on otherwise.
_AFTER = re.compile(rf"\s|$|[{_CLOSING}“‘「『(（【《{CJK}]")
_EMOTICON = re.compile(r"[:;]\s?[-^o']?[()\[\]DPp/\\|*]")
_ABBREVIATION = re.compile(
    r"(?:(?:^|[\s.(])[A-Za-z]|\b(?:mr|mrs|ms|dr|st|vs|etc|jr|sr|prof|inc|ltd|co|approx|dept|ave|no))$",
    re.I,
)
# Each mark's others. None turns a statement into a question, or the reverse.
_OTHERS = {
    ".": ("!", "...", ".."),
    "!": (".", "!!", "!!!"),
    "?": ("??", "?!"),
    ",": (";", ",,"),
    ";": (",", ";;"),
    "--": (",", ";", "..."),
    "…": (".", "...", "……"),
    "。": ("！", "……", "。。"),
    "！": ("。", "！！", "！！！"),
    "？": ("？？", "？！"),
    "，": ("；", "、", "，，"),
    "、": ("，", "、、"),
    "；": ("，", "。", "；；"),
    "—": ("，", "……"),
}
_FINAL = frozenset(".!?…。！？")


def _places(text: str) -> list[Place]:
    last = len(text.rstrip())
    places = [
        Place(start, end, one_of(*options))
        for start, end in marks(text)
        if (options := _options(text, start, end, last))
    ]
    if last and LETTER.match(text[last - 1]):
        final = "。！" if CHINESE.match(text[last - 1]) else ".!"
        places.append(Place(last, last, one_of(*final)))
    return places


def _options(text: str, start: int, end: int, last: int) -> tuple[str, ...]:
    """Return what a mark may become; its place begins with the spaces before it."""
    mark = text[start:end].lstrip()
    spaces = text[start : end - len(mark)]
    before, after = text[:start], text[end:]
    asks = mark[0] in "?？"
    if len(set(mark)) > 1 or not LETTER.search(before):
        return ()
    others = _OTHERS["--" if mark.startswith("--") else mark[0]]
    if len(mark) > 1 and mark[0] not in "-—":  # a run: shorter or longer, else as one
        others = (mark[0], mark + mark[0], *(o for o in others if mark[0] not in o))
    options = [spaces + other for other in others if other != mark]
    if end == last:
        return (*options,) if asks else (*options, "")
    # Left out, a mark might bring a negation to words that it does not deny.
    if not asks and not negates(before[-30:]) and not negates(after[:9]):
        options.append(" " if CHINESE.match(after) or not after[0].isspace() else "")
    return tuple(options)


def marks(text: str) -> Iterator[tuple[int, int]]:
    """Yield where marks stand, each from the spaces before it to its end.

    Not decimal points and what else stands within numbers and words, numbers of a list, points of
    abbreviations, emoticons.
    """
    emoticons = {at for found in _EMOTICON.finditer(text) for at in range(*found.span())}
    last = len(text.rstrip())
    for found in _MARKS.finditer(text):
        start, end = found.span()
        before, after = text[:start], text[end : end + 1]
        if start in emoticons or not (_AFTER.match(text, end) or _between_words(text, found)):
            continue
        if before[-1:].isdigit() and (after.isdigit() or (found[0] in ".．、" and end < last)):
            continue
        if found[0] == "." and end < last and _ABBREVIATION.search(before[-8:]):
            continue
        yield len(before.rstrip(" ")), end


def sentence_ends(text: str) -> list[int]:
    """Return where sentences end: behind their final marks, and what closes after these."""
    ends = []
    for _, end in marks(text):
        if text[end - 1] in _FINAL:
            closed = re.compile(f"[{_CLOSING}]*").match(text, end)
            ends.append(closed.end() if closed else end)
    last = len(text.rstrip())
    return ends if last in ends or not last else [*ends, last]


def _between_words(text: str, mark: re.Match[str]) -> bool:
    """Whether a comma or the like stands between words without a space, as in `good,cheap`."""
    before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    return mark[0][0] in ",!?;，。；！？、…-—" and bool(
        LETTER.match(before) and LETTER.match(after)
    )


PUNCTUATION_CHANGE = Perturbation(
    "punctuation_change",
    "Final and inner marks are dropped, doubled or replaced, and a missing final one is set; "
    "questions stay questions, and no mark goes where a negation is near.",
    ("en", "zh"),
    _places,
)
