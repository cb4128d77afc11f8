"""A sweep of twelve tiny runs, started as people start it, and what it leaves in its storage."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from llmpred.ledger import Ledger, claims
from tests import services

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs" / "collect_ground_truth.py"

# In every worker: count the runs that are carried out, and die where a test says so.
WATCH = """
import os, sys

if "default_worker.py" in " ".join(sys.orig_argv):
    def watch(event, args):
        if event == "tempfile.mkdtemp" and "/llmpred-" in args[0]:
            with open(os.environ["EXECUTIONS"], "a") as log:
                log.write(f"{os.getpid()}\\n")
        if event == "open" and "/deadly/" in str(args[0]):
            os._exit(1)

    sys.addaudithook(watch)
"""


@dataclass
class Sweep:
    """A space, its storage, and the processes started on them.

    Attributes:
        folder: where the job runs; data paths in the space are relative to it.
        storage: of the ledger.
        space: the YAML document.
    """

    folder: Path
    storage: str
    space: dict[str, Any]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the job in a process group of its own, as a shell does."""
        (self.folder / "space.yaml").write_text(yaml.safe_dump(self.space, sort_keys=False))
        (self.folder / "sitecustomize.py").write_text(WATCH)
        environment = os.environ | {
            "PYTHONPATH": f"{self.folder}:{ROOT}",
            "EXECUTIONS": str(self.folder / "executions"),
            "LLMPRED_CACHE": str(self.folder / "cache"),
            "COLUMNS": "160",
        }
        environment.pop("RAY_ADDRESS", None)
        process = subprocess.Popen(
            [sys.executable, JOB, "--space", "space.yaml", "--storage", self.storage, *options],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the job to its end."""
        process = self.start(*options)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.storage)

    def records(self) -> dict[str, bytes]:
        """Return every record file's content by its path."""
        storage = self.ledger.storage
        return storage.read_many(storage.list("records/"))

    def executions(self) -> int:
        """Return how many runs workers set out to carry out, recorded or not."""
        log = self.folder / "executions"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def workers(self) -> list[psutil.Process]:
        """Return the processes that hold a claim now."""
        storage = self.ledger.storage
        keys = {path.split("/")[1] for path in storage.list("claims/")}
        held = [claims.status(storage, key) for key in keys]
        return [psutil.Process(c.owner.pid) for c in held if c is not None and c.held()]

    def wait_for_records(self, count: int) -> None:
        """Wait until the running sweep has recorded so many runs and is at work on more."""
        wait_until(lambda: len(self.ledger.keys()) >= count and bool(self.workers()))


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def write_reviews(path: Path, rows: int, seed: int) -> None:
    """Write sentences whose words tell their label."""
    draw = random.Random(seed)
    words = {"positive": "warm funny best fine", "negative": "dull slow loud clumsy"}
    lines = []
    for i in range(rows):
        label = draw.choice(sorted(words))
        text = draw.choices(words[label].split(), k=3) + draw.choices(["film", "book", "year"], k=4)
        draw.shuffle(text)
        lines.append(json.dumps({"text": f"{' '.join(text)} {i}", "label": label}))
    path.write_text("\n".join(lines))


@pytest.fixture
def sweep(tmp_path: Path, tiny_encoder: Path) -> Iterator[Sweep]:
    """Twelve runs of a tiny encoder; whatever was started is killed at the end."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_reviews(folder / "train.jsonl", 120, 0)
    write_reviews(folder / "test.jsonl", 40, 1)
    space = {
        "name": "twelve",
        "sampler": "grid",
        "task": {
            "name": "sentiment",
            "labels": {"negative": "negative", "positive": "positive"},
            "max_length": 32,
        },
        "datasets": [{"name": "words", "source": "train.jsonl"}],
        "bases": [str(tiny_encoder)],
        "methods": [{"head": "classifier", "adapter": {"kind": "lora", "r": 4}}],
        "optim": {"lr": {"grid": [1e-3, 3e-3, 1e-2, 3e-2]}, "max_steps": 30, "batch_size": 8},
        "seeds": [0, 1, 2],
        "evaluation": {"data": {"source": "test.jsonl"}},
    }
    made = Sweep(folder, str(tmp_path / "storage"), space)
    yield made
    for process in made.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


# --- a cluster to submit jobs to -----------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray head with its dashboard, ended by its own processes; yields the jobs' address."""
    ports = [services.free_port() for _ in range(3)]
    temporary = f"/tmp/lr{os.getpid()}"  # sockets need a short path
    monkeypatch.setenv("LLMPRED_STORAGE", str(tmp_path / "storage"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # As on a machine where Ray never left a token at home; with one, both sides must know it.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # A job's `python` is looked up by the cluster, as in a shell with the environment activated.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    ray = str(Path(sys.executable).with_name("ray"))
    head = subprocess.Popen(
        f"{ray} start --head --block --disable-usage-stats --num-cpus=2 --include-dashboard=true "
        f"--port={ports[0]} --dashboard-port={ports[1]} --dashboard-agent-listen-port={ports[2]} "
        f"--temp-dir={temporary}".split(),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{ports[1]}"
    deadline = time.monotonic() + 120
    try:
        while not services.answers(f"{address}/api/version"):
            assert head.poll() is None, "the head ended"
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.5)
        yield address
    finally:
        services.end_ray(head, temporary)


def submit(address: str, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Submit `jobs/JOB.py` to a cluster and wait for its end."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "job", "submit", f"--address={address}", "--working-dir", "."]
    return subprocess.run(
        [*command, "--", "python", f"jobs/{job}.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
