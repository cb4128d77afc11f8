"""Multiple choice: the choice to which the model gives the highest likelihood.

`accuracy` takes the highest log-probability, `acc_norm` the highest log-probability a character:
`acc` and `acc_norm` of lm-evaluation-harness.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.errors import Problem
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import ID, Prediction, Task, continuation, mean
from llmpred.tasks.prompts import slot_names

LETTERS = string.ascii_uppercase


class MultipleChoice(Task):
    """A question, its choices, and which of them is right.

    `answer` may be an index from 0, a letter from A, a numbered name from 1 (`answer2`, `option 2`)
    or the text of a choice. A number that the file holds as a number is always an index, and an
    upper-case letter always a letter, as in MMLU. Anything else that can be read in two ways which
    disagree, such as the text 2 among the choices 2, 3 and 4, is refused.

    Without `choices`, they are read from the question, in the form of the LLM-Adapters collections
    (Hu et al., 2023): `… Answer1: first Answer2: second … Answer format: answer1/answer2`, or
    `… Answer format: true/false`.

    The candidates are the texts of the choices; if the prompt names `{options}`, which lists them
    as `A. …` line by line, the candidates are the letters.
    """

    name = "multiple_choice"
    fields = (
        ID,
        Field(
            "question", "text", "input", aliases=("question", "query", "instruction", "sentence")
        ),
        Field(
            "choices",
            "texts",
            "input",
            required=False,
            aliases=("choices", "options", "endings", "candidates"),
        ),
        Field("answer", "index", "target", aliases=("answer", "answerKey", "label", "gold")),
        Field("subject", "text", "input", required=False, aliases=("subject", "category")),
    )
    long_field = "question"
    heads = ("label_scoring",)
    metric = "accuracy"
    prompts: ClassVar[Mapping[str, str]] = {
        "en": "Question: {question}\nAnswer:",
        "zh": "问题：{question}\n答案：",
    }
    extra_slots = ("options",)

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Find the choices, and the index of the right one."""
        question, choices = row["question"], row.get("choices")
        if choices is None:
            question, choices = embedded_choices(question)
        choices = [choice.strip() for choice in choices]
        if len(choices) < 2:
            raise ValueError(f"`choices` must have at least two entries, but has {len(choices)}")
        if not all(choices):
            raise ValueError("`choices` must not have an empty entry")
        found = {**row, "question": question, "choices": choices}
        return found | {"answer": which(row["answer"], choices)} if "answer" in row else found

    def problems(self, spec: TaskSpec, examples: Sequence[Example]) -> list[Problem]:
        """Refuse `{options}` where the letters do not suffice."""
        problems = super().problems(spec, examples)
        if _lettered(spec):
            most = max((len(example["choices"]) for example in examples), default=0)
            if most > len(LETTERS):
                law = f"{{options}} has {len(LETTERS)} letters, but a row has {most} choices"
                problems.append(Problem(law, "task.prompt", "Leave {options} out of the prompt."))
        return problems

    def slots(self, example: Example, spec: TaskSpec) -> dict[str, str]:
        """Return the input fields, and the choices one a line behind their letters."""
        lines = (f"{LETTERS[i]}. {text}" for i, text in enumerate(example["choices"][:26]))
        return {**super().slots(example, spec), "options": "\n".join(lines)}

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the right candidate."""
        return self.candidates(example, spec)[self.answer_index(example, spec)]

    def candidates(self, example: Example, spec: TaskSpec) -> tuple[str, ...]:
        """Return the texts of the choices, or their letters if the prompt lists them."""
        choices = example["choices"]
        texts = LETTERS[: len(choices)] if _lettered(spec) else choices
        return tuple(continuation(text, spec) for text in texts)

    def answer_index(self, example: Example, spec: TaskSpec) -> int:
        """Return the index of the right choice."""
        return int(example["answer"])

    def gold(self, example: Example, spec: TaskSpec) -> int:
        """Return the index of the right choice."""
        return int(example["answer"])

    def answer(self, example: Example, spec: TaskSpec, index: int) -> int:
        """Return the index of the chosen candidate."""
        return index

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return accuracy, and acc_norm where every prediction carries its log-probabilities."""
        metrics = {"accuracy": mean([float(p.prediction == p.target) for p in predictions])}
        if all(p.scores and p.lengths for p in predictions):
            metrics["acc_norm"] = mean([float(_normalized(p) == p.target) for p in predictions])
        return metrics


def _lettered(spec: TaskSpec) -> bool:
    return "options" in slot_names(spec.prompt or "")


def _normalized(prediction: Prediction) -> int:
    """Return the candidate with the highest log-probability a character, the first of equals."""
    rates = [s / n for s, n in zip(prediction.scores or (), prediction.lengths or (), strict=True)]
    return rates.index(max(rates))


def which(answer: Any, choices: Sequence[str]) -> int:
    """Return the index of the choice that `answer` names; see `MultipleChoice` for the forms.

    Raises:
        ValueError: if it names none, or two of its readings name different ones.
    """
    text = str(answer).strip()
    readings: dict[str, int] = {}
    if re.fullmatch(r"\d+", text):
        readings["an index from 0"] = int(text)
    elif re.fullmatch(r"[A-Za-z]", text):
        readings["a letter"] = LETTERS.index(text.upper())
    elif numbered := _NAME.fullmatch(text):
        readings["a number from 1"] = int(numbered[1]) - 1
    readings = {form: i for form, i in readings.items() if i < len(choices)}
    settled = isinstance(answer, int) or (text in LETTERS and readings)
    if not settled:
        same = [i for i, choice in enumerate(choices) if choice == text]
        same = same or [i for i, choice in enumerate(choices) if choice.lower() == text.lower()]
        readings |= {f"the text of choice {i + 1}": i for i in same}
    if not readings:
        raise ValueError(
            f"`answer` must name one of the {len(choices)} choices by index from 0, letter, "
            f"number from 1 (`answer1`) or text, but got {text[:80]!r}"
        )
    if len(set(readings.values())) > 1:
        raise ValueError(
            f"`answer` {text[:80]!r} can be read in several ways ({', '.join(readings)}) that name "
            "different choices; give it as an upper-case letter"
        )
    return next(iter(readings.values()))


_NAME = re.compile(r"(?:answer|option|choice|solution|ending)\s*([1-9]\d*)", re.IGNORECASE)
_FORMAT = re.compile(r"\s*Answer format:\s*(\w+(?:\s*/\s*\w+)+)\s*\.?\s*$", re.IGNORECASE)
_NUMBERED = re.compile(r"\s*\b(?:Answer|Option|Choice|Solution|Ending)\s?(\d+):\s*", re.IGNORECASE)
_REQUEST = re.compile(r"^Please [^:\n]*:\s*")


def embedded_choices(text: str) -> tuple[str, list[str]]:
    """Split an LLM-Adapters instruction into its question and its choices.

    Raises:
        ValueError: if the text does not end by naming its answers.
    """
    listed = _FORMAT.search(text)
    if not listed:
        raise ValueError(
            "`choices` is absent, and `question` does not end in `Answer format: answer1/answer2` "
            "or `Answer format: true/false`; map a column to `choices`"
        )
    names = re.split(r"\s*/\s*", listed[1])
    body = _REQUEST.sub("", text[: listed.start()])
    if not all(re.fullmatch(r"[a-z]+\d+", name, re.IGNORECASE) for name in names):
        return body.strip(), names
    question, *parts = _NUMBERED.split(body)
    numbers, choices = parts[::2], [choice.strip() for choice in parts[1::2]]
    if numbers != [str(i + 1) for i in range(len(names))]:
        raise ValueError(
            f"`question` must list the answers it names, {', '.join(names)}, but lists "
            f"{', '.join(numbers) or 'none'}"
        )
    return question.strip(), choices
