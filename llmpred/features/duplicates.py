"""How much a dataset of any size repeats itself, and how much of its evaluation it has seen.

The definitions are those of `llmpred.data.duplicates`, with two differences: all rows are compared
nearly, not a sample, and the inputs of a row are one text, so that questions about the same long
passage are near each other. Equal texts are found among sorted 64-bit hashes. Near ones are looked
for by MinHash (Broder, 1997) with banding, keeping the lowest byte of each minimum (Li & König,
2010), and the exact similarity of the likeliest candidates decides. Signatures and texts lie on
disk: a row costs 128 bytes and its text there, and about 100 bytes in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpred.data.duplicates import NEAR, SHINGLE, normalise
from llmpred.data.seeds import generator
from llmpred.data.text import language

PERMUTATIONS = 128
BAND = 4  # bytes of a signature; 99.9 % of the pairs at similarity 0.7 share one of the 32 bands
SLACK = 0.1  # of the estimated similarity, whose standard error at 0.7 is 0.04
# Boilerplate puts unlike rows into one bucket. What is compared there is bounded: the first rows
# and the latest earlier rows of a bucket, and of all these the likeliest few by exact similarity.
FIRST, LATEST, LIKELY = 4, 4, 4
BATCH_TEXT = 2**16  # characters hashed at once: their hashes fit the cache of a core
PAIRS = 2**15  # signatures compared at once: 4 MiB
VERIFIED = 4096  # rows verified in one call

Array = npt.NDArray[Any]
Map = Callable[..., Iterable[Any]]  # the built-in `map`, or that of a pool of processes


@dataclass(frozen=True)
class Sketches:
    """What rows are compared by.

    Attributes:
        inputs, outputs: uint64 (rows,), hashes of the normalised texts.
        signatures: uint8 (rows, PERMUTATIONS), of the inputs.
        texts: the normalised inputs in UTF-8, one after another.
        ends: int64 (rows,), where each of them ends.
    """

    inputs: Array
    outputs: Array
    signatures: Array
    texts: bytes
    ends: Array


@dataclass(frozen=True)
class Repeats:
    """Rows that repeat. Two inputs are near if the Jaccard similarity of their shingles is ≥ 0.7.

    Attributes:
        rows: of training.
        exact: rows whose input and output both equal an earlier row's.
        near: rows whose input is near an earlier one's, and equal to none.
        conflicts: rows whose input stands elsewhere with another output.
        evaluation_rows: of the evaluation; 0 without one.
        evaluation_exact: evaluation rows whose input is a training input.
        evaluation_near: evaluation rows whose input is near a training input, and equal to none.
    """

    rows: int
    exact: int
    near: int
    conflicts: int
    evaluation_rows: int
    evaluation_exact: int
    evaluation_near: int


def sketches(pairs: Sequence[tuple[str, str]]) -> Sketches:
    """Return what (input, output) pairs are compared by."""
    inputs = [normalise(text) for text, _ in pairs]
    encoded = [text.encode("utf-8", "surrogatepass") for text in inputs]
    return Sketches(
        inputs=_hashes(encoded),
        outputs=_hashes(normalise(text).encode("utf-8", "surrogatepass") for _, text in pairs),
        signatures=signatures(inputs),
        texts=b"".join(encoded),
        ends=np.cumsum([len(text) for text in encoded], dtype=np.int64),
    )


def signatures(texts: Sequence[str]) -> Array:
    """Return the MinHash of each normalised text: the lowest byte of each minimum, uint8 (n, K).

    Two texts agree in a share of about J + (1 - J) / 256 of the K = 128 places, J being the Jaccard
    similarity of their shingles.
    """
    draws = generator("features", "minhash").random((2, PERMUTATIONS))
    # Multiply-add modulo 2^32; the multipliers must be odd.
    multiply, add = (draws * 2.0**31).astype(np.uint32) * np.uint32(2) + np.uint32(1)
    found = np.empty((PERMUTATIONS, len(texts)), np.uint8)
    for start, stop in _batches(texts):
        hashes, starts = shingles(texts[start:stop])
        short = (hashes >> np.uint64(32)).astype(np.uint32)
        permuted = np.empty_like(short)
        for place in range(PERMUTATIONS):
            np.multiply(short, multiply[place], out=permuted)
            permuted += add[place]
            found[place, start:stop] = np.minimum.reduceat(permuted, starts)  # its lowest byte
    return np.ascontiguousarray(found.T)


def shingles(texts: Sequence[str]) -> tuple[Array, Array]:
    """Return uint64 hashes of all runs of characters of each text, and where each text's begin.

    A run has 5 characters, or 3 in Chinese; a shorter text is one run.
    """
    longest = max(SHINGLE.values())
    # Texts are parted by as many nulls as let a run begin at each of a text's last characters.
    joined = "".join(text + "\0" * longest for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.array([len(text) for text in texts])
    sizes = np.array([_shingle(text) for text in texts])
    counts = np.maximum(lengths - sizes + 1, 1)
    starts = np.cumsum(counts) - counts
    begins = np.cumsum(lengths + longest) - lengths - longest
    where = np.repeat(begins - starts, counts) + np.arange(counts.sum())
    hashes = np.zeros(len(where), np.uint64)
    for place in range(longest):
        inside = place < np.repeat(sizes, counts) if place >= min(sizes) else True
        mixed = (hashes ^ points[where + place]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        hashes = mixed if inside is True else np.where(inside, mixed, hashes)
    return hashes, starts


def repeats(found: Iterable[Sketches], training: int, folder: Path, run: Map = map) -> Repeats:
    """Compare rows with each other.

    Args:
        found: sketches of the training rows, then those of the evaluation rows; taken one at a
            time.
        training: how many of the rows are training rows.
        folder: an existing folder for what does not fit memory; the caller removes it.
        run: calls a function on each of some jobs, such as `ProcessPoolExecutor.map`.
    """
    inputs, outputs, ends = _stored(found, folder)
    trained, asked = inputs[:training], inputs[training:]
    _, first, group = np.unique(trained, return_index=True, return_inverse=True)
    pairs = trained * np.uint64(0x9E3779B97F4A7C15) ^ outputs[:training]
    _, distinct = np.unique(pairs, return_index=True)
    answers = np.bincount(group[distinct], minlength=len(first))
    seen = np.isin(asked, trained)
    compared = np.concatenate([np.sort(first), training + np.flatnonzero(~seen)])
    near = _near(compared.astype(np.uint32), training, ends, folder, run) if len(ends) else compared
    return Repeats(
        rows=training,
        exact=training - len(distinct),
        near=int((near < training).sum()),
        conflicts=int((answers > 1)[group].sum()),
        evaluation_rows=len(asked),
        evaluation_exact=int(seen.sum()),
        evaluation_near=int((near >= training).sum()),
    )


# --- sketching -------------------------------------------------------------------------------


def _hashes(texts: Iterable[bytes]) -> Array:
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def _shingle(text: str) -> int:
    return SHINGLE["en" if text.isascii() else language([text])]


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield from and up to which texts to take together."""
    start = size = 0
    for place, text in enumerate(texts):
        if size and size + len(text) > BATCH_TEXT:
            yield start, place
            start, size = place, 0
        size += len(text) + 1
    if texts:
        yield start, len(texts)


# --- comparing -------------------------------------------------------------------------------


def _stored(found: Iterable[Sketches], folder: Path) -> tuple[Array, Array, Array]:
    """Write signatures and texts to the folder; return inputs, outputs and the texts' ends."""
    inputs, outputs = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    ends, size = [np.zeros(0, np.int64)], 0
    with (folder / "signatures").open("wb") as signs, (folder / "texts").open("wb") as texts:
        for part in found:
            signs.write(part.signatures.tobytes())
            texts.write(part.texts)
            inputs.append(part.inputs)
            outputs.append(part.outputs)
            ends.append(part.ends + size)
            size += len(part.texts)
    return np.concatenate(inputs), np.concatenate(outputs), np.concatenate(ends)


def _near(compared: Array, training: int, ends: Array, folder: Path, run: Map) -> Array:
    """Return which of the compared rows are near an earlier compared training row."""
    np.save(folder / "compared.npy", compared)
    likeliest = np.zeros((len(ends), LIKELY), np.uint32)
    agreement = np.zeros((len(ends), LIKELY), np.uint8)
    jobs = [(folder, training, band) for band in range(PERMUTATIONS // BAND)]
    for rows, others, agree in run(_candidates, jobs):
        # The least likely of a row's candidates makes room for a likelier one.
        known = (likeliest[rows] == others[:, None]) & (agreement[rows] > 0)
        place = agreement[rows].argmin(axis=1)
        better = ~known.any(axis=1) & (agree > agreement[rows, place])
        likeliest[rows[better], place[better]] = others[better]
        agreement[rows[better], place[better]] = agree[better]
    rows = np.flatnonzero(agreement.max(axis=1, initial=0))
    np.save(folder / "rows.npy", rows)
    np.save(folder / "ends.npy", np.concatenate([[0], ends]))
    np.save(folder / "likeliest.npy", likeliest[rows])
    np.save(folder / "agreement.npy", agreement[rows])
    verified = list(run(_verified, [(folder, at) for at in range(0, len(rows), VERIFIED)]))
    return rows[np.concatenate(verified)] if verified else rows


def _candidates(job: tuple[Path, int, int]) -> tuple[Array, Array, Array]:
    """Return rows, for each the likeliest earlier training row of its bucket, their agreement."""
    folder, training, band = job
    compared = np.load(folder / "compared.npy")
    mapped = np.asarray(np.memmap(folder / "signatures", np.uint8, "r"))
    signs = mapped.reshape(-1, PERMUTATIONS)
    keys = signs.view(np.uint32)[:, band][compared]
    order = np.argsort(keys, kind="stable")  # within a bucket in the order of the rows
    keys, rows = keys[order], compared[order]
    begins = np.concatenate([[True], keys[1:] != keys[:-1]])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    trained = np.cumsum(rows < training) - (rows < training)  # training rows before each place
    end = first + trained - trained[first]
    best = np.zeros(len(rows), np.uint8)
    other = np.zeros(len(rows), np.uint32)
    for offset in (*range(FIRST), *range(-LATEST, 0)):
        at = (first if offset >= 0 else end) + offset
        places = np.flatnonzero((at >= first) & (at < end))
        for block in np.split(places, range(PAIRS, len(places), PAIRS)):
            others = rows[at[block]]
            agree = (signs[rows[block]] == signs[others]).sum(axis=1, dtype=np.uint8)
            better = agree > best[block]
            best[block[better]], other[block[better]] = agree[better], others[better]
    likely = best >= (NEAR - SLACK) * PERMUTATIONS
    return rows[likely], other[likely], best[likely]


def _verified(job: tuple[Path, int]) -> Array:
    """Return for each of some rows whether a candidate of it is near; the likeliest come first."""
    folder, start = job
    rows, likeliest, agreement = (
        np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[start : start + VERIFIED])
        for name in ("rows", "likeliest", "agreement")
    )
    ends = np.asarray(np.load(folder / "ends.npy", mmap_mode="r"))
    near = np.zeros(len(rows), bool)
    with (folder / "texts").open("rb") as texts:

        def distinct(row: int) -> Array:
            """Return the distinct shingles of a row's text."""
            texts.seek(ends[row])
            text = texts.read(ends[row + 1] - ends[row]).decode("utf-8", "surrogatepass")
            return np.unique(shingles([text])[0])

        for place, row in enumerate(rows):
            own = distinct(row)
            tried = np.argsort(-agreement[place].astype(int), kind="stable")
            near[place] = any(
                _similarity(own, distinct(likeliest[place, at])) >= NEAR
                for at in tried
                if agreement[place, at]
            )
    return near


def _similarity(first: Array, second: Array) -> float:
    """Return the Jaccard similarity of two sorted sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
