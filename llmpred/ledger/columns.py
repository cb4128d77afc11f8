"""Records as rows: one flat row a run, columns typed by what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmpred.spec.canonical import canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

# Of the spec: parts that are mappings with free keys stay one column of JSON text.
FREE_FORM = {"task.labels", "dataset.columns", "dataset.options", "evaluation.data"}
# Columns that say the same as others, or how the run was carried out.
LEFT_OUT = {"task.name", "dataset.name", "base.name"}

TEXT = (
    "key",
    "train_key",
    "origin",
    "status",
    "dataset",
    "base",
    "task",
    "zero_shot_key",
    "engine",
    "created",
)
LEADING = (
    "key",
    "revision",
    "state",
    "status",
    "origin",
    "dataset",
    "base",
    "task",
    "accuracy_r",
    "zero_shot_accuracy_r",
    "seed",
)


def flatten(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a record's JSON: column name -> text, number, boolean or None.

    Columns are `metric.NAME`, `optim.lr` and the other paths of the spec, `hash.NAME`,
    `version.NAME`, `wall.PHASE` (seconds), `tokens.KIND`, `parameters.KIND`, `count.KIND`; the
    fields of an imported row keep their names.
    """
    spec: Mapping[str, Any] = payload.get("spec") or {}
    provenance: Mapping[str, Any] = payload.get("provenance") or {}
    row: dict[str, Any] = {
        "key": payload["key"],
        "train_key": payload["train_key"],
        "revision": payload["revision"],
        "origin": payload["origin"],
        "status": payload["status"],
        "dataset": payload["dataset"],
        "base": payload["base"],
        "task": spec.get("task", {}).get("name"),
        "accuracy_r": payload["accuracy_r"],
        "zero_shot_key": payload["zero_shot_key"],
        "seed": spec.get("seed"),
    }
    for group in ("task", "dataset", "base", "method", "optim", "evaluation"):
        _walk(spec.get(group) or {}, f"{group}.", row)
    for name, value in payload["fields"].items():
        row[name] = value if _is_scalar(value) else _as_json(value)
    for prefix, group in (
        ("metric", "metrics"),
        ("hash", "hashes"),
        ("version", "versions"),
        ("wall", "wall_seconds"),
        ("tokens", "tokens"),
        ("parameters", "parameters"),
        ("count", "counts"),
    ):
        row |= {f"{prefix}.{name}": value for name, value in payload.get(group, {}).items()}
    row |= {
        "peak_memory_bytes": payload["peak_memory_bytes"],
        "adapter": payload["adapter"],
        "engine": spec.get("execution", {}).get("engine"),
        "created": provenance.get("created"),
        "git_commit": provenance.get("git_commit"),
        "host": provenance.get("host"),
        "error": payload["error"],
    }
    return row


def _walk(part: Mapping[str, Any], prefix: str, row: dict[str, Any]) -> None:
    for name, value in part.items():
        path = prefix + name
        if path in LEFT_OUT:
            continue
        if isinstance(value, Mapping) and path not in FREE_FORM:
            _walk(value, path + ".", row)
        elif isinstance(value, list) and value and all(_is_number(item) for item in value):
            row |= {f"{path}.{place}": item for place, item in enumerate(value)}
        else:
            row[path] = value if _is_scalar(value) else _as_json(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _as_json(value: Any) -> str | None:
    return canonical_json(value) if value else None


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table of the rows; a cell that a row does not have is null."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    """Return the values as booleans, integers, floats, or text where kinds mix."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())


def stack(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the tables below each other, each column in the one type that holds all its parts.

    The columns that every run has are there even if no table has rows.
    """
    import pyarrow as pa

    tables = list(tables)
    kinds: dict[str, set[pa.DataType]] = {name: {pa.string()} for name in TEXT}
    kinds |= {"revision": {pa.int64()}, "seed": {pa.int64()}, "accuracy_r": {pa.float64()}}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    schema = pa.schema([(name, _common(types)) for name, types in kinds.items()])
    return pa.concat_tables([_fitted(table, schema) for table in tables])


def _common(types: set[pa.DataType]) -> pa.DataType:
    import pyarrow as pa

    known = types - {pa.null()}
    if not known:
        return pa.null()
    if len(known) == 1:
        return known.pop()
    return pa.float64() if known == {pa.int64(), pa.float64()} else pa.string()


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type, safe=False)
        if field.name in table.schema.names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def in_order(table: pa.Table) -> pa.Table:
    """Return the table with its leading columns first and the others by name; rows by time."""
    names = table.schema.names
    first = [name for name in LEADING if name in names]
    table = table.select(first + sorted(set(names) - set(first)))
    return table.sort_by([(name, "ascending") for name in ("created", "key", "revision")])
