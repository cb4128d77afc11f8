"""Claims: of all collectors on one storage, one at a time works on a key.

A claim is the newest file in `claims/<key>/`, numbered from 1. The file holds who claims and until
when. Only exclusive creation is needed:

- A key is free if it has no file, or if its newest one is released, past its time, or of a process
  of this machine that is dead. Whoever creates the next number has the claim, if it then still is
  the newest and the one before it is still there.
- The owner extends its time by rewriting its own file; only the newest file means anything.

Why two owners at once are impossible while clocks differ by less than `CLOCK_SKEW`:

- Files older than one's own are deleted by the new owner, so someone slow may create a number that
  was used and deleted. But the newest file is never deleted by an owner, so the slow one sees a
  higher number, or, after a `sweep`, that the file it read is gone, and withdraws.
- Whoever takes over looks at its clock *before* it reads the old claim and finds it expired by more
  than the skew. A renewal that it missed therefore ended after the old expiry, and `renew` counts
  such a renewal as lost.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from llmpred.errors import Problem, StorageError
from llmpred.ledger.storage import Storage, checked
from llmpred.spec.canonical import digest

LEASE_SECONDS = float(os.environ.get("LLMPRED_LEASE_SECONDS", "120"))
CLOCK_SKEW = 10.0
START_TOLERANCE = 0.05  # process start times are compared in seconds since boot


@dataclass(frozen=True)
class Owner:
    """A process that claims.

    Attributes:
        machine: identity of the machine and its process numbering: two containers differ.
        host: name, for people.
        pid: process number.
        started: seconds from boot to the start of the process, so a reused pid is noticed.
        collector: which sweep it belongs to, for people.
    """

    machine: str
    host: str
    pid: int
    started: float
    collector: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim as its file says it.

    Attributes:
        storage: where it is held.
        key: what is claimed.
        generation: the file's number.
        owner: who claims.
        token: random identity of this claim.
        lease_seconds: how long it holds without renewal.
        expires: seconds since the epoch.
        released: whether the owner gave it back.
    """

    storage: Storage
    key: str
    generation: int
    owner: Owner
    token: str
    lease_seconds: float
    expires: float
    released: bool = False

    @property
    def path(self) -> str:
        """Path of the claim's file in the storage."""
        return _path(self.key, self.generation)

    def held(self, now: float | None = None) -> bool:
        """Return whether the claim keeps others out at `now` (seconds since the epoch)."""
        if self.released:
            return False
        now = time.time() if now is None else now
        return now <= self.expires + CLOCK_SKEW and not _dead(self.owner)


def this_process(collector: str = "") -> Owner:
    """Return the running process as an owner."""
    pid = os.getpid()
    started = _process_start(pid)
    assert started is not None, "a running process has a start time"
    return Owner(_machine(), socket.gethostname(), pid, started, collector)


def claim(
    storage: Storage, key: str, owner: Owner, lease_seconds: float = LEASE_SECONDS
) -> Claim | None:
    """Claim `key`, or return None if another owner holds it.

    After a success, look again whether the key still needs the work: its last owner may have
    finished it just before.
    """
    now = time.time()
    newest = status(storage, key)
    if newest is not None and newest.held(now):
        return None
    before = newest.generation if newest else 0
    mine = Claim(
        storage=storage,
        key=key,
        generation=before + 1,
        owner=owner,
        token=secrets.token_hex(8),
        lease_seconds=lease_seconds,
        expires=time.time() + lease_seconds,
    )
    if not storage.create(mine.path, _to_json(mine)):
        # A put may be repeated by the client when its answer got lost: then the file is ours.
        found = _read(storage, key, mine.generation)
        if found is None or found.token != mine.token:
            return None
    generations = _generations(storage, key)
    older = [number for number in generations if number < mine.generation]
    if generations[-1:] != [mine.generation] or (older or [0])[-1] != before:
        storage.delete(mine.path)  # we were slow: the number was used before
        return None
    storage.delete_many(_path(key, number) for number in older)
    return mine


def renew(claim: Claim) -> Claim | None:
    """Extend the claim by its lease from now; return None if it is lost.

    Raises:
        StorageError: if the storage does not answer; the claim stands until it expires.
    """
    extended = dataclasses.replace(claim, expires=time.time() + claim.lease_seconds)
    if time.time() > claim.expires or not _is_newest(claim):
        return None
    claim.storage.write(claim.path, _to_json(extended))
    if time.time() > claim.expires or not _is_newest(claim):
        return None
    return extended


def release(claim: Claim) -> None:
    """Give the claim back: the key is free at once.

    The file stays as a marker that keeps its number used, until `sweep`.
    """
    claim.storage.write(claim.path, _to_json(dataclasses.replace(claim, released=True)))


def status(storage: Storage, key: str) -> Claim | None:
    """Return the newest claim on `key`, held or not, or None if nobody ever claimed it."""
    while True:
        generations = _generations(storage, key)
        if not generations:
            return None
        newest = _read(storage, key, generations[-1])
        if newest is not None:
            return newest
        # Deleted between the two calls: a newer one was made, or the key was swept.


def sweep(storage: Storage, done: Iterable[str]) -> int:
    """Delete the claims of keys that are `done` and that nobody holds; return how many keys.

    Only for keys whose work is recorded: who claims such a key again finds the record and leaves.
    """
    done = set(done)
    swept = 0
    for key in {path.split("/")[1] for path in storage.list("claims/")} & done:
        newest = status(storage, key)
        if newest is not None and not newest.held():
            numbers = _generations(storage, key)
            storage.delete_many(_path(key, n) for n in numbers if n <= newest.generation)
            swept += 1
    return swept


def silent(storage: Storage, collector: str, released: set[str]) -> list[Claim]:
    """Return the claims of a sweep that ran out although their owners are not known to be dead.

    Args:
        storage: where the claims are.
        collector: the sweep.
        released: paths of claims that need not be read; those found released are added.
    """
    newest: dict[str, int] = {}
    for path in storage.list("claims/"):
        _, key, name = path.split("/")
        if (stem := Path(name).stem).isdecimal():
            newest[key] = max(newest.get(key, 0), int(stem))
    found = []
    for key, generation in newest.items():
        path = _path(key, generation)
        held = None if path in released else _read(storage, key, generation)
        if held is None:
            continue
        if held.released or held.owner.collector != collector:
            released.add(path)
        elif time.time() > held.expires + CLOCK_SKEW and not _dead(held.owner):
            found.append(held)
    return found


def kill(owner: Owner) -> bool:
    """Kill a process of this machine; return whether it was here and alive."""
    if owner.machine != _machine() or _dead(owner):
        return False
    try:
        os.kill(owner.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it just ended, or is another user's
        return False
    return True


class Heartbeat:
    """Renews a claim every quarter of its lease while the block runs, then releases it.

        with Heartbeat(claim) as beat:
            while work and not beat.lost: …

    Attributes:
        trouble: the last error of the storage while renewing, if any.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._stop = threading.Event()
        self._refused = False
        self._thread = threading.Thread(target=self._run, name=f"claim-{claim.key}", daemon=True)
        self.trouble: StorageError | None = None

    @property
    def lost(self) -> bool:
        """Whether another owner has the claim, or its lease ran out before it could be renewed."""
        return self._refused or time.time() > self._claim.expires

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            release(self._claim)
        except StorageError as problem:
            self.trouble = problem  # the lease ends by itself

    def _run(self) -> None:
        while not self._stop.wait(self._claim.lease_seconds / 4):
            try:
                renewed = renew(self._claim)
            except StorageError as problem:
                self.trouble = problem  # try again until the lease is over
                continue
            if renewed is None:
                self._refused = True
                return
            self._claim = renewed


def _path(key: str, generation: int) -> str:
    return f"claims/{key}/{generation:08d}.json"


def _generations(storage: Storage, key: str) -> list[int]:
    """Return the numbers of the key's claims, oldest first."""
    stems = (Path(path).stem for path in storage.list(f"claims/{checked(key)}/"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _is_newest(claim: Claim) -> bool:
    newest = status(claim.storage, claim.key)
    return newest is not None and newest.token == claim.token


def _to_json(claim: Claim) -> bytes:
    payload: dict[str, Any] = {
        "owner": dataclasses.asdict(claim.owner),
        "token": claim.token,
        "lease_seconds": claim.lease_seconds,
        "expires": claim.expires,
        "released": claim.released,
    }
    return json.dumps(payload).encode()


def _read(storage: Storage, key: str, generation: int) -> Claim | None:
    path = _path(key, generation)
    try:
        payload = json.loads(storage.read_bytes(path))
        owner = Owner(**payload.pop("owner"))
        return Claim(storage=storage, key=key, generation=generation, owner=owner, **payload)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StorageError(
            Problem(
                f"A claim must be what a collector wrote, but this one says: {error}",
                f"{storage.root}, {path}",
                "Delete the file; the key is then free.",
            )
        ) from error


@functools.cache
def _machine() -> str:
    """Return the identity within which a process number means one process.

    Boot and process namespace rather than `/etc/machine-id`: containers of one image share that.
    """
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.is_symlink():
        return digest([boot.read_text().strip(), str(namespace.readlink())])
    import uuid

    return digest([uuid.getnode(), socket.gethostname()])


def _dead(owner: Owner) -> bool:
    """Return whether the owner is known to be dead: a process of this machine that is gone."""
    if owner.machine != _machine():
        return False
    started = _process_start(owner.pid)
    return started is None or abs(started - owner.started) > START_TOLERANCE


def _process_start(pid: int) -> float | None:
    """Return the seconds from boot to the process's start; None if it is gone or a zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return float(process.create_time())
        # The start in ticks never moves, while create_time() follows corrections of the clock.
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")
