"""Readers of files: JSONL, JSON, CSV, TSV and Parquet, row by row, each row with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any

from llmpred.data.encodings import CHUNK, bounded_lines, open_text, settle_encoding, unreadable
from llmpred.data.rows import ROW_LIMIT, Row, show, too_long
from llmpred.errors import DataError, Problem

# One element of a JSON list may hold many rows (a SQuAD article); it is in memory as a whole.
ELEMENT_LIMIT = 64 * 2**20
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
}


def container(path: Path) -> str | None:
    """Return which reader a file's name asks for; None if it says nothing."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return SUFFIXES.get(name.suffix.lower())


def read_file(path: Path, kind: str, encoding: str, shown: str) -> tuple[Iterator[Row], list[str]]:
    """Open a file.

    Args:
        path: the file.
        kind: jsonl, json, csv, tsv or parquet.
        encoding: `auto`, `utf-8` or `gb18030`.
        shown: the file's name in messages.

    Returns:
        Its rows, read as they are asked for, and notes on how it is read.

    Raises:
        DataError: if the file as a whole cannot be read, now or while the rows are asked for.
    """
    if kind == "parquet":
        return _parquet(path, shown), []
    codec = settle_encoding(path, encoding, shown)
    notes = [] if codec in ("utf-8", "utf-8-sig") else [f"{shown} is read as {codec.upper()}"]
    if kind in ("json", "jsonl"):
        # The suffix may be wrong: many `.json` files hold one object a line.
        reader = _json if _is_one_document(path, codec, kind) else _jsonl
        return _guarded(path, codec, shown, "\n", lambda s: reader(s, shown)), notes
    with open_text(path, codec, "") as stream:
        header = stream.readline(ROW_LIMIT)
    delimiter = "\t" if kind == "tsv" else _delimiter(header)
    if kind == "tsv" and not _quotes_hold(path, codec, delimiter):
        if '"' in header or _has_quotes(path, codec):
            notes.append(f"{shown} is read without quoting: its quotation marks are text")
        return _guarded(path, codec, shown, "\n", lambda s: _unquoted(s, delimiter, shown)), notes
    return _guarded(path, codec, shown, "", lambda s: _quoted(s, delimiter, shown)), notes


def _guarded(
    path: Path, codec: str, shown: str, newline: str, reader: Callable[[IO[str]], Iterator[Row]]
) -> Iterator[Row]:
    """Run a reader over an opened file and close it after."""
    try:
        with open_text(path, codec, newline) as stream:
            yield from reader(stream)
    except OSError as error:
        raise unreadable(shown, error) from error


# --- JSON ------------------------------------------------------------------------------------


def _is_one_document(path: Path, codec: str, kind: str) -> bool:
    """Return whether a JSON file is one list or object, rather than one object a line."""
    with open_text(path, codec) as stream:
        first = next((line for line in bounded_lines(stream) if line.strip()), "")
    if kind == "jsonl" or first.lstrip().startswith("["):
        return first.lstrip().startswith("[")
    try:
        alone = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(alone, dict) and isinstance(alone.get("data"), list)


def _jsonl(stream: IO[str], shown: str) -> Iterator[Row]:
    """Yield one row a line; a line that is not an object becomes a problem of its own."""
    for number, line in enumerate(bounded_lines(stream), 1):
        if line.isspace():
            continue
        where = f"{shown}:{number}"
        if len(line) > ROW_LIMIT:
            yield Row(where, {}, too_long(len(line)))
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield Row(
                where, {}, f"a line must be a JSON object, but column {error.colno}: {error.msg}"
            )
        except (ValueError, RecursionError) as error:  # numbers or nesting beyond all measure
            yield Row(where, {}, f"a line must be a JSON object, but {error}")
        else:
            yield _object(value, where)


def _json(stream: IO[str], shown: str) -> Iterator[Row]:
    """Yield the objects of a JSON list, or of the list under `data`, without reading it whole."""
    scan = _Scanner(stream, shown)
    if scan.peek() == "[":
        yield from _elements(scan)
    else:
        scan.take("{")
        names, found = [], False
        while scan.peek() != "}":
            names.append(scan.value())
            scan.take(":")
            if names[-1] == "data" and scan.peek() == "[":
                found = True
                yield from _elements(scan)
            else:
                scan.value()
            if scan.peek() != "}":
                scan.take(",")
        scan.take("}")
        if not found:
            law = "a JSON file must be a list of objects, or an object with a list under `data`"
            raise DataError(Problem(f"{law}, but got an object with {show(names)}", shown))
    if scan.peek():
        raise scan.broken("expected one list or object, and then nothing more")


def _elements(scan: _Scanner) -> Iterator[Row]:
    scan.take("[")
    for number in count(1):
        if scan.peek() == "]":
            break
        where = f"{scan.where()}, item {number}"
        yield _object(scan.value(), where)
        if scan.peek() != "]":
            scan.take(",")
    scan.take("]")


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, {}, f"a row must be a JSON object, but got {show(value)}")


class _Scanner:
    """Reads JSON values one after another from a stream, keeping only what is not yet consumed."""

    def __init__(self, stream: IO[str], shown: str) -> None:
        self.stream, self.shown = stream, shown
        self.text, self.at = "", 0
        self.line, self.counted = 1, 0  # the line of the character at `counted`
        self.decode = json.JSONDecoder().raw_decode

    def more(self) -> bool:
        """Drop what is consumed and read on; False at the end of the file."""
        self.where()
        rest = self.text[self.at :]
        chunk = self.stream.read(max(CHUNK, len(rest)))
        self.text, self.at, self.counted = rest + chunk, 0, 0
        return bool(chunk)

    def where(self) -> str:
        """Return file and line of the next character."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return f"{self.shown}:{self.line}"

    def broken(self, what: str) -> DataError:
        got = show(self.text[self.at : self.at + 20]) if self.text[self.at :] else "the file's end"
        return DataError(
            Problem(
                f"the file must be valid JSON: {what}, but got {got}",
                self.where(),
                "Repair the file there; if it holds one object a line, name it `.jsonl`.",
            )
        )

    def peek(self) -> str:
        """Skip white space and return the next character; empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, character: str) -> None:
        """Consume one character of the grammar."""
        if self.peek() != character:
            raise self.broken(f"expected `{character}`")
        self.at += 1

    def value(self) -> Any:
        """Consume and return one value."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if len(self.text) - self.at <= ELEMENT_LIMIT and self.more():
                    continue
                self.at = min(error.pos, len(self.text))
                raise self.broken(error.msg.lower()) from error
            except (ValueError, RecursionError) as error:
                law = f"the file must be valid JSON, but {error}"
                raise DataError(Problem(law, self.where())) from error
            # A number at the edge of the buffer may go on beyond it.
            if end == len(self.text) and not isinstance(value, str | list | dict) and self.more():
                continue
            self.at = end
            return value


# --- CSV and TSV -----------------------------------------------------------------------------


def _delimiter(header: str) -> str:
    """Return the likeliest delimiter of a CSV file: a comma, unless the header has none."""
    return next((d for d in (",", ";", "\t", "|") if d in header), ",")


def _quoted(stream: IO[str], delimiter: str, shown: str) -> Iterator[Row]:
    """Yield the rows of a file in which quotation marks may enclose fields (RFC 4180)."""
    csv.field_size_limit(max(csv.field_size_limit(), ROW_LIMIT))
    reader = csv.reader(bounded_lines(stream), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        where = f"{shown}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            reason = str(error)
            if "field larger" in reason:
                reason = "a field has more than 8 MB; is a quotation mark never closed?"
            elif "end of data" in reason:
                reason = "a quotation mark is never closed"
            yield Row(where, {}, f"a row must be valid CSV, but {reason}")
            continue
        if cells is None:
            return
        if not header:
            header = _header(cells, shown)
        elif cells:
            yield _cells(header, cells, where)


def _unquoted(stream: IO[str], delimiter: str, shown: str) -> Iterator[Row]:
    """Yield the rows of a file in which each line is a row and quotation marks are text."""
    lines = enumerate(bounded_lines(stream), 1)
    header = _header(next(lines)[1].rstrip("\r\n").split(delimiter), shown)
    for number, line in lines:
        if line.rstrip("\r\n"):
            yield _cells(header, line.rstrip("\r\n").split(delimiter), f"{shown}:{number}")


def _header(cells: list[str], shown: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        law = f"the columns must have different names, but {show(twice[0])} comes twice"
        raise DataError(Problem(law, f"{shown}:1"))
    return names


def _cells(header: list[str], cells: list[str], where: str) -> Row:
    length = sum(map(len, cells))
    if length > ROW_LIMIT:
        return Row(where, {}, too_long(length))
    if len(cells) != len(header):
        law = f"a row must have {len(header)} columns, as the header has, but got {len(cells)}"
        return Row(where, {}, law)
    return Row(where, dict(zip(header, cells, strict=True)))


def _has_quotes(path: Path, codec: str) -> bool:
    with open_text(path, codec) as stream:
        return any('"' in line for line in bounded_lines(stream))


def _quotes_hold(path: Path, codec: str, delimiter: str) -> bool:
    """Return whether quotation marks in a TSV file enclose fields, rather than being text.

    Many published TSV files are unquoted, and their texts open with quotation marks. If every line
    by itself has the header's columns, a row is a line, and the marks enclose fields only if that
    holds on every line; else the file must be sound when rows span lines.
    """
    width, one_line_rows, sound_lines = 0, True, True
    with open_text(path, codec) as stream:
        for line in bounded_lines(stream):
            line = line.rstrip("\r\n")
            if not line:
                continue
            width = width or line.count(delimiter) + 1
            one_line_rows &= line.count(delimiter) + 1 == width
            if '"' in line and sound_lines:
                sound_lines = _width(line, delimiter) == width
            if not one_line_rows and not sound_lines:
                break
    if one_line_rows:
        return sound_lines
    with open_text(path, codec, "") as stream:
        try:
            rows = csv.reader(bounded_lines(stream), delimiter=delimiter, strict=True)
            return all(len(cells) == width for cells in rows if cells)
        except csv.Error:
            return False


def _width(line: str, delimiter: str) -> int | None:
    """Return how many fields a quoted line has; None if its quoting is unsound."""
    try:
        return len(next(csv.reader(io.StringIO(line), delimiter=delimiter, strict=True)))
    except csv.Error:
        return None


# --- Parquet ---------------------------------------------------------------------------------


def _parquet(path: Path, shown: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file, a batch in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{shown}, row {number}", values)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        law = f"the file must be sound Parquet, but it is not: {reason}"
        raise DataError(Problem(law, shown, "Write it again, or check its format.")) from error
    except OSError as error:
        raise unreadable(shown, error) from error
