"""What happens to a sweep whose MLflow, or MLflow's database, fails under it.

Plain functions, so that tests and benchmarks go through the same scenario.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.conftest import ROOT
from tests.services import Service
from tests.sweep.conftest import Sweep, wait_until

NOT_LOGGED = re.compile(r"MLflow: (\d+) of (\d+) runs were not logged \((.*?)\)\. .*sync-mlflow")
MAIN = "from llmpred.cli import main; main()"


@dataclass(frozen=True)
class Outage:
    """A sweep during which a service was killed, and what mended it.

    Attributes:
        code: exit code of the sweep.
        seconds: it took, start to end.
        said: each line in which it spoke of MLflow.
        unlogged: runs that it said were not logged.
        reason: it gave.
        missing: keys of records that MLflow lacked when the service was back.
        synced: what the first `sync-mlflow` counted.
        again: what the second one counted.
    """

    code: int
    seconds: float
    said: tuple[str, ...]
    unlogged: int
    reason: str
    missing: frozenset[str]
    synced: Mapping[str, Any]
    again: Mapping[str, Any]


def sweep_through(sweep: Sweep, uri: str, service: Service, logged: int = 2) -> Outage:
    """Kill a service once a sweep has logged some runs, let it end, start it again, and sync.

    Args:
        sweep: not started yet.
        uri: of the MLflow server.
        service: to be killed: the server, or its database.
        logged: how many runs MLflow has before.
    """
    started = time.monotonic()
    with tracking_at(uri):
        job = sweep.start()
    wait_until(lambda: job.poll() is not None or len(runs_by_key(uri, sweep)) >= logged)
    service.kill()
    _, err = job.communicate(timeout=300)
    seconds = time.monotonic() - started
    said = tuple(line for line in err.splitlines() if "MLflow" in line or "mlflow" in line)
    found = NOT_LOGGED.search(" ".join(err.split()))
    service.start()
    missing = sweep.ledger.keys() - runs_by_key(uri, sweep, complete=True).keys()
    synced, again = (sync(sweep, uri) for _ in range(2))
    return Outage(
        code=job.returncode,
        seconds=seconds,
        said=said,
        unlogged=int(found[1]) if found else 0,
        reason=found[3] if found else "",
        missing=frozenset(missing),
        synced=synced,
        again=again,
    )


def sync(sweep: Sweep, uri: str) -> dict[str, Any]:
    """Run `llmpred ledger sync-mlflow` and return what it counted."""
    command = ["ledger", "sync-mlflow", "--storage", sweep.storage, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *command],
        cwd=sweep.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def runs_by_key(uri: str, sweep: Sweep, complete: bool = False) -> dict[str, list[Any]]:
    """Return MLflow's runs of a sweep's records, by key; those logged to the end, if asked."""
    client = client_of(uri)
    experiment = client.get_experiment_by_name("llmpred")
    found: dict[str, list[Any]] = {}
    if experiment is None:
        return found
    keys = sweep.ledger.keys()
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        key = run.data.tags.get("llmpred.key")
        if key in keys and (not complete or run.info.status == "FINISHED"):
            found.setdefault(key, []).append(run)
    return found


def client_of(uri: str) -> Any:
    """Return a client with the product's own patience."""
    from mlflow.tracking import MlflowClient

    from llmpred.tracking.locations import settle_environment

    settle_environment()
    return MlflowClient(uri)


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


@contextmanager
def tracking_at(uri: str) -> Iterator[None]:
    """Let processes that are started within log to `uri`."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
