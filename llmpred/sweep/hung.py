"""Notice workers that hang, and kill them so that Tune replaces them.

A worker that is stopped, or stuck where Python cannot go on, stops renewing its claim but stays a
living process, and Ray would wait for it for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmpred.errors import StorageError
from llmpred.ledger import Ledger, claims
from llmpred.sweep.orders import Orders
from llmpred.sweep.progress import Progress, duration


@contextmanager
def killing_the_hung(
    ray: Any, ledger: Ledger, orders: Orders, progress: Progress
) -> Iterator[None]:
    """While the body runs, kill this sweep's workers whose claims ran out, saying so.

    Args:
        ray: the connected module.
        ledger: where the claims are.
        orders: of the sweep.
        progress: whom to tell.
    """
    over = threading.Event()
    released: set[str] = set()  # claims that need not be read again

    def watch() -> None:
        while not over.wait(orders.lease_seconds / 4):
            try:
                hung = claims.silent(ledger.storage, orders.sweep, released)
            except StorageError:
                continue  # a storage in trouble is told of by those who need it
            for claim in hung:
                if _kill(ray, claim.owner):
                    progress.say(
                        f"{claim.key[:10]}: its worker, process {claim.owner.pid} on "
                        f"{claim.owner.host}, gave no sign for over "
                        f"{duration(claim.lease_seconds)} and was killed; another takes over"
                    )

    thread = threading.Thread(target=watch, name="hung-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _kill(ray: Any, owner: claims.Owner) -> bool:
    """Kill a process wherever it is in the cluster; return whether it was there."""
    if claims.kill(owner):
        return True
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in ray.nodes():
        if node["Alive"] and node["NodeManagerHostname"] == owner.host:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            kill = ray.remote(num_cpus=0, scheduling_strategy=there)(claims.kill)
            try:
                if ray.get(kill.remote(owner), timeout=60):
                    return True
            except ray.exceptions.RayError:
                continue  # the node went away, and the worker with it
    return False
