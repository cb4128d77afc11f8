"""How much a dataset repeats itself, and how much of its evaluation it has already seen."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmpred.data.content import input_columns, sample
from llmpred.data.seeds import generator
from llmpred.data.text import language

if TYPE_CHECKING:
    import pyarrow as pa

NEAR = 0.7  # Jaccard similarity of shingles from which two texts are near-duplicates
SHINGLE = {"en": 5, "zh": 3}  # characters
BANDS, ROWS = 20, 4  # of the signature: 99.6 % of the pairs at similarity 0.7 share a bucket
LOOKED_AT = 16  # earlier rows compared in one bucket, so that boilerplate costs no square
_SPACE = re.compile(r"\s+")

Hashes = npt.NDArray[np.uint64]
Texts = tuple[str, ...]  # the text inputs of a row


@dataclass(frozen=True)
class DuplicateStats:
    """Shares of rows that repeat; rows are compared by their text inputs.

    Attributes:
        rows: of the training table.
        checked: rows that were compared; fewer than `rows` if there are more than the limit.
        exact: share whose inputs equal an earlier row's, but for case, width and white space.
        near: share near an earlier row (Jaccard similarity of character shingles at least 0.7 in
            every text input), the exact ones included.
        evaluation_exact: share of evaluation rows found in training; None without evaluation.
        evaluation_near: share of evaluation rows near a training row, the exact ones included.
    """

    rows: int
    checked: int
    exact: float
    near: float
    evaluation_exact: float | None = None
    evaluation_near: float | None = None


def duplicates(
    train: pa.Table, evaluation: pa.Table | None = None, *, limit: int = 20_000, seed: int = 0
) -> DuplicateStats:
    """Measure exact and near duplicates within `train`, and the overlap of `evaluation` with it.

    Candidates come from MinHash with banding (Broder, 1997) on the text input that varies most;
    the exact similarity of every text input decides.

    Args:
        train: training examples, as `load` returns them.
        evaluation: evaluation examples of the same task.
        limit: at most this many rows of each are compared. A smaller sample misses duplicates.
        seed: of that sample.
    """
    train_rows = _normalised(sample(train, limit, seed))
    index = _Index(train_rows)
    exact = near = 0
    for row, signature in zip(train_rows, index.signatures(train_rows), strict=True):
        if row in index.seen:
            exact += 1
        else:
            near += index.near(row, signature)
            index.add(row, signature)
    count = max(1, len(train_rows))
    within = (train.num_rows, len(train_rows), exact / count, (exact + near) / count)
    if evaluation is None:
        return DuplicateStats(*within)
    rows = _normalised(sample(evaluation, limit, seed))
    found = sum(row in index.seen for row in rows)
    close = sum(
        row in index.seen or index.near(row, signature)
        for row, signature in zip(rows, index.signatures(rows), strict=True)
    )
    return DuplicateStats(*within, found / max(1, len(rows)), close / max(1, len(rows)))


class _Index:
    """The rows met so far, found again exactly or nearly.

    `rows` are all that will be added; they decide which input buckets are made of and the language
    of the shingles.
    """

    def __init__(self, rows: Sequence[Texts]) -> None:
        width = len(rows[0]) if rows else 0
        self.key = max(range(width), key=lambda i: len({row[i] for row in rows}), default=0)
        self.shingle = SHINGLE[language(row[self.key] for row in rows)]
        self.seen: set[Texts] = set()
        self.buckets: dict[bytes, list[Texts]] = defaultdict(list)
        draws = generator("minhash").random((2, BANDS * ROWS))
        # Multiply-add modulo 2^64; the multipliers must be odd.
        self.multiply, self.add_on = (draws * 2.0**63).astype(np.uint64) * 2 + 1

    def signatures(self, rows: Sequence[Texts]) -> list[Hashes]:
        """Return the MinHash of each row's varying input: BANDS * ROWS minima."""
        texts = [_shingles(row[self.key], self.shingle) for row in rows]
        return [
            (hashes[:, None] * self.multiply + self.add_on).min(axis=0) if len(hashes) else hashes
            for hashes in texts
        ]

    def near(self, row: Texts, signature: Hashes) -> bool:
        """Return whether an added row is near this one."""
        candidates = {
            other: None for key in _bands(signature) for other in self.buckets.get(key, ())
        }
        return any(
            all(
                _similarity(a, b, self.shingle) >= NEAR
                for a, b in zip(row, other, strict=True)
                if a != b
            )
            for other in candidates
        )

    def add(self, row: Texts, signature: Hashes) -> None:
        """Remember a row."""
        self.seen.add(row)
        for key in _bands(signature):
            if len(self.buckets[key]) < LOOKED_AT:
                self.buckets[key].append(row)


def _normalised(table: pa.Table) -> list[Texts]:
    """Return the text inputs of each row in lower case, full-width forms and spaces folded."""
    import pyarrow as pa

    names = [
        name
        for name in input_columns(table)
        if pa.types.is_large_string(table.schema.field(name).type)
    ]
    columns = [
        [
            _SPACE.sub(" ", unicodedata.normalize("NFKC", text or "").casefold()).strip()
            for text in table[name].to_pylist()
        ]
        for name in names
    ]
    return list(zip(*columns, strict=True))


def _shingles(text: str, size: int) -> Hashes:
    """Return the distinct hashes of all runs of `size` characters; of a shorter text, one."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(points) == 0:
        return points
    runs = np.lib.stride_tricks.sliding_window_view(points, min(size, len(points)))
    hashes = np.zeros(len(runs), np.uint64)
    for column in runs.T:
        hashes = (hashes ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def _similarity(a: str, b: str, size: int) -> float:
    """Return the Jaccard similarity of the shingles of two texts."""
    first, second = _shingles(a, size), _shingles(b, size)
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(1, len(first) + len(second) - shared)


def _bands(signature: Hashes) -> list[bytes]:
    return [
        bytes([band]) + signature[band * ROWS : (band + 1) * ROWS].tobytes()
        for band in range(BANDS if len(signature) else 0)
    ]
