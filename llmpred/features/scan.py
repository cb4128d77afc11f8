"""Read a table of any size once, in several processes, for what `text` and `duplicates` measure.

The rows go to the processes through an Arrow file in the scratch folder, so that none holds more
than a shard of them. What the processes import has no torch in it.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from llmpred.data.fields import Example
from llmpred.features.base import texts
from llmpred.features.duplicates import Map, Sketches, repeats, sketches
from llmpred.features.text import BLOCK, Row, TextCounts, TextStats, count, merge
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Task

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS, SHARD_BYTES = 128 * BLOCK, 2**24  # that one call reads at most
SHARDS_A_WORKER = 4  # at least, where there are rows enough, so that all end at about one time


class Job(NamedTuple):
    """A shard to read: some record batches of a file."""

    path: Path
    first: int
    last: int
    task: Task
    spec: TaskSpec
    asked: bool  # whether these are evaluation rows, of which only the input is looked at


def text_stats(
    train: pa.Table | Path,
    task: Task,
    spec: TaskSpec,
    *,
    scratch: Path,
    evaluation: pa.Table | Path | None = None,
    workers: int = 1,
) -> TextStats:
    """Measure the texts of a dataset.

    Args:
        train: training rows, as `llmpred.data.load` returns them: a table, or a Parquet or Arrow
            file of one.
        task: the task; with several workers, one that can be pickled.
        spec: its settled spec.
        scratch: an existing folder with room for twice the texts and 128 bytes a row; what is
            written there is removed.
        evaluation: evaluation rows of the same task; their answers are not looked at.
        workers: processes that read; with 1, this one.
    """
    started = time.perf_counter()
    with TemporaryDirectory(prefix="text-", dir=scratch) as name, _mapper(workers) as run:
        folder = Path(name)
        trained = _spooled(train, folder / "train.arrow")
        asked = _spooled(evaluation, folder / "evaluation.arrow") if evaluation is not None else []
        jobs = [
            *_jobs(Job(folder / "train.arrow", 0, 0, task, spec, asked=False), trained, workers),
            *_jobs(Job(folder / "evaluation.arrow", 0, 0, task, spec, asked=True), asked, workers),
        ]
        counts = {False: TextCounts(), True: TextCounts()}
        found = _counted(run(_scanned, jobs), counts)
        repeated = repeats(found, sum(rows for rows, _ in trained), folder, run)
    facts = {
        "text_rows": float(counts[False].rows),
        "text_evaluation_rows": float(counts[True].rows),
        "text_mtld_words": counts[False].mtld / 2,
        "text_seconds": time.perf_counter() - started,
    }
    return TextStats(
        counts[False], repeated, counts[True] if evaluation is not None else None, facts
    )


@contextmanager
def _mapper(workers: int) -> Iterator[Map]:
    """Give a `map` that runs in so many processes."""
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the caller's memory
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield pool.map


def _counted(
    found: Iterable[tuple[bool, TextCounts, Sketches]], counts: dict[bool, TextCounts]
) -> Iterator[Sketches]:
    """Pass the sketches on, and add the counts up as they come."""
    for asked, counted, sketch in found:
        counts[asked] = merge(counts[asked], counted)
        yield sketch


# --- in the processes ------------------------------------------------------------------------


def _scanned(job: Job) -> tuple[bool, TextCounts, Sketches]:
    """Read a shard."""
    import pyarrow as pa

    with pa.OSFile(str(job.path)) as file:  # mapped, its pages would count as the process's memory
        reader = pa.ipc.open_file(file)
        rows = [
            _row({name: value for name, value in values.items() if value is not None}, job)
            for place in range(job.first, job.last)
            for values in reader.get_batch(place).to_pylist()
        ]
    return job.asked, count(rows), sketches([(row.input, row.output) for row in rows])


def _row(example: Example, job: Job) -> Row:
    given, wanted = texts(example, job.task, job.spec)
    if job.asked:
        return Row(given, "")
    if job.task.candidates(example, job.spec) is None:
        return Row(given, wanted)
    return Row(given, wanted, str(job.task.answer_index(example, job.spec)))


# --- the file between ------------------------------------------------------------------------


def _spooled(source: pa.Table | Path, path: Path) -> list[tuple[int, int]]:
    """Write a table in record batches of a block each; return the rows and bytes of each."""
    import pyarrow as pa

    written = []
    with pa.OSFile(str(path), "wb") as sink:
        writer = None
        for batch in _blocks(_read(source)):
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
            written.append((batch.num_rows, batch.nbytes))
        if writer is not None:
            writer.close()
    return written


def _read(source: pa.Table | Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(source, Path):
        yield from source.to_batches()
    elif source.suffix == ".parquet":
        with pq.ParquetFile(source) as file:
            yield from file.iter_batches(batch_size=BLOCK)
    else:
        with pa.OSFile(str(source)) as file:
            reader = pa.ipc.open_file(file)
            yield from map(reader.get_batch, range(reader.num_record_batches))


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of exactly a block; the last may have fewer."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    room = BLOCK
    for batch in batches:
        while batch.num_rows:
            held.append(batch.slice(0, room))
            batch = batch.slice(room)
            room -= held[-1].num_rows
            if not room:
                yield pa.concat_batches(held)
                held, room = [], BLOCK
    if held:
        yield pa.concat_batches(held)


def _jobs(job: Job, batches: list[tuple[int, int]], workers: int) -> Iterator[Job]:
    """Yield shards of whole batches that keep within the limits, unless one batch does not."""
    rows = sum(rows for rows, _ in batches)
    limit = min(SHARD_ROWS, max(BLOCK, math.ceil(rows / (workers * SHARDS_A_WORKER))))
    first = rows = size = 0
    for place, (more, larger) in enumerate(batches):
        if place > first and (rows + more > limit or size + larger > SHARD_BYTES):
            yield job._replace(first=first, last=place)
            first, rows, size = place, 0, 0
        rows, size = rows + more, size + larger
    if batches:
        yield job._replace(first=first, last=len(batches))
