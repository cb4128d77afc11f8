from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmpred.bases.resolve import resolve
from llmpred.errors import InputError, LlmpredError, StorageError
from llmpred.ledger import Ledger
from llmpred.sweep.cluster import (
    Workers,
    choose_groups,
    choose_workers,
    nodes_of,
    this_machine,
)
from llmpred.sweep.collect import Limits, workers_for
from tests.runs import run_spec

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
        ([{"CPU": 16.0, "GPU": 2.0}] * 2, 6, 2, None, Workers(2, 8.0, 1.0, 2)),
        ([{"CPU": 16.0}] * 2, 1, 2, None, Workers(1, 16.0, 0.0, 2)),
        ([{"CPU": 0.0}, {"CPU": 96.0, "GPU": 8.0}], 1, 8, None, Workers(1, 12.0, 1.0, 8)),
        ([{"CPU": 16.0, "memory": 4.5 * GB}], 6, 2, None, Workers(2, 4.0, 0.0, 2)),
    ],
)
def test_groups_of_processes_fit_the_cluster(
    nodes: list[dict[str, float]],
    runs: int,
    processes: int,
    limit: int | None,
    workers: Workers,
) -> None:
    found = choose_groups(nodes, runs, processes, GB, limit)
    assert found == replace(workers, by_train=True)


def test_a_cluster_too_small_for_a_run_is_said() -> None:
    with pytest.raises(LlmpredError, match=r"asks for 4 processes.*has room for 2"):
        choose_groups([{"CPU": 2.0}], 1, 4, GB, None)
    with pytest.raises(LlmpredError, match=r"a GPU and a CPU.*room for 1.*device to cpu"):
        choose_groups([{"CPU": 16.0, "GPU": 1.0}], 1, 2, GB, None)
    with pytest.raises(LlmpredError, match=r"has room for 2"):
        choose_groups([{"CPU": 2.0, "GPU": 8.0}, {"CPU": 64.0}], 1, 8, GB, None)


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


def test_nodes_that_an_autoscaler_may_start_count(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"CPU": 0.0, "node:__internal_head__": 1.0}
    worker = {"CPU": 8.0, "GPU": 1.0}
    gone = {"CPU": 64.0, "GPU": 8.0}
    found = [(head, True), (worker, True), (gone, False)]
    ray = SimpleNamespace(nodes=lambda: [{"Resources": r, "Alive": a} for r, a in found])
    monkeypatch.delenv("LLMPRED_AUTOSCALER", raising=False)
    assert nodes_of(ray) == [head, worker]
    monkeypatch.setenv("LLMPRED_AUTOSCALER", "2xCPU=8,GPU=1 1xCPU=16,GPU=1")
    nodes = nodes_of(ray)
    assert nodes == [head, worker, worker, {"CPU": 16.0, "GPU": 1.0}]
    assert choose_workers(nodes, 12, GB, None) == Workers(3, 8.0, 1.0)


@pytest.mark.parametrize("value", ["8", "8xA10G", "xCPU=8", "8xCPU=", "8xCPU=8,"])
def test_a_mistake_in_what_an_autoscaler_may_start_is_said(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPRED_AUTOSCALER", f"2xCPU=1 {value}")
    with pytest.raises(InputError, match="8xCPU=8,GPU=1"):
        nodes_of(SimpleNamespace(nodes=list))


def test_tune_leaves_room_for_the_only_process_that_ray_train_starts():
    workers = choose_groups([{"CPU": 16.0, "GPU": 1.0}], 1, 1, GB, None)
    assert not {"cpu", "gpu"} & workers.resources.keys()


def test_processes_of_a_run_on_several_nodes_need_a_folder(
    bucket: str, tiny_causal: Path, tmp_path: Path
) -> None:
    distributed = {"workers": 2, "strategy": "ddp"}
    runs = [resolve(run_spec(tiny_causal, execution={"distributed": distributed}))]
    limits = Limits()
    two = SimpleNamespace(nodes=lambda: [{"Resources": {"CPU": 2.0}, "Alive": True}] * 2)
    one = SimpleNamespace(nodes=lambda: [{"Resources": {"CPU": 2.0}, "Alive": True}])
    with pytest.raises(StorageError, match=r"is a bucket.*a folder that all nodes mount"):
        workers_for(two, runs, 1, limits, Ledger(bucket))
    assert workers_for(two, runs, 1, limits, Ledger(tmp_path)).processes == 2
    assert workers_for(one, runs, 1, limits, Ledger(bucket)).processes == 2
