"""Work off one key: claim it, run it, record it. Knows no Ray; a sweep calls it in its actors."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from llmpred.bases.resolve import ResolvedSpec
from llmpred.engine.models import LoadedBases, OutOfMemory
from llmpred.engine.provenance import collect
from llmpred.engine.run import execute
from llmpred.errors import LlmpredError, StorageError
from llmpred.ledger import AlreadyRecorded, Heartbeat, Ledger, claims
from llmpred.ledger.record import RunRecord, Status

DIED = "the worker died while it ran this"
DEATHS = 2  # a run that took its worker down this often in one sweep is left alone

State = Literal[
    "ok", "diverged", "failed", "out_of_memory", "paid", "elsewhere", "interrupted", "lost"
]


@dataclass(frozen=True)
class Done:
    """What became of a key.

    Attributes:
        key: of the run.
        state: an outcome, or why there is none: `paid` before, claimed `elsewhere`, `interrupted`,
            or `lost` to another worker while it ran.
        accuracy_r: the score, if there is one.
        seconds: spent on it here.
        message: one line for people, where something went wrong.
    """

    key: str
    state: State
    accuracy_r: float | None = None
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Orders:
    """What every worker of a sweep is told.

    Attributes:
        storage: root of the ledger.
        sweep: id of the sweep, to group attempts and claims.
        cache: where prepared data is kept on a machine; None for the default.
        deadline: seconds since the epoch after which no run goes on.
        supersede: keys to run although the ledger has them.
        lease_seconds: of claims.
    """

    storage: str
    sweep: str
    cache: Path | None = None
    deadline: float | None = None
    supersede: frozenset[str] = frozenset()
    lease_seconds: float = claims.LEASE_SECONDS

    @property
    def stop_file(self) -> str:
        """Path in the storage whose existence asks all workers to stop."""
        return f"sweeps/{self.sweep}/stop"


def work(run: ResolvedSpec, ledger: Ledger, bases: LoadedBases, orders: Orders) -> Done:
    """Run what is not paid for, and record it; never raises for a failing run.

    Raises:
        StorageError: when the storage cannot be used: then no other run would fare better.
    """
    key = run.key
    again = key in orders.supersede
    if not again and ledger.has(key):
        return Done(key, "paid")
    reason = stop_reason(ledger, orders)
    if reason:
        return Done(key, "interrupted", message=reason)
    _note_death(run, ledger, orders)
    refused = _tried(run, ledger, orders)
    if refused is not None:
        return refused
    owner = claims.this_process(orders.sweep)
    claim = claims.claim(ledger.storage, key, owner, orders.lease_seconds)
    if claim is None:
        return Done(key, "elsewhere")
    started = time.time()
    with Heartbeat(claim) as beat:
        if not again and ledger.has(key):
            return Done(key, "paid")

        def stop() -> str | None:
            return "the claim was lost" if beat.lost else watch()

        watch = _every_second(lambda: stop_reason(ledger, orders))
        try:
            record = _run_and_record(run, ledger, bases, orders, stop, again)
        except AlreadyRecorded:
            return Done(key, "lost", seconds=time.time() - started)
        except Exception as error:
            return _attempt(run, ledger, error, started, orders)
    return Done(key, _state(record.status), record.accuracy_r, time.time() - started)


def stop_reason(ledger: Ledger, orders: Orders) -> str | None:
    """Return why workers should stop now, or None."""
    if orders.deadline is not None and time.time() > orders.deadline:
        return "the limit of time or cost is reached"
    if ledger.storage.exists(orders.stop_file):
        return "the sweep was asked to stop"
    return None


def _run_and_record(
    run: ResolvedSpec,
    ledger: Ledger,
    bases: LoadedBases,
    orders: Orders,
    stop: Callable[[], str | None],
    again: bool,
) -> RunRecord:
    storage = ledger.storage
    place = f"checkpoints/{run.train_key}"
    local = storage.local_path(place)
    keep = run.spec.execution.keep != "none"
    with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
        folder = local or Path(scratch) / "run"
        if local is None and storage.list(f"{place}/"):
            storage.get_folder(place, folder)
        folder.mkdir(parents=True, exist_ok=True)
        kept = f"adapters/{run.train_key}"
        trained = None
        if run.spec.trains and not again and storage.exists(f"{kept}/adapter.json"):
            trained = storage.get_folder(kept, Path(scratch) / "adapter")
        try:
            outcome = execute(
                run,
                bases,
                folder,
                cache=orders.cache,
                trained=trained,
                keep_adapter=keep and trained is None,
                stop=stop,
            )
        finally:
            if local is None and any(folder.glob("checkpoint-*")):
                storage.put_folder(folder, place)
        record = outcome.record
        if outcome.adapter is not None:
            (outcome.adapter / "adapter.json").write_text(record.model_dump_json(include={"train_key", "key"}))
            storage.put_folder(outcome.adapter, kept)
        if outcome.adapter is not None or trained is not None:
            record = record.model_copy(update={"adapter": kept})
        record = ledger.put(record, outcome.predictions, supersede=again)
        shutil.rmtree(folder, ignore_errors=True)
        storage.delete_folder(place)
    return record


def _attempt(
    run: ResolvedSpec, ledger: Ledger, error: Exception, started: float, orders: Orders
) -> Done:
    """Record a run that has no outcome, and say what became of it."""
    from llmpred.engine.reference import Interrupted

    seconds = time.time() - started
    if isinstance(error, Interrupted):
        return Done(run.key, "interrupted", seconds=seconds, message=str(error))
    status: Status = "out_of_memory" if isinstance(error, OutOfMemory) else "failed"
    known = isinstance(error, LlmpredError)
    text = str(error) if known else "".join(traceback.format_exception(error))
    ledger.put_attempt(attempt_record(run, status, text, started, orders))
    if isinstance(error, StorageError):
        raise error
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    message = line if known else f"{type(error).__name__}: {line}"
    return Done(run.key, status, seconds=seconds, message=message)


def attempt_record(
    run: ResolvedSpec, status: Status, error: str, started: float, orders: Orders
) -> RunRecord:
    """Return the record of a run without an outcome."""
    return RunRecord(
        key=run.key,
        train_key=run.train_key,
        dataset=run.dataset,
        base=run.base,
        spec=run.spec,
        hashes=run.hashes,
        versions=run.versions,
        status=status,
        accuracy_r=None,
        zero_shot_key=run.zero_shot_key,
        wall_seconds={"total": round(time.time() - started, 3)},
        counts=run.counts,
        provenance={**collect(run.spec, started, run.spec.execution.device), "sweep": orders.sweep},
        error=error,
    )


def _note_death(run: ResolvedSpec, ledger: Ledger, orders: Orders) -> None:
    """Record that an earlier worker of this run died, if one did."""
    last = claims.status(ledger.storage, run.key)
    if last is not None and not last.released and not last.held():
        died = f"{DIED}: process {last.owner.pid} on {last.owner.host}"
        ledger.put_attempt(attempt_record(run, "failed", died, time.time(), orders))
        claims.release(last)


def _tried(run: ResolvedSpec, ledger: Ledger, orders: Orders) -> Done | None:
    """Return what this sweep already found out about a run that failed, so it is not run again."""
    mine = [a for a in ledger.attempts(run.key) if a.provenance.get("sweep") == orders.sweep]
    failures = [a for a in mine if not (a.error or "").startswith(DIED)]
    if failures:
        text = (failures[-1].error or "").strip().splitlines()
        return Done(run.key, _state(failures[-1].status), message=text[-1] if text else "")
    if len(mine) >= DEATHS:
        return Done(run.key, "failed", message=f"{DIED} {len(mine)} times; left for the next collect")
    return None


def _every_second(look: Callable[[], str | None]) -> Callable[[], str | None]:
    """Return `look`, asked at most once a second: it goes to the storage."""
    last = time.monotonic()

    def throttled() -> str | None:
        nonlocal last
        if time.monotonic() - last < 1.0:
            return None
        last = time.monotonic()
        return look()

    return throttled


def _state(status: Status) -> State:
    return status


def sweep_id(name: str) -> str:
    """Return an id for one collect: time-sortable and readable."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}"
