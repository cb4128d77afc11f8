"""How much a dataset repeats itself, and how much of its evaluation it has already seen."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
# Boilerplate puts unlike rows into one bucket. What is compared there is bounded: so many earlier
# rows of a bucket, and of those the likeliest few whose signatures agree nearly enough.
BUCKET, LIKELY, SLACK = 32, 4, 0.1
SKETCH = 512  # smallest hashes of a long text that its signature is made of

Hashes = npt.NDArray[np.uint64]
Texts = tuple[str, ...]  # the text inputs of a row


@dataclass(frozen=True)
class DuplicateStats:
    """Shares of rows that repeat; rows are compared by their text inputs.

    Attributes:
        rows: of the training table.
        compared: of them, rows looked at for near duplicates; fewer if there are too many.
        exact: share whose inputs equal an earlier row's, but for case, width and white space.
        near: share of the compared rows that are near an earlier one without being equal to it:
            Jaccard similarity of character shingles at least 0.7 in every text input.
        evaluation_exact: share of evaluation rows found in training; None without evaluation.
        evaluation_near: share of the compared evaluation rows near a compared training row
            without being found exactly.
    """

    rows: int
    compared: int
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
        limit: at most this many rows of each are compared nearly; a sample misses pairs. Exact
            duplicates are counted among all rows.
        seed: of that sample.
    """
    seen: set[bytes] = set()
    exact = 0
    for row in _normalised(train):
        key = _key(row)
        exact += key in seen
        seen.add(key)
    compared = list(_normalised(sample(train, limit, seed)))
    index = _Index(compared)
    near = index.count_near(compared, set(), add=True)
    within = (train.num_rows, len(compared), _share(exact, train), near / max(1, len(compared)))
    if evaluation is None:
        return DuplicateStats(*within)
    found = sum(_key(row) in seen for row in _normalised(evaluation))
    others = list(_normalised(sample(evaluation, limit, seed)))
    close = index.count_near(others, seen, add=False)
    return DuplicateStats(*within, _share(found, evaluation), close / max(1, len(others)))


def _share(count: int, table: pa.Table) -> float:
    return count / max(1, int(table.num_rows))


class _Index:
    """The rows met so far, found again if they come nearly the same.

    `rows` are all that will be added; they decide which input buckets are made of and the language
    of the shingles.
    """

    def __init__(self, rows: Sequence[Texts]) -> None:
        width = len(rows[0]) if rows else 0
        self.key = max(range(width), key=lambda i: len({row[i] for row in rows}), default=0)
        self.shingle = SHINGLE[language(row[self.key] for row in rows)]
        self.added: list[tuple[Texts, Hashes]] = []
        self.buckets: dict[bytes, list[int]] = defaultdict(list)
        draws = generator("minhash").random((2, BANDS * ROWS))
        # Multiply-add modulo 2^64; the multipliers must be odd.
        self.multiply, self.add_on = (draws * 2.0**63).astype(np.uint64) * 2 + 1

    def signatures(self, rows: Sequence[Texts]) -> list[Hashes]:
        """Return the MinHash of each row's varying input: BANDS * ROWS minima."""
        texts = (_shingles(row[self.key], self.shingle)[:SKETCH] for row in rows)
        return [
            (hashes[:, None] * self.multiply + self.add_on).min(axis=0) if len(hashes) else hashes
            for hashes in texts
        ]

    def count_near(self, rows: Sequence[Texts], known: set[bytes], add: bool) -> int:
        """Return how many rows are near an added one; rows in `known` do not count.

        With `add`, each row is added after it is looked up, and equal rows are passed over.
        """
        found, passed = 0, set(known) if add else known
        for row, signature in zip(rows, self.signatures(rows), strict=True):
            key = _key(row)
            if key in passed:
                continue
            found += self.near(row, signature)
            if add:
                passed.add(key)
                self.add(row, signature)
        return found

    def near(self, row: Texts, signature: Hashes) -> bool:
        """Return whether an added row is near this one."""
        places = sorted({at for key in _bands(signature) for at in self.buckets.get(key, ())})
        if not places:
            return False
        agreement = (np.stack([self.added[at][1] for at in places]) == signature).mean(axis=1)
        likeliest = np.argsort(-agreement, kind="stable")[:LIKELY]
        return any(
            _near(row, self.added[places[at]][0], self.shingle)
            for at in likeliest
            if agreement[at] >= NEAR - SLACK
        )

    def add(self, row: Texts, signature: Hashes) -> None:
        """Remember a row."""
        self.added.append((row, signature))
        for key in _bands(signature):
            if len(self.buckets[key]) < BUCKET:
                self.buckets[key].append(len(self.added) - 1)


def _normalised(table: pa.Table) -> Iterator[Texts]:
    """Yield the text inputs of each row as they are compared."""
    import pyarrow as pa

    names = [n for n in input_columns(table) if pa.types.is_large_string(table[n].type)]
    for batch in table.select(names).to_batches(max_chunksize=4096):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield tuple(map(normalise, row))


def normalise(text: str | None) -> str:
    """Return a text as it is compared: in lower case, full-width forms and white space folded."""
    return " ".join(unicodedata.normalize("NFKC", text or "").casefold().split())


def _key(row: Texts) -> bytes:
    """Return 128 bits that stand for a row."""
    return hashlib.blake2b("\x00".join(row).encode(), digest_size=16).digest()


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


def _near(row: Texts, other: Texts, size: int) -> bool:
    """Return whether two rows are alike in every text input."""
    return all(a == b or _similarity(a, b, size) >= NEAR for a, b in zip(row, other, strict=True))


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
