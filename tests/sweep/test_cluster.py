from pathlib import Path

import pytest

from llmpred.errors import LlmpredError
from llmpred.sweep.cluster import Workers, choose_groups, choose_workers, this_machine

GB = 10**9


@pytest.mark.parametrize(
    ("nodes", "runs", "limit", "workers"),
    [
        ([{"CPU": 2.0, "memory": 8.0 * GB}], 12, None, Workers(2, 1.0, 0.0)),
        ([{"CPU": 8.0, "memory": 3.0 * GB}], 12, None, Workers(3, 2.0, 0.0)),
        ([{"CPU": 8.0, "memory": 0.5 * GB}], 12, None, Workers(1, 8.0, 0.0)),
        ([{"CPU": 8.0, "memory": 64.0 * GB}], 3, None, Workers(3, 2.0, 0.0)),
        ([{"CPU": 8.0, "memory": 64.0 * GB}], 12, 4, Workers(4, 2.0, 0.0)),
        # three nodes of two CPUs have no room for a worker of three
        ([{"CPU": 2.0, "memory": 8.0 * GB}] * 3, 12, 2, Workers(2, 2.0, 0.0)),
        ([{"CPU": 0.0}, {"CPU": 4.0, "memory": 64.0 * GB}], 12, None, Workers(4, 1.0, 0.0)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0}], 12, None, Workers(2, 8.0, 1.0)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 4.0}], 12, None, Workers(8, 1.0, 1.0)),
    ],
)
def test_workers_fit_the_nodes(
    nodes: list[dict[str, float]], runs: int, limit: int | None, workers: Workers
) -> None:
    assert choose_workers(nodes, runs, GB, limit) == workers


@pytest.mark.parametrize(
    ("nodes", "runs", "processes", "limit", "workers"),
    [
        ([{"CPU": 2.0}], 12, 2, None, Workers(1, 1.0, 0.0, 2)),
        ([{"CPU": 16.0}], 12, 2, 2, Workers(2, 4.0, 0.0, 2)),
        ([{"CPU": 16.0, "GPU": 2.0}] * 2, 6, 2, None, Workers(2, 1.0, 1.0, 2)),
        ([{"CPU": 16.0, "GPU": 1.0}], 6, 2, None, Workers(6, 1.0, 0.0, 2)),
    ],
)
def test_groups_of_processes_fit_the_cluster(
    nodes: list[dict[str, float]],
    runs: int,
    processes: int,
    limit: int | None,
    workers: Workers,
) -> None:
    assert choose_groups(nodes, runs, processes, limit) == workers


def test_a_cluster_too_small_for_a_run_is_said() -> None:
    with pytest.raises(LlmpredError, match=r"asks for 4 processes.*has 2 CPUs"):
        choose_groups([{"CPU": 2.0}], 1, 4, None)


def test_a_cluster_without_a_cpu_is_said() -> None:
    with pytest.raises(LlmpredError, match="no CPU to give"):
        choose_workers([{"CPU": 0.0, "memory": 8.0 * GB}], 1, GB, None)


def test_this_machine_counts_the_gpus_that_cuda_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-a, 81559'\necho '1, GPU-b, 24564'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    resources, memory = this_machine()
    assert resources["GPU"] == 2.0
    assert memory == 24564 * 2**20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert this_machine()[0]["GPU"] == 1.0
    assert this_machine()[1] == 81559 * 2**20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "GPU" not in this_machine()[0]
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed: no driver'\nexit 9\n")
    assert "GPU" not in this_machine()[0]
