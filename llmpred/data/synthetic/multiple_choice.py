"""Questions with four choices, each of them right equally often.

What sort of thing a name belongs to (`sort`), which of four does not belong (`odd`), a fact of a
passage that holds all choices (`fact`), whose fact it is (`which`), and the highest of four numbers
(`most`). Another domain is sums and series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmpred.data.synthetic.draw import Draw
from llmpred.data.synthetic.world import ATTRIBUTES, KINDS, NUMBERS, Entity

CHOICES = 4
# Facts told beyond those that are asked about.
EXTRA = {"short": 0, "normal": 1, "long": 4}
SORT = {
    ("train", "en"): "Which of these is a {k}? | One of these is a {k}. Which one?",
    ("test", "en"): "Choose the {k}. | Find the only {k}.",
    ("train", "zh"): "下面哪个是{k}？ | 有一个是{k}，是哪个？",
    ("test", "zh"): "请选出{k}。 | 找出唯一的{k}。",
}
ODD = {
    ("train", "en"): "{l}: which does not belong? | Which one differs from the rest: {l}?",
    ("test", "en"): "Choose the odd one out of {l}. | {l}. Find the stranger.",
    ("train", "zh"): "{l}，哪个不是同类？ | 哪个和其他的不一样：{l}？",
    ("test", "zh"): "请从{l}中选出异类。 | {l}。找出另类。",
}
SUMS = {
    ("train", "en"): "What is {a} plus {b}? | {a} and {b} make how much?",
    ("test", "en"): "Add {b} to {a}. | Sum of {a} and {b}:",
    ("train", "zh"): "{a}加{b}是多少？ | {a}和{b}一共是几？",
    ("test", "zh"): "把{b}加到{a}上。 | 求{a}与{b}之和：",
}
SERIES = {
    ("train", "en"): "What comes next: {s}? | {s}: go on!",
    ("test", "en"): "Continue {s}. | After {s}:",
    ("train", "zh"): "接下来是什么：{s}？ | {s}，接着写！",
    ("test", "zh"): "续写{s}。 | {s}之后：",
}
DRIFT = ("({c}) {t}", "{t} !!", "{c}: {t} :{c}", "<{t}>")
LETTERS = "abcd"
Asked = tuple[str, str, list[str]]  # question, right choice, wrong choices


def row(draw: Draw) -> dict[str, Any]:
    """Return `question`, `choices`, `answer` (an index) and `kind`."""
    kind = draw.pick(tuple(SHIFTED) if draw.shifted else MIX)
    question, right, wrong = (FAMILIES | SHIFTED)[kind](draw)
    answer = draw.place % CHOICES
    choices = draw.shuffled(wrong)
    choices.insert(answer, right)
    if draw.drifted:
        form = draw.phrase(DRIFT)
        choices = [
            form.format(c=letter, t=text.upper())
            for letter, text in zip(LETTERS, choices, strict=True)
        ]
    return {"question": question, "choices": choices, "answer": answer, "kind": kind}


def _sort(draw: Draw) -> Asked:
    kind, *others = draw.some(tuple(KINDS), CHOICES)
    question = draw.frame(SORT)
    wrong = [draw.name(draw.one(other)) for other in others]
    return question.format(k=draw.word(KINDS[kind])), draw.name(draw.one(kind)), wrong


def _odd(draw: Draw) -> Asked:
    kind, other = draw.some(tuple(KINDS), 2)
    same = [draw.name(who) for who in draw.several(kind, CHOICES - 1)]
    odd = draw.name(draw.one(other))
    listed = ("、" if draw.language == "zh" else ", ").join(draw.shuffled([odd, *same]))
    return draw.frame(ODD).format(l=listed), odd, same


def _passage(draw: Draw, rivals: list[Entity], attribute: str, question: str) -> str:
    """Return the question after what is told of all rivals."""
    told = [(who, attribute) for who in rivals]
    spare = [(who, a) for who in rivals for a in ATTRIBUTES[who.kind] if a != attribute]
    told += draw.some(spare, EXTRA[draw.length])
    sentences = [draw.sentence(draw.say(*fact)) for fact in draw.shuffled(told)]
    return draw.text([*sentences, question])


def _rivals(draw: Draw) -> tuple[list[Entity], str]:
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(ATTRIBUTES[kind])
    return draw.rivals(kind, attribute, CHOICES), attribute


def _fact(draw: Draw) -> Asked:
    rivals, attribute = _rivals(draw)
    right, *wrong = (draw.value(who, attribute) for who in rivals)
    question = draw.ask(rivals[0], attribute)
    return _passage(draw, rivals, attribute, question), right, wrong


def _which(draw: Draw) -> Asked:
    rivals, attribute = _rivals(draw)
    right, *wrong = map(draw.name, rivals)
    question = draw.ask_which(rivals[0], attribute)
    return _passage(draw, rivals, attribute, question), right, wrong


def _most(draw: Draw) -> Asked:
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(NUMBERS[kind])
    rivals = draw.rivals(kind, attribute, CHOICES)
    ranked = sorted(rivals, key=lambda who: -who.facts[attribute].number)
    right, *wrong = map(draw.name, ranked)
    return _passage(draw, rivals, attribute, draw.ask_most(kind, attribute)), right, wrong


def _sum(draw: Draw) -> Asked:
    a, b = 2 + draw.below(48), 2 + draw.below(48)
    question = draw.frame(SUMS).format(a=a, b=b)
    return question, str(a + b), _near(draw, a + b)


def _series(draw: Draw) -> Asked:
    first, step = 1 + draw.below(40), 1 + draw.below(9)
    shown, following = [first + step * i for i in range(4)], first + step * 4
    question = draw.frame(SERIES)
    return question.format(s=" ".join(map(str, shown))), str(following), _near(draw, following)


def _near(draw: Draw, value: int) -> list[str]:
    return [str(value + off) for off in draw.some((-3, -2, -1, 1, 2, 3, 10), CHOICES - 1)]


FAMILIES: dict[str, Callable[[Draw], Asked]] = {
    "sort": _sort,
    "odd": _odd,
    "fact": _fact,
    "which": _which,
    "most": _most,
}
# Mostly what a small model can learn from names alone; a fifth needs a passage.
MIX = (*["sort"] * 14, *["odd"] * 2, *["fact"] * 2, "which", "most")
SHIFTED: dict[str, Callable[[Draw], Asked]] = {"sum": _sum, "series": _series}
