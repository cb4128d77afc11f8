"""Runs of several processes where the cluster has no room for them yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmpred.bases.resolve import resolve
from llmpred.distributed.together import carry_out
from llmpred.engine.models import Interrupted
from llmpred.sweep.cluster import forget_tokens, guard
from tests.runs import run_spec

pytestmark = pytest.mark.slow


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import ray

    # So short a wait passes more often than a run may fail.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "2")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    guard()
    forget_tokens()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_run_waits_for_room_until_it_is_asked_to_stop(
    one_cpu: None, tiny_causal: Path, tmp_path: Path
) -> None:
    distributed = {"workers": 2, "strategy": "ddp"}
    run = resolve(run_spec(tiny_causal, execution={"distributed": distributed, "device": "cpu"}))
    started = time.monotonic()

    def stop() -> str | None:
        return "enough for today" if time.monotonic() > started + 25 else None

    with pytest.raises(Interrupted, match="enough for today"):
        carry_out(run, tmp_path, stop=stop)
    assert time.monotonic() - started < 45
