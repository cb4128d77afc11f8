from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction
from llmpred.tasks.registry import get
from llmpred.tasks.summarization import chinese_characters, chinese_words

TASK = get("summarization")
EN, ZH = (TaskSpec(name="summarization", language=lang) for lang in ("en", "zh"))


def score(prediction: str, references: list[str], spec: TaskSpec) -> dict[str, float]:
    return TASK.score([Prediction("0", references, prediction)], spec)


def test_english_is_rouge_score_with_stemming() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    prediction, reference = "The dogs were running home.", "A dog runs to its home"
    got = score(prediction, [reference], EN)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    wanted = scorer.score(reference, prediction)
    assert got == {
        "rouge_1": wanted["rouge1"].fmeasure,
        "rouge_2": wanted["rouge2"].fmeasure,
        "rouge_l": wanted["rougeL"].fmeasure,
    }
    # dog, run, home of 5 and 6 tokens: 2 * 3 / 11
    assert got["rouge_1"] == pytest.approx(6 / 11)


def test_identical_chinese_scores_one_where_the_stock_tokenizer_gives_nothing() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    text = "北京大雨，地铁停运"
    assert RougeScorer(["rougeL"]).score(text, text)["rougeL"].fmeasure == 0.0
    assert set(score(text, [text], ZH).values()) == {1.0}
    assert set(score(text, [text], ZH)) == {
        *("rouge_1", "rouge_2", "rouge_l"),
        *("rouge_1_words", "rouge_2_words", "rouge_l_words"),
    }


def test_chinese_by_hand() -> None:
    # 今天天气好 (5 characters) against 今天下雨 (4): 今, 天 in order
    got = score("今天天气好", ["今天下雨"], ZH)
    assert got["rouge_1"] == pytest.approx(2 * 2 / 9)
    assert got["rouge_2"] == pytest.approx(2 * 1 / 7)
    assert got["rouge_l"] == pytest.approx(2 * 2 / 9)
    # words: 我们 喜欢 音乐 against 我们 学习 音乐 理论
    got = score("我们喜欢音乐", ["我们学习音乐理论"], ZH)
    assert got["rouge_l_words"] == pytest.approx(2 * 2 / 7)


def test_order_matters_to_rouge_l_alone() -> None:
    got = score("雨大", ["大雨"], ZH)
    assert (got["rouge_1"], got["rouge_2"], got["rouge_l"]) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("北京，2008年！", ["北", "京", "2008", "年"]),
        ("ＩＰhone１5 很贵", ["iphone15", "很", "贵"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("。，！", []),
    ],
)
def test_characters(text: str, tokens: list[str]) -> None:
    assert chinese_characters(text) == tokens


def test_words() -> None:
    assert chinese_words("我们喜欢ＡＢＣ。") == ["我们", "喜欢", "abc"]


def test_the_best_reference_counts() -> None:
    assert score("a red dog", ["blue cats", "red dog a"], EN)["rouge_1"] == 1.0
    assert score("红", ["蓝", "红"], ZH)["rouge_l"] == 1.0


def test_read_ends_at_a_blank_line() -> None:
    assert TASK.read(" One.\nTwo.\n \nDocument: next", EN) == "One.\nTwo."
    example = TASK.parse({"document": "d", "summary": ["", "One.\n\nTwo.", "Other"]})
    assert TASK.target(example, EN) == " One.\nTwo."
    assert TASK.gold(example, EN) == ["One.\n\nTwo.", "Other"]


def test_empty_summary_is_refused() -> None:
    with pytest.raises(ValueError, match="summary"):
        TASK.parse({"document": "d", "summary": ["  "]})


def test_empty_prediction_scores_zero() -> None:
    assert set(score("", ["a dog"], EN).values()) == {0.0}
    assert set(score("", ["狗"], ZH).values()) == {0.0}


@pytest.mark.shared
def test_references_score_one_on_real_rows(shared_data: Path) -> None:
    path = shared_data / "summarization" / "scitldr_dev.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:100]]
    examples = [
        TASK.parse({"document": " ".join(row["source"]), "summary": row["target"]}) for row in rows
    ]
    spec = TASK.settle(TaskSpec(name="summarization"), examples)
    gold = [
        Prediction("", TASK.gold(e, spec), TASK.read(TASK.target(e, spec), spec)) for e in examples
    ]
    assert spec.language == "en"
    assert set(TASK.score(gold, spec).values()) == {1.0}
