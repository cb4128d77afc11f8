"""What one run's answers are worth: metrics, confidence, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.data.content import sample
from llmpred.data.fields import Example
from llmpred.data.sources import load
from llmpred.errors import DataError, InputError, Problem
from llmpred.evaluation.confidence import confidence
from llmpred.report.classification import metrics_file, read
from llmpred.report.comparison import long_texts
from llmpred.report.plots import (
    plot_confidence,
    plot_confusion,
    plot_coverage,
    plot_reliability,
)
from llmpred.report.stored import examples_of, predictions_of
from llmpred.spec.run import RunSpec, SourceSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Prediction
from llmpred.tasks.prepare import Examples, prepare

if TYPE_CHECKING:
    from llmpred.inference import Predictor
    from llmpred.ledger import Ledger, RunRecord


@dataclass(frozen=True)
class Answered:
    """A run's answers.

    Attributes:
        spec: of the run, settled.
        predictions: one an example.
        examples: in the same order, where the data are there.
        source: where the answers come from, for people.
        notes: what a person should know.
    """

    spec: RunSpec
    predictions: tuple[Prediction, ...]
    examples: tuple[Example, ...] | None
    source: str
    notes: tuple[str, ...] = field(default=())

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The text of each example, where the data are there."""
        task = registry.get(self.spec.task.name)
        return None if self.examples is None else long_texts(self.examples, task)

    @property
    def is_classification(self) -> bool:
        """Whether each answer is one of the same labels."""
        return registry.get(self.spec.task.name).classes(self.spec.task) is not None


def stored(ledger: Ledger, record: RunRecord) -> Answered:
    """Return the stored answers of a run.

    Raises:
        DataError: if it has none.
    """
    predictions = predictions_of(ledger, record)
    if record.spec is None or not predictions:
        law = f"a run must have predictions to be evaluated, but {record.key[:10]} has none"
        raise DataError(Problem(law, f"status {record.status}"))
    examples, why = examples_of(record)
    notes = () if examples is not None else (f"texts are not shown: {why}",)
    return Answered(
        record.spec, predictions, examples, f"stored predictions of {record.key[:10]}", notes
    )


def asked(
    predictor: Predictor,
    data: SourceSpec | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> Answered:
    """Ask a model about labelled rows, and return what it answered.

    Args:
        predictor: the model.
        data: the rows; None takes those that the run was evaluated on.
        limit: at most this many, drawn by `seed`.
        seed: of that.

    Raises:
        DataError: if the rows cannot be read, or have labels that the model does not know.
    """
    task, spec = predictor.task, predictor.spec
    notes: tuple[str, ...] = ()
    if data is None and predictor.key is None:
        law = "an adapter made elsewhere says nothing of the rows to evaluate it on"
        raise InputError(Problem(law, fix="Give them: --data FILE."))
    if data is None:
        table = prepare(spec).evaluation
    else:
        loaded = load(data, task.fields, task.parse)
        table, notes = loaded.table, loaded.notes
    table = sample(table, limit, seed)
    examples = tuple(Examples(table))
    if problems := task.problems(spec.task, examples):
        raise DataError(problems)
    predictions, truncated = predictor.evaluate(table)
    if truncated:
        notes = (*notes, f"{truncated} of {len(examples)} rows lost tokens at max_length")
    name = spec.evaluation.data.source if data is None and spec.evaluation.data else "its data"
    source = f"answers to {data.source if data is not None else name}"
    return Answered(spec, tuple(predictions), examples, source, notes)


def measured(found: Answered, positive: str | None = None) -> dict[str, Any]:
    """Return `metrics.json`: of a classification all its metrics, else the task's own."""
    if found.is_classification:
        return metrics_file(read(found.predictions, found.spec.task), positive)
    task, spec = registry.get(found.spec.task.name), found.spec
    scores = registry.score(task, spec.task, found.predictions, spec.evaluation.metrics)
    return {"n": len(found.predictions), "metric": task.metric, **scores}


def surety(found: Answered) -> tuple[dict[str, Any] | None, str]:
    """Return `confidence_analysis.json`; None, and why, where there is no confidence."""
    task = found.spec.task.name
    if not found.is_classification:
        return None, f"confidence is that of a fixed set of labels, and {task} has none"
    classification = read(found.predictions, found.spec.task)
    if classification.log_probabilities is None:
        return None, "the answers were generated, so that labels have no probabilities"
    return confidence(classification, texts=found.texts), ""


def draw(
    metrics: Mapping[str, Any], sure: Mapping[str, Any] | None, folder: Path
) -> Sequence[Path]:
    """Draw the plots of a classification, and return them."""
    confusion = folder / "confusion_matrix.png"
    plot_confusion(metrics, confusion)
    if sure is None:
        return [confusion]
    plots = {
        "reliability.png": plot_reliability,
        "confidence.png": plot_confidence,
        "coverage.png": plot_coverage,
    }
    for name, plot in plots.items():
        plot(sure, folder / name)
    return [confusion, *(folder / name for name in plots)]
