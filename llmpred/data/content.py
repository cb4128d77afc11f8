"""The identity of a table of examples, and how it is divided."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmpred.data.seeds import draw, generator
from llmpred.errors import DataError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

# Writes what `spec.canonical.canonical_json` writes, for values known to be canonical.
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def example_lines(table: pa.Table, columns: Sequence[str] | None = None) -> Iterator[str]:
    """Yield the canonical JSON of each example; fields without a value are left out."""
    names = list(table.column_names if columns is None else columns)
    for batch in table.select(names).to_batches(max_chunksize=4096):
        values = [column.to_pylist() for column in batch.columns]
        for row in zip(*values, strict=True):
            yield _ENCODE({k: v for k, v in zip(names, row, strict=True) if v is not None})


def content_hash(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of the examples in order, one line of canonical JSON each.

    It depends on neither the file format, the path, the order of the columns nor the chunks.
    """
    hashed = hashlib.sha256()
    for line in example_lines(table):
        hashed.update(line.encode())
        hashed.update(b"\n")
    return hashed.hexdigest()


def input_columns(table: pa.Table) -> list[str]:
    """Return the columns that `load` marked as inputs; all columns if it marked none."""
    marked = [f.name for f in table.schema if (f.metadata or {}).get(b"role") == b"input"]
    return marked or list(table.column_names)


def sample(table: pa.Table, limit: int | None, seed: int) -> pa.Table:
    """Return `limit` rows drawn without replacement, in their order; all if there are no more."""
    if limit is None or limit >= table.num_rows:
        return table
    chosen = np.zeros(table.num_rows, bool)
    chosen[draw(generator("sample", seed), table.num_rows, limit)] = True
    return _where(table, chosen)


def holdout(table: pa.Table, share: float, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Set a share of the rows aside for evaluation; returns (the rest, the share).

    Rows with equal inputs stay on one side. Which rows are held depends on their content and the
    seed, not on their place, so rows added later disturb little.

    Raises:
        DataError: if either side would be empty.
    """
    return _divide(table, share, f"holdout/{seed}")


def split_validation(table: pa.Table, share: float, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Set a share of the training rows aside for validation, independently of `holdout`.

    Returns (the rest, the share); rows with equal inputs stay on one side.

    Raises:
        DataError: if either side would be empty.
    """
    return _divide(table, share, f"validation/{seed}")


def _divide(table: pa.Table, share: float, salt: str) -> tuple[pa.Table, pa.Table]:
    """Hold back whole groups of equal inputs, in the order of their salted hashes."""
    start = hashlib.sha256(salt.encode())
    keys = np.empty(table.num_rows, np.uint64)  # among a million, two agree by chance once in 4e7
    for i, line in enumerate(example_lines(table, input_columns(table))):
        hashed = start.copy()
        hashed.update(line.encode())
        keys[i] = int.from_bytes(hashed.digest()[:8], "big")
    wanted = max(1, round(share * table.num_rows))
    groups, sizes = np.unique(keys, return_counts=True)
    last = min(int(np.searchsorted(np.cumsum(sizes), wanted)), len(groups) - 1)
    held = keys <= groups[last] if len(groups) else np.zeros(0, bool)
    if held.all():
        law = (
            f"both sides of a split must have rows, but {len(groups)} distinct inputs do not "
            f"divide at {share}"
        )
        raise DataError(Problem(law, fix="Give more rows, or another share."))
    return _where(table, ~held), _where(table, held)


def _where(table: pa.Table, chosen: npt.NDArray[np.bool_]) -> pa.Table:
    """Return the rows chosen; unlike `take`, this does not join a mapped table's chunks first."""
    import pyarrow as pa

    return table.filter(pa.array(chosen))
