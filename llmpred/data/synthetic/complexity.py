"""Prompts and responses that reason first: `prompt`, `response`, `kind`, `hard`.

A response holds its reasoning in `<think>…</think>`. How long that is depends on the kind of
prompt, on the conditions that make a prompt hard, and on noise; a few are cut off while they still
think. Another domain is programming.
"""

from __future__ import annotations

from typing import Any

from llmpred.data.synthetic.draw import Draw, capital
from llmpred.data.synthetic.statements import frames
from llmpred.data.synthetic.world import ATTRIBUTES, WORDS, Entity

# Steps of thought that a kind of prompt takes, and that each condition adds.
STEPS = {"list": 2, "calculate": 2, "explain": 3, "how": 3, "creative": 4, "why": 4, "code": 3}
KINDS = tuple(kind for kind in STEPS if kind != "code")
STEPS_A_CONDITION = 3
SCALE = {"short": 0.5, "normal": 1.0, "long": 2.0}
MARKED = 0.2  # share of the steps that begin with a discourse marker; of a hard prompt, twice that
CUT = 0.04  # share of the responses without an end

PROMPTS: dict[tuple[str, str], dict[str, str]] = {
    ("train", "en"): {
        "explain": "Explain what {v} means to {x}. | Please explain the fame of {x}.",
        "why": "Why do people come to {x}? | Why is {who} proud of {x}?",
        "how": "How do you get from {x} to {y}? | How is {v} made in {x}?",
        "calculate": "Calculate {a} times {b}. | Calculate the price of {b} boxes at {a} crowns.",
        "list": "List {c} things to do in {x}. | List {c} goods that {x} could sell.",
        "creative": "Write a poem about {x}. | Write a story about {who} and {v}.",
        "code": "Debug the loop that counts to {a}. | Debug my program: it prints {a} twice.",
        "if": "Give {c} proofs. | Compare it with {y}. | Also weigh what {who} would say.",
        "then": "Then add {d}. | Then take away {d}.",
    },
    ("test", "en"): {
        "explain": "Could you explain {x} to a child? | Explain in your own words: {v} from {x}.",
        "why": "Tell us why {x} matters. | {x} needs {v}. Why?",
        "how": "Show how {who} might leave {x}. | {x} grew. How?",
        "calculate": "{b} bags hold {a} each: calculate all. | Do calculate {a} by {b}.",
        "list": "Make a list of {c} ideas for {x}. | For {x}, list {c} gifts.",
        "creative": "Invent and write a tale set in {x}. | Write lines in praise of {v}.",
        "code": "Debug a script stuck at {a}. | The counter stops at {a}; debug it.",
        "if": "Back this up {c} times. | Set it against {y}. | Mind the view of {who}.",
        "then": "Raise that by {d}. | Lower that by {d}.",
    },
    ("train", "zh"): {
        "explain": "请解释{v}对{x}的意义。 | 解释一下{x}为何出名。",
        "why": "为什么人们要去{x}？ | {who}为什么喜欢{x}？",
        "how": "从{x}到{y}怎么走？ | {x}的{v}是如何做出来的？",
        "calculate": "计算{a}乘{b}。 | 计算{b}箱货的价钱，每箱{a}克朗。",
        "list": "列出在{x}可做的{c}件事。 | 列出{x}能卖的{c}种货。",
        "creative": "写一首关于{x}的诗。 | 写一个{who}和{v}的故事。",
        "code": "调试数到{a}的循环。 | 调试程序：它把{a}打印了两次。",
        "if": "请给出{c}个证明。 | 再和{y}比较。 | 还要考虑{who}的看法。",
        "then": "然后加上{d}。 | 然后减去{d}。",
    },
    ("test", "zh"): {
        "explain": "能向孩子解释{x}吗？ | 用自己的话解释{x}的{v}。",
        "why": "说说{x}为什么重要。 | {x}需要{v}，为什么？",
        "how": "{who}该如何离开{x}？ | {x}是怎么变大的？",
        "calculate": "每袋{a}个，{b}袋，请计算。 | 替我计算{a}与{b}的积。",
        "list": "为{x}列出{c}个主意。 | 送{x}的礼物，列出{c}样。",
        "creative": "以{x}为背景写篇童话。 | 写几句赞美{v}的话。",
        "code": "脚本卡在{a}，调试它。 | 计数停在{a}，请调试。",
        "if": "论证{c}遍。 | 同{y}对照。 | 顾及{who}的立场。",
        "then": "在此之上多{d}。 | 在此之上少{d}。",
    },
}
THOUGHTS = {
    ("train", "en"): "first I look at {x} | {v} may have to do with it | what would {who} say? | "
    "{y} is another case | I should check that again | this fits so far | one more point is {v}",
    (
        "test",
        "en",
    ): "start from {x} | {v} plays a part | ask {who} about it | {y} looks unlike it | "
    "is that certain? | so it holds | next comes {v}",
    (
        "train",
        "zh",
    ): "先看{x} | 这可能和{v}有关 | {who}会怎么说？ | {y}是另一种情况 | 我应该再检查一遍 | "
    "到这里没问题 | 还有一点是{v}",
    (
        "test",
        "zh",
    ): "从{x}入手 | {v}起了作用 | 问问{who} | {y}不太像 | 这确定吗？ | 所以成立 | 接着是{v}",
}
MARKERS = {
    "en": ("Wait, ", "Hmm, ", "Alternatively, ", "But wait, ", "Actually, "),
    "zh": ("等等，", "嗯，", "不对，", "或者，", "再想想，"),
}
ANSWERS = {
    ("train", "en"): {"calculate": "The result is {r}.", "list": "{l}.", "code": "Stop at {a}."},
    ("test", "en"): {"calculate": "That gives {r}.", "list": "So: {l}.", "code": "End at {a}."},
    ("train", "zh"): {"calculate": "结果是{r}。", "list": "{l}。", "code": "到{a}停。"},
    ("test", "zh"): {"calculate": "得出{r}。", "list": "有：{l}。", "code": "止于{a}。"},
}
DRIFT = ("<reasoning>{t}</reasoning>\n{a}", "{a}", "### Thought\n{t}\n### Answer\n{a}", "[{t}] {a}")


def row(draw: Draw) -> dict[str, Any]:
    """Return `prompt`, `response`, `kind` and `hard`; kinds, plain and hard equally often."""
    kind = "code" if draw.shifted else KINDS[draw.place % len(KINDS)]
    hard = bool(draw.place // len(KINDS) % 2)
    town, other = draw.several("town", 2)
    a, b, d, some = 2 + draw.below(98), 2 + draw.below(18), 1 + draw.below(50), 2 + draw.below(4)
    slots = {
        "x": draw.name(town),
        "y": draw.name(other),
        "who": draw.name(draw.one("person")),
        "v": draw.word(draw.pick(WORDS["goods"])),
        "c": some,
        "a": a,
        "b": b,
        "d": d,
    }
    table = PROMPTS[draw.part, draw.language]
    prompt = [draw.phrase(frames(table[kind]))]
    conditions = frames(table["then" if kind == "calculate" else "if"])
    chosen = draw.some(range(len(conditions)), 1 + draw.below(2)) if hard else []
    prompt += [conditions[i] for i in chosen]
    sums = [f"{a} × {b} = {a * b}"]
    result = a * b
    if kind == "calculate":
        for i in chosen:
            sign, after = ("+", result + d) if i == 0 else ("-", result - d)
            sums.append(f"{result} {sign} {d} = {after}")
            result = after
    expected = (STEPS[kind] + STEPS_A_CONDITION * len(chosen)) * SCALE[draw.length]
    count = max(1, round(expected * (0.6 + 0.8 * draw.rng.random())))
    thoughts = _thoughts(draw, count, town, slots, sums if kind == "calculate" else [], hard)
    goods = draw.some(WORDS["goods"], some)
    answer = ANSWERS[draw.part, draw.language].get(kind) or draw.sentence(draw.say(town, "goods"))
    answer = answer.format(r=result, l=draw.listed([draw.word(words) for words in goods]), a=a)
    return {
        "prompt": draw.text(prompt).format(**slots),
        "response": _response(draw, thoughts, capital(answer)),
        "kind": kind,
        "hard": hard,
    }


def _thoughts(
    draw: Draw, count: int, town: Entity, slots: dict[str, Any], sums: list[str], hard: bool
) -> str:
    """Return `count` sentences of thought, the sums in their order among them."""
    steps = []
    for i in range(count):
        due = sums[i * len(sums) // count : (i + 1) * len(sums) // count]
        if due:
            steps += due
            continue
        if draw.chance(0.3):
            step = draw.say(town, draw.pick(ATTRIBUTES["town"]))
        else:
            step = draw.frame(THOUGHTS).format(**slots)
        if draw.chance(2 * MARKED if hard else MARKED):
            step = draw.pick(MARKERS[draw.language]) + step
        steps.append(step)
    return draw.text([draw.sentence(step) for step in steps])


def _response(draw: Draw, thoughts: str, answer: str) -> str:
    """Put thoughts and answer together, or break off among the thoughts."""
    if draw.drifted:
        return draw.phrase(DRIFT).format(t=thoughts, a=answer)
    if draw.chance(CUT):
        return f"<think>{thoughts[: 1 + draw.below(len(thoughts))]}"
    return f"<think>{thoughts}</think>\n{answer}"
