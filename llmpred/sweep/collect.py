"""`mode: collect`: Ray Tune works off every run that the ledger does not have.

A Tune trial is a pack, a list of runs that share a base, worked off by a long-lived actor that
keeps the base loaded. Every run counts: there is no early stopping. What is recorded decides what
is done, so rerunning a sweep resumes it, wherever and however it ended.
"""

from __future__ import annotations

import dataclasses
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.errors import Problem, StorageError
from llmpred.ledger import Ledger, claims
from llmpred.sweep.cluster import Workers, choose_groups, choose_workers, connected, nodes_of
from llmpred.sweep.hung import killing_the_hung
from llmpred.sweep.memory import memory_bytes
from llmpred.sweep.orders import DEATHS, OPEN, POLL_SECONDS, Done, Orders, sweep_id
from llmpred.sweep.plan import Plan, packs
from llmpred.sweep.progress import Progress
from llmpred.wording import counted


@dataclass(frozen=True)
class Limits:
    """What a collect may use.

    Attributes:
        max_hours: wall time; runs in progress stop at a step and are resumed by the next collect.
        max_cost: money, in the unit of `price_per_hour`.
        price_per_hour: of one worker, or one process of a run that has several.
        max_concurrent: runs side by side.
    """

    max_hours: float | None = None
    max_cost: float | None = None
    price_per_hour: float | None = None
    max_concurrent: int | None = None

    def deadline(self, started: float, workers: Workers) -> float | None:
        """Return when to stop, in seconds since the epoch."""
        hours = [] if self.max_hours is None else [self.max_hours]
        if self.max_cost is not None and self.price_per_hour:
            hours.append(self.max_cost / (self.price_per_hour * workers.count * workers.processes))
        return started + 3600 * min(hours) if hours else None


@dataclass(frozen=True)
class Collected:
    """What a collect did.

    Attributes:
        sweep: its id.
        done: what became of each run that was not paid for before.
        interrupted: why it ended early, or None.
        seconds: wall time.
    """

    sweep: str
    done: dict[str, Done]
    interrupted: str | None
    seconds: float


def collect(
    plan: Plan,
    ledger: Ledger,
    *,
    name: str,
    limits: Limits,
    address: str | None = None,
    cache: Path | None = None,
    supersede: bool = False,
    quiet: bool = False,
    on_done: Callable[[Done], None] = lambda done: None,
) -> Collected:
    """Run everything in `plan` that is not paid for, and return what became of it.

    Args:
        plan: the runs.
        ledger: where outcomes go; workers write them themselves.
        name: of the space.
        limits: time, cost, concurrency.
        address: of a Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine.
        cache: where prepared data is kept.
        supersede: run paid runs again; the old records stay, marked as superseded.
        quiet: show no progress.
        on_done: called in this process for each run that is recorded or failed.
    """
    started = time.time()
    runs = list(plan.runs.values()) if supersede else plan.todo
    orders = Orders(
        storage=ledger.storage.root,
        sweep=sweep_id(name),
        folder=str(Path.cwd()),
        cache=cache,
        supersede=plan.paid if supersede else frozenset(),
    )
    if not runs:
        return Collected(orders.sweep, {}, None, time.time() - started)
    progress = Progress(len(runs), {run.key: label(run) for run in runs}, quiet=quiet)

    def take(done: Done) -> None:
        progress.add(done)
        on_done(done)

    with (
        connected(address) as ray,
        progress,
        stop_on_signal(ledger, orders, progress) as asked,
        killing_the_hung(ray, ledger, orders, progress),
    ):
        workers = workers_for(ray, runs, len(runs), limits, ledger)
        orders = told(orders, workers, limits.deadline(started, workers))
        left, interrupted = runs, None
        while left and not interrupted:
            errors = fit(left, orders, workers, take)
            for run in left:
                if run.key not in progress.done:
                    why = next(iter(errors), "its worker never answered")
                    take(Done(run.key, "failed", message=why))
            left = [run for run in left if progress.done[run.key].state in OPEN]
            reasons = [d.message for d in progress.done.values() if d.state == "interrupted"]
            interrupted = asked() or next(iter(reasons), None)
            if left and not interrupted:
                left = _wait_for_others(left, ledger, progress, asked, orders, take)
                interrupted = asked()
    return Collected(orders.sweep, progress.done, interrupted, time.time() - started)


def workers_for(
    ray: Any, runs: Sequence[ResolvedSpec], side_by_side: int, limits: Limits, ledger: Ledger
) -> Workers:
    """Return how many runs the cluster has, or will have, room for.

    A worker has the memory that the largest run needs.

    The runs of a space agree in `execution`, so all have as many processes.

    Args:
        ray: the connected module.
        runs: those that may run.
        side_by_side: at most this many at once.
        limits: the user's.
        ledger: where outcomes go.

    Raises:
        LlmpredError: when the cluster has no room for a run, or a run's processes on several nodes
            would share no folder.
    """
    nodes = nodes_of(ray)
    several = runs[0].spec.execution.distributed is not None and len(nodes) > 1
    if several and ledger.storage.local_path("checkpoints") is None:
        law = (
            "the processes of a run share its folder, but the cluster has several nodes and the "
            f"storage {ledger.storage.root} is a bucket"
        )
        fix = "Give --storage a folder that all nodes mount, or run on one node."
        raise StorageError(Problem(law, fix=fix))
    if runs[0].spec.execution.device == "cpu":
        nodes = [{**node, "GPU": 0.0} for node in nodes]
    memory = max(memory_bytes(run) for run in runs)
    if distributed := runs[0].spec.execution.distributed:
        workers = distributed.workers
        return choose_groups(nodes, side_by_side, workers, memory, limits.max_concurrent)
    return choose_workers(nodes, side_by_side, memory, limits.max_concurrent)


def told(orders: Orders, workers: Workers, deadline: float | None) -> Orders:
    """Return orders with what is known once the cluster is."""
    cpus, gpu = int(workers.cpus), workers.gpus > 0
    return dataclasses.replace(orders, deadline=deadline, cpus=cpus, gpu=gpu)


def label(run: ResolvedSpec) -> str:
    """Return a run's name for people: dataset, base, and what is trained how."""
    spec = run.spec
    if not spec.trains:
        return f"{run.dataset} {run.base} zero-shot"
    adapter = spec.method.adapter
    kind = f"r{adapter.r}" if adapter.kind == "lora" else adapter.kind
    kind = f"{spec.method.name} {kind}" if spec.method.name else kind
    return f"{run.dataset} {run.base} {kind} lr {spec.optim.top_lr:g} seed {spec.seed}"


def fit(
    runs: Sequence[ResolvedSpec],
    orders: Orders,
    workers: Workers,
    take: Callable[[Done], None],
) -> list[str]:
    """Work off runs with Ray Tune; return, once all trials ended, the errors of those that failed.

    A trial fails when its worker cannot be started, or died more often than its runs may.
    """
    from ray import tune

    from llmpred.sweep.trainable import pack_trainable, tell

    packed = packs(runs, workers.count)
    trainable = tune.with_resources(
        tune.with_parameters(pack_trainable(), packs=packed, orders=orders),
        workers.resources,
    )
    with tempfile.TemporaryDirectory(prefix="llmpred-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            param_space={"pack": tune.grid_search(list(range(len(packed))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=workers.count, reuse_actors=True),
            run_config=tune.RunConfig(
                name=orders.sweep,
                storage_path=scratch,
                verbose=0,
                # Its place would have to be one that all nodes see; the ledger keeps what matters.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[tell(lambda result: take(Done(**result["run"])))],
                failure_config=tune.FailureConfig(max_failures=DEATHS * max(map(len, packed))),
            ),
        )
        return [str(error).strip().splitlines()[-1] for error in tuner.fit().errors]


def _wait_for_others(
    runs: Sequence[ResolvedSpec],
    ledger: Ledger,
    progress: Progress,
    asked: Callable[[], str | None],
    orders: Orders,
    take: Callable[[Done], None],
) -> list[ResolvedSpec]:
    """Wait until another collector recorded its runs or let go of one; return what is left."""
    progress.say(f"waiting for {counted(len(runs), 'run')} that another collector is working on")
    left = list(runs)
    while left and not asked():
        recorded = ledger.keys() - orders.supersede  # those are to be run again, not awaited
        for run in left:
            if run.key in recorded:
                take(Done(run.key, "paid", message="by another collector"))
        left = [run for run in left if run.key not in recorded]
        free = [run for run in left if _is_free(ledger, run.key)]
        if free:
            return free
        if left and orders.deadline is not None and time.time() > orders.deadline:
            return left
        time.sleep(POLL_SECONDS if left else 0)
    return left


def _is_free(ledger: Ledger, key: str) -> bool:
    claim = claims.status(ledger.storage, key)
    return claim is None or not claim.held()


@contextmanager
def stop_on_signal(
    ledger: Ledger, orders: Orders, progress: Progress
) -> Iterator[Callable[[], str | None]]:
    """On Ctrl-C or SIGTERM ask all workers to stop at their next step; a second one is at once.

    While it lasts the sweep's driver file stands in the storage.

    Yields a function that says why a stop was asked for, or None.
    """
    reason: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if reason:
            progress.say("stopped at once; the same command resumes")
            raise KeyboardInterrupt
        reason.append("interrupted")
        ledger.storage.write(orders.stop_file, b"")
        progress.say("stopping at the next step of each run; press Ctrl-C again to stop at once")

    ledger.storage.write(orders.driver_file, b"")
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: reason[0] if reason else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(StorageError):  # a storage in trouble has been told of; this is tidying
            ledger.storage.delete_many([orders.driver_file, orders.stop_file])
