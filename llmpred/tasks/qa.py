"""Reading comprehension: a context, a question, one or more accepted answers.

English is scored as the official SQuAD v2.0 evaluation script does (it gives what the v1.1 script
gives wherever an answer holds more than articles and punctuation), Chinese as CMRC 2018's does.
"""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import ID, Prediction, Task, continuation, mean

NO_ANSWER = {"en": "unanswerable", "zh": "无法回答"}


class QuestionAnswering(Task):
    """Answer a question about a context by generating text.

    A question without accepted answers is unanswerable, as in SQuAD v2.0: the model is taught to
    say so in a word, which `read` turns into the empty string.
    """

    name = "qa"
    fields = (
        ID,
        Field("context", "text", "input", aliases=("context", "passage", "paragraph")),
        Field("question", "text", "input", aliases=("question", "query")),
        Field("answers", "texts", "target", aliases=("answers", "answer", "answer_text")),
    )
    long_field = "context"
    heads = ("causal_lm",)
    metric = "f1"
    prompts: ClassVar[Mapping[str, str]] = {
        "en": "Context: {context}\nQuestion: {question}\nAnswer:",
        "zh": "文章：{context}\n问题：{question}\n答案：",
    }
    max_new_tokens = 48

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Drop empty answers."""
        if "answers" not in row:
            return dict(row)
        return {**row, "answers": [text for text in row["answers"] if text.strip()]}

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the first accepted answer on one line."""
        answers = example["answers"] or [NO_ANSWER[spec.language]]
        return continuation(" ".join(answers[0].splitlines()).strip(), spec)

    def gold(self, example: Example, spec: TaskSpec) -> list[str]:
        """Return the accepted answers; of an unanswerable question the empty string alone."""
        return list(example["answers"]) or [""]

    def read(self, text: str, spec: TaskSpec) -> str:
        """Return the first line of a generated text, or nothing if it declines to answer."""
        line = text.strip().split("\n", 1)[0].strip()
        declined = line.rstrip(".。").casefold() == NO_ANSWER[spec.language]
        return "" if declined else line

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return token F1 and exact match in [0, 1], each the best over the accepted answers."""
        exact, f1 = (cmrc_exact, cmrc_f1) if spec.language == "zh" else (squad_exact, squad_f1)
        return {
            "f1": mean([f1(p.prediction, p.target) for p in predictions]),
            "exact_match": mean([exact(p.prediction, p.target) for p in predictions]),
        }


# --- SQuAD -----------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normalize(text: str) -> str:
    """Lower-case, delete ASCII punctuation, blank out English articles, collapse white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_exact(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the prediction equals an accepted answer after normalisation, else 0.0."""
    return float(squad_normalize(prediction) in _squad_answers(answers))


def squad_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 over accepted answers of the bags of normalised tokens."""
    tokens = squad_normalize(prediction).split()
    return max(_bag_f1(tokens, answer.split()) for answer in _squad_answers(answers))


def _squad_answers(answers: Sequence[str]) -> list[str]:
    """Normalise; answers that hold only articles and punctuation do not count (v2.0)."""
    return [text for text in map(squad_normalize, answers) if text] or [""]


def _bag_f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    same = (Counter(prediction) & Counter(answer)).total()
    return _f1(same, len(prediction), len(answer))


def _f1(same: int, predicted: int, wanted: int) -> float:
    if same == 0:
        return 0.0
    precision, recall = same / predicted, same / wanted
    return 2 * precision * recall / (precision + recall)


# --- CMRC 2018 -------------------------------------------------------------------------------

# The script's list also has the two-character `……`, which its loop over characters never meets, so
# an ellipsis is not punctuation there; nor are ASCII commas, full stops, quotes and brackets.
_CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def cmrc_exact(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the prediction equals an accepted answer without punctuation, else 0.0."""
    wanted = _cmrc_bare(prediction)
    return float(any(_cmrc_bare(answer) == wanted for answer in answers))


def cmrc_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 over accepted answers of the longest run of tokens they share.

    CMRC 2018 has no unanswerable questions; for one, the empty prediction alone is right.
    """
    tokens = cmrc_tokens(prediction)
    return max(
        _f1(_longest_run(wanted, tokens), len(tokens), len(wanted))
        if answer
        else float(not prediction)
        for answer, wanted in ((answer, cmrc_tokens(answer)) for answer in answers)
    )


def cmrc_tokens(text: str) -> list[str]:
    """Split into Chinese characters and, between them, words; punctuation is dropped.

    What stands between Chinese characters goes through NLTK's word tokenizer as the official
    script's does, but whole: the script's sentence splitter needs a model that must be fetched.
    They differ only in a full stop at the end of a sentence inside a non-Chinese passage.
    """
    tokens: list[str] = []
    between = ""
    for character in text.lower().strip():
        if character in _CMRC_PUNCTUATION:
            continue
        if "\u4e00" <= character <= "\u9fa5":
            tokens += _words(between)
            tokens.append(character)
            between = ""
        else:
            between += character
    return tokens + _words(between)


def _words(text: str) -> list[str]:
    return _word_tokenizer().tokenize(text) if text.strip() else []


@functools.cache
def _word_tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _cmrc_bare(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in _CMRC_PUNCTUATION)


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest run of tokens that two sequences share."""
    longest, before = 0, [0] * (len(second) + 1)
    for token in first:
        now = [0]
        for j, other in enumerate(second):
            now.append(before[j] + 1 if token == other else 0)
        longest = max(longest, *now)
        before = now
    return longest
