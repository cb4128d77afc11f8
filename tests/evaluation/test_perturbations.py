"""Every perturbation against cases read one by one, and against what holds for all of them."""

import json
import random
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpred.data.text import cut, language
from llmpred.errors import InputError
from llmpred.evaluation.perturbations import (
    PERTURBATIONS,
    STRENGTHS,
    get,
    kinds_of,
    perturb,
)
from llmpred.evaluation.perturbations import filler as fillers
from llmpred.evaluation.perturbations.base import generator
from llmpred.evaluation.perturbations.emoji import NEUTRAL
from llmpred.evaluation.perturbations.words import TOKEN, lines, negates, negations, table

CASES = {
    kind: [
        json.loads(line)
        for line in (Path(__file__).parent / "perturbations" / f"{kind}.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    for kind in PERTURBATIONS
}
TEXTS = sorted({case["text"] for cases in CASES.values() for case in cases})
KEEPING = [kind for kind, found in PERTURBATIONS.items() if found.keeps_label]
# What reviews are made of, and what breaks naive code.
STUFF = (
    "good bad not never n't isn't can't don't very movie film terrible , . ! ? ... -- ; 3.14 "
    "Mr. U.S. 10:30 http://a.b/c.d me@x.org iPhone WiFi 不 没有 无 非常 别 不错 很好 好 差 房间 "
    "干净 酒店 早餐 服務 環境 沒有 ，。 ！ 、 ： （ ） ２００１ ＴＡＸＩ "
    "ｇｏｏｄ é e\u0301 ß İ ı ﬁ 👍🏽 "
    "👩\u200d👩\u200d👧 🇨🇳 ❤\ufe0f \u200b \u3000 \t \n 𠮷 𝒜 ﷽ ˈ ʼ ' ’ \" “ ” - _ @ # % & * ( ) "
    "[ ] < > :) ;-) :( ~"
)
PIECES = st.sampled_from(STUFF.split(" "))
ODD = st.lists(PIECES, max_size=12).flatmap(
    lambda pieces: st.sampled_from(["", " "]).map(lambda space: space.join(pieces))
)
ANY = st.one_of(ODD, st.text(max_size=40), st.sampled_from(TEXTS))


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_cases_come_out_as_they_were_read(kind):
    for case in CASES[kind]:
        got = perturb(case["text"], kind, case["strength"], seed=case["seed"])
        assert got == case["expected"] != case["text"]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_there_are_enough_cases_of_either_language_and_label(kind):
    cases, languages = CASES[kind], PERTURBATIONS[kind].languages
    for spoken in languages:
        assert sum(case["language"] == spoken for case in cases) >= 50 // len(languages)
        labels = {case["label"] for case in cases if case["language"] == spoken}
        assert labels == {"0", "1"}
    assert len({case["strength"] for case in cases}) == 4
    assert len({c["seed"] for c in cases}) > 4


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_perturbation_says_what_it_is(kind):
    found = get(kind)
    assert found.name == kind
    assert len(found.about) > 20
    assert found.languages
    assert set(found.languages) <= {"en", "zh"}
    assert all((kind in kinds_of(spoken)) == (spoken in found.languages) for spoken in ("en", "zh"))


def test_only_negation_turns_the_label():
    assert [kind for kind in PERTURBATIONS if kind not in KEEPING] == ["negation"]
    assert "script" not in kinds_of("en")
    assert "script" in kinds_of("zh")


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_the_same_seed_gives_the_same_text_in_any_order(kind):
    first = {text: perturb(text, kind, 0.5, seed=3) for text in TEXTS}
    shuffled = [*TEXTS]
    random.Random(1).shuffle(shuffled)
    random.seed(5)  # nobody else's generator has a say
    assert {text: perturb(text, kind, 0.5, seed=3) for text in shuffled} == first
    assert perturb(TEXTS[7], kind, 0.5, seed=3) == first[TEXTS[7]]


@pytest.mark.parametrize("kind", KEEPING)
def test_another_seed_differs_somewhere(kind):
    one, two = ([perturb(text, kind, 0.3, seed=s) for text in TEXTS] for s in (0, 1))
    assert one != two


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_nothing_changes_where_nothing_applies(kind):
    texts = ["", " ", "\n\t", "1234", "2001 2002", "👍🏽", "\u3000"]
    # Digits have two widths, and the space between two numbers can be doubled.
    applies = {"width": {"1234", "2001 2002"}, "whitespace": {"2001 2002"}}.get(kind, set())
    for text in texts:
        changed = perturb(text, kind, 1.0) != (text if get(kind).keeps_label else None)
        assert changed == (text in applies)


@pytest.mark.parametrize("kind", PERTURBATIONS)
@given(text=ANY, strength=st.sampled_from([0.1, 0.5, 1.0]), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_text_is_borne(kind, text, strength, seed):
    got = perturb(text, kind, strength, seed=seed)
    assert got == perturb(text, kind, strength, seed=seed)
    if got is None:
        assert not get(kind).keeps_label
        return
    assert bool(got.strip()) == bool(text.strip())
    got.encode()  # no half of a pair of surrogates
    # What joins the sign before it is never torn from it.
    for sign in ("\u0301", "\U0001f3fd", "\ufe0f", "\u200d"):
        pairs = [text[i - 1 : i + 1] for i, c in enumerate(text) if c == sign and i]
        if kind in ("synonym_replace", "typo_insertion", "punctuation_change", "script", "filler"):
            assert all(got.count(pair) >= text.count(pair) for pair in pairs)


@pytest.mark.parametrize("kind", PERTURBATIONS)
@given(text=ANY)
@settings(max_examples=60, deadline=None)
def test_places_lie_apart_in_order_and_always_change_something(kind, text):
    at = 0
    for place in get(kind).places(text):
        assert at <= place.start <= place.end <= len(text)
        at = place.end
        for seed in range(3):
            assert place.write(random.Random(seed)) != text[place.start : place.end]


@pytest.mark.parametrize("kind", KEEPING)
def test_strength_is_the_share_of_places_that_change(kind):
    found, written = get(kind), []

    def noted(place):
        def write(rng):
            written.append(place)
            return place.write(rng)

        return write

    counted = replace(
        found, places=lambda text: [replace(p, write=noted(p)) for p in found.places(text)]
    )
    for text in TEXTS:
        places, counts = found.places(text), []
        for strength in (0.01, *STRENGTHS, 1.0):
            written.clear()
            changed = counted.fn(text, strength, generator(0, kind, strength, text))
            assert (changed == text) == (not places)
            counts.append(len(written))
        if places:
            assert counts == [max(1, round(s * len(places))) for s in (0.01, *STRENGTHS, 1.0)]
            assert counts == sorted(counts)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, float("nan")])
def test_a_strength_is_a_share(strength):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        perturb("good", "casing", strength)


def test_an_unknown_kind_is_named_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean `casing`"):
        perturb("good", "cassing", 0.5)


# Families


@pytest.mark.parametrize("kind", ["synonym_replace", "typo_insertion", "emoji", "filler"])
@given(text=ANY, seed=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_negations_are_neither_touched_nor_made(kind, text, seed):
    assert negates(perturb(text, kind, 1.0, seed=seed)) == negates(text)


def test_no_slip_makes_a_word_of_the_tables():
    from llmpred.evaluation.perturbations.typos import _english

    taken = table("en").all | negations("en")
    for word in (w for w in taken if re.fullmatch("[a-z]{4,}", w)):
        assert (_english(word) == ()) == (word in negations("en"))
        for slip in (slip for sort in _english(word) for slip in sort):
            assert slip[0] == word[0]
            assert slip not in taken


def test_no_slip_makes_a_chinese_word_of_the_tables_or_a_negation():
    from llmpred.evaluation.perturbations.typos import _chinese

    words = table("zh").all
    for word in (w for w in words if len(w) > 1):
        for slip in (slip for sort in _chinese(word) for slip in sort):
            assert len(slip) == len(word)
            assert sum(a != b for a, b in zip(slip, word, strict=True)) == 1
            assert slip not in words
            assert not negations("zh") & set(slip)
        if negations("zh") & set(word):
            assert _chinese(word) == ()


def test_homophones_sound_alike_and_lookalikes_are_of_the_table():
    from pypinyin import lazy_pinyin

    from llmpred.evaluation.perturbations.typos import _chinese, _lookalikes

    for word in ("酒店", "服务", "房间", "质量", "银行", "重庆"):
        by_sound, *by_shape = _chinese(word)
        assert by_sound
        for slip in by_sound:
            (at,) = (i for i in range(len(word)) if slip[i] != word[i])
            assert lazy_pinyin(slip[at]) == [lazy_pinyin(word)[at]]
        for slip in (slip for sort in by_shape for slip in sort):
            (at,) = (i for i in range(len(word)) if slip[i] != word[i])
            assert slip[at] in _lookalikes()[word[at]]


def test_slips_leave_addresses_names_and_short_words():
    text = "see http://example.com/page or mail anna@example.org about big toy-story.pdf"
    got = perturb(text, "typo_insertion", 1.0, seed=1)
    changed = [b for a, b in zip(text.split(), got.split(), strict=True) if a != b]
    assert {w for w in text.split() if w not in got.split()} <= {"mail", "about"}
    assert changed


@pytest.mark.parametrize("spoken", ["en", "zh"])
def test_synonyms_are_of_one_polarity_and_no_negations(spoken):
    words = table(spoken)
    assert not words.positive & words.negative
    assert len(words.synonyms) > 150
    for word, options in words.synonyms.items():
        assert options
        assert word not in options
        for option in options:
            for side in (words.positive, words.negative):
                assert (word in side) == (option in side), (word, option)
        if spoken == "en":
            assert not {word, *options} & negations("en")
        else:
            assert [w for w in (word, *options) if negates(w)] == []


def test_chinese_synonyms_are_words_to_jieba():
    lost = [w for w in table("zh").synonyms if cut(f"，{w}，") != ("，", w, "，")]
    assert lost == []


@pytest.mark.parametrize("spoken", ["en", "zh"])
def test_a_word_stands_in_one_group(spoken):
    seen: dict[str, str] = {}
    for line in lines(f"words.{spoken}.txt"):
        if line[:2] in ("+ ", "- ", "= "):
            for word in line[2:].partition(" > ")[0].split():
                assert word not in seen, (word, line, seen[word])
                seen[word] = line


def test_phrases_of_the_tables_hold_a_word_that_they_protect():
    for phrase in table("zh").phrases:
        assert any(word in phrase for word in table("zh").synonyms), phrase


@pytest.mark.parametrize(
    "text",
    [
        "no big deal",
        "not bad",
        "a good deal of time",
        "Good morning!",
        "He works for McDonald's Great-Britain branch.",
        "see movie.com",
        "iPhone",
        "更不错过",
        "上当受骗",
        "豪华间",
    ],
)
def test_idioms_and_names_keep_their_words(text):
    assert perturb(text, "synonym_replace", 1.0) == text


def test_articles_fit_their_word():
    for seed in range(20):
        got = perturb(
            "An amusing tale, a clever script, AN AWFUL END", "synonym_replace", 1.0, seed=seed
        )
        for lead, word in re.findall(r"\b(an?) (\w+)", got.lower()):
            assert lead == ("an" if word[0] in "aeiou" else "a")


def test_case_is_kept():
    got = perturb(
        "EXCELLENT hotel. Excellent food, excellent staff.", "synonym_replace", 1.0, seed=2
    )
    assert re.fullmatch(r"[A-Z]{4,} inn\. [A-Z][a-z]+ food, [a-z]+ \w+\.", got)


@pytest.mark.parametrize(
    "text",
    ["version 3.5 or 1,000 at 10:30", "Mr. X", "don't", "well-made", "a :) b ;-) c", "1. 房间"],
)
def test_what_is_no_punctuation_stays(text):
    marked = text + "."
    got = {perturb(marked, "punctuation_change", 1.0, seed=seed) for seed in range(30)}
    assert all(one.startswith(text) for one in got)
    assert len(got) > 2


@given(text=ANY, seed=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_punctuation_leaves_words_and_questions(text, seed):
    got = perturb(text, "punctuation_change", 1.0, seed=seed)
    assert re.findall(r"\w+", got) == re.findall(r"\w+", text)
    assert bool(re.search("[?？]", got)) == bool(re.search("[?？]", text))


def test_no_mark_goes_beside_a_negation():
    for seed in range(40):
        assert perturb("No, it is fine.", "punctuation_change", 1.0, seed=seed)[2] in ",;"
        assert perturb("贵，不值。", "punctuation_change", 1.0, seed=seed)[1] in "，；、"


@given(text=ANY, seed=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_casing_changes_case_alone(text, seed):
    got = perturb(text, "casing", 1.0, seed=seed)
    assert len(got) == len(text)
    assert got.lower() == text.lower()


@given(text=ANY, seed=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_width_is_undone_by_compatibility_forms(text, seed):
    got = perturb(text, "width", 1.0, seed=seed)
    assert len(got) == len(text)
    assert unicodedata.normalize("NFKC", got) == unicodedata.normalize("NFKC", text)
    assert perturb(got, "width", 1.0, seed=seed) == text


@given(text=ANY, seed=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_whitespace_changes_nothing_else(text, seed):
    got = perturb(text, "whitespace", 1.0, seed=seed)
    assert "".join(got.split()) == "".join(text.split())
    assert got.count("\n") == text.count("\n")
    # Latin words stay apart and whole.
    assert re.findall("[A-Za-z0-9]+", got) == re.findall("[A-Za-z0-9]+", text)


def test_script_goes_there_and_back():
    for case in CASES["script"]:
        there = perturb(case["text"], "script", 1.0)
        assert there != case["text"]
        assert len(there) == len(case["text"])
    assert perturb("头发干净，发现后面没有面条", "script", 1.0) == "頭髮乾淨，發現後面沒有麪條"
    assert perturb("頭髮乾淨，後面沒有麵條", "script", 1.0) == "头发干净，后面没有面条"
    assert perturb("good movie", "script", 1.0) == "good movie"


def test_fillers_and_emoji_have_no_opinion():
    clauses = [
        (spoken, clause)
        for part in (fillers.BEFORE, fillers.AFTER)
        for spoken in part
        for clause in part[spoken]
    ]
    assert len(set(clauses)) >= 35
    for spoken, clause in clauses:
        words = {*cut(clause)} if spoken == "zh" else {t.lower() for t in TOKEN.findall(clause)}
        assert not words & (table(spoken).positive | table(spoken).negative), clause
        assert not negates(clause)
        assert language([clause]) == spoken
    assert all(len(sign) == 1 and unicodedata.category(sign) == "So" for sign in NEUTRAL)


def test_fillers_end_a_text_that_has_no_end():
    got = {perturb("a fine film", "filler", 0.5, seed=seed) for seed in range(20)}
    assert all(re.fullmatch(r"[A-Z].*\. a fine film|a fine film\. [A-Z].*\.", one) for one in got)
    assert perturb("很好", "filler", 1.0).count("。") == 3


# The probe


@pytest.mark.parametrize(
    "text",
    [
        "The room was clean but small.",  # a contrast
        "Is this a good camera?",
        "It would have been nice if it was good.",
        "Nothing here is good.",
        "The food was good, and the service was awful.",  # two polarities
        "the staff of the hotel came at noon",  # no opinion
        "tells a good story about a boy who runs away from home and finds a dog",  # no rule
        "one of the best films",
        "房间很干净，但是很吵。",
        "早餐怎么样？好吃吗？",
        "上周住的酒店。",
        "他说这本书比那本好。",
        "一本好书",
        "",
        "1234",
    ],
)
def test_texts_without_a_sure_rule_are_left_out(text):
    assert perturb(text, "negation", 0.5) is None


def test_strength_and_seed_have_no_say_in_a_negation():
    for case in CASES["negation"]:
        assert {
            perturb(case["text"], "negation", s, seed=i) for s in (0.1, 1.0) for i in (0, 9)
        } == {case["expected"]}


@pytest.mark.parametrize("text", ["The room was clean.", "it is a charming film .", "房间很干净。"])
def test_a_negation_is_taken_away_again(text):
    there = perturb(text, "negation", 1.0)
    assert negates(there)
    assert not negates(text)
    assert perturb(there, "negation", 1.0) == text
