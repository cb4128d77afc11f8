"""Where a run happened and with what: versions, hardware, commit. Never the environment."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmpred import __version__
from llmpred.spec.run import RunSpec

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "ray")


def collect(spec: RunSpec, started: float, device: str) -> dict[str, Any]:
    """Return what a record keeps about the circumstances of a run."""
    return {
        "llmpred": __version__,
        "execution": spec.execution.model_dump(mode="json"),
        "packages": packages(),
        "hardware": {**_hardware(), "device": device, "gpu": _gpu(device)},
        "python": platform.python_version(),
        "git_commit": _commit(),
        "host": platform.node(),
        "pid": os.getpid(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def packages() -> dict[str, str]:
    """Return the installed versions of what a run's result may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _hardware() -> dict[str, Any]:
    import psutil
    import torch

    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": torch.get_num_threads(),
    }


def _gpu(device: str) -> str | None:
    import torch

    return torch.cuda.get_device_name() if device.startswith("cuda") else None


@functools.cache
def _commit() -> str | None:
    """Return the commit of the code that runs, if it runs from a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None
