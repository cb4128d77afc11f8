"""Tags put in front of a prompt, and what can be read off a prompt, both from one keyword table.

An English keyword is matched as a whole word in any case, with the regular inflections of verbs
(explain: explains, explained, explaining) and the irregular ones that the table lists; so neither
`explanation` nor `history` is one. A Chinese character ends an English word: `请explain一下` has
one. Chinese keywords are matched wherever they stand, as Chinese has no spaces. Both are words, not
meanings: `How many` is a how, and `the list` a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmpred.data.text import CJK, UNIT, language

# A prompt of at most the first number of units is short, of more than the second long. Units are
# words between spaces, in Chinese characters and marks.
LENGTHS = {"en": (20, 60), "zh": (30, 100)}
SHORT, MEDIUM, LONG, MULTI_Q = "[SHORT]", "[MEDIUM]", "[LONG]", "[MULTI_Q]"


@dataclass(frozen=True)
class Keywords:
    """The words by which a prompt has a tag.

    Attributes:
        verbs: English verbs, matched with their regular inflections.
        words: English words and phrases, matched as they are.
        chinese: Chinese words, as regular expressions.
    """

    verbs: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    chinese: tuple[str, ...] = ()


TAGS: dict[str, Keywords] = {
    "[EXPLAIN]": Keywords(
        verbs=("explain", "describe", "analyze", "analyse", "compare"),
        chinese=("解释", "说明", "描述", "分析", "比较", "阐述", "讲解"),
    ),
    "[CREATIVE]": Keywords(
        verbs=("write", "create", "generate"),
        words=("wrote", "written", "story", "stories"),
        chinese=("(?<![大小缩填])写", "创作", "创造", "创建", "生成", "故事"),  # not 大写 …
    ),
    "[CALCULATE]": Keywords(
        verbs=("calculate", "compute", "solve"),
        # 求 alone asks for a value where it opens a clause; elsewhere it is 要求, 需求, …
        chinese=("计算", "求解", "求出", r"(?:^|[\s，。；：,.;:])求", "算出", "解方程"),
    ),
    "[LIST]": Keywords(
        verbs=("list", "enumerate", "identify"),
        chinese=("列出", "列举", "枚举", "罗列", "找出", "识别"),
    ),
    "[COMPARE]": Keywords(
        verbs=("compare", "contrast", "differentiate", "distinguish"),
        words=("difference", "differences", "versus", "vs"),
        chinese=("比较", "对比", "相比", "区别", "差异", "异同"),
    ),
    "[CONDITIONAL]": Keywords(
        verbs=("suppose", "assume"),
        words=("if", "unless", "provided that", "given that", "in case"),
        chinese=("如果", "假如", "假设", "假定", "倘若", "若是", "要是", "除非"),
    ),
    "[WHY]": Keywords(words=("why",), chinese=("为什么", "为何", "为啥", "何以")),
    "[HOW]": Keywords(words=("how",), chinese=("如何", "怎么", "怎样", "咋")),
}
_FEATURES = {
    "has_explain": "[EXPLAIN]",
    "has_creative": "[CREATIVE]",
    "has_calculate": "[CALCULATE]",
    "has_list": "[LIST]",
    "has_why": "[WHY]",
    "has_how": "[HOW]",
}
PROMPT_FEATURES = ("words", "characters", "question_marks", *_FEATURES)


def tags(prompt: str) -> tuple[str, ...]:
    """Return the tags of a prompt: its length, those of its keywords, then whether it asks twice.

    `[MULTI_Q]` is for two questions or more; several question marks in a row end one question.
    """
    short, long = LENGTHS[language([prompt])]
    units = len(UNIT.findall(prompt))
    length = SHORT if units <= short else MEDIUM if units <= long else LONG
    asked = (MULTI_Q,) if len(re.findall("[?？]+", prompt)) > 1 else ()
    return (length, *(tag for tag in TAGS if _has(tag, prompt)), *asked)


def tagged(prompt: str) -> str:
    """Return the prompt with its tags in front, separated by spaces."""
    return " ".join((*tags(prompt), prompt))


def prompt_features(prompt: str) -> dict[str, float]:
    """Return what can be read off a prompt, by the names of `PROMPT_FEATURES` and in their order.

    `words` are the units that the length tags count, `characters` all characters, `question_marks`
    those of both scripts (? and ？), `has_…` 1 where the prompt has a keyword of that tag, else 0.
    """
    return {
        "words": float(len(UNIT.findall(prompt))),
        "characters": float(len(prompt)),
        "question_marks": float(prompt.count("?") + prompt.count("？")),
        **{name: float(_has(tag, prompt)) for name, tag in _FEATURES.items()},
    }


def _has(tag: str, prompt: str) -> bool:
    return _PATTERNS[tag].search(prompt) is not None


def _inflected(verb: str) -> tuple[str, ...]:
    """Return the regular forms of a verb whose last consonant is not doubled."""
    if verb.endswith("e"):
        return (verb, f"{verb}s", f"{verb}d", f"{verb[:-1]}ing")
    if verb.endswith("y"):
        return (verb, f"{verb[:-1]}ies", f"{verb[:-1]}ied", f"{verb}ing")
    es = "es" if verb.endswith(("sh", "ch", "s")) else "s"
    return (verb, verb + es, f"{verb}ed", f"{verb}ing")


def _pattern(keywords: Keywords) -> re.Pattern[str]:
    english = [*(form for verb in keywords.verbs for form in _inflected(verb)), *keywords.words]
    whole = f"(?<![^\\W{CJK}])(?:{'|'.join(english)})(?![^\\W{CJK}])"
    return re.compile("|".join((whole, *keywords.chinese)), re.IGNORECASE)


_PATTERNS = {tag: _pattern(keywords) for tag, keywords in TAGS.items()}
