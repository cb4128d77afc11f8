"""What a task is: one class a file, registered once; everything a head or an engine asks of it.

A task never touches a model or a tokenizer. It turns rows into examples, examples into prompts and
targets, and predictions into metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llmpred.data.fields import Example, Field
from llmpred.errors import DataError, Problem, SpecError
from llmpred.spec.run import RunSpec, TaskSpec
from llmpred.tasks.prompts import prompt_problems

if TYPE_CHECKING:
    import pyarrow as pa

Calibration = dict[str, Any]  # JSON
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the quantiles that are predicted

LANGUAGE_SAMPLE = 200  # examples read to tell the language of a dataset

ID = Field("id", "label", "id", required=False, aliases=("id", "qid", "guid", "uid", "idx"))


@dataclass(frozen=True)
class Prediction:
    """What a run answered to one evaluation example; stored as one Parquet row.

    Attributes:
        id: the example's own id, or its place in the evaluation set.
        target: what was right (a label, a text, a list of accepted texts), as JSON value.
        prediction: what the model answered, as JSON value.
        scores: natural-log probability of each candidate, in candidate order; None when generated.
        lengths: characters of each candidate (see `candidate_lengths`), for length-normalised
            metrics; None if not scored by candidates.
    """

    id: str
    target: Any
    prediction: Any
    scores: tuple[float, ...] | None = None
    lengths: tuple[int, ...] | None = None


class Task(ABC):
    """A task: its examples, prompts, targets and metrics.

    Class attributes:
        name: what search spaces call it.
        version: bumped when the same examples would be rendered or scored differently.
        fields: of an example.
        long_field: the input field that loses tokens when a sequence is too long.
        heads: the heads that can do this task, the default one first.
        metric: name of the primary metric, which becomes `accuracy_r`; in [0, 1], higher is better.
        prompts: language (`en`, `zh`) -> default template.
        extra_slots: what a prompt may name beside the input fields; `slots` must fill them.
        max_new_tokens: of a generated answer, by default.
        measures: what an answer is beside a label, as `Answer` of `llmpred.inference` has it.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]]
    long_field: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    prompts: ClassVar[Mapping[str, str]]
    extra_slots: ClassVar[tuple[str, ...]] = ()
    max_new_tokens: ClassVar[int] = 32
    measures: ClassVar[Literal["counts", "number"] | None] = None

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Turn mapped, type-checked field values into an example.

        Texts and labels are not empty; an `index` is an int, or a text to make one of; an optional
        field without a value is absent. Targets are absent where an answer is all that is asked
        for, and an input text may be empty there.

        Raises:
            ValueError: with the law that the row breaks; the reader adds file and line.
        """
        return dict(row)

    def derive(self, spec: TaskSpec, table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
        """Return the rows of a source as runs use them, and notes on what was done to them.

        Raises:
            DataError: when the rows lack what the spec asks for.
        """
        return table, ()

    def learn(self, spec: TaskSpec, train: pa.Table) -> tuple[TaskSpec, pa.Table, tuple[str, ...]]:
        """Settle what is learnt from training rows alone, such as the borders of classes.

        Returns:
            The spec, in which what is settled already stays; the rows to train on; notes.
        """
        return spec, train, ()

    def settle(self, spec: TaskSpec, examples: Sequence[Example]) -> TaskSpec:
        """Replace every `auto` and None that has a default by its value, from a look at the data.

        `examples` are the training rows, then the evaluation rows. Settling twice changes nothing.

        Raises:
            SpecError: when what the spec says does not fit the data, such as a label that is not
                among `spec.labels`, or a prompt naming no field; with all problems found.
        """
        language = self.language(examples) if spec.language == "auto" else spec.language
        prompt = self.prompts[language] if spec.prompt is None else spec.prompt
        spec = spec.model_copy(update={"language": language, "prompt": prompt})
        spec = spec.model_copy(update={"labels": self.settle_labels(spec, examples)})
        problems = prompt_problems(prompt, self.slot_names()) + self.problems(spec, examples)
        if problems:
            raise SpecError(problems)
        return spec

    def language(self, examples: Sequence[Example]) -> Literal["en", "zh"]:
        """Return the language of the input texts, judged by a sample of the rows.

        Raises:
            SpecError: if there are no rows.
        """
        from llmpred.data.text import language

        if not examples:
            raise SpecError(
                Problem(
                    "the language of the data is `auto`, but there are no rows to tell it from",
                    "task.language",
                    "Set it to en or zh.",
                )
            )
        step = max(1, len(examples) // LANGUAGE_SAMPLE)
        names = [f.name for f in self.fields if f.role == "input" and f.kind == "text"]
        sample = (examples[i] for i in range(0, len(examples), step))
        return language([str(row.get(name) or "") for row in sample for name in names])

    def settle_labels(
        self, spec: TaskSpec, examples: Sequence[Example]
    ) -> Mapping[str, str] | None:
        """Return `labels` of the settled spec; its language is settled already."""
        return spec.labels

    def problems(self, spec: TaskSpec, examples: Sequence[Example]) -> list[Problem]:
        """Return what in the settled spec does not fit the data, beyond its prompt."""
        if spec.labels is None:
            return []
        law = f"`labels` belongs to classification, but the task is {self.name}"
        return [Problem(law, "task.labels", "Remove it.")]

    def slot_names(self) -> tuple[str, ...]:
        """Return what a prompt may name: the input fields that are one text, and the extras."""
        fields = (f.name for f in self.fields if f.role == "input" and f.kind != "texts")
        return (*fields, *self.extra_slots)

    def slots(self, example: Example, spec: TaskSpec) -> dict[str, str]:
        """Return what the braces of the prompt are filled with; an absent field is empty."""
        inputs = (f.name for f in self.fields if f.role == "input" and f.kind != "texts")
        return {name: str(example[name] or "") if name in example else "" for name in inputs}

    @abstractmethod
    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the text that training teaches after the prompt, leading space included."""

    def with_numbers(self, example: Example, spec: TaskSpec) -> tuple[str, tuple[float, ...]]:
        """Return what `target` does with `<NUM>` for each number, and their values."""
        raise TypeError(f"task {self.name} has no numbers as numbers")

    def candidates(self, example: Example, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return the texts among which label scoring chooses, in a fixed order; None if open."""
        return None

    def classes(self, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return the label values in the order of a classifier's outputs; None if it has none."""
        return None

    def class_names(self, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return what `class_weights` may name, in the order of `answer_index`; None of no classes.

        They are the classes, unless those depend on the data.
        """
        return self.classes(spec)

    def outputs(self, spec: TaskSpec, loss: str | None) -> int | None:
        """Return how many outputs a classification head has; None if there can be none."""
        classes = self.classes(spec)
        return len(classes) if classes else None

    def value(self, example: Example, spec: TaskSpec) -> float:
        """Return the number that a regression is taught; of other tasks nobody asks."""
        return 0.0

    def features(self, example: Example, spec: TaskSpec) -> tuple[float, ...]:
        """Return what a `boosted` head reads of an example beside the base's states."""
        return ()

    def answer_index(self, example: Example, spec: TaskSpec) -> int:
        """Return which candidate, or which class, is right."""
        raise TypeError(f"task {self.name} has no candidates")

    @abstractmethod
    def gold(self, example: Example, spec: TaskSpec) -> Any:
        """Return `Prediction.target` of an example."""

    def answer(self, example: Example, spec: TaskSpec, index: int) -> Any:
        """Return `Prediction.prediction` for a chosen candidate or class."""
        raise TypeError(f"task {self.name} has no candidates")

    def calibrate(
        self,
        spec: TaskSpec,
        loss: str | None,
        train: Sequence[Example],
        held_out: Callable[[], tuple[Sequence[Example], Sequence[Sequence[float]]]],
    ) -> Calibration | None:
        """Return what `answers` needs besides scores, as JSON; None if nothing.

        Args:
            spec: the settled spec.
            loss: what was trained with.
            train: training rows.
            held_out: gives rows to calibrate on, and the model's scores of them.
        """
        return None

    def check_calibration(
        self, spec: TaskSpec, loss: str | None, calibration: Calibration | None
    ) -> None:
        """Refuse a calibration, from a stranger's folder, that `calibrate` would not return.

        Raises:
            ValueError: with the law that it breaks.
        """
        if calibration is not None:
            raise ValueError(f"the task {self.name} has none")

    def answers(
        self,
        examples: Sequence[Example],
        spec: TaskSpec,
        scores: Sequence[Sequence[float]],
        calibration: Calibration | None,
    ) -> list[Any]:
        """Return each `Prediction.prediction` for scores of candidates, of classes, or of a head.

        Args:
            examples: what was asked.
            spec: the settled spec.
            scores: of each example.
            calibration: what `calibrate` returned.
        """
        return [
            self.answer(example, spec, max(range(len(row)), key=row.__getitem__))  # first of equals
            for example, row in zip(examples, scores, strict=True)
        ]

    def told(
        self, example: Example, answer: Any, calibration: Calibration | None
    ) -> dict[str, Any]:
        """Return what an answer means for whoever asked, beside the answer itself."""
        return {}

    def read(self, text: str, spec: TaskSpec) -> Any:
        """Return `Prediction.prediction` for a generated text."""
        return text.strip()

    def primary(self, predictions: Sequence[Prediction], spec: TaskSpec) -> float:
        """Return the primary metric alone, which may be quicker than all of them."""
        return self.score(predictions, spec)[self.metric]

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return all metrics by name, the primary among them; works on stored predictions."""


def outputs_of(task: Task, spec: RunSpec) -> int | None:
    """Return how many outputs the classification head of a run has; None of other heads.

    What is boosted reads the states of a base without its language-model head, as a classifier is
    loaded.
    """
    if not spec.method.has_head:
        return None
    return task.outputs(spec.task, spec.method.loss)


def continuation(text: str, spec: TaskSpec) -> str:
    """Return a target or candidate as it follows the prompt.

    English words are joined by a space, as tokenizers with word-initial spaces expect; Chinese is
    not spaced. A prompt that ends in white space brings its own.
    """
    bare = spec.language == "zh" or (spec.prompt or "")[-1:].isspace()
    return text if bare else " " + text


def candidate_lengths(candidates: Sequence[str]) -> tuple[int, ...]:
    """Return `Prediction.lengths`: characters, the space that joins it to the prompt not counted.

    So divides lm-evaluation-harness for its `acc_norm` (`len` of the choice; its documentation
    says bytes, which is the same for ASCII).
    """
    return tuple(len(text.strip()) for text in candidates)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of per-example scores.

    Raises:
        DataError: if there are none: a score of nothing is neither 0 nor 1.
    """
    if not values:
        raise DataError(
            Problem("there are no predictions to score", "", "Evaluate at least one row.")
        )
    return sum(values) / len(values)


def perfect(task: Task, example: Example, spec: TaskSpec) -> Prediction:
    """Return the prediction of a model that is always right; to try metrics without a model."""
    name, gold = str(example.get("id", "")), task.gold(example, spec)
    options = task.candidates(example, spec) or task.classes(spec)
    if options is None:
        return Prediction(name, gold, task.read(task.target(example, spec), spec))
    right = task.answer_index(example, spec)
    return Prediction(
        id=name,
        target=gold,
        prediction=task.answer(example, spec, right),
        scores=tuple(0.0 if i == right else -10.0 for i in range(len(options))),
        lengths=candidate_lengths(options),
    )
