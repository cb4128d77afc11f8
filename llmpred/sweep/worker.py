"""Work off one key: claim it, run it, record it. Knows no Ray; a sweep calls it in its actors."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmpred.bases import fetch
from llmpred.bases.registry import KNOWN
from llmpred.bases.resolve import ResolvedSpec
from llmpred.engine.models import Interrupted, LoadedBases, OutOfMemory
from llmpred.engine.provenance import collect
from llmpred.engine.reference import where_it_stands
from llmpred.engine.run import Outcome, execute
from llmpred.errors import LlmpredError, StorageError
from llmpred.ledger import AlreadyRecorded, DamagedFolder, Heartbeat, Ledger, Storage, claims
from llmpred.ledger.record import RunRecord, Status
from llmpred.redaction import redact
from llmpred.sweep.orders import DEATHS, Done, Orders, State

DIED = "the worker died while it ran this"
TRAINED = "adapter.json"  # beside kept weights: what their training was like


class Stopped(Interrupted):
    """The scheduler of a search gave a run up; nothing of it is kept."""


@dataclass(frozen=True)
class Reports:
    """Whom to tell how a run is doing, and when.

    Attributes:
        at: optimizer steps after which the validation loss is taken.
        tell: called with step and loss; raises `Stopped` to give the run up.
    """

    at: frozenset[int] = frozenset()
    tell: Callable[[int, float], None] = field(default=lambda step, loss: None)


def work(
    run: ResolvedSpec,
    ledger: Ledger,
    bases: LoadedBases,
    orders: Orders,
    reports: Reports = Reports(),
) -> Done:
    """Run what is not paid for, and record it; never raises for a failing run.

    A storage that cannot be used interrupts: no other run would fare better.
    """
    started = time.time()
    try:
        return _work(run, ledger, bases, orders, reports, started)
    except StorageError as error:
        return Done(run.key, "interrupted", None, time.time() - started, _line(str(error)))


def _work(
    run: ResolvedSpec,
    ledger: Ledger,
    bases: LoadedBases,
    orders: Orders,
    reports: Reports,
    started: float,
) -> Done:
    key = run.key
    again = key in orders.supersede and not _superseded(ledger, key, orders)
    if not again and ledger.has(key):
        return Done(key, "paid")
    reason = _elsewhere(ledger, orders) or stop_reason(ledger, orders)
    if reason:
        return Done(key, "interrupted", message=reason)
    last = claims.status(ledger.storage, key)
    claim = claims.claim(
        ledger.storage, key, claims.this_process(orders.sweep), orders.lease_seconds
    )
    if claim is None:
        return Done(key, "elsewhere")
    with Heartbeat(claim) as beat:
        if not again and ledger.has(key):
            return Done(key, "paid")
        news = []
        if last is not None and not last.released and last.generation + 1 == claim.generation:
            _record_death(run, ledger, last, orders)
            news.append(f"its worker, process {last.owner.pid} on {last.owner.host}, died")
        refused = _tried(run, ledger, orders)
        if refused is not None:
            return refused

        def stop() -> str | None:
            return "the claim was lost" if beat.lost else watch()

        watch = _every_second(lambda: stop_reason(ledger, orders))
        try:
            record, stood = _run_and_record(run, ledger, bases, orders, reports, stop, again)
        except AlreadyRecorded:
            ledger.storage.delete_folder(f"checkpoints/{key}")
            return Done(key, "lost", seconds=time.time() - started)
        except StorageError:
            raise
        except Interrupted as error:
            state: State = "stopped" if isinstance(error, Stopped) else "interrupted"
            seconds = time.time() - started
            return Done(key, "lost" if beat.lost else state, None, seconds, str(error))
        except Exception as error:
            return _attempt(run, ledger, error, started, orders)
    message = "; ".join(part for part in (*news, stood) if part)
    return Done(key, record.status, record.accuracy_r, time.time() - started, message)


def _elsewhere(ledger: Ledger, orders: Orders) -> str | None:
    """Return what is wrong if this worker's storage is not the driver's, or None.

    On another node the same path may be another disk, whose records nobody would ever see.
    """
    if ledger.storage.exists(orders.driver_file):
        return None
    return (
        f"{ledger.storage.root} on {socket.gethostname()} is not the driver's storage; give "
        "--storage a folder that all nodes mount, or a bucket"
    )


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
    reports: Reports,
    stop: Callable[[], str | None],
    again: bool,
) -> tuple[RunRecord, str]:
    """Return the record, and for people where the run went on."""
    storage = ledger.storage
    place = f"checkpoints/{run.key}"
    kept = f"adapters/{run.train_key}"
    if run.spec.base.name in KNOWN:
        fetch.add(run.spec.base.name)  # the driver brought it to its own node only
    local = storage.local_path(place)
    with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
        folder = local or Path(scratch) / "run"
        folder.mkdir(parents=True, exist_ok=True)
        if local is None:
            fetched(storage, place, folder)
        stood = where_it_stands(folder, run.spec)
        trained = None
        if run.spec.trains and not again:
            # Several processes read it, on other nodes too.
            place_of_it = folder if run.spec.execution.distributed else Path(scratch)
            trained = fetched(storage, kept, place_of_it / "trained")
        try:
            outcome = _executor(run, bases, orders)(
                folder=folder,
                cache=orders.cache,
                trained=trained,
                keep_adapter=run.spec.execution.keep != "none" and trained is None,
                stop=stop,
                saved=lambda: None if local else storage.put_folder(folder, place),
                report=reports.tell,
                report_at=reports.at,
            )
        except Stopped:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        record = _with_weights(outcome, trained, kept)
        if outcome.adapter is not None:
            facts = record.model_dump(mode="json", include={"key", "loss_curve", "tokens"})
            (outcome.adapter / TRAINED).write_text(json.dumps(facts))
            storage.put_folder(outcome.adapter, kept)
        provenance = {**record.provenance, "sweep": orders.sweep}
        record = record.model_copy(update={"provenance": provenance})
        record = ledger.put(record, outcome.predictions, supersede=again)
        shutil.rmtree(folder, ignore_errors=True)
        storage.delete_folder(place)
    return record, stood


def _executor(run: ResolvedSpec, bases: LoadedBases, orders: Orders) -> Callable[..., Outcome]:
    """Return what carries out a run: this process, or several that it starts."""
    if run.spec.execution.distributed is None:
        return partial(execute, run, bases)
    from llmpred.distributed.together import carry_out

    bases.drop()  # the processes load their own, and need the memory
    return partial(carry_out, run, cpus=orders.cpus, gpu=orders.gpu)


def fetched(storage: Storage, place: str, folder: Path) -> Path | None:
    """Return a local copy of a folder in the storage, or None if there is no whole one."""
    try:
        return storage.get_folder(place, folder)
    except FileNotFoundError:
        return None
    except DamagedFolder:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return None  # it is made again, and put in the place of the damaged one


def _with_weights(outcome: Outcome, trained: Path | None, kept: str) -> RunRecord:
    """Return the record with where its weights are and, if another run trained them, how."""
    record = outcome.record
    if trained is None:
        return record.model_copy(update={"adapter": kept}) if outcome.adapter else record
    facts: dict[str, Any] = json.loads((trained / TRAINED).read_text())
    changes = {
        "adapter": kept,
        "loss_curve": tuple(facts["loss_curve"]),
        "tokens": facts["tokens"],
        "provenance": {**record.provenance, "trained_by": facts["key"]},
    }
    return record.model_copy(update=changes)


def _superseded(ledger: Ledger, key: str, orders: Orders) -> bool:
    """Whether this very sweep ran a paid key again already, before its worker was restarted."""
    return ledger.has(key) and ledger.get(key).provenance.get("sweep") == orders.sweep


def _attempt(
    run: ResolvedSpec, ledger: Ledger, error: Exception, started: float, orders: Orders
) -> Done:
    """Record a run that failed for reasons of the machine or of itself."""
    status: Status = "out_of_memory" if isinstance(error, OutOfMemory) else "failed"
    known = isinstance(error, LlmpredError)
    text = str(error) if known else "".join(traceback.format_exception(error))
    ledger.put_attempt(attempt_record(run, status, text, started, orders.sweep))
    line = _line(str(error)) or type(error).__name__
    message = line if known else f"{type(error).__name__}: {line}"
    return Done(run.key, status, None, time.time() - started, message)


def attempt_record(
    run: ResolvedSpec, status: Status, error: str, started: float, sweep: str
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
        provenance={**collect(run.spec, started, run.spec.execution.device), "sweep": sweep},
        error=redact(error),
    )


def _record_death(run: ResolvedSpec, ledger: Ledger, last: claims.Claim, orders: Orders) -> None:
    """Record that the last worker of this run died: it neither recorded nor gave the claim back."""
    died = f"{DIED}: process {last.owner.pid} on {last.owner.host}"
    sweep = last.owner.collector or orders.sweep
    ledger.put_attempt(attempt_record(run, "failed", died, time.time(), sweep))


def _tried(run: ResolvedSpec, ledger: Ledger, orders: Orders) -> Done | None:
    """Return what this sweep already found out about a run that failed, so it is not run again."""
    mine = [a for a in ledger.attempts(run.key) if a.provenance.get("sweep") == orders.sweep]
    deaths = [a for a in mine if (a.error or "").startswith(DIED)]
    failures = [a for a in mine if a not in deaths]
    if failures:
        text = (failures[-1].error or "").strip().splitlines()
        return Done(run.key, failures[-1].status, message=text[-1] if text else "")
    if len(deaths) >= DEATHS:
        message = f"{DIED} {len(deaths)} times; left for the next collect"
        return Done(run.key, "failed", message=message)
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


def _line(text: str) -> str:
    """Return the first line of a text."""
    return next(iter(text.strip().splitlines()), "")
