"""Connect to Ray, or start it, quietly; and decide how many runs go side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmpred.errors import InputError, LlmpredError, Problem

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: it stops at a step and releases claims
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# Warnings about what we chose: results go to the ledger, not to Tune's files.
NOISY = ("ray.tune.analysis.experiment_analysis", "ray._private.authentication")


@dataclass(frozen=True)
class Workers:
    """How many workers a sweep has, and what each may use."""

    count: int
    cpus: float
    gpus: float


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), or start one on this machine.

    Yields the `ray` module; a cluster started here is shut down at the end.

    Raises:
        InputError: when the named cluster cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": "WARNING", "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **options)
        else:
            ray.init(address="local", include_dashboard=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            Problem(
                f"Ray at `{address or 'local'}` cannot be reached: {str(error).splitlines()[0]}",
                fix="Start it with `ray start --head`, or leave --address and RAY_ADDRESS out to "
                "run on this machine alone.",
            )
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def choose_workers(
    resources: dict[str, float], runs: int, memory_bytes: int, max_concurrent: int | None
) -> Workers:
    """Decide how many runs go side by side.

    One a GPU where there are GPUs; otherwise as many as there are CPUs, memory allowing: two
    one-thread runs do more than one two-thread run.

    Args:
        resources: of the cluster, as Ray tells them.
        runs: how many there are to do.
        memory_bytes: estimated peak of one worker.
        max_concurrent: the user's limit.
    """
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    if cpus < 1:
        raise LlmpredError("The Ray cluster has no CPU to give. Add a node or free one.")
    if gpus >= 1:
        most = int(gpus)
    else:
        memory = resources.get("memory", float("inf"))
        most = max(1, min(int(cpus), int(memory // max(1, memory_bytes))))
    count = max(1, min(most, runs, max_concurrent or most))
    return Workers(count, max(1.0, float(int(cpus // count))), 1.0 if gpus >= 1 else 0.0)
