"""Faults of benchmarks/faults.py: nothing lost or doubled, the same losses, one line said."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import faults

# Killed workers, drivers and services have tests of their own, in sweep/ and tracking/.
ELSEWHERE = ("a killed worker", "a killed driver", "a killed MLflow server", "a killed PostgreSQL")

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the sweep gives when nothing breaks."""
    return faults.uninterrupted(tmp_path_factory.mktemp("peace"), faults.SPACE)


def may_mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode != 0:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [name for name in faults.FAULTS if name not in ELSEWHERE])
def test_nothing_is_lost_and_nothing_doubled(
    fault: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    if fault == "a full disk" and not may_mount(tmp_path):
        pytest.skip("mounting a file system is not permitted here")
    found = faults.befall(fault, tmp_path, copy.deepcopy(faults.SPACE), expected)
    assert (found.lost, found.doubled) == (0, 0)
    assert found.difference == 0.0
    assert not found.told.startswith("NOTHING"), found.told
