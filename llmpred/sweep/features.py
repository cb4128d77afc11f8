"""Measure meta-features on Ray: each measurement once, kept as soon as it is there.

A job is one measurement of one run. Jobs are plain Ray tasks: a worker process that Ray keeps also
keeps the base it has loaded. What is in the storage decides what is left, so the same command goes
on after any end and loses at most what was being measured.
"""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.bases import fetch
from llmpred.bases.registry import KNOWN
from llmpred.bases.resolve import ResolvedSpec
from llmpred.features.base import Values
from llmpred.features.measurements import (
    BY_NAME,
    FEATURES,
    MEASUREMENTS,
    Tools,
    embedder_hash,
    vector,
)
from llmpred.features.store import get_many, put
from llmpred.ledger import Heartbeat, Ledger, Storage, claims
from llmpred.redaction import redact
from llmpred.sweep.cluster import choose_workers, connected, nodes_of
from llmpred.sweep.memory import memory_bytes
from llmpred.sweep.plan import Plan

if TYPE_CHECKING:
    import pyarrow as pa

    from llmpred.engine.models import LoadedBases

TEXT = "text"  # needs no model, and its worker never imports torch
TRIES = 2  # of a job whose worker died


@dataclass(frozen=True)
class Job:
    """One measurement to take.

    Attributes:
        measurement: its name.
        key: under which its values are kept.
        run: a run that it describes.
    """

    measurement: str
    key: str
    run: ResolvedSpec


@dataclass(frozen=True)
class Measured:
    """What became of a job; `error` says why it has no values."""

    job: Job
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Extracted:
    """What an extraction gave.

    Attributes:
        table: one row a run: key, dataset, base, task, family (the hash of the training rows), then
            all features; NaN where unknown.
        measured: jobs that were carried out.
        cached: measurements that were there before.
        warnings: measurement, run's name and reason, for values that are unknown.
        seconds: wall time.
    """

    table: pa.Table
    measured: tuple[Measured, ...]
    cached: int
    warnings: tuple[str, ...]
    seconds: float


def jobs_for(
    runs: Sequence[ResolvedSpec], names: Sequence[str], embedder: str | None
) -> dict[tuple[str, str], Job]:
    """Return the measurements that describe runs, each once, by (measurement, key)."""
    jobs: dict[tuple[str, str], Job] = {}
    for run in runs:
        alone = run.with_execution(distributed=None)  # measuring is one process's work
        for name in names:
            key = BY_NAME[name].key(run, embedder_hash(run, embedder))
            jobs.setdefault((name, key), Job(name, key, alone))
    return jobs


def extract(
    plan: Plan,
    ledger: Ledger,
    *,
    names: Sequence[str] = tuple(BY_NAME),
    embedder: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    cache: Path | None = None,
    told: Callable[[Measured, int, int], None] = lambda measured, done, total: None,
) -> Extracted:
    """Measure what is not there yet of the runs that train, and return all of their features.

    Args:
        plan: the runs.
        ledger: its storage keeps what is measured; its records give zero-shot scores.
        names: which measurements; the others' features are taken from the storage or unknown.
        embedder: `minilm` or a sentence-transformers model; None takes each run's own base.
        address: of a Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine.
        max_concurrent: jobs side by side at most.
        cache: where prepared data is kept.
        told: called after each job with how many are done, of how many.
    """
    started = time.time()
    runs = [run for run in plan.runs.values() if run.spec.trains]
    every = jobs_for(runs, tuple(BY_NAME), embedder)
    there = get_many(ledger.storage, every)
    wanted = [job for at, job in every.items() if job.measurement in names]
    todo = [job for job in wanted if (job.measurement, job.key) not in there]
    done: list[Measured] = []
    if todo:
        with connected(address) as ray:
            nodes = nodes_of(ray)
            memory = max(memory_bytes(job.run) for job in todo)
            workers = choose_workers(nodes, len(todo), memory, max_concurrent)
            # Few datasets leave cores to spare, which then read one dataset together.
            texts = min(workers.count, sum(job.measurement == TEXT for job in todo))
            cores = min(int(node.get("CPU", 1)) for node in nodes if node.get("CPU"))
            readers = max(1, cores // max(1, texts))
            orders = _Orders(ledger.storage.root, str(Path.cwd()), cache, embedder, readers)
            for measured in _carried_out(ray, todo, orders, workers.count, workers.gpus):
                done.append(measured)
                told(measured, len(done), len(todo))
        there = get_many(ledger.storage, every)
    zero_shot = {row["key"]: row["accuracy_r"] for row in ledger.table().to_pylist() if row["key"]}
    rows, warnings = [], [f"{_name(m.job)}: {m.error}" for m in done if m.error]
    said: set[tuple[str, str]] = set()
    for run in runs:
        found: dict[str, Values] = {}
        for name in BY_NAME:
            at = (name, BY_NAME[name].key(run, embedder_hash(run, embedder)))
            if at not in there:
                continue
            found[name] = there[at]
            if name in names and at not in said:
                said.add(at)
                warnings += [
                    f"{name} of {run.dataset}: {feature} is unknown: {why}"
                    for feature, why in there[at].warnings.items()
                ]
        examples = run.counts.get("train", 0)
        values = vector(run, examples, found, zero_shot.get(run.zero_shot_key or ""))
        rows.append({**_identity(run), **values})
    return Extracted(
        _table(rows), tuple(done), len(wanted) - len(todo), tuple(warnings), time.time() - started
    )


def _identity(run: ResolvedSpec) -> dict[str, str]:
    return {
        "key": run.key,
        "dataset": run.dataset,
        "base": run.base,
        "task": run.spec.task.name,
        "family": run.hashes["train"],
    }


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    names = ("key", "dataset", "base", "task", "family")
    columns: dict[str, Any] = {n: pa.array([r[n] for r in rows], pa.string()) for n in names}
    for feature in FEATURES:
        values = [None if math.isnan(r[feature.name]) else r[feature.name] for r in rows]
        columns[feature.name] = pa.array(values, pa.float64())
    return pa.table(columns)


def _name(job: Job) -> str:
    return f"{job.measurement} of {job.run.dataset} ({job.run.base})"


# --- workers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Orders:
    """What every worker is told: storage, the driver's folder, and what `Tools` needs.

    Attributes:
        readers: processes that read the texts of one dataset.
    """

    storage: str
    folder: str
    cache: Path | None
    embedder: str | None
    readers: int


def _carried_out(ray: Any, todo: Sequence[Job], orders: _Orders, count: int, gpus: float) -> Any:
    """Yield what became of each job, `count` of them at a time, those of one base together."""
    light = ray.remote(num_cpus=orders.readers, max_retries=TRIES - 1)(_carry_out)
    heavy = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(_carry_out)
    order = [each.name for each in MEASUREMENTS]
    left = sorted(todo, key=lambda job: (order.index(job.measurement), job.run.hashes["weights"]))
    left.reverse()
    running: dict[Any, Job] = {}
    while left or running:
        while left and len(running) < count:
            job = left.pop()
            task = light if job.measurement == TEXT else heavy
            running[task.remote(job, orders)] = job
        [ready], _ = ray.wait(list(running), num_returns=1)
        job = running.pop(ready)
        try:
            yield ray.get(ready)
        except ray.exceptions.RayError as error:
            yield Measured(job, 0.0, f"its worker died: {str(error).splitlines()[0]}")


def _carry_out(job: Job, orders: _Orders) -> Measured:
    """Take one measurement and keep it; what goes wrong with it is told, not raised."""
    from llmpred.sweep.trainable import enter

    started = time.time()
    enter(orders.folder)
    storage = Storage(orders.storage)
    try:
        with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
            if job.measurement == "probe":
                values = _probed(job, orders, storage, Path(scratch))
            else:
                needed = [job.run.spec.base.name]
                if job.measurement == "embedding" and orders.embedder is not None:
                    needed.append(orders.embedder)
                for name in needed:
                    if name in KNOWN:
                        fetch.add(name)  # the driver brought it to its own node only
                tools = _tools(orders, Path(scratch), Path(scratch))
                values = BY_NAME[job.measurement].take(job.run, tools)
        put(storage, job.measurement, job.key, values)
    except Exception as error:  # one bad dataset must not end the others; nothing is kept of it
        line = next(iter(str(error).splitlines()), "")
        return Measured(job, time.time() - started, f"{type(error).__name__}: {redact(line)}")
    return Measured(job, time.time() - started)


def _probed(job: Job, orders: _Orders, storage: Storage, scratch: Path) -> Values:
    """Probe a run in its own checkpoint folder, under its claim: the run then goes on from there.

    A run that is further keeps its own checkpoints. One whose probe diverged leaves none.

    Raises:
        RuntimeError: when a collector is working on the run.
    """
    from llmpred.sweep.worker import fetched

    key = job.run.key
    claim = claims.claim(storage, key, claims.this_process("features"), claims.LEASE_SECONDS)
    if claim is None:
        raise RuntimeError("a collector is working on this run; probe it again later")
    place = f"checkpoints/{key}"
    local = storage.local_path(place)
    with Heartbeat(claim) as beat:
        folder = local or scratch / "run"
        folder.mkdir(parents=True, exist_ok=True)
        if local is None:
            fetched(storage, place, folder)
        values = BY_NAME["probe"].take(job.run, _tools(orders, scratch, folder))
        if Ledger(storage).has(key):  # paid for: nobody will go on from here
            shutil.rmtree(folder)
        elif local is None and not beat.lost and any(folder.iterdir()):
            storage.put_folder(folder, place)
    return values


def _tools(orders: _Orders, scratch: Path, checkpoints: Path) -> Tools:
    return Tools(
        _bases(), scratch, checkpoints, orders.cache, orders.embedder, workers=orders.readers
    )


@functools.cache
def _bases() -> LoadedBases:
    from llmpred.engine.models import LoadedBases

    return LoadedBases()
