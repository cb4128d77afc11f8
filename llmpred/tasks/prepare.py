"""From a RunSpec to the rows it trains on and is scored on, and the task settled on them.

Everything is a function of the spec and the sources it names: the same call gives the same tables
and the same hashes in any process, and costs little when repeated in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, overload

from llmpred.data.content import content_hash, holdout, sample, split_validation
from llmpred.data.fields import Example
from llmpred.data.recipes import apply_recipe
from llmpred.data.sources import Loaded, load
from llmpred.errors import DataError, Problem, SpecError
from llmpred.spec.canonical import canonical_json
from llmpred.spec.run import RunSpec, SourceSpec, TaskSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Task, perfect

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1024  # rows held as Python objects at a time
KEPT = 8  # prepared datasets that a process remembers; splits of a large one are held in memory
TRIED = 200  # rows on which further metrics are tried before anything is trained
LIMIT_SEED = 0  # the run's own seed does not touch the data


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and is scored on.

    Attributes:
        task: the task.
        spec: its settings, settled.
        train: training rows; none if the run does not train.
        validation: rows held out of training; none unless asked for.
        evaluation: rows that the run is scored on.
        hashes: content hash of each of the three that has rows.
        counts: rows of each of the three, and `skipped`: bad rows left out of the sources.
        notes: what a person should know about the data.
    """

    task: Task
    spec: TaskSpec
    train: pa.Table
    validation: pa.Table
    evaluation: pa.Table
    hashes: dict[str, str]
    counts: dict[str, int]
    notes: tuple[str, ...]


def prepare(spec: RunSpec, *, cache: Path | None = None) -> Prepared:
    """Load, change, split and limit the data of a run, and settle its task on them.

    The task is settled before limits apply, so runs that differ in a limit alone have the same
    labels. A run that does not train reads the training source only if the evaluation rows are
    held out of it.

    Args:
        spec: the run.
        cache: folder for the tables; see `llmpred.data.load`.

    Raises:
        SpecError: if the task, the head or a metric is unknown or does not fit.
        DataError: if a source is bad, or a step leaves no rows.
        StorageError: if the cache cannot be written.
    """
    task = registry.get(spec.task.name)
    if spec.method.head not in task.heads:
        law = f"the head of the task {task.name} must be one of {', '.join(task.heads)}"
        raise SpecError(Problem(f"{law}, but got {spec.method.head}", "method.head"))
    sources = {
        _identity(source): load(source, task.fields, task.parse, cache=cache)
        for source in _sources(spec)
    }
    parts = {
        "task": spec.task.model_dump(mode="json"),
        "dataset": spec.dataset.model_dump(mode="json", exclude={"name"}),
        "evaluation": spec.evaluation.model_dump(mode="json"),
        "trains": spec.trains,
    }
    prints = tuple(loaded.fingerprint for loaded in sources.values())
    return _prepared(_Request(task, canonical_json(parts), prints, spec, sources))


class Examples(Sequence[Example]):
    """The rows of a table as examples, made a batch at a time; an absent field has no key."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Example]:
        for batch in self.table.to_batches(max_chunksize=BATCH):
            yield from map(_present, batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self.table.take(list(range(len(self))[index])))
        return _present(self.table.slice(range(len(self))[index], 1).to_pylist()[0])


def _present(row: Example) -> Example:
    return {name: value for name, value in row.items() if value is not None}


@dataclass(frozen=True)
class _Request:
    """Equal requests have equal answers: what is not compared follows from what is."""

    task: Task
    parts: str
    fingerprints: tuple[str, ...]
    spec: RunSpec = field(compare=False)
    sources: dict[str, Loaded] = field(compare=False)


def _sources(spec: RunSpec) -> list[SourceSpec]:
    """Return every source that the run reads."""
    data = spec.evaluation.data
    held_out = [spec.dataset] if spec.trains or data is None else []
    mixes = [step.mix for step in spec.dataset.recipe if step.mix] if spec.trains else []
    return [*held_out, *chain.from_iterable(m.sources for m in mixes), *([data] if data else [])]


def _identity(source: SourceSpec) -> str:
    return canonical_json({name: getattr(source, name) for name in SourceSpec.model_fields})


@lru_cache(maxsize=KEPT)
def _prepared(request: _Request) -> Prepared:
    task, spec = request.task, request.spec
    train, evaluation, derived = _split(request)
    settled, train, learnt = _settled(task, spec.task, train, evaluation)

    train = sample(train, spec.dataset.limit, LIMIT_SEED)
    evaluation = sample(evaluation, spec.evaluation.limit, LIMIT_SEED)
    validation = train.slice(0, 0)
    if spec.trains and spec.dataset.validation is not None:
        train, validation = split_validation(train, spec.dataset.validation)
    _try_metrics(task, settled, evaluation, spec)

    tables = {"train": train, "validation": validation, "evaluation": evaluation}
    hashes = {name: content_hash(table) for name, table in tables.items() if table.num_rows}
    counts = {name: table.num_rows for name, table in tables.items()}
    counts["skipped"] = sum(source.skipped for source in request.sources.values())
    notes = [*_notes(request), *derived, *learnt, *_warnings(task, tables, hashes)]
    return Prepared(task, settled, **tables, hashes=hashes, counts=counts, notes=tuple(notes))


def _split(request: _Request) -> tuple[pa.Table, pa.Table, list[str]]:
    """Return training rows after the recipe (none if the run does not train), evaluation rows.

    And notes on what the task made of them.
    """
    spec, dataset = request.spec, request.spec.dataset
    notes: dict[str, None] = {}

    def read(source: SourceSpec) -> pa.Table:
        table, said = request.task.derive(spec.task, request.sources[_identity(source)].table)
        notes.update(dict.fromkeys(f"{source.source}: {note}" for note in said))
        return table

    if spec.evaluation.data is not None:
        evaluation = read(spec.evaluation.data)
        train = read(dataset) if spec.trains else evaluation.slice(0, 0)
    else:
        assert spec.evaluation.holdout is not None  # the spec has exactly one of the two
        train, evaluation = holdout(read(dataset), spec.evaluation.holdout)
    if not spec.trains:
        return train.slice(0, 0), evaluation, [*notes]
    train = apply_recipe(
        train, dataset.recipe, request.task.fields, seed=dataset.recipe_seed, load_part=read
    )
    if not train.num_rows:
        law = "the recipe must leave rows to train on, but it leaves none"
        raise DataError(Problem(law, "dataset.recipe", "Leave out the step that removes them."))
    return train, evaluation, [*notes]


def _settled(
    task: Task, spec: TaskSpec, train: pa.Table, evaluation: pa.Table
) -> tuple[TaskSpec, pa.Table, tuple[str, ...]]:
    """Settle the task on all rows, but the language on what is asked of the model.

    So a run and the zero-shot score of its base have the same prompt whatever the training data.
    What a task learns comes from training rows alone.
    """
    import pyarrow as pa

    if spec.language == "auto":
        language = task.language(Examples(evaluation))
        spec = spec.model_copy(update={"language": language})
    spec, train, notes = task.learn(spec, train)
    rows = pa.concat_tables([train, evaluation], promote_options="default")
    return task.settle(spec, Examples(rows)), train, notes


def _try_metrics(task: Task, settled: TaskSpec, evaluation: pa.Table, spec: RunSpec) -> None:
    """Compute the further metrics once, so that a misspelt one costs no training."""
    if spec.evaluation.metrics:
        rows = Examples(evaluation.slice(0, TRIED))
        right = [perfect(task, example, settled) for example in rows]
        registry.score(task, settled, right, spec.evaluation.metrics)


def _notes(request: _Request) -> list[str]:
    """Return what the readers noticed, each note with its source."""
    names = {_identity(source): source.source for source in _sources(request.spec)}
    return [
        note if names[key] in note else f"{names[key]}: {note}"
        for key, loaded in request.sources.items()
        for note in loaded.notes
    ]


def _warnings(task: Task, tables: dict[str, pa.Table], hashes: dict[str, str]) -> list[str]:
    """Return what is legal and likely a mistake."""
    if not tables["train"].num_rows:
        return []
    found = []
    if hashes["train"] == hashes["evaluation"]:
        found.append("the training rows and the evaluation rows are the same")
    for name in (f.name for f in task.fields if f.kind == "label" and f.role == "target"):
        trained, asked = (
            set(tables[t][name].unique().to_pylist()) for t in ("train", "evaluation")
        )
        if never := sorted(asked - trained):
            found.append(f"evaluation rows have labels that no training row has: {never[:10]}")
    return found
