"""Tags and features that are read off a prompt, in English and Chinese."""

from __future__ import annotations

import pytest

from llmpred.tasks.complexity.tags import (
    LENGTHS,
    PROMPT_FEATURES,
    TAGS,
    prompt_features,
    tagged,
    tags,
)

PROMPTS = {
    "Hello.": (),
    "": (),
    "Explain tides": ("[EXPLAIN]",),
    "I was EXPLAINING tides": ("[EXPLAIN]",),
    "An explanation of tides, the descriptive sort": (),
    "Analyse it, then analyze it": ("[EXPLAIN]",),
    "Compare tides": ("[EXPLAIN]", "[COMPARE]"),
    "What is comparable?": (),
    "The difference: cats vs. dogs": ("[COMPARE]",),
    "Create a poem": ("[CREATIVE]",),
    "It was written; two stories": ("[CREATIVE]",),
    "The creature's history is generational": (),
    "Solving, computing": ("[CALCULATE]",),
    "My computer dissolves": (),
    "Identify and list them": ("[LIST]",),
    "They enumerated it; listen": ("[LIST]",),
    "x = list_items(y)": (),
    "Identities": (),
    "If so, stop": ("[CONDITIONAL]",),
    "Assuming that": ("[CONDITIONAL]",),
    "The gift, provided by them": (),
    "It is provided that": ("[CONDITIONAL]",),
    "Why?": ("[WHY]",),
    "How's that? Show": ("[HOW]",),
    "However": (),
    "What? Who?": ("[MULTI_Q]",),
    "What??": (),
    "谁？什么?": ("[MULTI_Q]",),
    "Explain why, how, and list; write it": (
        *("[EXPLAIN]", "[CREATIVE]", "[LIST]", "[WHY]", "[HOW]"),
    ),
    "你好。": (),
    "请解释潮汐": ("[EXPLAIN]",),
    "请explain一下": ("[EXPLAIN]",),
    "比较猫和狗": ("[EXPLAIN]", "[COMPARE]"),
    "猫和狗有什么区别": ("[COMPARE]",),
    "写一首诗": ("[CREATIVE]",),
    "用大写字母": (),
    "讲个故事": ("[CREATIVE]",),
    "计算面积": ("[CALCULATE]",),
    "已知半径，求面积": ("[CALCULATE]",),
    "求x的值": ("[CALCULATE]",),
    "我们要求很高": (),
    "列出三种": ("[LIST]",),
    "如果下雨": ("[CONDITIONAL]",),
    "为什么下雨": ("[WHY]",),
    "怎么办，如何是好": ("[HOW]",),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_keywords_give_their_tags(prompt: str) -> None:
    assert tags(prompt) == ("[SHORT]", *PROMPTS[prompt])
    assert tags(prompt.upper()) == tags(prompt)


@pytest.mark.parametrize("tag", TAGS)
def test_every_keyword_of_the_table_is_found(tag: str) -> None:
    keywords = TAGS[tag]
    for word in (*keywords.verbs, *keywords.words):
        assert tag in tags(f"please {word} it")
        assert tag not in tags(f"please x{word}x it")
    plain = [word for word in keywords.chinese if word.isalpha()]
    assert plain
    for word in plain:
        assert tag in tags(f"请你{word}吧")


@pytest.mark.parametrize(("language", "unit"), [("en", "cat "), ("zh", "猫")])
def test_the_length_is_of_words_or_chinese_characters(language: str, unit: str) -> None:
    short, long = LENGTHS[language]
    wanted = {short: "[SHORT]", short + 1: "[MEDIUM]", long: "[MEDIUM]", long + 1: "[LONG]"}
    assert {length: tags(unit * length)[0] for length in wanted} == wanted


def test_tags_stand_before_the_prompt() -> None:
    assert tagged("Why?\r\nAnd how?") == "[SHORT] [WHY] [HOW] [MULTI_Q] Why?\r\nAnd how?"
    assert tagged("你好") == "[SHORT] 你好"


NAMES = (
    *("words", "characters", "question_marks", "has_explain", "has_creative", "has_calculate"),
    *("has_list", "has_why", "has_how"),
)
FEATURES = {
    "Explain why? ？": (3, 14, 2, 1, 0, 0, 0, 1, 0),
    "List and compute": (3, 16, 0, 0, 0, 1, 1, 0, 0),
    "写故事，如何？": (7, 7, 1, 0, 1, 0, 0, 0, 1),
    "": (0, 0, 0, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("prompt", FEATURES)
def test_features_have_a_fixed_order(prompt: str) -> None:
    found = prompt_features(prompt)
    assert tuple(found) == PROMPT_FEATURES == NAMES
    assert tuple(found.values()) == FEATURES[prompt]
    assert all(isinstance(value, float) for value in found.values())
