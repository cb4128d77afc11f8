"""Sweeps that log to an MLflow server on PostgreSQL, as a team runs it; and what outages do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmpred.ledger.record import RunRecord
from llmpred.tracking import Tracker, sync
from tests import services
from tests.services import MlflowServer, Postgres
from tests.sweep.conftest import Sweep
from tests.tracking.outages import (
    client_of,
    runs_by_key,
    seconds_of,
    sweep_through,
    tracking_at,
)

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
RUNS = 12


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    try:
        with services.postgres() as server:
            yield server
    except services.Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with services.mlflow_server(database.uri, tmp_path_factory.mktemp("mlflow")) as started:
        yield started


def assert_logged_once(sweep: Sweep, uri: str) -> None:
    """Every record has one run, whole: its score, its spec, its loss curve, no row of it twice."""
    client = client_of(uri)
    runs = runs_by_key(uri, sweep)
    assert runs.keys() == sweep.ledger.keys()
    for key, found in runs.items():
        record = sweep.ledger.get(key)
        [run] = found
        assert run.info.status == "FINISHED"
        assert run.data.metrics["accuracy_r"] == pytest.approx(record.accuracy_r)
        assert run.data.params["base.name"] == record.spec.base.name
        if record.spec.trains:
            assert float(run.data.params["optim.lr"]) == record.spec.optim.lr
        history = client.get_metric_history(run.info.run_id, "loss")
        assert len(history) == len(record.loss_curve)
    # Runs that `sync-mlflow` brought have no parent: it knows records, not sweeps.
    parents = {run.data.tags.get("mlflow.parentRunId") for [run] in runs.values()} - {None}
    assert len(parents) == 1


def test_a_sweep_is_logged_to_a_server_on_postgresql(
    sweep: Sweep, server: MlflowServer, database: Postgres
) -> None:
    with tracking_at(server.uri):
        done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert "not logged" not in done.stderr
    assert len(sweep.records()) == RUNS
    assert_logged_once(sweep, server.uri)
    # It is PostgreSQL that has them.
    import psycopg

    with psycopg.connect(database.uri.replace("+psycopg", "")) as connection:
        tags = connection.execute("SELECT value FROM tags WHERE key = 'llmpred.key'").fetchall()
    assert sweep.ledger.keys() <= {value for (value,) in tags}


@pytest.mark.parametrize("killed", ["MLflow", "PostgreSQL"])
def test_an_outage_costs_no_record_and_is_mended_by_sync(
    sweep: Sweep, server: MlflowServer, database: Postgres, killed: str
) -> None:
    sweep.space["seeds"] = {"MLflow": [3, 4, 5], "PostgreSQL": [6, 7, 8]}[killed]  # unlogged so far
    outage = sweep_through(sweep, server.uri, server if killed == "MLflow" else database)
    assert outage.code == 0
    assert len(sweep.records()) == RUNS
    assert len(outage.said) == 1, outage.said
    assert 0 < outage.unlogged < RUNS
    assert server.uri in outage.reason
    assert ("no answer" if killed == "MLflow" else "database") in outage.reason
    assert len(outage.missing) == outage.unlogged
    assert outage.synced["logged"] == outage.unlogged
    assert outage.synced["failed"] == 0
    assert (outage.again["logged"], outage.again["failed"]) == (0, 0)
    assert_logged_once(sweep, server.uri)


@pytest.mark.parametrize("fault", ["MLflow is dead", "MLflow hangs", "PostgreSQL is dead"])
def test_an_outage_holds_a_sweep_up_for_seconds(
    server: MlflowServer,
    database: Postgres,
    fault: str,
    a_record: Callable[..., RunRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred runs end while nothing can be logged: the driver waits for no more than this."""
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)  # the product's own patience is what is measured
    tracker = Tracker(server.uri, experiment=fault, storage_root=tmp_path)
    tracker.start_sweep("s")
    assert tracker.log_run(a_record(0)) == "logged"
    break_, mend = _faults(server, database)[fault]
    break_()
    try:
        records = [a_record(number) for number in range(1, 101)]
        held = seconds_of(lambda: [tracker.log_run(record) for record in records])
        held += seconds_of(tracker.end_sweep)
    finally:
        mend()
    print(f"{fault}: held up for {held:.2f} s")
    assert held < (20 if fault == "MLflow hangs" else 5)
    assert len(tracker.unlogged) == 100
    late = Tracker(server.uri, experiment=fault, storage_root=tmp_path)
    assert sync([a_record(number) for number in range(101)], late) == (100, 1, 0)


def _faults(server: MlflowServer, database: Postgres) -> dict[str, tuple[Any, Any]]:
    """Return how to bring about each fault, and how to end it."""
    return {
        "MLflow is dead": (server.kill, server.start),
        "MLflow hangs": (server.pause, server.resume),
        "PostgreSQL is dead": (database.kill, database.start),
    }
