"""Milliseconds that logging a run to MLflow costs a sweep: the embedded default, 60 logged steps.

python benchmarks/mlflow_logging.py [RUNS]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from llmpred.ledger.record import RunRecord
from llmpred.spec.run import RunSpec
from llmpred.tracking import Tracker, sync

SPEC = RunSpec.model_validate(
    {
        "task": {"name": "sentiment"},
        "dataset": {"source": "reviews.jsonl"},
        "base": {"name": "minilm"},
        "method": {"head": "classifier"},
        "optim": {"max_steps": 60},
        "evaluation": {"holdout": 0.2},
    }
)


def record(number: int) -> RunRecord:
    steps = ({"step": s, "loss": 1 / s, "lr": 2e-4, "grad_norm": 0.5} for s in range(1, 61))
    return RunRecord(
        key=f"{number:032x}",
        train_key=f"{number:032x}",
        dataset="reviews",
        base="minilm",
        spec=SPEC,
        status="ok",
        accuracy_r=0.9,
        metrics={"accuracy": 0.9, "macro_f1": 0.9},
        loss_curve=tuple(steps),
        wall_seconds={"train": 10.0, "total": 12.0},
    )


def timed(what: str, action: Callable[[], object], per: int = 1) -> None:
    started = time.perf_counter()
    action()
    print(f"{what:42s} {(time.perf_counter() - started) / per * 1000:9.1f} ms")


def main(runs: int) -> None:
    records = [record(number) for number in range(runs)]
    with tempfile.TemporaryDirectory() as folder:
        tracker = Tracker(storage_root=Path(folder))
        timed("first start (import, new database)", lambda: tracker.start_sweep("s"))
        timed("log a run", lambda: [tracker.log_run(r) for r in records], runs)
        again = Tracker(storage_root=Path(folder))
        timed("next start", lambda: again.start_sweep("s"))
        timed("find that a run is logged", lambda: [again.log_run(r) for r in records], runs)
        late = Tracker(storage_root=Path(folder))
        timed("sync, a run logged before", lambda: sync(records, late), runs)
    dead = Tracker("http://127.0.0.1:9", storage_root=folder)
    timed("a sweep of all runs, server down", lambda: [dead.log_run(r) for r in records])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
