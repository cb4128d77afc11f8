"""What breaks while a sweep runs, and what then is lost. Writes the table of docs/faults.md.

    python benchmarks/faults.py                      # all faults, about a quarter of an hour
    python benchmarks/faults.py "a hung worker"      # one of them
    python benchmarks/faults.py --write              # and put the table into docs/faults.md

Each fault befalls a sweep of four fine-tunes of the shipped proxy, started as people start it, and
the same command is given again where it ended. Counted against an uninterrupted sweep: runs without
a record, records or MLflow runs too many, and by how much any loss of any step differs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the services of the tests

from llmpred.ledger import Ledger, claims  # noqa: E402
from tests import services  # noqa: E402

PATIENCE = 400.0  # seconds that a sweep or a moment in it may take to come
SPACE = {
    "name": "faults",
    "sampler": "grid",
    "zero_shot": False,
    "task": {
        "name": "sentiment",
        "labels": {"negative": "bad", "positive": "good"},
        "max_length": 96,
    },
    "datasets": [
        {"name": "reviews", "source": "synthetic:sentiment", "options": {"n": 200, "seed": 1}}
    ],
    "bases": ["proxy"],
    "methods": [{"head": "label_scoring", "adapter": {"kind": "lora", "r": 4}}],
    "optim": {"lr": {"grid": [1e-3, 3e-3]}, "max_steps": 60, "batch_size": 8},
    "seeds": [0, 1],
    "evaluation": {"data": {"source": "synthetic:sentiment", "options": {"n": 40, "part": "test"}}},
    "execution": {"checkpoints": {"every": 10, "keep": 3}},
}


@dataclass
class World:
    """A sweep to break.

    Attributes:
        folder: working directory, with the space.
        space: the search space.
        storage: of the ledger.
        expected: records of the uninterrupted sweep, by key.
        environment: of the sweep's processes.
        errors: what the sweeps said on standard error.
    """

    folder: Path
    space: dict[str, Any]
    storage: Path
    expected: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    errors: str = ""
    jobs: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the sweep as people do."""
        (self.folder / "space.yaml").write_text(yaml.safe_dump(self.space))
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | self.environment
        environment.pop("RAY_ADDRESS", None)
        job = [sys.executable, str(ROOT / "jobs" / "collect_ground_truth.py")]
        self.jobs.append(
            subprocess.Popen(
                [*job, "--space", "space.yaml", "--storage", str(self.storage), *options],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return self.jobs[-1]

    def end(self, job: subprocess.Popen[str]) -> int:
        """Wait for a sweep's end; return its exit code."""
        _, err = job.communicate(timeout=PATIENCE)
        self.errors += err
        return job.returncode

    def run(self, *options: str) -> int:
        """Run the sweep to its end."""
        return self.end(self.start(*options))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.storage)

    def claims(self) -> list[claims.Claim]:
        """Return the claims that are held now."""
        storage = self.ledger.storage
        keys = {path.split("/")[1] for path in storage.list("claims/")}
        found = [claims.status(storage, key) for key in keys]
        return [claim for claim in found if claim is not None and claim.held()]

    def checkpoints(self, key: str) -> list[Path]:
        """Return the finished checkpoints of a run, oldest first."""
        found = (self.storage / "checkpoints" / key).glob("checkpoint-*/complete.json")
        return sorted((p.parent for p in found), key=lambda p: int(p.name.split("-")[1]))

    def amid_a_run(self, checkpoints: int = 1) -> claims.Claim:
        """Wait until a run has checkpoints and is not done; return its claim."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for claim in self.claims():
                if len(self.checkpoints(claim.key)) >= checkpoints:
                    return claim
            time.sleep(0.05)
        raise TimeoutError("no run came so far")


@dataclass(frozen=True)
class Found:
    """What a fault did.

    Attributes:
        fault: its name.
        lost: runs without a record.
        doubled: records, or MLflow runs, beyond one a run.
        difference: largest difference of a loss from the uninterrupted sweep's; None if the steps
            differ.
        told: the line that the user reads.
        seconds: from the start of the first sweep to the end of the last.
    """

    fault: str
    lost: int
    doubled: int
    difference: float | None
    told: str
    seconds: float


# --- the faults: each breaks a sweep, brings it to its end and returns what must have been said ---


def killed_worker(world: World) -> str:
    """A worker's process is killed."""
    job = world.start()
    psutil.Process(world.amid_a_run().owner.pid).kill()
    world.end(job)
    return r"its worker, process \d+ on \S+, died; went on from step \d+"


def killed_driver(world: World) -> str:
    """The process that people started is killed, and with it all of Ray."""
    job = world.start()
    world.amid_a_run()
    os.killpg(job.pid, signal.SIGKILL)
    world.end(job)
    world.run()
    return r"its worker, process \d+ on \S+, died; went on from step \d+"


def killed_node(world: World) -> str:
    """One of two nodes is killed, with all that runs on it."""
    with _two_nodes() as (address, raylets):
        job = world.start("--address", address)
        node = _under(raylets, world.amid_a_run())
        for process in [node, *node.children(recursive=True)]:
            process.kill()
        world.end(job)
    return r"its worker, process \d+ on \S+, died; went on from step \d+"


def preempted_node(world: World) -> str:
    """One of two nodes is asked to end, as a cloud does that wants a spot machine back."""
    with _two_nodes() as (address, raylets):
        job = world.start("--address", address)
        _under(raylets, world.amid_a_run()).terminate()
        world.end(job)
    # A worker that still hears of it gives its claim back; one that does not is found dead.
    return r"(its worker, process \d+ on \S+, died; )?went on from step \d+"


def hung_worker(world: World) -> str:
    """A worker is stopped and never goes on by itself."""
    world.environment["LLMPRED_LEASE_SECONDS"] = "10"  # two minutes by default
    job = world.start()
    pid = world.amid_a_run().owner.pid
    os.kill(pid, signal.SIGSTOP)
    world.end(job)
    return rf"its worker, process {pid} on \S+, gave no sign for over 10 s and was killed"


def full_disk(world: World) -> str:
    """The disk of the storage is full for a while."""
    with _small_disk(world.storage):
        job = world.start("--no-tracking")
        world.amid_a_run()
        filler = world.storage / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        world.end(job)
        filler.unlink()
        world.run("--no-tracking")
        _keep(world)
    return r"stopped: .*(No space left|must have space)"


def corrupt_checkpoint(world: World) -> str:
    """The newest checkpoint of a killed sweep is damaged."""
    job = world.start()
    claim = world.amid_a_run(checkpoints=2)
    worker = psutil.Process(claim.owner.pid)
    os.killpg(job.pid, signal.SIGKILL)
    world.end(job)
    # A worker notices a little later that Ray is gone, and may write one more until then.
    psutil.wait_procs([worker], timeout=PATIENCE)
    newest = world.checkpoints(claim.key)[-1]
    largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    world.run()
    return rf"went on from step \d+, as the checkpoint of step {newest.name.split('-')[1]} is damag"


def torn_record(world: World) -> str:
    """A record is cut in half after the sweep."""
    world.run()
    torn = sorted((world.storage / "records").rglob("*.json"))[0]
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    world.run()
    torn.unlink()  # as `llmpred ledger verify` says; its run has a new record
    return rf"{torn.stem[:10]} is run again: torn"


def killed_mlflow(world: World) -> str:
    """The MLflow server is killed for the rest of the sweep."""
    backend = f"sqlite:///{world.folder}/server.db"
    with services.mlflow_server(backend, world.folder / "server") as server:
        world.environment["MLFLOW_TRACKING_URI"] = server.uri
        job = world.start()
        world.amid_a_run()
        server.kill()
        world.end(job)
        server.start()
        _sync(world, server.uri)
    return r"MLflow: \d+ of \d+ runs were not logged .*sync-mlflow"


def killed_postgres(world: World) -> str:
    """The database of the MLflow server is killed for the rest of the sweep."""
    with (
        services.postgres() as database,
        services.mlflow_server(database.uri, world.folder / "server") as server,
    ):
        world.environment["MLFLOW_TRACKING_URI"] = server.uri
        job = world.start()
        world.amid_a_run()
        database.kill()
        world.end(job)
        database.start()
        _sync(world, server.uri)
    return r"MLflow: \d+ of \d+ runs were not logged .*sync-mlflow"


FAULTS: dict[str, Callable[[World], str]] = {
    "a killed worker": killed_worker,
    "a hung worker": hung_worker,
    "a killed node": killed_node,
    "a preempted node": preempted_node,
    "a killed driver": killed_driver,
    "a killed MLflow server": killed_mlflow,
    "a killed PostgreSQL": killed_postgres,
    "a full disk": full_disk,
    "a corrupt newest checkpoint": corrupt_checkpoint,
    "a torn record": torn_record,
}


# --- what came out -------------------------------------------------------------------------------


def uninterrupted(folder: Path, space: dict[str, Any]) -> dict[str, Any]:
    """Run the sweep in peace; return its records by key."""
    world = World(folder, space, folder / "storage")
    if world.run("--no-tracking") != 0:
        raise RuntimeError(f"the sweep fails without any fault:\n{world.errors}")
    return {record.key: record for record in world.ledger.records()}


def befall(fault: str, folder: Path, space: dict[str, Any], expected: dict[str, Any]) -> Found:
    """Let a fault befall a sweep in an empty folder, and count."""
    world = World(folder, space, folder / "storage", expected)
    started = time.time()
    try:
        said = FAULTS[fault](world)
    finally:
        for job in world.jobs:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
    line = next((line for line in world.errors.splitlines() if re.search(said, line)), "")
    files = [path.name for path in (world.storage / "records").rglob("*.json")]
    doubled = len(files) - len({name.split(".")[0] for name in files}) + _logged_twice(world)
    records = {record.key: record for record in world.ledger.records()}
    return Found(
        fault,
        len(expected.keys() - records.keys()),
        doubled,
        _difference(records, expected),
        line.strip() or f"NOTHING LIKE {said}; said:\n{world.errors[-3000:]}",
        time.time() - started,
    )


def _difference(records: dict[str, Any], expected: dict[str, Any]) -> float | None:
    """Return the largest difference of a loss; None if other steps were taken."""
    worst = 0.0
    for key, record in records.items():
        theirs = expected[key].loss_curve
        if [row["step"] for row in record.loss_curve] != [row["step"] for row in theirs]:
            return None
        pairs = zip(record.loss_curve, theirs, strict=True)
        worst = max(worst, *(abs(a["loss"] - b["loss"]) for a, b in pairs))
    return worst


def _logged_twice(world: World) -> int:
    """Return how many MLflow runs there are beyond one a record, or too few once synchronised."""
    from mlflow.tracking import MlflowClient

    database = world.folder / "logged.db"
    uri = world.environment.get("MLFLOW_TRACKING_URI")
    if uri is None and not (world.storage / "mlflow.db").exists():
        return 0
    if uri is not None:
        counts = Counter(json.loads(database.read_text()))
        missing = len(world.expected.keys() - counts.keys())
        return missing + sum(count - 1 for count in counts.values())
    return _beyond_one(_logged(MlflowClient(f"sqlite:///{world.storage}/mlflow.db")))


def _beyond_one(keys: list[str]) -> int:
    return sum(count - 1 for count in Counter(keys).values())


def _logged(client: Any) -> list[str]:
    """Return the keys of the runs that MLflow has, finished ones alone, one a run."""
    experiment = client.get_experiment_by_name("llmpred")
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    names = [run.data.tags.get("llmpred.record") for run in runs if run.info.status == "FINISHED"]
    return [name.partition(".")[0] for name in names if name and name.endswith(".0")]


def _sync(world: World, uri: str) -> None:
    """Log what was not logged, and keep what MLflow then has."""
    from mlflow.tracking import MlflowClient

    command = "from llmpred.cli import main; main()"
    environment = os.environ | world.environment | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", command, "ledger", "sync-mlflow", "--storage", str(world.storage)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    (world.folder / "logged.db").write_text(json.dumps(_logged(MlflowClient(uri))))


# --- means ---------------------------------------------------------------------------------------


@contextmanager
def _two_nodes() -> Iterator[tuple[str, list[psutil.Process]]]:
    """Have a head that carries out no run, and two nodes that do; yield their Ray processes."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0)
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        infos = [node.all_processes["raylet"][0] for node in nodes]
        yield cluster.address, [psutil.Process(info.process.pid) for info in infos]
    finally:
        cluster.shutdown()
        os.environ.pop("RAY_AUTH_MODE")
        if before is not None:
            os.environ["RAY_AUTH_MODE"] = before


def _under(raylets: list[psutil.Process], claim: claims.Claim) -> psutil.Process:
    """Return the node's process that started the worker of a run."""
    parents = psutil.Process(claim.owner.pid).parents()
    return next(raylet for raylet in raylets if raylet in parents)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Have a file system of 24 MB, in memory, at `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "llmpred-faults", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _keep(world: World) -> None:
    """Copy a storage that is about to go, and look at the copy."""
    kept = world.folder / "kept"
    shutil.copytree(world.storage, kept)
    world.storage = kept


# --- the table -----------------------------------------------------------------------------------


def table(found: list[Found]) -> str:
    """Return the table of docs/faults.md."""
    rows = ["| fault | lost | doubled | largest difference of a loss | what the user reads |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for f in found:
        difference = "other steps" if f.difference is None else f"{f.difference:.1g}"
        told = re.sub(r"(?<![\w/:])/\S*/", "…/", f.told.splitlines()[0]).replace("|", "\\|")
        rows.append(f"| {f.fault} | {f.lost} | {f.doubled} | {difference} | `{told}` |")
    return "\n".join(rows)


def main(arguments: list[str]) -> None:
    write = "--write" in arguments
    wanted = [name for name in arguments if name != "--write"] or list(FAULTS)
    found = []
    with tempfile.TemporaryDirectory(prefix="llmpred-faults-") as scratch:
        peace = Path(scratch) / "peace"
        peace.mkdir()
        expected = uninterrupted(peace, SPACE)
        for i, fault in enumerate(wanted):
            folder = Path(scratch) / str(i)
            folder.mkdir()
            found.append(befall(fault, folder, json.loads(json.dumps(SPACE)), expected))
            print(found[-1], flush=True)
    print(table(found))
    if write:
        page = ROOT / "docs" / "faults.md"
        before, mark, rest = page.read_text().partition("<!-- made by benchmarks/faults.py -->\n")
        after = rest.partition("<!-- end -->")[2]
        page.write_text(f"{before}{mark}{table(found)}\n<!-- end -->{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
