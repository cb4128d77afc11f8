"""Sweeps whose runs have several processes each: the same runs, each recorded once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmpred.ledger import RunRecord

from .conftest import wait_until

pytestmark = pytest.mark.slow
STEPS = 200


@pytest.fixture(autouse=True)
def base(sweep: Any, tiny_causal: Path) -> None:
    """A base without dropout, whose masks differ between processes."""
    sweep.space["bases"] = [str(tiny_causal)]


def together(sweep: Any, strategy: str | None, **optim: Any) -> None:
    """Make the sweep's space one of two runs, each by two processes."""
    sweep.space["optim"] = {"lr": 3e-3, "max_steps": 30, "batch_size": 7, **optim}
    sweep.space["seeds"] = [0]
    sweep.space["execution"] = {"micro_batch": 2, "checkpoints": {"every": 10}}
    if strategy is not None:
        sweep.space["execution"]["distributed"] = {"workers": 2, "strategy": strategy}


def alone(sweep: Any, **optim: Any) -> dict[str, RunRecord]:
    """Return the records of the same runs by one process each."""
    together(sweep, None, **optim)
    storage, sweep.storage = sweep.storage, f"{sweep.storage}-alone"
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    found = records(sweep)
    sweep.storage = storage
    return found


def records(sweep: Any) -> dict[str, RunRecord]:
    return {key: sweep.ledger.get(key) for key in sorted(sweep.ledger.keys())}


def agree(ones: dict[str, RunRecord], others: dict[str, RunRecord]) -> None:
    assert ones.keys() == others.keys()
    for key, one in ones.items():
        other = others[key]
        assert [s["step"] for s in other.loss_curve] == [s["step"] for s in one.loss_curve]
        losses = [s["loss"] for s in one.loss_curve]
        assert [s["loss"] for s in other.loss_curve] == pytest.approx(losses, abs=1e-3)
        assert other.accuracy_r == pytest.approx(one.accuracy_r, abs=0.026)  # one of 40 examples


@pytest.mark.parametrize("strategy", ["ddp"])  # others: test_finetune.py
def test_two_processes_a_run_give_the_runs_of_one(sweep: Any, strategy: str) -> None:
    together(sweep, strategy)
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    found = records(sweep)
    assert len(found) == 1
    for record in found.values():
        distributed = record.provenance["execution"]["distributed"]
        assert (distributed["workers"], distributed["strategy"]) == (2, strategy)
        assert record.spec is not None
        assert record.spec.execution.micro_batch == 2
    agree(alone(sweep), found)
    again = sweep.run()  # the space says one process now: it asks for the same runs
    assert "nothing to do" in again.stderr
    assert sweep.ledger.verify() == []


def test_a_killed_process_takes_no_step_with_it(sweep: Any) -> None:
    together(sweep, "ddp", max_steps=STEPS)
    job = sweep.start()
    wait_until(lambda: bool(checkpoints(sweep)))
    next(p for p in processes(job.pid) if p.is_running()).kill()
    _, err = job.communicate(timeout=240)
    assert job.returncode == 0, err
    assert "Traceback" not in err
    agree(alone(sweep, max_steps=STEPS), records(sweep))
    assert len(sweep.records()) == 1
    assert checkpoints(sweep) == []


def test_a_stopped_run_of_two_processes_goes_on(sweep: Any) -> None:
    together(sweep, "ddp", max_steps=STEPS)
    job = sweep.start()
    wait_until(lambda: bool(checkpoints(sweep)))
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "Traceback" not in err
    assert "stopping" in err
    assert not records(sweep)
    kept = checkpoints(sweep)
    assert kept
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    agree(alone(sweep, max_steps=STEPS), records(sweep))


def test_more_processes_than_the_cluster_has_cpus_are_refused(sweep: Any) -> None:
    together(sweep, None)
    sweep.space["execution"]["distributed"] = {"workers": 999, "strategy": "ddp"}
    done = sweep.run()
    assert done.returncode != 0
    assert "asks for 999 processes" in done.stderr
    assert "Traceback" not in done.stderr


def checkpoints(sweep: Any) -> list[Path]:
    return sorted(Path(sweep.storage).glob("checkpoints/*/checkpoint-*/complete.json"))


def processes(job: int) -> list[psutil.Process]:
    """Return the processes that carry out runs together."""
    family = psutil.Process(job).children(recursive=True)
    return [p for p in family if "RayTrainWorker" in " ".join(p.cmdline())]
