"""Spaces doubled between words; put in or left out around Chinese characters."""

from __future__ import annotations

import re

from llmpred.data.text import CJK
from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of

_LATIN = "A-Za-z0-9"
_GAP = re.compile(
    # A run of spaces within a line, with the signs beside it.
    rf"(?<=\S)[ \t]+(?=\S)"
    # A Chinese character beside a Latin one, or after a Chinese mark.
    rf"|(?<=[{CJK}])(?=[{_LATIN}])|(?<=[{_LATIN}])(?=[{CJK}])|(?<=[，。；！？、：])(?=[{CJK}{_LATIN}])"
)
_CHINESE = re.compile(f"[{CJK}，。；！？、：]")


def _places(text: str) -> list[Place]:
    return [Place(*found.span(), one_of(_other(text, found))) for found in _GAP.finditer(text)]


def _other(text: str, gap: re.Match[str]) -> str:
    before, after = text[gap.start() - 1], text[gap.end()]
    if not gap[0]:
        return " "
    # Between two characters a space parts clauses, and without it a negation might change sides.
    beside = [bool(_CHINESE.match(sign)) for sign in (before, after)]
    mark = before in "，。；！？、：" or after in "，。；！？、："
    return "" if any(beside) and (mark or not all(beside)) else gap[0] * 2


WHITESPACE = Perturbation(
    "whitespace",
    "Spaces between words are doubled; beside Chinese marks, and between Chinese and Latin, they "
    "are put in or left out. No word and no line is broken or joined.",
    ("en", "zh"),
    _places,
)
