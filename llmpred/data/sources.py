"""Load a source: find its reader, match its columns, check its rows, keep the result mapped."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmpred
from llmpred.cache import cache_root
from llmpred.data.cache import cached, store
from llmpred.data.columns import convert, match_columns
from llmpred.data.encodings import looks_garbled
from llmpred.data.fields import Example, Field
from llmpred.data.readers import SUFFIXES, container, read_file
from llmpred.data.rows import Row, column_names, peek, show
from llmpred.data.shapes import SHAPES, shape_of
from llmpred.errors import DataError, Problem
from llmpred.spec.canonical import digest
from llmpred.spec.run import SourceSpec

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # bumped when the same file would be read differently
BATCH = 2000  # rows held as Python objects at a time
BATCH_TEXT = 4 * 2**20  # characters
SHOWN = 20  # bad rows reported at once
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Loaded:
    """A source, read.

    Attributes:
        table: one row an example, one column a field, in the order of the fields; texts as
            large_string, lists as large_list, indices as int64; memory-mapped. Each column's
            metadata has the `role` of its field.
        skipped: rows left out, under `on_bad_row: skip`.
        notes: what a reader of the data should know: encoding, garbled text, skipped rows.
        columns: field -> the column of the source it was taken from.
        fingerprint: of the file's state and of how it was read; equal fingerprints, equal tables.
            The converse fails: use `content_hash` for identity.
    """

    table: pa.Table
    skipped: int
    notes: tuple[str, ...]
    columns: dict[str, str]
    fingerprint: str


def load(
    source: SourceSpec,
    fields: tuple[Field, ...],
    parse: Callable[[Mapping[str, Any]], Example],
    *,
    cache: Path | None = None,
) -> Loaded:
    """Read a source into a table of examples.

    Rows stream through memory in batches into an Arrow file in the cache, which is memory-mapped:
    CSV, TSV, JSONL, JSON lists and Parquet larger than memory are fine. A second call with the
    same unchanged source only maps that file.

    Args:
        source: what to read; paths expand `~` and are relative to the working directory.
        fields: of an example.
        parse: turns checked field values into an example, or raises ValueError with the law that
            they break. Its results are kept across processes if it is a module's function or a
            method; edits of its source file are noticed.
        cache: folder of the Arrow files; None takes `data` in LLMPRED_CACHE or ~/.cache/llmpred.

    Raises:
        DataError: for a source that cannot be read, columns that do not match, and bad rows: the
            first 20 at once, unless `source.on_bad_row` is `skip`.
        StorageError: if the cache cannot be written.
    """
    opened = _open(source)
    folder = cache if cache is not None else cache_root() / "data"
    identity, reusable = _parser(parse)
    asked = {
        "source": {name: getattr(source, name) for name in SourceSpec.model_fields},
        "paths": [str(path) for path in opened.files],
        "fields": [vars(field) for field in fields],
        "parse": identity,
        "version": f"{llmpred.__version__}/{VERSION}",
    }
    name = f"{digest(asked)[:16]}-{digest([asked, opened.state()])}"
    found = cached(folder, name) if reusable else None
    if found is None:
        facts: dict[str, Any] = {}
        before = opened.state()
        rows, notes = opened.read()
        found = store(folder, name, _batches(source, fields, parse, rows, notes, facts), facts)
        if opened.state() != before:
            law = "the source must not change while it is read, but it did"
            raise DataError(Problem(law, source.source, "Run again when it is complete."))
    table, facts = found
    return Loaded(
        table=table,
        skipped=facts["skipped"],
        notes=tuple(facts["notes"]),
        columns=facts["columns"],
        fingerprint=name.rpartition("-")[2],
    )


# --- finding the reader ----------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A source that exists: the files it consists of, and how to read its rows."""

    files: tuple[Path, ...]
    read: Callable[[], tuple[Iterator[Row], list[str]]]

    def state(self) -> list[list[int]]:
        """Return size and time of change (ns) of every file."""
        stats = [path.stat() for path in self.files]
        return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _open(source: SourceSpec) -> Opened:
    """Decide what `source.source` is: synthetic, a file, a folder or a hub dataset."""
    name = source.source
    if name.startswith("synthetic:") or source.format == "synthetic":
        _refuse(source, "a synthetic source", "split", "subset", "revision")
        return _synthetic(source)
    _refuse(source, "a source that is not synthetic", "options")
    path = Path(name).expanduser()
    if source.format == "hub" or not path.exists():
        if source.format != "hub" and not _may_be_hub_id(name):
            raise _missing(path, name)
        from llmpred.data.hub import open_hub

        return Opened(*open_hub(source))
    path = path.resolve()
    if path.is_dir():
        from llmpred.data.hub import open_folder

        _refuse(source, "a local folder", "revision")
        return Opened(*open_folder(source, path))
    _refuse(source, "a single file", "split", "subset", "revision")
    kind = source.format if source.format in SUFFIXES.values() else container(path)
    if kind is None and source.format in SHAPES:
        kind = "json"
    if kind is None:
        known = ", ".join(sorted(SUFFIXES))
        law = f"the file's name must end in one of {known} (or that and .gz)"
        fix = "Rename it, or set `format`."
        raise DataError(Problem(f"{law}, but got {show(path.name)}", name, fix))
    return Opened((path,), lambda: read_file(path, kind, source.encoding, name))


def _refuse(source: SourceSpec, what: str, *names: str) -> None:
    problems = [
        Problem(f"{what} takes no `{name}`, but got {show(value)}", source.source, "Leave it out.")
        for name in names
        if (value := getattr(source, name)) is not None
    ]
    if problems:
        raise DataError(problems)


def _may_be_hub_id(name: str) -> bool:
    path = Path(name)
    if path.is_absolute() or name.startswith((".", "~")) or container(path) is not None:
        return False
    if HUB_ID.fullmatch(name) is None:
        return False
    return not path.parent.is_dir() if "/" in name else path.suffix == ""


def _missing(path: Path, name: str) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        law = f"the source must exist, but there is no folder {show(str(folder))}"
        return DataError(Problem(law, name, f"The working directory is {Path.cwd()}."))
    names = sorted(entry.name for entry in folder.iterdir())
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    fix = f"Did you mean `{folder / near[0]}`?" if near else ""
    if not near and not path.is_absolute():
        fix = f"The working directory is {Path.cwd()}."
    return DataError(Problem("the source must exist, but there is no such file", name, fix))


def _synthetic(source: SourceSpec) -> Opened:
    from llmpred.data import synthetic

    name = source.source.removeprefix("synthetic:")

    def read() -> tuple[Iterator[Row], list[str]]:
        rows = synthetic.generate(name, source.options or {})
        return (Row(f"synthetic:{name}, row {i}", row) for i, row in enumerate(rows, 1)), []

    # The rows are those of this generator: when its code changes, they are made again.
    return Opened(tuple(sorted(Path(synthetic.__file__).parent.glob("*.py"))), read)


def _parser(parse: Callable[..., Any]) -> tuple[list[Any], bool]:
    """Return what identifies a parse function, and whether that holds beyond this process.

    It is its name, its task's version and the state of the files that define it. A lambda, a
    closure or code typed at a prompt has no identity that lasts.
    """
    owner = getattr(parse, "__self__", None)
    function = getattr(parse, "__func__", parse)
    name: str = getattr(function, "__qualname__", "<unnamed>")
    homes = [str(getattr(function, "__module__", "builtins"))]
    identity: list[Any] = [homes[0], name]
    if owner is not None:
        identity += [type(owner).__qualname__, getattr(owner, "version", 0)]
        homes += [cls.__module__ for cls in type(owner).__mro__]
    for home in sorted(set(homes) - {"builtins", "abc"}):
        file = getattr(sys.modules.get(home), "__file__", None)
        if file is None or not Path(file).is_file():
            return identity, False
        stat = Path(file).stat()
        identity.append([home, stat.st_size, stat.st_mtime_ns])
    return identity, "<" not in name


# --- rows to batches -------------------------------------------------------------------------


def _batches(
    source: SourceSpec,
    fields: tuple[Field, ...],
    parse: Callable[[Mapping[str, Any]], Example],
    rows: Iterator[Row],
    notes: list[str],
    facts: dict[str, Any],
) -> Iterator[pa.RecordBatch]:
    """Yield the examples in batches; `facts` are complete after the last one."""
    head, rows = peek(rows)
    if not head:
        law = "the source must have rows, but it has none"
        raise DataError(Problem(law, source.source, "It may have a header alone."))
    unfold = shape_of(source.format, head)
    head, rows = peek(shaped for row in rows for shaped in _unfolded(row, unfold))
    if not any(not row.problem for row in head):
        raise DataError(_problem(row.where, row.problem) for row in head[:SHOWN])
    matched = match_columns(fields, source.columns, column_names(head), source.source)

    schema: pa.Schema | None = None
    examples: list[Example] = []
    kept = skipped = garbled = size = 0
    problems: list[Problem] = []
    first_garbled = ""
    for row in rows:
        law = row.problem
        if not law:
            try:
                example = _settled(parse(convert(row.values, fields, matched)), fields)
            except ValueError as error:
                law = str(error)
        if law:
            skipped += 1
            if len(problems) < SHOWN:
                problems.append(_problem(row.where, law))
            if len(problems) == SHOWN and source.on_bad_row == "error":
                raise DataError(problems)
            continue
        texts = _strings(example)
        size += sum(map(len, texts))
        if any(map(looks_garbled, texts)):
            garbled += 1
            first_garbled = first_garbled or row.where
        examples.append(example)
        if len(examples) == BATCH or size > BATCH_TEXT:
            kept += len(examples)
            schema = schema or _schema(fields, examples)
            yield _batch(examples, schema)
            examples, size = [], 0
    kept += len(examples)
    if problems and (source.on_bad_row == "error" or not kept):
        raise DataError(problems)
    if examples:
        yield _batch(examples, schema or _schema(fields, examples))
    if garbled:
        notes.append(
            f"{garbled:,} of {kept:,} rows look as if text had been decoded wrongly before it was "
            f"saved (first: {first_garbled})"
        )
    if skipped:
        first = Problem(problems[0].law, problems[0].where)
        notes.append(f"{skipped:,} bad rows are left out; the first: {first}")
    facts |= {"skipped": skipped, "notes": notes, "columns": matched}


def _unfolded(row: Row, unfold: Callable[[Row], Iterator[Row]]) -> Iterator[Row]:
    return iter((row,)) if row.problem else unfold(row)


def _strings(example: Example) -> list[str]:
    values = [v if isinstance(v, list) else [v] for v in example.values()]
    return [item for value in values for item in value if isinstance(item, str)]


def _problem(where: str, law: str) -> Problem:
    return Problem(law, where, "Mend the row, or set `on_bad_row: skip`.")


def _settled(example: Example, fields: tuple[Field, ...]) -> Example:
    """Check what only holds after the task's own parsing: an index is a number by then."""
    for field in fields:
        value = example.get(field.name)
        if field.kind == "index" and isinstance(value, str):
            if not value.isdecimal():
                raise ValueError(f"`{field.name}` must be a whole number, but got {show(value)}")
            example = {**example, field.name: int(value)}
    return example


def _schema(fields: tuple[Field, ...], examples: list[Example]) -> pa.Schema:
    """Return the columns of a table: the fields, then whatever else `parse` made."""
    import pyarrow as pa

    text = pa.large_string()
    kinds = {"text": text, "label": text, "texts": pa.large_list(text), "index": pa.int64()}
    kinds["number"] = pa.float64()
    columns = {}
    for field in fields:
        metadata = {"role": field.role, "kind": field.kind}
        columns[field.name] = pa.field(field.name, kinds[field.kind], metadata=metadata)
    for example in examples:
        for name, value in example.items():
            if name not in columns and value is not None:
                kind = pa.array([value]).type
                kind = text if kind == pa.string() else kind
                kind = pa.large_list(text) if kind == pa.list_(pa.string()) else kind
                columns[name] = pa.field(name, kind)
    return pa.schema(list(columns.values()))


def _batch(examples: list[Example], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    unknown = {name for example in examples for name in example} - set(schema.names)
    if unknown:
        raise TypeError(f"parse returns fields for some rows alone: {sorted(unknown)}")
    columns = [
        pa.array([example.get(column.name) for example in examples], column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
