"""What a worker does with a key before it runs anything."""

from pathlib import Path

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.ledger import Ledger, claims
from llmpred.sweep.orders import Orders
from llmpred.sweep.worker import work
from tests.runs import run_spec


def test_a_worker_that_sees_another_disk_than_the_driver_runs_nothing(
    tiny_causal: Path, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    run = resolve(run_spec(tiny_causal))
    orders = Orders(str(tmp_path), "a-sweep", str(tmp_path))
    done = work(run, ledger, LoadedBases(), orders)
    assert done.state == "interrupted"
    assert f"{tmp_path} on" in done.message
    assert "is not the driver's storage" in done.message
    assert claims.status(ledger.storage, run.key) is None
    ledger.storage.write(orders.driver_file, b"")
    assert work(run, ledger, LoadedBases(), orders).state == "ok"
    assert ledger.has(run.key)
