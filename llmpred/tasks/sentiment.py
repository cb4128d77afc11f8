"""Sentiment, and any other classification of one text into a small set of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.errors import Problem
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import ID, Prediction, Task, continuation, mean

MOST_LABELS = 200  # more distinct values than this are taken for a wrong column
POLARITY = {
    "en": {"negative": "negative", "positive": "positive"},
    "zh": {"negative": "负面", "positive": "正面"},
}


class Sentiment(Task):
    """One text, one of a set of labels.

    `spec.labels` maps the label in the data to the word the model sees. Labels 0 and 1, or negative
    and positive, get the words negative and positive (负面 and 正面); any other set stands for
    itself. A generated answer is read as the label whose word it begins with, or whose value it is;
    otherwise the text is kept and counts as wrong.
    """

    name = "sentiment"
    fields = (
        ID,
        Field(
            "text",
            "text",
            "input",
            aliases=("text", "sentence", "text_a", "review", "content", "comment"),
        ),
        Field(
            "label",
            "label",
            "target",
            aliases=("label", "labels", "sentiment", "polarity", "stars"),
        ),
    )
    long_field = "text"
    heads = ("label_scoring", "classifier", "causal_lm")
    metric = "accuracy"
    prompts: ClassVar[Mapping[str, str]] = {
        "en": "Review: {text}\nSentiment:",
        "zh": "评论：{text}\n情感倾向：",
    }
    max_new_tokens = 8

    def settle_labels(
        self, spec: TaskSpec, examples: Sequence[Example]
    ) -> Mapping[str, str] | None:
        """Return the spec's labels, else those found in the data, sorted by text.

        Sorted as canonical JSON sorts them, so that stored scores keep their order.
        """
        if spec.labels is not None:
            return dict(sorted(spec.labels.items()))
        found = {example["label"] for example in examples}
        words = POLARITY[spec.language]
        if found == {"0", "1"}:
            return {"0": words["negative"], "1": words["positive"]}
        return words if found == set(words) else {label: label for label in sorted(found)}

    def problems(self, spec: TaskSpec, examples: Sequence[Example]) -> list[Problem]:
        """Refuse label sets that cannot be told apart, and labels outside the set."""
        labels = spec.labels or {}
        where = "task.labels"
        problems = []
        if len(labels) < 2:
            law = f"a classification has at least two labels, but these were found: {_list(labels)}"
            problems.append(Problem(law, where, "Check the column mapping, or list all labels."))
        if len(labels) > MOST_LABELS:
            law = f"at most {MOST_LABELS} labels are supported, but there are {len(labels)}"
            fix = f"Check that `label` is mapped to the right column: it holds {_list(labels)}."
            problems.append(Problem(law, where, fix))
        for word, count in Counter(labels.values()).items():
            if count > 1 or not word.strip():
                law = f"every label needs a word of its own, but {count} have the word {word!r}"
                problems.append(Problem(law, where, "Give each label a different word."))
        outside = Counter(e["label"] for e in examples if e["label"] not in labels)
        if outside:
            law = (
                f"every label must be one of {_list(labels)}, but the data have {_list(outside)} "
                f"(rows: {outside.total()})"
            )
            problems.append(Problem(law, where, "Add them to `labels`, or mend the rows."))
        return problems

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the word of the example's label."""
        return continuation(_labels(spec)[example["label"]], spec)

    def candidates(self, example: Example, spec: TaskSpec) -> tuple[str, ...]:
        """Return the words of all labels, in their order."""
        return tuple(continuation(word, spec) for word in _labels(spec).values())

    def classes(self, spec: TaskSpec) -> tuple[str, ...]:
        """Return the label values in their order."""
        return tuple(_labels(spec))

    def answer_index(self, example: Example, spec: TaskSpec) -> int:
        """Return the place of the example's label."""
        return self.classes(spec).index(example["label"])

    def gold(self, example: Example, spec: TaskSpec) -> str:
        """Return the label as it stands in the data."""
        return str(example["label"])

    def answer(self, example: Example, spec: TaskSpec, index: int) -> str:
        """Return the label of a chosen candidate or class."""
        return self.classes(spec)[index]

    def read(self, text: str, spec: TaskSpec) -> str:
        """Return the label that a generated text begins with, or the text if it is none."""
        line = text.strip().split("\n", 1)[0].strip()
        labels = _labels(spec)
        for label, word in sorted(labels.items(), key=lambda item: -len(item[1])):
            if _begins(line, word):
                return label
        return line

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return accuracy, macro-F1 and the F1 of each label, as scikit-learn defines them.

        Labels that occur neither as target nor as prediction have no F1 and are left out of the
        macro average, scikit-learn's default; a prediction that is no label is no class of its own.
        """
        accuracy = mean([float(p.prediction == p.target) for p in predictions])
        targets = Counter(p.target for p in predictions)
        answers = Counter(p.prediction for p in predictions)
        right = Counter(p.target for p in predictions if p.prediction == p.target)
        f1 = {
            label: 2 * right[label] / (targets[label] + answers[label])
            for label in self.classes(spec)
            if targets[label] + answers[label]
        }
        by_label = {f"f1_{label}": value for label, value in f1.items()}
        return {"accuracy": accuracy, "macro_f1": mean(list(f1.values())), **by_label}


def _labels(spec: TaskSpec) -> Mapping[str, str]:
    if spec.labels is None:
        raise TypeError("the task spec is not settled: it has no labels")
    return spec.labels


def _list(labels: Mapping[str, Any]) -> str:
    shown = ", ".join(
        repr(label if len(label) <= 40 else label[:39] + "…") for label in [*labels][:10]
    )
    return (shown + (", …" if len(labels) > 10 else "")) or "none"


def _begins(line: str, word: str) -> bool:
    """Whether a line begins with a word, in any case, and the word ends there."""
    line, word = line.casefold(), word.casefold()
    after = line[len(word) :][:1]
    # Chinese has no spaces between words, so nothing need follow a Chinese word.
    ends = not (word[-1].isascii() and word[-1].isalnum() and after.isascii() and after.isalnum())
    return line.startswith(word) and ends
