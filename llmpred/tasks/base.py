"""What a task is: one class a file, registered once; everything a head or an engine asks of it.

A task never touches a model or a tokenizer. It turns rows into examples, examples into prompts and
targets, and predictions into metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.spec.run import TaskSpec


@dataclass(frozen=True)
class Prediction:
    """What a run answered to one evaluation example; stored as one Parquet row.

    Attributes:
        id: the example's own id, or its place in the evaluation set.
        target: what was right (a label, a text, a list of accepted texts), as JSON value.
        prediction: what the model answered, as JSON value.
        scores: natural-log probability of each candidate, in candidate order; None when generated.
        lengths: UTF-8 bytes of each candidate's text, for length-normalised metrics; None if not
            scored by candidates.
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
        max_new_tokens: of a generated answer, by default.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]]
    long_field: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    prompts: ClassVar[Mapping[str, str]]
    max_new_tokens: ClassVar[int] = 32

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Turn mapped, type-checked field values into an example.

        Raises:
            ValueError: with the law that the row breaks; the reader adds file and line.
        """
        return dict(row)

    @abstractmethod
    def settle(self, spec: TaskSpec, examples: Sequence[Example]) -> TaskSpec:
        """Replace every `auto` and None that has a default by its value, from a look at the data.

        `examples` are the training rows, then the evaluation rows. Settling twice changes nothing.

        Raises:
            SpecError: when what the spec says does not fit the data, such as a label that is not
                among `spec.labels`, or a prompt naming no field.
        """

    def slots(self, example: Example, spec: TaskSpec) -> dict[str, str]:
        """Return what the braces of the prompt are filled with."""
        return {f.name: str(example[f.name]) for f in self.fields if f.role == "input"}

    @abstractmethod
    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the text that training teaches after the prompt, leading space included."""

    def candidates(self, example: Example, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return the texts among which label scoring chooses, in a fixed order; None if open."""
        return None

    def classes(self, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return the label values in the order of a classifier's outputs; None if not a
        classification."""
        return None

    def answer_index(self, example: Example, spec: TaskSpec) -> int:
        """Return which candidate, or which class, is right."""
        raise TypeError(f"task {self.name} has no candidates")

    @abstractmethod
    def gold(self, example: Example, spec: TaskSpec) -> Any:
        """Return `Prediction.target` of an example."""

    def answer(self, example: Example, spec: TaskSpec, index: int) -> Any:
        """Return `Prediction.prediction` for a chosen candidate or class."""
        raise TypeError(f"task {self.name} has no candidates")

    def read(self, text: str, spec: TaskSpec) -> Any:
        """Return `Prediction.prediction` for a generated text."""
        return text.strip()

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return all metrics by name, the primary among them; works on stored predictions."""
