"""Texts from which a number follows: `text`, `value`, `unit`, `kind`.

A number is stated among others (`stated`), or follows by a sum, a difference, a product or from two
years (`age`). Another domain is weather and roads.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from llmpred.data.synthetic.draw import Draw, capital
from llmpred.data.synthetic.world import ATTRIBUTES, KINDS, NOUNS, NUMBERS, Words


class Change(NamedTuple):
    """What happens to a number: the attribute, the greatest second number, and the frames."""

    attribute: str
    most: int
    frames: dict[tuple[str, str], str]


CHANGES = {
    "sum": Change(
        "population",
        900,
        {
            (
                "train",
                "en",
            ): "{b} moved there. How many now? | with {b} newcomers it now has how many?",
            ("test", "en"): "after {b} births the new total is? | add {b} who arrived. Total?",
            ("train", "zh"): "又搬来{b}人，现在有多少人？ | 新来了{b}人，一共多少？",
            ("test", "zh"): "再添{b}口，总数为？ | 加上迁入的{b}，合计？",
        },
    ),
    "difference": Change(
        "workers",
        19,
        {
            ("train", "en"): "{b} of them left. How many stay? | it sent {b} home. Who is left?",
            ("test", "en"): "minus {b} that quit, what remains? | {b} retired. Remaining?",
            ("train", "zh"): "走了{b}人，还剩多少？ | 有{b}人回家了，留下几个？",
            ("test", "zh"): "减去离职的{b}，余下？ | {b}位退休，剩余？",
        },
    ),
    "product": Change(
        "price",
        12,
        {
            ("train", "en"): "what do {b} of them cost? | I buy {b}. How much is that?",
            ("test", "en"): "the bill for {b} is? | someone orders {b}. Sum to pay?",
            ("train", "zh"): "买{b}个要多少钱？ | 我买{b}个，一共多少钱？",
            ("test", "zh"): "{b}个的账单是？ | 订{b}个，应付？",
        },
    ),
    "age": Change(
        "born",
        80,
        {
            ("train", "en"): "how old in {b}? | it is {b} now. What is the age?",
            ("test", "en"): "the age reached in {b} is? | by {b}, years lived?",
            ("train", "zh"): "到{b}年是多少岁？ | 现在是{b}年，几岁了？",
            ("test", "zh"): "{b}年时年龄为？ | 截至{b}年，活了几年？",
        },
    ),
}
STATED = {
    ("train", "en"): "What is the {n} of {x}? | So the {n} of {x} is?",
    ("test", "en"): "Give the {n} of {x}. | {x}, {n}?",
    ("train", "zh"): "{x}的{n}是多少？ | 那么{x}的{n}是？",
    ("test", "zh"): "给出{x}的{n}。 | 问{x}，{n}几何？",
}
# Of another domain: two numbers and their sum.
SHIFTED = {
    "weather": {
        ("train", "en"): "it was {a} degrees in {x} and rose by {b}. How warm is it?",
        ("test", "en"): "{x} had {a} degrees, later {b} above that. Reading?",
        ("train", "zh"): "{x}原来{a}度，升了{b}度，现在几度？",
        ("test", "zh"): "{x}测得{a}度，后高出{b}，读数？",
    },
    "road": {
        ("train", "en"): "the road from {x} is {a} miles, then {b} more. How long in all?",
        ("test", "en"): "{a} miles past {x} go on for {b}. Distance?",
        ("train", "zh"): "从{x}走{a}里，再走{b}里，共多少里？",
        ("test", "zh"): "过{x}{a}里又{b}里，路程？",
    },
}
UNITS: dict[str, Words] = {
    **{attribute: {"en": "year", "zh": "年"} for attribute in ("born", "founded", "year")},
    "age": {"en": "years", "zh": "岁"},
    "population": {"en": "people", "zh": "人"},
    "workers": {"en": "workers", "zh": "人"},
    "weight": {"en": "kilos", "zh": "公斤"},
    "price": {"en": "crowns", "zh": "克朗"},
    "weather": {"en": "degrees", "zh": "度"},
    "road": {"en": "miles", "zh": "里"},
}
OTHERS = {"short": 0, "normal": 1, "long": 4}  # further statements
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
DRIFT = ("full width", "spaced", "bracketed")


def row(draw: Draw) -> dict[str, Any]:
    """Return `text`, `value`, `unit` and `kind`."""
    if draw.shifted:
        kind = unit = draw.pick(tuple(SHIFTED))
        a, b = 2 + draw.below(30), 2 + draw.below(30)
        frame = draw.frame(SHIFTED[kind])
        text, value = capital(frame.format(a=a, b=b, x=draw.name(draw.one("town")))), a + b
    else:
        kind = draw.pick(("stated", "stated", *CHANGES))
        text, value, unit = _stated(draw) if kind == "stated" else _changed(draw, kind)
    if draw.drifted:
        text = _drift(text, draw.phrase(DRIFT))
    return {"text": text, "value": value, "unit": draw.word(UNITS[unit]), "kind": kind}


def _stated(draw: Draw) -> tuple[str, int, str]:
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(NUMBERS[kind])
    rivals = draw.rivals(kind, attribute, 2 + OTHERS[draw.length])
    told = [draw.sentence(draw.say(who, attribute)) for who in draw.shuffled(rivals)]
    frame = draw.frame(STATED)
    who = rivals[0]
    asked = frame.format(n=draw.word(NOUNS[attribute]), x=draw.name(who))
    return draw.text([*told, capital(asked)]), who.facts[attribute].number, attribute


def _changed(draw: Draw, kind: str) -> tuple[str, int, str]:
    attribute, most, asked = CHANGES[kind]
    owner = next(k for k, attributes in NUMBERS.items() if attribute in attributes)
    who = draw.one(owner)
    others = draw.some(
        [a for a in ATTRIBUTES[owner] if a != attribute], min(OTHERS[draw.length], 3)
    )
    told = [draw.sentence(draw.say(who, a)) for a in draw.shuffled([attribute, *others])]
    a, b = who.facts[attribute].number, 2 + draw.below(most - 1)
    value = {"sum": a + b, "difference": a - b, "product": a * b, "age": b}[kind]
    frame = draw.frame(asked)
    question = frame.format(b=a + b if kind == "age" else b)
    return draw.text([*told, capital(question)]), value, "age" if kind == "age" else attribute


def _drift(text: str, form: str) -> str:
    """Write the numbers of a text in another way."""
    if form == "full width":
        return text.translate(FULL_WIDTH)
    if form == "spaced":
        return re.sub(r"\d(?=\d)", r"\g<0> ", text)
    return re.sub(r"\d+", r"[\g<0>]", text)
