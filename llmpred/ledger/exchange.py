"""Tables out of the ledger, and runs made elsewhere into it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem, StorageError, nearest
from llmpred.ledger.ledger import AlreadyRecorded, Ledger
from llmpred.ledger.record import RunRecord
from llmpred.spec.canonical import digest

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED = ("accuracy_r", "dataset", "base")
# Columns of the ledger's own that a mapping cannot set.
RESERVED = {
    *("key", "train_key", "revision", "state", "status", "origin", "created", "engine"),
    *("zero_shot_key", "zero_shot_accuracy_r"),
}


@dataclass(frozen=True)
class Imported:
    """What an import did: keys recorded now, and keys that were there before."""

    added: tuple[str, ...]
    known: tuple[str, ...]


# --- export ------------------------------------------------------------------------------------


def export(ledger: Ledger, path: Path | str, attempts: bool = False, history: bool = False) -> int:
    """Write the table of the ledger to a file and return its number of rows.

    Args:
        ledger: whose runs.
        path: `.csv` (UTF-8 with BOM, as Excel reads it; text that a spreadsheet would take for a
            formula gets a leading apostrophe), `.parquet` or `.jsonl`. Replaced if it exists.
        attempts: also the failed attempts.
        history: also superseded and retracted records.

    Raises:
        StorageError: if the suffix is another one or the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[pa.Table], bytes]] = {
        ".csv": _csv,
        ".parquet": _parquet,
        ".jsonl": _jsonl,
    }
    if path.suffix.lower() not in writers:
        raise StorageError(
            Problem(
                f"A table is written as .csv, .parquet or .jsonl, but got {path.suffix!r}",
                str(path),
                "Give the file one of these suffixes.",
            )
        )
    table = ledger.table(attempts=attempts, history=history)
    _replace(path, writers[path.suffix.lower()](table))
    return int(table.num_rows)


def _csv(table: pa.Table) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.schema.names)
    columns = (map(_cell, column.to_pylist()) for column in table.columns)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and _number(value) is None:
        return "'" + value
    return str(value)


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _jsonl(table: pa.Table) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
    return "".join(line + "\n" for line in lines).encode()


def _replace(path: Path, data: bytes) -> None:
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        staged.write_bytes(data)
        staged.replace(path)
    except OSError as error:
        raise StorageError(
            Problem(
                f"The table must be writable, but says: {error.strerror or error}",
                str(path),
                "Choose a folder that exists and that you may write to.",
            )
        ) from error
    finally:
        if staged.parent.is_dir() and os.access(staged.parent, os.W_OK):
            staged.unlink(missing_ok=True)


# --- import ------------------------------------------------------------------------------------


def import_table(
    ledger: Ledger,
    path: Path | str,
    mapping: Mapping[str, str],
    *,
    constants: Mapping[str, str] | None = None,
    scale: float = 1.0,
    keep_rest: bool = True,
) -> Imported:
    """Record fine-tunes made elsewhere, one a row, with origin `imported`.

    A row's key is made of its mapped values but its scores, so importing a file twice adds nothing.

    Args:
        ledger: to record in.
        path: a .csv (UTF-8 or GB18030), .parquet or .jsonl file with a header.
        mapping: column of the ledger -> column of the file, such as `accuracy_r` -> `score`,
            `metric.em` -> `exact`, `optim.lr` -> `lr`.
        constants: column of the ledger -> one value for all rows, such as `base` -> `qwen2.5-7b`.
        scale: what the scores are divided by to lie in [0, 1]: 100 for percent.
        keep_rest: keep the other columns too, as `field.NAME`.

    Raises:
        DataError: if the file or any row does not hold; then nothing is imported.
        StorageError: if a run is in the ledger with another score.
    """
    path = Path(path)
    constants = constants or {}
    rows = _read(path)
    _check_mapping(path, mapping, constants, rows)
    records = _records(path, rows, mapping, constants, scale, keep_rest)
    _check_known(ledger, path, records)
    added, known = [], []
    for _, record in records:
        try:
            ledger.put(record)
            added.append(record.key)
        except AlreadyRecorded:
            known.append(record.key)
    return Imported(tuple(added), tuple(known))


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return (line, cells) of each row; text that looks like a number becomes one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        match path.suffix.lower():
            case ".csv":
                return _read_csv(path)
            case ".parquet":
                return list(enumerate(pq.read_table(path).to_pylist(), 1))
            case ".jsonl":
                return _read_jsonl(path)
            case suffix:
                law = f"A table to import is .csv, .parquet or .jsonl, but got {suffix!r}"
    except (OSError, pa.ArrowException, ValueError, csv.Error) as error:
        law = f"A table to import must be readable, but: {error}"
    raise DataError(Problem(law, str(path), "Check the path and the format."))


def _read_jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be an object, but got {line[:40]!r}")
        rows.append((number, row))
    return rows


def _read_csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise ValueError(f"column names must differ, but {', '.join(twice)} is there twice")
    rows = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {reader.line_num} has {len(cells)} cells, the header {len(header)}"
            )
        rows.append((reader.line_num, {n: _parsed(c) for n, c in zip(header, cells, strict=True)}))
    return rows


def _parsed(text: str) -> str | float | int | None:
    if not text.strip():
        return None
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    """Return the finite number that the text writes in ASCII, None if it is none."""
    if "_" in text or not text.isascii():
        return None
    for kind in (int, float):
        try:
            number: int | float = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None


def _check_mapping(
    path: Path,
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    rows: Sequence[tuple[int, Mapping[str, Any]]],
) -> None:
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    problems = []
    if not rows:
        problems.append(Problem("A table to import must have rows, but has none", str(path)))
    for name in REQUIRED:
        if name not in mapping and name not in constants:
            problems.append(
                Problem(
                    f"`{name}` must be mapped to a column or set for all rows",
                    str(path),
                    f"Add {name}=COLUMN to the mapping. Columns: {', '.join(columns[:12])}.",
                )
            )
    for name, column in mapping.items():
        if rows and column not in columns:
            problems.append(
                Problem(
                    f"`{name}` is mapped to the column {column!r}, which the table does not have",
                    str(path),
                    nearest(column, columns),
                )
            )
    for name in sorted({*mapping, *constants} & RESERVED):
        problems.append(Problem(f"`{name}` is set by the ledger and cannot be mapped", str(path)))
    for name in sorted({*mapping} & {*constants}):
        problems.append(Problem(f"`{name}` is both mapped and set for all rows", str(path)))
    if problems:
        raise DataError(problems)


def _records(
    path: Path,
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    scale: float,
    keep_rest: bool,
) -> list[tuple[int, RunRecord]]:
    """Return (line, record) of each row; raises DataError with all problems of all rows."""
    rows = list(rows)
    problems = _check_scores(path, rows, mapping, scale)
    records: dict[str, tuple[int, RunRecord]] = {}
    rest = {c for _, row in rows for c in row} - {*mapping.values()} if keep_rest else set()
    for line, row in rows if not problems else ():
        values: dict[str, Any] = {name: row.get(column) for name, column in mapping.items()}
        values |= constants
        empty = [name for name in REQUIRED if values[name] in (None, "")]
        problems += [
            Problem(f"`{name}` must have a value in every row", f"{path}, line {line}")
            for name in empty
        ]
        if empty:
            continue
        record = _record(values, {n: row[n] for n in sorted(rest) if row.get(n) is not None}, scale)
        first, same = records.setdefault(record.key, (line, record))
        if same.accuracy_r != record.accuracy_r:
            problems.append(
                Problem(
                    f"Rows with different scores must differ in a mapped column, but line {line} "
                    f"is the same run as line {first}",
                    str(path),
                    "Map what tells them apart, such as seed=COLUMN.",
                )
            )
    if problems:
        raise DataError(problems)
    return list(records.values())


def _check_scores(
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    mapping: Mapping[str, str],
    scale: float,
) -> list[Problem]:
    column = mapping.get("accuracy_r")
    if column is None:
        return []
    scores = [(line, row.get(column)) for line, row in rows]
    numbers = [s for _, s in scores if isinstance(s, int | float) and not isinstance(s, bool)]
    if scale == 1.0 and numbers and 1.0 < max(numbers) <= 100.0 and min(numbers) >= 0.0:
        line = next(line for line, score in scores if score in numbers and score > 1.0)
        return [
            Problem(
                f"accuracy_r must lie in [0, 1], but scores go up to {max(numbers):g}",
                f"{path}, line {line}, column {column}",
                "If they are in percent, say so with --scale 100.",
            )
        ]
    problems = []
    for line, score in scores:
        where = f"{path}, line {line}, column {column}"
        if not isinstance(score, int | float) or isinstance(score, bool):
            problems.append(Problem(f"accuracy_r must be a number, but got {score!r}", where))
        elif not 0.0 <= score / scale <= 1.0:
            problems.append(
                Problem(
                    f"accuracy_r must lie in [0, 1] after the scale {scale:g}, but got {score!r}",
                    where,
                )
            )
    return problems


def _record(values: Mapping[str, Any], rest: Mapping[str, Any], scale: float) -> RunRecord:
    metrics = {
        name.removeprefix("metric."): _as_number(value)
        for name, value in values.items()
        if name.startswith("metric.")
    }
    identity = {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in values.items()
        if name != "accuracy_r" and not name.startswith("metric.") and value is not None
    }
    key = digest({"imported": identity})
    fields = {name: v for name, v in identity.items() if name not in ("dataset", "base")}
    return RunRecord(
        key=key,
        train_key=key,
        origin="imported",
        dataset=str(values["dataset"]),
        base=str(values["base"]),
        spec=None,
        fields=fields | {f"field.{name}": _plain(value) for name, value in rest.items()},
        status="ok",
        accuracy_r=float(values["accuracy_r"]) / scale,
        metrics=metrics,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def _as_number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _check_known(ledger: Ledger, path: Path, records: Sequence[tuple[int, RunRecord]]) -> None:
    paid = ledger.keys()
    problems = []
    for line, record in records:
        if record.key not in paid:
            continue
        held = ledger.get(record.key).accuracy_r
        if held != record.accuracy_r:
            problems.append(
                Problem(
                    f"A run imported before must keep its score, but {record.key} has {held} in "
                    f"the ledger and {record.accuracy_r} in the table",
                    f"{path}, line {line}",
                    "Retract the old record, or map a column that tells the two apart.",
                )
            )
    if problems:
        raise StorageError(problems)
