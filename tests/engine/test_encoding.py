"""Token ids of prompts, targets and candidates: borders, truncation, special tokens."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from llmpred.engine.encoding import Encoded, encode, render_prompt
from llmpred.errors import DataError
from llmpred.spec.run import RunSpec
from llmpred.tasks import registry
from tests.runs import run_spec

TEXT = "one two three four five six seven eight nine ten eleven twelve"
ROW = {"id": "1", "text": TEXT, "label": "positive"}
SHORT = {"id": "2", "text": "fine", "label": "negative"}
START, END = 1, 2
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_causal: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_causal)


def spec_of(head: str = "label_scoring", tokens: int = 500, **task: Any) -> RunSpec:
    settings = {"max_length": tokens, "language": "en", "prompt": "Review: {text}\nSentiment:"}
    spec = run_spec("anywhere", task={**settings, **task}, method={"head": head})
    answers = spec.evaluation.model_copy(update={"max_new_tokens": 4})
    return spec.model_copy(update={"evaluation": answers})


def one(row: dict[str, Any], spec: RunSpec, tokenizer: Any, *, training: bool = True) -> Encoded:
    task = registry.get(spec.task.name)
    return encode([row], task, spec, tokenizer, training=training)[0]


def test_label_scoring_teaches_the_word_of_the_label(tokenizer: Any) -> None:
    got = one(ROW, spec_of(), tokenizer)
    assert tokenizer.decode(got.prompt) == f"<s>Review: {TEXT}\nSentiment:"
    assert [tokenizer.decode(ids) for ids in got.candidates] == [" negative", " positive"]
    assert got.target == got.candidates[1]
    assert (got.label, got.truncated) == (1, False)


def test_a_generated_target_ends_with_the_end_token(tokenizer: Any) -> None:
    got = one(ROW, spec_of("causal_lm"), tokenizer)
    assert tokenizer.decode(got.target) == " positive</s>"
    assert got.target[-1] == END
    assert got.prompt[0] == START
    assert START not in got.prompt[1:] + got.target


def test_a_question_to_generate_from_needs_no_target(tokenizer: Any) -> None:
    got = one(ROW, spec_of("causal_lm"), tokenizer, training=False)
    assert got.target == []
    assert got.prompt == one(ROW, spec_of("causal_lm"), tokenizer).prompt


def test_a_classifier_has_a_class_and_no_target(tokenizer: Any) -> None:
    got = one(SHORT, spec_of("classifier", prompt="{text}"), tokenizer)
    assert (got.target, got.candidates, got.label) == ([], (), 0)
    assert tokenizer.decode(got.prompt) == "<s>fine"


def test_an_encoders_input_keeps_both_its_marks(tiny_encoder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_encoder)
    got = one(SHORT, spec_of("classifier", prompt="{text}"), tokenizer)
    assert tokenizer.decode(got.prompt) == "[CLS]fine[SEP]"


def test_a_prompt_to_be_continued_stays_open(tiny_encoder: Path) -> None:
    """Some tokenizers of language models close their input, as this one does."""
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_encoder)
    assert tokenizer.eos_token == "[SEP]"
    got = one(SHORT, spec_of(), tokenizer)
    assert tokenizer.decode(got.prompt) == "[CLS]Review: fine\nSentiment:"


@pytest.mark.parametrize("head", ["label_scoring", "causal_lm"])
@pytest.mark.parametrize("truncation", ["end", "start"])
def test_truncation_keeps_the_question_and_the_target(
    head: str, truncation: str, tokenizer: Any
) -> None:
    whole = one(ROW, spec_of(head), tokenizer)
    for tokens in range(whole.length - 25, whole.length + 1):
        got = one(ROW, spec_of(head, tokens, truncation=truncation), tokenizer)
        assert got.truncated == (tokens < whole.length)
        assert tokens - 3 <= got.length <= tokens  # a cut may change how its border is tokenised
        assert got.target == whole.target
        text = tokenizer.decode(got.prompt).removeprefix("<s>")
        assert text.startswith("Review: ")
        assert text.endswith("\nSentiment:")
        kept = text.removeprefix("Review: ").removesuffix("\nSentiment:")
        assert TEXT.startswith(kept) if truncation == "end" else TEXT.endswith(kept)


def test_generation_leaves_room_for_the_answer(tokenizer: Any) -> None:
    spec = spec_of("causal_lm", 30)
    got = one(ROW, spec, tokenizer, training=False)
    assert got.truncated
    assert 30 - 4 - 3 <= len(got.prompt) <= 30 - 4


def test_label_scoring_leaves_room_for_the_longest_candidate(tokenizer: Any) -> None:
    labels = {"negative": "no", "positive": "quite overwhelmingly positive"}
    rows = [{**ROW, "label": label} for label in labels]
    got = [one(row, spec_of(tokens=48, labels=labels), tokenizer) for row in rows]
    assert got[0].prompt == got[1].prompt  # whatever the answer is
    assert got[1].length <= 48


def test_a_long_target_is_cut_to_half_of_the_sequence(tokenizer: Any) -> None:
    row = {"id": "1", "document": TEXT, "summary": [TEXT]}
    task = {"name": "summarization", "labels": None, "prompt": "{document}\nSummary:"}
    whole = one(row, spec_of("causal_lm", **task), tokenizer)
    got = one(row, spec_of("causal_lm", 40, **task), tokenizer)
    assert got.truncated
    assert got.target == whole.target[:20]
    assert got.length <= 40
    with pytest.raises(DataError, match="a target may take half of 40 tokens"):
        one(row, spec_of("causal_lm", 40, truncation="error", **task), tokenizer)


def test_truncation_error_refuses(tokenizer: Any) -> None:
    spec = spec_of(tokens=40, truncation="error")
    with pytest.raises(DataError, match=r"must fit in 40 tokens.*'one two three"):
        one(ROW, spec, tokenizer)
    assert not one(SHORT, spec, tokenizer).truncated


def test_a_prompt_that_fits_not_even_without_its_text_is_said(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="without `text` must fit"):
        one(ROW, spec_of(tokens=8), tokenizer)


def test_chinese_text_is_cut_between_characters(tokenizer: Any) -> None:
    text = "房间很干净，服务也很好，早餐丰富，离车站不远，价格也公道，下次还会再来。"
    row = {"id": "1", "text": text, "label": "positive"}
    words = {"negative": "负面", "positive": "正面"}
    task = {"language": "zh", "labels": words, "prompt": "评论：{text}\n情感倾向："}
    whole = one(row, spec_of(**task), tokenizer)
    assert tokenizer.decode(whole.prompt) == f"<s>评论：{text}\n情感倾向："
    assert tokenizer.decode(whole.target) == "正面"
    for tokens in range(whole.length - 30, whole.length):
        for truncation in ("end", "start"):
            got = one(row, spec_of(tokens=tokens, truncation=truncation, **task), tokenizer)
            kept = tokenizer.decode(got.prompt)
            assert "�" not in kept
            assert kept.endswith("\n情感倾向：")
            assert got.length <= tokens


def test_a_chat_template_wraps_the_prompt(tiny_causal: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_causal)
    tokenizer.chat_template = TEMPLATE
    got = one(SHORT, spec_of(chat_template="auto"), tokenizer)
    wrapped = "<|user|>Review: fine\nSentiment:</s><|assistant|>"
    assert tokenizer.decode(got.prompt) == wrapped  # the template brings the special tokens
    assert [tokenizer.decode(ids) for ids in got.candidates] == ["negative", "positive"]
    assert tokenizer.decode(one(SHORT, spec_of(), tokenizer).prompt).startswith("<s>Review")
    cut = one(ROW, spec_of(chat_template="auto", tokens=60), tokenizer)
    assert cut.truncated
    assert tokenizer.decode(cut.prompt).endswith("\nSentiment:</s><|assistant|>")


def test_without_a_chat_template_auto_is_plain(tokenizer: Any) -> None:
    auto = spec_of(chat_template="auto")
    assert one(ROW, auto, tokenizer) == one(ROW, spec_of(), tokenizer)
    assert render_prompt({"text": "a"}, auto.task, None) == ("Review: a\nSentiment:", False)
