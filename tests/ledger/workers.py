"""What the processes of the concurrency tests run; they come from one warm fork server."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from llmpred.ledger import Ledger, Storage, claim, release, this_process

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["s3fs", "pyarrow.parquet", "llmpred.ledger.ledger"])


def together(count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what `work(*args, number, barrier)` returns in each of `count` processes."""
    barrier, answers = PROCESSES.Barrier(count), PROCESSES.SimpleQueue()
    processes = [
        PROCESSES.Process(target=_answer, args=(answers, work, *args, number, barrier))
        for number in range(count)
    ]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return found


def _answer(answers: Any, work: Callable[..., Any], *args: Any) -> None:
    try:
        answers.put(work(*args))
    except BaseException as error:
        answers.put(error)
        raise


def claim_all(root: str, keys: list[str], number: int, barrier: Barrier) -> list[str]:
    storage, owner = Storage(root), this_process()
    random.shuffle(keys)
    barrier.wait()
    mine = [key for key in keys if claim(storage, key, owner)]
    barrier.wait()  # a claimer that ended would count as dead
    return mine


def take_turns(root: str, times: int, number: int, barrier: Barrier) -> bool:
    """Claim and release one key again and again; a file that exists once is the referee."""
    storage, owner = Storage(root), this_process()
    barrier.wait()
    for _ in range(times):
        mine = claim(storage, "key", owner)
        if mine is None:
            continue
        if not storage.create("referee", b""):
            return False
        time.sleep(random.random() / 500)
        storage.delete("referee")
        release(mine)
    return True


def create_all(root: str, count: int, number: int, barrier: Barrier) -> set[int]:
    storage = Storage(root)
    barrier.wait()
    return {i for i in range(count) if storage.create(f"c/{i}", str(number).encode() * 2000)}


def put_all(root: str, records: list[Any], predictions: Any, number: int, barrier: Barrier) -> int:
    from llmpred.ledger import AlreadyRecorded

    ledger, done = Ledger(root), 0
    barrier.wait()
    for record in records:
        changed = record.model_copy(update={"wall_seconds": {"total": float(number)}})
        try:
            ledger.put(changed, predictions.append_column("by", [[number] * len(predictions)]))
        except AlreadyRecorded:
            continue
        done += 1
    return done
