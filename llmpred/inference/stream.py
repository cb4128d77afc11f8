"""Answering a file row by row: read, asked and written in chunks, so memory stays flat."""

from __future__ import annotations

import csv
import gzip
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from llmpred.data.columns import CHECKS, match_columns
from llmpred.data.encodings import bounded_lines, open_text, settle_encoding, unreadable
from llmpred.data.fields import Example
from llmpred.data.readers import SUFFIXES, container, read_file
from llmpred.data.rows import ROW_LIMIT, Row, column_names, peek, show, too_long
from llmpred.errors import DataError, Problem, StorageError
from llmpred.inference.predictor import Answer, Predictor
from llmpred.tasks.complexity.routes import unexpectedly_long

CHUNK, CHUNK_TEXT = 2048, 4 * 2**20  # rows, and characters, answered at a time
SHOWN = 20  # bad rows reported at once
ANSWERED = ("label", "confidence", "scores", "truncated")  # columns after those of the input
MEASURED = ("counts", "number")  # a further one, of some tasks
PART = ".part"  # of the output's name, until it is whole


@dataclass(frozen=True)
class Streamed:
    """What became of a file.

    Attributes:
        rows: that were answered.
        skipped: bad rows that were left out.
        truncated: answered rows whose input was too long.
        seconds: from the first chunk to the last.
        columns: field of the task -> column that it was taken from.
        notes: what a person should know about how the file was read or written.
    """

    rows: int
    skipped: int
    truncated: int
    seconds: float
    columns: dict[str, str]
    notes: tuple[str, ...]


def answer_file(
    predictor: Predictor,
    source: Path,
    out: Path | None,
    *,
    columns: Mapping[str, str] | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    progress: Callable[[int], None] = lambda rows: None,
    stdout: IO[str] | None = None,
) -> Streamed:
    """Answer each row of a file, in its order.

    The output has all columns of the input, then `label`, `confidence`, `scores` and `truncated`
    (whether the input was too long and was cut), of task complexity `counts` too, with
    `unexpectedly_long` where the input has its own `counts`, of task numeric `number`; a column of
    the input that has one of these names is called `input_…` there. It is written beside `out` and
    takes its name when it is whole.

    Args:
        predictor: whom to ask.
        source: JSONL, JSON, CSV, TSV, Parquet, or plain text with an input a line (`.txt`); text
            files may be gzipped.
        out: JSONL or CSV by its suffix, gzipped with `.gz`; None writes JSON lines to `stdout`.
        columns: field of the task -> column of the file; others are found as in training.
        on_bad_row: stop at the first chunk with bad rows, or leave them out.
        progress: told how many rows are answered.
        stdout: where to write without `out`.

    Raises:
        DataError: when the file cannot be read, a field has no column, or rows are bad.
        StorageError: when the output cannot be written.
    """
    check_out(source, out)
    rows, notes = _rows(predictor, source)
    head, rows = peek(rows)
    if not head:
        raise DataError(Problem("the file must have rows, but it has none", str(source)))
    sound = [row for row in head if not row.problem]
    if not sound:
        raise DataError(_problem(row.where, row.problem) for row in head[:SHOWN])
    names = column_names(sound)
    matched = _matched(predictor, columns or {}, names, str(source))
    made = (*ANSWERED, predictor.measures) if predictor.measures else ANSWERED
    renamed = _renamed(names, made)
    notes += [f"the column `{old}` is called `{new}` in the output" for old, new in renamed.items()]
    answered = skipped = truncated = 0
    started = time.perf_counter()
    with _written(out, stdout) as stream:
        write = _writer(stream, out, [*(renamed.get(name, name) for name in names), *made])
        for chunk in _chunks(rows):
            asked, problems = _asked(predictor, chunk, matched)
            skipped += len(problems)
            if problems and on_bad_row == "error":
                raise DataError(problems[:SHOWN])
            answers = predictor.answer([example for _, example in asked])
            for (row, _), each in zip(asked, answers, strict=True):
                truncated += each.truncated
                write(row, _record(row, each, renamed))
            answered += len(asked)
            progress(answered)
        if not answered:
            raise DataError(problems[:SHOWN])
    seconds = time.perf_counter() - started
    return Streamed(answered, skipped, truncated, seconds, matched, tuple(notes))


def check_out(source: Path, out: Path | None) -> None:
    """Check what can be of an output before a model is loaded.

    Raises:
        DataError: when it cannot be named like that, or is the input itself.
    """
    if not source.is_file():
        raise DataError(Problem("the file must exist, but there is none", str(source)))
    if _kind(source) is None:
        known = ", ".join(sorted([*SUFFIXES, ".txt"]))
        law = f"the file's name must end in one of {known} (or that and .gz)"
        raise DataError(Problem(f"{law}, but got {show(source.name)}", str(source), "Rename it."))
    if out is None:
        return
    if _suffix(out) not in (".jsonl", ".csv"):
        law = f"the output's name must end in .jsonl or .csv (or that and .gz), but got {out.name}"
        raise DataError(Problem(law, str(out)))
    if not out.parent.is_dir():
        law = f"the output must be in a folder, but there is no folder {out.parent}"
        raise DataError(Problem(law, str(out), "Make it, or name another file."))
    if out.is_dir() or out.resolve() == source.resolve():
        law = "the output must be a file of its own, but this is " + (
            "a folder" if out.is_dir() else "the input"
        )
        raise DataError(Problem(law, str(out), "Name another file."))


# --- reading -------------------------------------------------------------------------------------


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _kind(path: Path) -> str | None:
    return "text" if _suffix(path) == ".txt" else container(path)


def _rows(predictor: Predictor, source: Path) -> tuple[Iterator[Row], list[str]]:
    shown, kind = source.name, _kind(source)
    assert kind is not None  # checked
    if kind != "text":
        return read_file(source, kind, "auto", shown)
    required = [field.name for field in predictor.fields if field.required]
    if len(required) != 1:
        law = f"plain text has one input a line, but the task has {', '.join(required)}"
        raise DataError(Problem(law, str(source), "Give JSONL, CSV, TSV or Parquet."))
    codec = settle_encoding(source, "auto", shown)
    notes = [] if codec in ("utf-8", "utf-8-sig") else [f"{shown} is read as {codec.upper()}"]
    return _lines(source, codec, required[0], shown), notes


def _lines(source: Path, codec: str, name: str, shown: str) -> Iterator[Row]:
    """Yield one row a line, empty lines too: the n-th answer is that of the n-th line."""
    try:
        with open_text(source, codec) as stream:
            for number, line in enumerate(bounded_lines(stream), 1):
                problem = too_long(len(line)) if len(line) > ROW_LIMIT else ""
                yield Row(f"{shown}:{number}", {name: line.rstrip("\r\n")}, problem)
    except OSError as error:
        raise unreadable(shown, error) from error


def _matched(
    predictor: Predictor, given: Mapping[str, str], names: Sequence[str], where: str
) -> dict[str, str]:
    """Return input field -> column: as given, as in training, or by name and alias."""
    trained = predictor.spec.dataset.columns.items()
    known = {field: column for field, column in trained if column in names}
    fields = [replace(f, required=f.required and f.role == "input") for f in predictor.task.fields]
    matched = match_columns(fields, {**known, **given}, names, where)
    inputs = {field.name for field in predictor.fields}
    return {field: column for field, column in matched.items() if field in inputs}


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if len(chunk) == CHUNK or size > CHUNK_TEXT:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _asked(
    predictor: Predictor, chunk: Sequence[Row], matched: Mapping[str, str]
) -> tuple[list[tuple[Row, Example]], list[Problem]]:
    """Return the rows that can be answered, as examples, and what is wrong with the others."""
    asked, problems = [], []
    for row in chunk:
        if row.problem:
            problems.append(_problem(row.where, row.problem))
            continue
        given = {field: row.values.get(column) for field, column in matched.items()}
        try:
            asked.append((row, predictor.example(given)))
        except DataError as error:
            problems += [_problem(row.where, error.problems[0].law)]
    return asked, problems


def _problem(where: str, law: str) -> Problem:
    return Problem(law, where, "Mend the row, or leave bad rows out (--on-bad-row skip).")


# --- writing -------------------------------------------------------------------------------------


def _renamed(names: Sequence[str], made: Sequence[str]) -> dict[str, str]:
    """Return new names for columns of the input that are called like one that is made."""
    renamed: dict[str, str] = {}
    for name in made:
        if name in names:
            new = f"input_{name}"
            while new in names:
                new = f"input_{new}"
            renamed[name] = new
    return renamed


def _record(row: Row, answer: Answer, renamed: Mapping[str, str]) -> dict[str, Any]:
    kept = {renamed.get(name, name): _plain(value) for name, value in row.values.items()}
    for name in {*ANSWERED, *MEASURED} & kept.keys():  # a column that the first rows did not have
        kept[f"input_{name}"] = kept.pop(name)
    scores = answer.scores or None
    record = {
        **kept,
        "label": answer.label,
        "confidence": answer.confidence,
        "scores": scores,
        "truncated": answer.truncated,
    }
    if answer.number is not None:
        return {**record, "number": answer.number}
    if answer.counts is None:
        return record
    counts = answer.counts
    with suppress(ValueError):  # a row may say how long the model thought
        actual = CHECKS["number"](row.values.get("counts"))
        counts = {**counts, "unexpectedly_long": unexpectedly_long(actual, counts["quantiles"][-1])}
    return {**record, "counts": counts}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a NaN is null, what JSON has no form of is text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int) else str(value)


@contextmanager
def _written(out: Path | None, stdout: IO[str] | None) -> Iterator[IO[str]]:
    """Give a stream whose content is the whole of `out` once the body ends well."""
    if out is None:
        assert stdout is not None
        yield stdout
        return
    part = out.with_name(out.name + PART)
    try:
        opener: Callable[..., Any] = gzip.open if out.suffix == ".gz" else open
        with opener(part, "wt", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(out)
    except OSError as error:
        law = f"the output must be writable, but says: {error.strerror or error}"
        raise StorageError(Problem(law, str(out))) from error


def _writer(
    stream: IO[str], out: Path | None, names: Sequence[str]
) -> Callable[[Row, dict[str, Any]], None]:
    if out is None or _suffix(out) == ".jsonl":

        def as_json(row: Row, record: dict[str, Any]) -> None:
            stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

        return as_json
    header = [*names]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)

    def as_csv(row: Row, record: dict[str, Any]) -> None:
        if new := record.keys() - set(header):
            law = f"a CSV file has the columns of the first rows, but here is {show(min(new))}"
            raise DataError(Problem(law, row.where, "Write .jsonl, whose rows may differ."))
        writer.writerow([_cell(record.get(name)) for name in header])

    return as_csv


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
