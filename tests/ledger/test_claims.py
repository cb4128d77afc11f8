from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from llmpred.errors import StorageError
from llmpred.ledger import Heartbeat, Storage, claim, release, renew, status, this_process
from llmpred.ledger.claims import CLOCK_SKEW, sweep
from tests.ledger.workers import claim_all, take_turns, together

ME = this_process("test")
ELSEWHERE = dataclasses.replace(ME, machine="another", host="far")


def test_a_live_claim_keeps_others_out(storage: Storage) -> None:
    mine = claim(storage, "key", ME)
    assert mine is not None
    assert claim(storage, "key", ME) is None
    assert claim(storage, "key", ELSEWHERE) is None
    found = status(storage, "key")
    assert found == mine
    assert found.owner.collector == "test"
    assert claim(storage, "other", ELSEWHERE) is not None


def test_a_released_claim_is_free_at_once(storage: Storage) -> None:
    for _ in range(3):
        mine = claim(storage, "key", ELSEWHERE)
        assert mine is not None
        release(mine)
    assert len(storage.list("claims/")) == 1, "one marker a key, however often it is claimed"
    assert sweep(storage, ["key", "unclaimed"]) == 1
    assert storage.list("claims/") == []


def test_sweep_leaves_keys_at_work(storage: Storage) -> None:
    mine = claim(storage, "key", ELSEWHERE)
    assert sweep(storage, ["key"]) == 0
    assert mine is not None
    release(mine)
    assert sweep(storage, []) == 0
    assert sweep(storage, ["key"]) == 1


def test_a_live_lease_of_another_host_holds_until_it_expires(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = claim(storage, "key", ELSEWHERE, lease_seconds=30)
    assert theirs is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 + CLOCK_SKEW - 1)
    assert claim(storage, "key", ME) is None, "clocks may differ"
    monkeypatch.setattr(time, "time", lambda: now + 30 + CLOCK_SKEW + 1)
    mine = claim(storage, "key", ME)
    assert mine is not None
    assert renew(theirs) is None
    release(theirs)
    assert claim(storage, "key", ELSEWHERE) is None, "a lost claim releases nothing but itself"
    assert renew(mine) is not None


def test_renewal_extends(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = claim(storage, "key", ELSEWHERE, lease_seconds=30)
    assert mine is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25)
    mine = renew(mine)
    assert mine is not None
    monkeypatch.setattr(time, "time", lambda: now + 50)
    assert claim(storage, "key", ME) is None
    monkeypatch.setattr(time, "time", lambda: now + 56)
    assert renew(mine) is None, "too late: another may have looked meanwhile"


def test_the_heartbeat_renews_and_releases(storage: Storage) -> None:
    mine = claim(storage, "key", ELSEWHERE, lease_seconds=0.8)
    assert mine is not None
    with Heartbeat(mine) as beat:
        time.sleep(1.6)
        assert not beat.lost
        held = status(storage, "key")
        assert held is not None
        assert held.expires > mine.expires
    assert beat.trouble is None
    assert claim(storage, "key", ME) is not None


def test_the_heartbeat_notices_a_loss(storage: Storage) -> None:
    mine = claim(storage, "key", ELSEWHERE, lease_seconds=4)
    assert mine is not None
    with Heartbeat(mine) as beat:
        release(mine)
        taken = claim(storage, "key", ME)
        time.sleep(1.3)
        assert beat.lost
    found = status(storage, "key")
    assert found is not None
    assert taken is not None
    assert found.token == taken.token
    assert not found.released


def test_a_reused_process_number_is_another_process(storage: Storage) -> None:
    before = dataclasses.replace(ME, started=ME.started - 100)
    assert claim(storage, "key", before) is not None
    assert claim(storage, "key", ME) is not None


def test_a_damaged_claim_is_said(storage: Storage) -> None:
    storage.write("claims/key/00000001.json", b"{")
    with pytest.raises(StorageError, match="Delete the file"):
        claim(storage, "key", ME)


HOLD = """
import sys, time
from llmpred.ledger import Storage, claim, this_process
assert claim(Storage(sys.argv[1]), "key", this_process(), lease_seconds=3600)
print("held", flush=True)
time.sleep(600)
"""


def test_a_killed_holder_is_followed_at_once(storage: Storage) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, storage.root], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert claim(storage, "key", ME) is None
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    mine = None
    while mine is None and time.monotonic() < deadline:  # it is a zombie until waited for
        mine = claim(storage, "key", ME)
    assert mine is not None
    assert mine.generation == 2
    holder.wait()
    holder.stdout.close()


def test_eight_processes_claim_fifty_keys_once(storage: Storage) -> None:
    """Among abandoned and released claims as much as on fresh keys."""
    keys = [f"key-{i}" for i in range(50)]
    for i in range(0, 50, 5):
        abandoned = claim(storage, keys[i], dataclasses.replace(ME, started=-1.0))
        released = claim(storage, keys[i + 1], ELSEWHERE)
        assert abandoned is not None
        assert released is not None
        release(released)
    claimed = together(8, claim_all, storage.root, keys)
    assert Counter(key for mine in claimed for key in mine) == dict.fromkeys(keys, 1)


def test_claiming_and_releasing_in_turns_never_overlaps(storage: Storage) -> None:
    assert together(4, take_turns, storage.root, 25) == [True] * 4
