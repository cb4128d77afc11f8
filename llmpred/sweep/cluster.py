"""Connect to Ray, or start it, quietly; and decide how many runs go side by side."""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from llmpred.errors import InputError, LlmpredError, Problem

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: it stops at a step and releases claims
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of data start where the user is
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# Of a cluster that nobody else is meant to reach: metrics are what Ray tells without the token. Two
# of their servers know no switch; on a port that does not exist they do not start.
PRIVATE = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "65536",
    "DASHBOARD_METRIC_PORT": "65536",
}
# What trials do is told by the sweep itself, and a worker's death is no error of ours.
NOISY = ("ray.tune", "ray._private.authentication")
AUTOSCALER = "LLMPRED_AUTOSCALER"  # what an autoscaler may start, since Ray does not tell
NODES = re.compile(r"(\d+)x(\w+=\d+(?:,\w+=\d+)*)")  # 8xCPU=8,GPU=1
HEAD = "node:__internal_head__"  # the resource by which Ray marks the head
NODE_DIED = "Ray's process on this machine died; finished runs are kept. The same command resumes."
EXIT_NODE_DIED = 1


@dataclass(frozen=True)
class Workers:
    """How many runs a sweep does side by side, and what they may use.

    Attributes:
        count: runs side by side.
        cpus: of each process.
        gpus: of each process.
        processes: of each run.
        by_train: whether Ray Train starts them, one or several.
    """

    count: int
    cpus: float
    gpus: float
    processes: int = 1
    by_train: bool = False

    @property
    def resources(self) -> dict[str, float]:
        """What Tune sets aside for a run.

        Ray Train sets aside what the processes of one run need; whoever waits for them needs
        nothing, but Tune wants to be asked for something.
        """
        if self.by_train:
            return {"memory": 1.0}
        return {"cpu": self.cpus, "gpu": self.gpus}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), or start one on this machine.

    Yields the `ray` module; a cluster started here is shut down at the end, and its logs deleted.

    Raises:
        InputError: when the named cluster cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        for name, value in PRIVATE.items():
            os.environ.setdefault(name, value)
        guard()
    forget_tokens()
    import ray

    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"logging_level": "WARNING", "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **options)
        else:
            started = ray.init(address="local", include_dashboard=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            Problem(
                f"Ray at `{address or 'local'}` cannot be reached: {str(error).splitlines()[0]}",
                fix="Start it with `ray start --head`, or leave --address and RAY_ADDRESS out to "
                "run on this machine alone.",
            )
        ) from error
    with redirect_stdout(_Brief()):  # Ray tells of dead nodes there; stdout is for results
        try:
            if address:
                yield ray
            else:
                with _leaving_when_the_node_dies():
                    yield ray
        finally:
            ray.shutdown()
            if not address:
                shutil.rmtree(started.address_info["session_dir"], ignore_errors=True)


def guard() -> None:
    """Have a private cluster that is started after this ask for a token of its own.

    Unless the environment settles that. Left to itself Ray would keep a token in the home folder,
    and a later `ray start` would then refuse `ray job submit` without it.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def forget_tokens() -> None:
    """Have Ray read again what the environment says of tokens.

    Otherwise a process remembers what the first cluster wanted that it was connected to.
    """
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


class _Brief(io.StringIO):
    """Passes the first line of what is printed on to standard error.

    Of a node that died Ray prints half of its log; the first line says which and why.
    """

    def write(self, text: str) -> int:
        if lines := text.strip().splitlines():
            sys.stderr.write(lines[0] + "\n")
        return len(text)


@contextmanager
def _leaving_when_the_node_dies() -> Iterator[None]:
    """End this process with a message when the node that it started is gone.

    Tune would wait for ever for a node to come back, and Ray's own client ends in a stack trace.
    """
    import psutil

    children = psutil.Process().children()
    node = next(child for child in children if child.name() == "raylet")
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            if not node.is_running() or node.status() == psutil.STATUS_ZOMBIE:
                sys.stderr.write(f"llmpred: {NODE_DIED}\n")
                sys.stderr.flush()
                os._exit(EXIT_NODE_DIED)

    thread = threading.Thread(target=watch, name="raylet-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def this_machine() -> tuple[dict[str, float], int | None]:
    """Return what this machine has, as Ray names it, and the bytes of its smallest GPU, if any.

    Asks `nvidia-smi`, which takes a tenth of a second where importing torch takes two; GPUs that
    CUDA_VISIBLE_DEVICES hides do not count.
    """
    import psutil

    resources = {"CPU": float(psutil.cpu_count() or 1), "memory": psutil.virtual_memory().total}
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return resources, None
    asked = [smi, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    gpus = [re.split(r",\s*", line) for line in answer.stdout.splitlines() if line.count(",") == 2]
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        shown = [name.strip() for name in visible.split(",") if name.strip()]
        gpus = [g for g in gpus if any(g[0] == n or g[1].startswith(n) for n in shown)]
    if answer.returncode or not gpus:
        return resources, None
    sizes = [int(gpu[2]) * 2**20 for gpu in gpus if gpu[2].isdigit()]  # some share the RAM: [N/A]
    return {**resources, "GPU": float(len(gpus))}, min(sizes, default=None)


def nodes_of(ray: Any) -> list[dict[str, float]]:
    """Return the resources of each node that there is, or that an autoscaler would start.

    A cluster that scales to zero has only its head when a sweep begins, so how many runs go side by
    side, and whether on GPUs, cannot be told from what is there. LLMPRED_AUTOSCALER says what may
    come, such as `8xCPU=8,GPU=1`, those already started included; several kinds stand in a row,
    separated by spaces.

    Raises:
        InputError: when LLMPRED_AUTOSCALER is not of that form.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    told = os.environ.get(AUTOSCALER, "").split()
    if not told:
        return alive
    coming: list[dict[str, float]] = []
    for kind in told:
        match = NODES.fullmatch(kind)
        if match is None:
            raise InputError(
                Problem(
                    f"{AUTOSCALER} names nodes as COUNTxCPU=N,GPU=N, but has {kind!r}",
                    fix="For eight nodes of eight CPUs and one GPU write 8xCPU=8,GPU=1.",
                )
            )
        pairs = (pair.split("=") for pair in match[2].split(","))
        coming += [{name: float(value) for name, value in pairs}] * int(match[1])
    return [*(node for node in alive if HEAD in node), *coming]


def choose_workers(
    nodes: Sequence[dict[str, float]],
    runs: int,
    memory_bytes: int,
    max_concurrent: int | None,
) -> Workers:
    """Decide how many runs of one process go side by side.

    One a GPU where there are GPUs; otherwise as many as there are CPUs, memory allowing: two
    one-thread runs do more than one two-thread run. CPUs left over are shared out evenly.

    Args:
        nodes: resources of each node of the cluster, as Ray tells them.
        runs: how many there are to do.
        memory_bytes: estimated peak of one worker.
        max_concurrent: the user's limit.

    Raises:
        LlmpredError: when no node has a CPU.
    """
    on_gpu = any(node.get("GPU", 0.0) >= 1 for node in nodes)
    room = _places(nodes, memory_bytes, on_gpu)
    if room(1) < 1:
        raise LlmpredError("The Ray cluster has no CPU to give. Add a node or free one.")
    count = max(1, min(room(1), runs, max_concurrent or runs))
    return Workers(count, _shared_out(room, count), 1.0 if on_gpu else 0.0)


def choose_groups(
    nodes: Sequence[dict[str, float]],
    runs: int,
    processes: int,
    memory_bytes: int,
    max_concurrent: int | None,
) -> Workers:
    """Decide how many runs go side by side that have several processes each.

    A process gets a GPU where the cluster has GPUs, and CPUs alone otherwise.

    Args:
        nodes: resources of each node of the cluster, as Ray tells them.
        runs: how many there are to do.
        processes: of each run.
        memory_bytes: estimated peak of one process.
        max_concurrent: the user's limit.

    Raises:
        LlmpredError: when the cluster has no room for one run.
    """
    gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    room = _places(nodes, memory_bytes, gpus > 0)
    if room(1) < processes:
        each = "a GPU and a CPU" if gpus else "a CPU"
        raise LlmpredError(
            f"A run asks for {processes} processes with {each} and {memory_bytes / 1e9:.1f} GB of "
            f"memory each, but the Ray cluster has room for {room(1)}. Add nodes, lower "
            "execution.distributed.workers" + (", or set execution.device to cpu." if gpus else ".")
        )
    count = max(1, min(room(1) // processes, runs, max_concurrent or runs))
    cpus = _shared_out(room, count * processes)
    return Workers(count, cpus, 1.0 if gpus else 0.0, processes, by_train=True)


def _places(
    nodes: Sequence[dict[str, float]], memory_bytes: int, on_gpu: bool
) -> Callable[[int], int]:
    """Return how many processes of so many CPUs, a GPU each if `on_gpu`, the nodes have room for.

    A node too small in memory for one is taken to hold one: the estimate may be too careful.
    """

    def room(node: dict[str, float]) -> int:
        if on_gpu:
            return int(node.get("GPU", 0.0))
        return max(1, int(node.get("memory", sys.maxsize) // max(1, memory_bytes)))

    return lambda cpus: sum(min(int(n.get("CPU", 0.0)) // cpus, room(n)) for n in nodes)


def _shared_out(room: Callable[[int], int], count: int) -> float:
    """Return how many CPUs each of `count` processes may have."""
    cpus = 1
    while room(cpus + 1) >= count:
        cpus += 1
    return float(cpus)
