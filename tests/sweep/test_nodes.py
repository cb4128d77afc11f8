"""Sweeps on several Ray nodes: who gets what, and what each run is recorded with."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import nodes
from .conftest import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_six_runs_of_two_gpus_share_four_in_three_waves(sweep: Any, tiny_causal: Path) -> None:
    """Two nodes of two GPUs each: two runs at a time, each of two processes with a GPU each."""
    sweep.space["bases"] = [str(tiny_causal)]
    sweep.space["optim"] = {"lr": {"grid": [1e-3, 3e-3, 1e-2]}, "max_steps": 40, "batch_size": 8}
    sweep.space["seeds"] = [0, 1]
    sweep.space["execution"] = {"distributed": {"workers": 2, "strategy": "ddp"}}
    most = 0
    with nodes.cluster(2, num_cpus=2, num_gpus=2) as (address, made):
        raylets = [psutil.Process(n.all_processes["raylet"][0].process.pid) for n in made]
        job = sweep.start("--address", address)

        def over() -> bool:
            nonlocal most
            most = max(most, len(_processes(raylets)))
            return job.poll() is not None

        wait_until(over, seconds=500)
    out, err = job.communicate()
    assert job.returncode == 0, err
    records = list(sweep.ledger.records())
    assert len(sweep.records()) == len(records) == 6, out
    spans = sorted(_span(record) for record in records)
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == 2
    assert 0 < most <= 4
    assert _waves(spans) == 3


def test_a_process_that_needed_no_token_can_start_a_private_cluster(tmp_path: Path) -> None:
    """In a process of its own: Ray reads once whether it needs a token."""
    script = (
        "from llmpred.sweep.cluster import connected\n"
        "from tests.sweep.nodes import cluster\n"
        "with cluster(1, num_cpus=1) as (address, _), connected(address) as ray:\n"
        "    assert ray.nodes()\n"
        "with connected(None) as ray:\n"
        "    assert ray.nodes()\n"
        "with cluster(1, num_cpus=1) as (address, _), connected(address) as ray:\n"
        "    assert ray.nodes()\n"
        "with connected(None) as ray:\n"
        "    assert ray.nodes()\n"
    )
    unset = {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env | {"HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".ray").exists()


def _processes(raylets: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes of these nodes that carry out a part of a run now."""
    found = []
    for child in (child for raylet in raylets for child in raylet.children()):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in str(child.cmdline()):
                found.append(child)
    return found


def _span(record: Any) -> tuple[datetime, datetime]:
    """Return when a run was carried out."""
    end = datetime.fromisoformat(record.provenance["created"])
    return end - timedelta(seconds=record.wall_seconds["total"]), end


def _waves(spans: list[tuple[datetime, datetime]]) -> int:
    """Return how many runs followed one another at most."""
    longest: list[int] = []
    for i, (start, _) in enumerate(spans):
        before = [longest[j] for j in range(i) if spans[j][1] <= start]
        longest.append(1 + max(before, default=0))
    return max(longest)
