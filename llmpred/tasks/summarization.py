"""Summarisation: a document and one or more reference summaries, scored by ROUGE F-measures.

English goes through rouge-score's own tokeniser with Porter stemming, as the published figures do.
That tokeniser drops everything but ASCII letters and digits and scores identical Chinese texts 0,
so Chinese is cut here: `rouge_1`, `rouge_2` and `rouge_l` count characters, as LCSTS (Hu et al.,
2015) and later Chinese benchmarks report, `rouge_*_words` the words that jieba finds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.data.text import characters, words
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import ID, Prediction, Task, continuation, mean

METRICS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class Summarization(Task):
    """Write a summary; of several references the first is taught and the best one counts."""

    name = "summarization"
    fields = (
        ID,
        Field(
            "document",
            "text",
            "input",
            aliases=("document", "article", "text", "source", "content", "dialogue", "passage"),
        ),
        Field(
            "summary",
            "texts",
            "target",
            aliases=("summary", "highlights", "target", "abstract", "tldr", "title"),
        ),
    )
    long_field = "document"
    heads = ("causal_lm",)
    metric = "rouge_l"
    prompts: ClassVar[Mapping[str, str]] = {
        "en": "Document: {document}\nSummary:",
        "zh": "文章：{document}\n摘要：",
    }
    max_new_tokens = 96

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Drop empty summaries, and refuse rows that have no other."""
        if "summary" not in row:
            return dict(row)
        summaries = [text for text in row["summary"] if text.strip()]
        if not summaries:
            raise ValueError("`summary` must not be empty")
        return {**row, "summary": summaries}

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the first reference, blank lines taken out: a blank line ends an answer."""
        return continuation(re.sub(r"\n\s*\n", "\n", example["summary"][0].strip()), spec)

    def gold(self, example: Example, spec: TaskSpec) -> list[str]:
        """Return all references."""
        return list(example["summary"])

    def read(self, text: str, spec: TaskSpec) -> str:
        """Return a generated text up to its first blank line."""
        return re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0].strip()

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return mean ROUGE F-measures in [0, 1], each the best over the references."""
        if spec.language == "en":
            return _rouge(predictions, None)
        by_word = _rouge(predictions, chinese_words)
        return {
            **_rouge(predictions, chinese_characters),
            **{f"{name}_words": value for name, value in by_word.items()},
        }


class _Tokenizer:
    """A function as rouge-score wants it."""

    def __init__(self, tokenize: Callable[[str], list[str]]) -> None:
        self.tokenize = tokenize


def _rouge(
    predictions: Sequence[Prediction], tokenize: Callable[[str], list[str]] | None
) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _Tokenizer(tokenize) if tokenize else None
    scorer = RougeScorer(list(METRICS.values()), use_stemmer=True, tokenizer=tokenizer)
    scores = [scorer.score_multi(p.target, p.prediction) for p in predictions]
    return {name: mean([s[kind].fmeasure for s in scores]) for name, kind in METRICS.items()}


def chinese_characters(text: str) -> list[str]:
    """Return Chinese characters and other whole words, folded: width, case, no punctuation."""
    return characters(_folded(text))


def chinese_words(text: str) -> list[str]:
    """Return the words that jieba finds, folded as `chinese_characters`."""
    return words(_folded(text), "zh")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()
