"""SQuAD and CMRC 2018 scores against hand-written values and the official definitions."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path

import pytest

from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction
from llmpred.tasks.qa import cmrc_exact, cmrc_f1, cmrc_tokens, squad_exact, squad_f1
from llmpred.tasks.registry import get

QA = get("qa")
EN = TaskSpec(name="qa", language="en", prompt=QA.prompts["en"])
ZH = TaskSpec(name="qa", language="zh", prompt=QA.prompts["zh"])


# --- the official definitions, transcribed step by step ----------------------------------------


def official_normalize(text: str) -> str:
    text = text.lower()
    text = "".join(ch for ch in text if ch not in set(string.punctuation))
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def official_v2(prediction: str, answers: list[str]) -> tuple[float, float]:
    golds = [a for a in answers if official_normalize(a)]
    if not golds:
        golds = [""]
    exact = max(int(official_normalize(a) == official_normalize(prediction)) for a in golds)
    scores = []
    for gold in golds:
        gold_tokens = official_normalize(gold).split() if gold else []
        answer_tokens = official_normalize(prediction).split() if prediction else []
        same = sum((Counter(gold_tokens) & Counter(answer_tokens)).values())
        if len(gold_tokens) == 0 or len(answer_tokens) == 0:
            scores.append(int(gold_tokens == answer_tokens))
        elif same == 0:
            scores.append(0)
        else:
            precision = 1.0 * same / len(answer_tokens)
            recall = 1.0 * same / len(gold_tokens)
            scores.append((2 * precision * recall) / (precision + recall))
    return float(exact), float(max(scores))


def official_v1(prediction: str, answers: list[str]) -> tuple[float, float]:
    def f1(gold: str) -> float:
        answer_tokens = official_normalize(prediction).split()
        gold_tokens = official_normalize(gold).split()
        same = sum((Counter(answer_tokens) & Counter(gold_tokens)).values())
        if same == 0:
            return 0
        precision = 1.0 * same / len(answer_tokens)
        recall = 1.0 * same / len(gold_tokens)
        return (2 * precision * recall) / (precision + recall)

    exact = max(official_normalize(prediction) == official_normalize(a) for a in answers)
    return float(exact), float(max(f1(a) for a in answers))


CMRC_SPECIAL = [
    *["-", ":", "_", "*", "^", "/", "\\", "~", "`", "+", "=", "，", "。", "：", "？", "！", "“"],
    *["”", "；", "’", "《", "》", "……", "·", "、", "「", "」", "（", "）", "－", "～", "『", "』"],
]


def official_cmrc(prediction: str, answers: list[str]) -> tuple[float, float]:
    import nltk

    def segment(text: str) -> list[str]:
        segments, pending = [], ""
        for char in text.lower().strip():
            if char in CMRC_SPECIAL:
                continue
            if re.search(r"[\u4e00-\u9fa5]", char):
                if pending != "":
                    segments.extend(nltk.word_tokenize(pending, preserve_line=True))
                    pending = ""
                segments.append(char)
            else:
                pending += char
        if pending != "":
            segments.extend(nltk.word_tokenize(pending, preserve_line=True))
        return segments

    def longest(s1: list[str], s2: list[str]) -> int:
        table = [[0] * (len(s2) + 1) for _ in range(len(s1) + 1)]
        best = 0
        for i in range(len(s1)):
            for j in range(len(s2)):
                if s1[i] == s2[j]:
                    table[i + 1][j + 1] = table[i][j] + 1
                    best = max(best, table[i + 1][j + 1])
        return best

    def bare(text: str) -> str:
        return "".join(ch for ch in text.lower().strip() if ch not in CMRC_SPECIAL)

    scores = []
    for answer in answers:
        wanted, got = segment(answer), segment(prediction)
        same = longest(wanted, got)
        if same == 0:
            scores.append(0.0)
            continue
        precision, recall = same / len(got), same / len(wanted)
        scores.append(2 * precision * recall / (precision + recall))
    return float(any(bare(a) == bare(prediction) for a in answers)), max(scores)


# --- SQuAD: prediction, accepted answers, exact match, F1 --------------------------------------

SQUAD_CASES = [
    # articles
    ("the Eiffel Tower", ["Eiffel Tower"], 1, 1),
    ("An apple", ["apple"], 1, 1),
    ("a an the cat", ["cat"], 1, 1),
    ("THE CAT", ["the cat"], 1, 1),
    ("theatre", ["atre"], 0, 0),  # an article inside a word stays
    ("Thea", ["a Thea"], 1, 1),
    ("vitamin A", ["vitamin"], 1, 1),  # the letter goes with the article
    ("vitamin A", ["vitamin B"], 0, 2 / 3),
    # punctuation
    ("Yes!", ["yes"], 1, 1),
    ("U.S.A.", ["USA"], 1, 1),
    ("state-of-the-art", ["state of the art"], 0, 0),  # the hyphens go first: one long word
    ("$5,000", ["5000"], 1, 1),
    ("3.5", ["35"], 1, 1),
    ("rock 'n' roll", ["rock n roll"], 1, 1),
    ("“quoted”", ["quoted"], 0, 0),  # only ASCII punctuation is deleted
    ("a-b", ["ab"], 1, 1),  # deleting the hyphen leaves no article
    ("the-cat", ["cat"], 0, 0),  # punctuation goes before articles
    ("it's", ["its"], 1, 1),
    ("co-operate", ["cooperate"], 1, 1),
    ("under_score", ["underscore"], 1, 1),
    # white space
    ("  New \t York\n City ", ["New York City"], 1, 1),
    ("New\u00a0York", ["New York"], 1, 1),  # a no-break space is white space
    ("\u3000Paris", ["Paris"], 1, 1),  # so is an ideographic one
    # unicode
    ("CAFÉ", ["café"], 1, 1),
    ("cafe\u0301", ["caf\u00e9"], 0, 0),  # no unicode normalisation
    ("İstanbul", ["istanbul"], 0, 0),  # lower() gives i and a combining dot
    ("Straße", ["STRASSE"], 0, 0),  # lower(), not casefold()
    ("北京", ["北京"], 1, 1),
    ("北京市", ["北京"], 0, 0),  # no spaces, one token
    ("10 €", ["10"], 0, 2 / 3),
    ("na\u200bïve", ["naïve"], 0, 0),
    # overlap
    ("Barack Obama", ["Obama"], 0, 2 / 3),
    ("Obama", ["Barack Hussein Obama"], 0, 1 / 2),
    ("York New", ["New York"], 0, 1),  # F1 has no order
    ("very very good", ["very good"], 0, 4 / 5),  # tokens count as often as they occur
    ("good", ["very very good"], 0, 1 / 2),
    ("very very", ["very very good good"], 0, 2 / 3),
    ("blue", ["red"], 0, 0),
    ("in 1999", ["1999"], 0, 2 / 3),
    # several answers: the best counts, for each metric by itself
    ("Denver", ["Denver Broncos", "Denver", "the Broncos"], 1, 1),
    ("Denver Broncos team", ["Broncos", "Denver Broncos"], 0, 4 / 5),
    ("x", ["y", "z", "w"], 0, 0),
    ("two", ["2", "two (2)"], 0, 2 / 3),
    ("same", ["same", "same", "same"], 1, 1),
    # empty, and unanswerable
    ("", ["something"], 0, 0),
    ("", [""], 1, 1),
    ("", [], 1, 1),
    ("anything", [""], 0, 0),
    ("anything", [], 0, 0),
    ("the", [""], 1, 1),  # nothing is left of it
    ("...", [], 1, 1),
    ("the", ["cat"], 0, 0),
    ("cat", ["the", "cat"], 1, 1),
    ("", ["the", "cat"], 0, 0),  # an answer of articles alone does not count
    ("", ["the"], 1, 1),  # unless there is no other
    ("   ", ["!"], 1, 1),
]

CMRC_CASES = [
    ("北京", ["北京"], 1, 1),
    ("北京市", ["北京"], 0, 4 / 5),
    ("《红楼梦》", ["红楼梦"], 1, 1),
    ("红楼梦。", ["《红楼梦》"], 1, 1),
    ("京北", ["北京"], 0, 1 / 2),  # one run of one character
    ("上海", ["北京"], 0, 0),
    ("北京和上海", ["上海和北京"], 0, 2 / 5),
    ("中华民国", ["中华人民共和国"], 0, 4 / 11),  # the longest run, not the common characters
    ("Nexon公司", ["nexon"], 0, 1 / 2),  # case does not count; nexon is one token, 公司 two
    ("由Nexon开发", ["Nexon开发"], 0, 6 / 7),
    ("Kelly Clarkson", ["kelly clarkson"], 1, 1),
    ("Kelly", ["Kelly Clarkson"], 0, 2 / 3),
    ("1998年", ["1998"], 0, 2 / 3),
    ("2009年3月", ["2009年三月"], 0, 1 / 2),
    ("北京", ["上海", "北京市"], 0, 4 / 5),
    ("北京", ["上海", "北京"], 1, 1),
    ("1,000", ["1000"], 0, 0),  # an ASCII comma is no punctuation here
    ("北 京", ["北京"], 0, 1),  # white space counts for exact match alone
    ("", ["北京"], 0, 0),
    ("2012-2013", ["20122013"], 1, 1),
    ("……", ["北京"], 0, 0),
    ("北京……", ["北京"], 0, 4 / 5),  # the ellipsis escapes the script's list: one token of two
    ("“是”", ["是"], 1, 1),
    ("‘是’", ["是"], 0, 2 / 3),  # of the single quotes only the closing one is listed
    ("「好」、『坏』", ["好坏"], 1, 1),
    ("㐀字", ["字"], 0, 2 / 3),  # a rare Han character outside the range is a word
]


@pytest.mark.parametrize(("prediction", "answers", "exact", "f1"), SQUAD_CASES)
def test_squad(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    got = (squad_exact(prediction, answers), squad_f1(prediction, answers))
    assert got == pytest.approx((exact, f1), abs=1e-12)
    assert got == official_v2(prediction, answers)
    if all(map(official_normalize, [*answers, prediction])) and answers:
        assert got == official_v1(prediction, answers)


@pytest.mark.parametrize(("prediction", "answers", "exact", "f1"), CMRC_CASES)
def test_cmrc(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    got = (cmrc_exact(prediction, answers), cmrc_f1(prediction, answers))
    assert got == pytest.approx((exact, f1), abs=1e-12)
    assert got == official_cmrc(prediction, answers)


def test_cmrc_unanswerable() -> None:
    assert (cmrc_exact("", [""]), cmrc_f1("", [""])) == (1.0, 1.0)
    assert (cmrc_exact("北京", [""]), cmrc_f1("北京", [""])) == (0.0, 0.0)


def test_cmrc_tokens() -> None:
    assert cmrc_tokens("由韩国Nexon Inc.开发(2004)。") == [
        *["由", "韩", "国", "nexon", "inc", ".", "开", "发", "(", "2004", ")"]
    ]
    assert cmrc_tokens(" ，。 ") == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_unanswerable_is_said_in_a_word(language: str) -> None:
    spec = {"en": EN, "zh": ZH}[language]
    example = QA.parse({"context": "c", "question": "q", "answers": ["", "  "]})
    assert example["answers"] == []
    assert QA.gold(example, spec) == [""]
    assert QA.read(QA.target(example, spec) + ".\nmore", spec) == ""


def test_read_takes_the_first_line() -> None:
    assert QA.read("\n  Paris \nQuestion: next", EN) == "Paris"
    assert QA.read("", EN) == ""
    assert QA.target({"answers": ["Paris,\nFrance", "Paris"]}, EN) == " Paris, France"
    assert QA.target({"answers": ["巴黎"]}, ZH) == "巴黎"


def squad_rows(path: Path) -> list[dict[str, object]]:
    return [
        {
            "context": paragraph["context"],
            "question": qa["question"],
            "answers": [answer["text"] for answer in qa["answers"]],
        }
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "language", "rows"),
    [("squad_v1.1_20_articles.json", "en", 4639), ("cmrc2018_trial.json", "zh", 1002)],
)
def test_gold_answers_score_one(shared_data: Path, file: str, language: str, rows: int) -> None:
    examples = [QA.parse(row) for row in squad_rows(shared_data / "qa" / file)]
    spec = QA.settle(TaskSpec(name="qa"), examples)
    gold = [
        Prediction(str(i), QA.gold(e, spec), QA.read(QA.target(e, spec), spec))
        for i, e in enumerate(examples)
    ]
    assert (len(gold), spec.language) == (rows, language)
    assert QA.score(gold, spec) == {"f1": 1.0, "exact_match": 1.0}


@pytest.mark.shared
@pytest.mark.parametrize("file", ["squad_v1.1_20_articles.json", "cmrc2018_trial.json"])
def test_official_agrees_on_real_answers(shared_data: Path, file: str) -> None:
    """The answer to the next question, cut short: now and then a partial match."""
    rows = squad_rows(shared_data / "qa" / file)[:1000]
    ours, official = (
        ((squad_exact, squad_f1), official_v2)
        if "squad" in file
        else ((cmrc_exact, cmrc_f1), official_cmrc)
    )
    partial = 0
    for i, row in enumerate(rows):
        answers = row["answers"]
        for prediction in (
            rows[i - 1]["answers"][0],
            answers[0][: len(answers[0]) * 2 // 3],
            str(row["context"])[:60] + answers[0],
        ):
            got = tuple(score(prediction, answers) for score in ours)
            assert got == official(prediction, answers)
            partial += 0.0 < got[1] < 1.0
    assert partial > 1000
