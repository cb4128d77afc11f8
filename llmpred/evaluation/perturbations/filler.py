"""Clauses that say nothing of what is judged, before and after a text."""

from __future__ import annotations

import random
from functools import partial

from llmpred.data.text import Language, language
from llmpred.evaluation.perturbations.base import Perturbation, Place, pick
from llmpred.evaluation.perturbations.words import LETTER

BEFORE: dict[Language, tuple[str, ...]] = {
    "en": (
        "Here is my review.",
        "I am writing this on my phone.",
        "This is my first review on this site.",
        "I wrote this last week.",
        "I was asked to write a review.",
        "A short note from me.",
        "I am posting this on a Tuesday.",
        "My turn to write something.",
        "This is what I wrote down.",
        "One more review from me.",
    ),
    "zh": (
        "说一下我的看法。",
        "我是用手机写的。",
        "这是我第一次写评论。",
        "上周写的评论。",
        "系统让我写个评价。",
        "简单说两句。",
        "今天是星期二，来写评论。",
        "轮到我写评论了。",
        "以下是我的评论。",
        "先说明一下，我住在本地。",
    ),
}
AFTER: dict[Language, tuple[str, ...]] = {
    "en": (
        "That is my review.",
        "I wrote this on my phone.",
        "I wrote this last week.",
        "This was my first review on this site.",
        "That is all I have to say.",
        "I am posting this on a Tuesday.",
        "My cousin was with me.",
        "Written from my notes.",
        "I also posted this on another site.",
        "End of review.",
    ),
    "zh": (
        "以上就是我的评论。",
        "这是用手机写的。",
        "上周写的。",
        "这是我第一次写评论。",
        "就说到这里。",
        "今天是星期二。",
        "当时我和同事一起。",
        "这段话在其他网站也发过。",
        "写于周末。",
        "评论完毕。",
    ),
}


def _places(text: str) -> list[Place]:
    if not LETTER.search(text):
        return []
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return [
        Place(start, start, partial(_before, text)),
        Place(end, end, partial(_after, text)),
    ]


def _before(text: str, rng: random.Random) -> str:
    spoken = language([text])
    return pick(BEFORE[spoken], rng) + (" " if spoken == "en" else "")


def _after(text: str, rng: random.Random) -> str:
    spoken = language([text])
    stop, space = (".", " ") if spoken == "en" else ("。", "")
    # A text that ends in a letter or digit would run into the clause.
    return (stop if text.rstrip()[-1].isalnum() else "") + space + pick(AFTER[spoken], rng)


FILLER = Perturbation(
    "filler",
    "A neutral clause before the text, after it, or both: when, where and how it was written.",
    ("en", "zh"),
    _places,
)
