"""What a dataset looks like to a run: prompts, loss mask, lengths, balance, duplicates."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.data import DuplicateStats, characters, duplicates, sample, words
from llmpred.data.fields import Example
from llmpred.data.text import language
from llmpred.engine.encoding import encode, render_prompt
from llmpred.spec.run import RunSpec
from llmpred.tasks.base import Task
from llmpred.tasks.prepare import Examples

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

LIMIT = 20_000  # rows whose lengths are measured and that are compared with each other
ENDLESS = 10**9  # tokens: nothing is truncated
FEW_ROWS, FEW_OF_A_LABEL = 50, 10


@dataclass(frozen=True)
class Lengths:
    """Lengths of prompt and target together; `unit` is tokens, words or characters."""

    unit: str
    rows: int
    minimum: int
    median: float
    p95: int
    maximum: int


@dataclass(frozen=True)
class Rendered:
    """One training example as the model meets it; only the target is in the loss.

    Attributes:
        prompt: what is read, after truncation, special tokens included.
        target: what is taught: a text, or the class of a classification head.
        truncated: whether the prompt lost its end (or start).
    """

    prompt: str
    target: str
    truncated: bool


@dataclass(frozen=True)
class DatasetCheck:
    """What a dataset looks like to a run.

    Attributes:
        name, task, head, language: what was looked at, and how.
        base: whose tokenizer counted; None if words or characters were counted.
        rows, evaluation_rows: how many there are; None without evaluation rows.
        samples: three examples, spread over the rows.
        lengths: of prompt and target.
        max_length: tokens a sequence may have.
        truncated: share of rows that do not fit; None without a tokenizer.
        unknown_tokens: share of tokens the tokenizer has no entry for; None without one.
        labels, evaluation_labels: rows a label; places of the right choice in multiple choice.
        duplicates: repetition within the rows, and of evaluation rows among them.
        contradictory: share of rows whose inputs stand elsewhere with another target.
        notes: what the readers noticed: encoding, garbled text, skipped rows.
        warnings: what is likely a mistake, in plain words.
    """

    name: str
    task: str
    head: str
    language: str
    base: str | None
    rows: int
    evaluation_rows: int | None
    samples: tuple[Rendered, ...]
    lengths: Lengths
    max_length: int
    truncated: float | None
    unknown_tokens: float | None
    labels: dict[str, int]
    evaluation_labels: dict[str, int]
    duplicates: DuplicateStats
    contradictory: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def check(
    name: str,
    task: Task,
    spec: RunSpec,
    train: pa.Table,
    evaluation: pa.Table | None,
    tokenizer: PreTrainedTokenizerBase | None,
    notes: Sequence[str] = (),
) -> DatasetCheck:
    """Look at the rows of a dataset as a run would use them.

    Args:
        name: of the dataset, for people.
        task: the task.
        spec: the run; its task settled on these rows.
        train: training rows, at least one.
        evaluation: evaluation rows, if there are any.
        tokenizer: of the base of `spec`; None counts words, or characters in Chinese.
        notes: what the readers noticed.

    Raises:
        DataError: when a row cannot be tokenised for the head, or no prompt fits.
    """
    rows = Examples(train)
    measured = Examples(sample(train, LIMIT, 0))
    if tokenizer is None:
        lengths, truncated, unknown = _words(measured, task, spec), None, None
    else:
        lengths, truncated, unknown = _tokens(measured, task, spec, tokenizer)
    found = DatasetCheck(
        name=name,
        task=task.name,
        head=spec.method.head,
        language=spec.task.language,
        base=spec.base.name if tokenizer is not None else None,
        rows=train.num_rows,
        evaluation_rows=None if evaluation is None else evaluation.num_rows,
        samples=tuple(
            _rendered(rows[place], task, spec, tokenizer) for place in _spread(train.num_rows)
        ),
        lengths=lengths,
        max_length=spec.task.max_length,
        truncated=truncated,
        unknown_tokens=unknown,
        labels=_labels(rows, task, spec),
        evaluation_labels={} if evaluation is None else _labels(Examples(evaluation), task, spec),
        duplicates=duplicates(train, evaluation, limit=LIMIT),
        contradictory=_contradictory(rows, task, spec),
        notes=tuple(notes),
        warnings=(),
    )
    warnings = (*_warnings(found, spec), *_language_warning(train, evaluation, task))
    return DatasetCheck(**{**vars(found), "warnings": warnings})


def _spread(count: int, wanted: int = 3) -> list[int]:
    """Return up to `wanted` places, from the first row to the last."""
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def _rendered(
    example: Example, task: Task, spec: RunSpec, tokenizer: PreTrainedTokenizerBase | None
) -> Rendered:
    if spec.method.has_head:
        classes = task.class_names(spec.task)
        right = task.answer_index(example, spec.task)
        target = classes[right] if classes else task.target(example, spec.task)
    elif spec.method.head == "label_scoring":
        candidates = task.candidates(example, spec.task) or ()
        target = candidates[task.answer_index(example, spec.task)]
    else:
        target = task.target(example, spec.task)
    if tokenizer is None:
        return Rendered(
            render_prompt(task.slots(example, spec.task), spec.task, None)[0], target, False
        )
    encoded = encode([example], task, _never_refusing(spec), tokenizer, training=True)[0]
    if not spec.method.has_head:
        target = str(tokenizer.decode(encoded.target))
    return Rendered(str(tokenizer.decode(encoded.prompt)), target, encoded.truncated)


def _never_refusing(spec: RunSpec, max_length: int | None = None) -> RunSpec:
    """Return the run with rows cut where it would refuse them, so that all can be looked at."""
    task = spec.task
    update = {
        "truncation": "end" if task.truncation == "error" else task.truncation,
        "max_length": max_length or task.max_length,
    }
    return spec.model_copy(update={"task": task.model_copy(update=update)})


def _words(rows: Examples, task: Task, spec: RunSpec) -> Lengths:
    chinese = spec.task.language == "zh"
    counts = []
    for example in rows:
        prompt = render_prompt(task.slots(example, spec.task), spec.task, None)[0]
        text = prompt + task.target(example, spec.task)
        counts.append(len(characters(text) if chinese else words(text, "en")))
    return _lengths("characters" if chinese else "words", counts)


def _tokens(
    rows: Examples, task: Task, spec: RunSpec, tokenizer: PreTrainedTokenizerBase
) -> tuple[Lengths, float, float]:
    """Return the lengths, the share of rows that do not fit, and the share of unknown tokens."""
    longest = spec.task.max_length
    taught = spec.method.head in ("causal_lm", "numeric")  # targets may take half of a sequence
    counts = []
    tokens = unknown = cut = 0
    for example in rows:
        whole = encode([example], task, _never_refusing(spec, ENDLESS), tokenizer, training=True)[0]
        target = max(len(ids) for ids in (whole.target, *whole.candidates))
        counts.append(len(whole.prompt) + target)
        cut += counts[-1] > longest or (taught and target > longest // 2)
        tokens += len(whole.prompt)
        unknown += whole.prompt.count(tokenizer.unk_token_id)
    return _lengths("tokens", counts), cut / len(counts), unknown / max(1, tokens)


def _lengths(unit: str, counts: list[int]) -> Lengths:
    ordered = sorted(counts)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    median = statistics.median(ordered)
    return Lengths(unit, len(ordered), ordered[0], median, p95, ordered[-1])


def _labels(rows: Examples, task: Task, spec: RunSpec) -> dict[str, int]:
    """Return rows a label, most frequent first; none where the answer is an open text."""
    classes = task.class_names(spec.task)
    if classes is not None:
        found = Counter(classes[task.answer_index(example, spec.task)] for example in rows)
        return dict(found.most_common())
    if not len(rows) or task.candidates(rows[0], spec.task) is None:
        return {}
    places = Counter(task.answer_index(example, spec.task) for example in rows)
    return {f"choice {place + 1}": count for place, count in sorted(places.items())}


def _contradictory(rows: Examples, task: Task, spec: RunSpec) -> float:
    inputs = [field.name for field in task.fields if field.role == "input"]
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in rows:
        asked = str([example.get(name) for name in inputs])
        seen[asked][str(task.gold(example, spec.task))] += 1
    return sum(golds.total() for golds in seen.values() if len(golds) > 1) / max(1, len(rows))


def _warnings(found: DatasetCheck, spec: RunSpec) -> list[str]:
    """Return what the figures say, in plain words."""
    said = []
    repeats = found.duplicates
    if found.rows < FEW_ROWS:
        said.append(f"there are only {found.rows} rows")
    if repeats.exact + repeats.near >= 0.05:
        said.append(
            f"{repeats.exact + repeats.near:.0%} of rows are duplicates of an earlier row "
            f"({repeats.exact:.0%} exactly, {repeats.near:.0%} nearly)"
        )
    if repeats.evaluation_exact is not None and repeats.evaluation_near is not None:
        overlap = repeats.evaluation_exact + repeats.evaluation_near
        if overlap > 0.005:
            said.append(
                f"{overlap:.1%} of evaluation rows are in the training rows "
                f"({repeats.evaluation_exact:.1%} exactly): the score would flatter"
            )
    if found.contradictory > 0.005:
        said.append(
            f"{found.contradictory:.1%} of rows have inputs that other rows answer differently"
        )
    if found.truncated:
        verb = "stop the run" if spec.task.truncation == "error" else "are truncated"
        said.append(
            f"{found.truncated:.1%} of rows are longer than {found.max_length} tokens and {verb}"
        )
    if found.unknown_tokens is not None and found.unknown_tokens > 0.02:
        said.append(
            f"{found.unknown_tokens:.0%} of tokens are unknown to {found.base}: it was made for "
            "another language or script"
        )
    said += _label_warnings(found)
    return said


def _label_warnings(found: DatasetCheck) -> list[str]:
    if not found.labels:
        return []
    said = []
    label, count = max(found.labels.items(), key=lambda item: item[1])
    if count > 0.8 * found.rows:
        said.append(
            f"{count / found.rows:.0%} of rows have the label {label!r}: always answering it would "
            "be right as often"
        )
    rare = [label for label, count in found.labels.items() if count < FEW_OF_A_LABEL]
    if rare and found.rows >= FEW_ROWS:
        said.append(
            f"fewer than {FEW_OF_A_LABEL} rows have the label {', '.join(map(repr, rare[:5]))}"
        )
    never = sorted(found.evaluation_labels.keys() - found.labels.keys())
    if never:
        said.append(
            "evaluation rows have labels that no training row has: "
            f"{', '.join(map(repr, never[:5]))}"
        )
    return said


def _language_warning(train: pa.Table, evaluation: pa.Table | None, task: Task) -> list[str]:
    if evaluation is None:
        return []
    spoken = [
        language(text for text in table[task.long_field].to_pylist() if isinstance(text, str))
        for table in (train.slice(0, 1000), evaluation.slice(0, 1000))
    ]
    if spoken[0] == spoken[1]:
        return []
    return [f"the training rows are {spoken[0]}, but the evaluation rows are {spoken[1]}"]
