"""A sweep on a cluster that scales to zero: Ray's own autoscaler, with nodes on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import services

RAY = Path(sys.executable).with_name("ray")
ALIVE = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


@pytest.fixture
def scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Callable[[], int]]]:
    """A head without CPUs and up to two nodes of one each; yields its address, and what counts."""
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

    port, client = services.free_port(), services.free_port()
    # Not loopback: nodes that the autoscaler starts register under the machine's address.
    address = f"{_own_address()}:{port}"
    kind = {"node_config": {}, "min_workers": 0}
    config = {
        "cluster_name": "test",
        "max_workers": 2,
        "idle_timeout_minutes": 0.2,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {**kind, "resources": {"CPU": 0}, "max_workers": 0},
            "worker": {**kind, "resources": {"CPU": 1}, "max_workers": 2},
        },
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{
            f"{name}_commands": []
            for name in ("initialization", "setup", "head_setup", "worker_setup")
        },
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        "file_mounts_sync_continuously": False,
    }
    (tmp_path / "autoscaler.json").write_text(json.dumps(config))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 40)
    temporary = f"/tmp/ls{os.getpid()}"  # sockets need a short path
    head = subprocess.Popen(
        f"{RAY} start --head --block --disable-usage-stats --num-cpus=0 --include-dashboard=false "
        f"--port={port} --temp-dir={temporary} --autoscaling-config={tmp_path}/autoscaler.json "
        f"--ray-client-server-port={client}".split(),
        env=os.environ
        | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_NODE_TYPE_NAME": "ray.head.default",
        },
        cwd=tmp_path,
        stdout=(tmp_path / "head.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def alive() -> int:
        done = subprocess.run(
            [sys.executable, "-c", ALIVE, address], capture_output=True, text=True, check=False
        )
        return int(done.stdout or 0)

    try:
        deadline = time.monotonic() + 120
        while alive() < 1:
            assert head.poll() is None, (tmp_path / "head.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
        yield address, alive
    finally:
        services.end_ray(head, temporary)


def _own_address() -> str:
    from ray._private.services import get_node_ip_address

    return str(get_node_ip_address())


@pytest.mark.slow
@pytest.mark.cluster
def test_nodes_come_for_a_sweep_and_go_after_it(
    scaling: tuple[str, Callable[[], int]], sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, alive = scaling
    sweep.space["optim"]["lr"]["grid"] = [1e-3, 1e-2]
    sweep.space["seeds"] = [0, 1]
    assert alive() == 1
    done = sweep.run("--address", address)
    assert done.returncode == 2
    assert "no CPU to give" in done.stderr
    monkeypatch.setenv("LLMPRED_AUTOSCALER", "2xCPU=1")
    done = sweep.run("--address", address)
    assert done.returncode == 0, done.stderr
    assert len(sweep.ledger.keys()) == 4
    assert alive() > 1
    deadline = time.monotonic() + 90
    while alive() > 1:
        assert time.monotonic() < deadline, "idle nodes stay"
