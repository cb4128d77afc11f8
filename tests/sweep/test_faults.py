"""Sweeps that are killed, stopped, doubled or sabotaged: twelve records, and nothing paid twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import wait_until

RUNS = 12
WORKERS = os.cpu_count() or 1


def assert_complete(sweep: Any, before: dict[str, bytes], interrupted: int) -> None:
    """Twelve sound records, those from before the fault untouched, and nothing else repeated."""
    records = sweep.records()
    assert len(records) == len(sweep.ledger.keys()) == RUNS
    assert all(records[path] == content for path, content in before.items())
    assert sweep.executions() <= RUNS + interrupted
    assert sweep.ledger.verify() == []


def assert_gone(family: list[psutil.Process]) -> None:
    """Workers, node and control store end with the driver; Ray's agents notice a minute later."""
    _, alive = psutil.wait_procs([p for p in family if "Agent" not in p.name()], timeout=30)
    assert alive == []


def children(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children() if p.name() == name]


def test_a_killed_worker_is_replaced_and_a_second_collect_starts_nothing(sweep: Any) -> None:
    job = sweep.start()
    sweep.wait_for_records(2)
    before = sweep.records()
    sweep.workers()[0].kill()
    _, err = job.communicate(timeout=240)
    assert job.returncode == 0, err
    assert "Traceback" not in err
    assert_complete(sweep, before, interrupted=1)
    attempts = sweep.ledger.table(attempts=True).filter(
        [s == "attempt" for s in sweep.ledger.table(attempts=True)["state"].to_pylist()]
    )
    assert attempts.num_rows <= 1  # none if it died between two runs

    executed, started = sweep.executions(), time.monotonic()
    again = sweep.run()
    assert again.returncode == 0
    assert time.monotonic() - started < 20
    assert sweep.executions() == executed
    assert "nothing to do" in again.stderr


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_loses_no_run(sweep: Any) -> None:
    job = sweep.start()
    sweep.wait_for_records(3)
    before = sweep.records()
    family = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    assert_gone(family)
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert_complete(sweep, before, interrupted=WORKERS)


@pytest.mark.slow
def test_a_collect_started_at_once_after_the_kill_takes_over(sweep: Any) -> None:
    job = sweep.start()
    sweep.wait_for_records(3)
    job.kill()
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert_complete(sweep, {}, interrupted=WORKERS)


@pytest.mark.slow
def test_a_killed_raylet_ends_the_driver_with_one_line(sweep: Any) -> None:
    job = sweep.start()
    sweep.wait_for_records(3)
    before = sweep.records()
    [raylet] = children(job, "raylet")
    family = psutil.Process(job.pid).children(recursive=True)
    raylet.kill()
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert err.splitlines()[-1].startswith("llmpred: Ray's process on this machine died")
    assert "Traceback" not in err
    assert_gone(family)
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert_complete(sweep, before, interrupted=WORKERS)


@pytest.mark.slow
def test_a_signal_stops_at_a_step_and_says_how_to_resume(sweep: Any) -> None:
    sweep.space["optim"]["max_steps"] = 200
    job = sweep.start()
    wait_until(lambda: sweep.executions() > WORKERS)  # so one has just begun
    before = sweep.records()
    os.killpg(job.pid, signal.SIGINT)  # a terminal sends Ctrl-C to the whole group
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130, err
    assert "The same command resumes: python " in err
    assert "--space space.yaml" in err
    assert "Traceback" not in err
    assert sweep.ledger.storage.list("checkpoints/")
    assert sweep.ledger.storage.list("sweeps/") == []
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert_complete(sweep, before, interrupted=WORKERS)
    assert sweep.ledger.storage.list("checkpoints/") == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_two_collectors_at_once_share_the_runs(
    sweep: Any, place: str, request: pytest.FixtureRequest
) -> None:
    if place == "s3":
        sweep.storage = request.getfixturevalue("bucket")
    jobs = [sweep.start("--json"), sweep.start("--json")]
    said = [job.communicate(timeout=280) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said[0][1] + said[1][1]
    assert all(json.loads(out)["recorded"] == RUNS for out, _ in said)
    assert_complete(sweep, {}, interrupted=0)


@pytest.mark.slow
def test_a_deadly_and_a_failing_run_stop_no_other(sweep: Any, tiny_encoder: Path) -> None:
    _copy_with_other_weights(tiny_encoder, sweep.folder / "deadly")
    sweep.space["bases"] = [str(tiny_encoder), str(sweep.folder / "deadly")]
    sweep.space["optim"]["lr"] = 1e-2
    sweep.space["seeds"] = [0, 1]
    bad = {"head": "classifier", "adapter": {"kind": "lora", "target_modules": ["nowhere"]}}
    sweep.space["datasets"] = [{"name": "words", "source": "train.jsonl"}]
    sweep.space["methods"] += [bad]
    done = sweep.run("--json")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["recorded"] == 2
    without = result["without_outcome"].values()
    assert len(without) == 6
    messages = sorted(one["message"] for one in without)
    assert sum("the worker died" in message for message in messages) == 4
    assert sum("nowhere" in message for message in messages) == 2
    attempts = sum(len(sweep.ledger.attempts(key)) for key in result["without_outcome"])
    assert attempts == 4 * 2 + 2


def _copy_with_other_weights(base: Path, copy: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(base, copy)
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).add_(1.0)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
