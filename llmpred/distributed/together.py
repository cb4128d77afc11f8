"""Carry out one run by several processes, which Ray Train places and starts.

The one that asks stays in charge: it waits at a desk, an actor that the run's first process comes
to with what only the asker can do (keep a checkpoint, judge a report) and with what came out.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from llmpred.bases import fetch
from llmpred.bases.registry import KNOWN
from llmpred.bases.resolve import ResolvedSpec
from llmpred.engine.models import Interrupted, LoadedBases, OutOfMemory
from llmpred.engine.run import Outcome, execute
from llmpred.errors import LlmpredError, Problem, StorageError

POLL_SECONDS = 0.5
TRAIN = {
    # A busy machine, or a node that is only just being rented, takes longer than Ray's minute.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # whoever asks notices by itself
}
NO_ROOM = "WorkerGroupStartupTimeoutError"  # Ray's own name, of a module that is not public
OFFLOADED = "cpu:gloo,cuda:nccl"
LIVES = 3  # how often processes are started when one died, or failed by no error of ours


def carry_out(
    resolved: ResolvedSpec,
    folder: Path,
    *,
    cpus: int = 1,
    gpu: bool = False,
    cache: Path | None = None,
    trained: Path | None = None,
    keep_adapter: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    saved: Callable[[], None] = lambda: None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_at: Collection[int] = (),
) -> Outcome:
    """Carry out a run that names `execution.distributed`; arguments are those of `execute`.

    Each process has `cpus` of the cluster's CPUs, and one of its GPUs if `gpu`.
    To be called where Ray is connected. Where a process runs out of memory, all start again from
    the newest checkpoint with batches of half the size; where one dies or fails otherwise, as
    they were. For room it waits without end, as a run of one process does.

    Raises:
        Interrupted, OutOfMemory, BaseError, DataError: as `execute` does.
        LlmpredError: when they failed otherwise `LIVES` times.
    """
    asked: dict[str, Any] = {
        "folder": str(folder.resolve()),
        "cache": cache,
        "trained": trained,
        "keep_adapter": keep_adapter,
        "report_at": frozenset(report_at),
        "threads": cpus,
        "gpu": gpu,
        "directory": Path.cwd(),
    }
    answers: dict[str, Callable[..., None]] = {"saved": saved, "report": report}
    execution, deaths = resolved.spec.execution, 0
    micro_batch, eval_batch = execution.micro_batch, execution.eval_batch
    distributed = resolved.spec.execution.distributed
    assert distributed is not None
    share = math.ceil(resolved.spec.optim.batch_size / distributed.workers)
    while True:
        if reason := stop():
            raise Interrupted(reason)
        try:
            smaller = resolved.with_execution(micro_batch=micro_batch, eval_batch=eval_batch)
            outcome = _started(smaller, asked, answers, stop)
        except OutOfMemory:
            if micro_batch == eval_batch == 1:
                raise
            eval_batch = eval_batch // 2 or 1
            micro_batch = min(micro_batch, share) // 2 or 1
        except _NoRoomError:
            continue
        except _BrokenError as death:
            deaths += 1
            if deaths == LIVES:
                raise LlmpredError(f"its processes failed {LIVES} times: {death}") from death
        else:
            record = outcome.record.model_copy(update={"spec": resolved.spec})
            return Outcome(record, outcome.predictions, outcome.adapter)


class _BrokenError(Exception):
    """A process died, or the others' words broke off: worth another try."""


class _NoRoomError(Exception):
    """The cluster had no room for the processes so far: no fault of theirs."""


def _started(
    resolved: ResolvedSpec,
    asked: Mapping[str, Any],
    answers: Mapping[str, Callable[..., None]],
    stop: Callable[[], str | None],
) -> Outcome:
    """Start the processes once, serve them, and return what they gave."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Here, so that no other node's end takes it away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = ray.remote(num_cpus=0, scheduling_strategy=here)(_Desk).remote()
    errors: list[Exception] = []
    work = (resolved, asked, desk, errors)
    fitting = threading.Thread(target=_fit, args=work, name="fit", daemon=True)
    fitting.start()
    try:
        refused, outcome, told = _served(fitting, desk, answers, stop)
    except ray.exceptions.RayActorError as death:  # of the desk; the processes end without it
        fitting.join()
        raise _BrokenError(f"their desk died: {death}") from death
    ray.kill(desk)
    if refused is not None:
        raise refused
    if told is not None:
        raise told
    if outcome is None and errors and NO_ROOM in _kinds(errors[0]):
        raise _NoRoomError
    if outcome is None:
        raise _BrokenError(_cause(errors[0]) if errors else "no outcome")
    return outcome


def _served(
    fitting: threading.Thread,
    desk: Any,
    answers: Mapping[str, Callable[..., None]],
    stop: Callable[[], str | None],
) -> tuple[Exception | None, Outcome | None, Exception | None]:
    """Answer the first process until all have ended.

    Returns:
        Why they were ended from here; what they gave; why they could not.

    Raises:
        Interrupted: when they were asked to stop before any had come.
    """
    import ray

    refused: Exception | None = None
    while fitting.is_alive():
        try:
            reason = None if refused else stop()
        except Exception as error:  # such as a storage that does not answer
            refused, reason = error, str(error)
        if reason and not ray.get(desk.stop.remote(Interrupted(reason))):
            ray.kill(desk)  # still waiting for room; processes that come after all find it closed
            raise refused or Interrupted(reason)
        call = ray.get(desk.next.remote(POLL_SECONDS))
        if call is None:
            continue
        name, values = call
        try:
            answers[name](*values)
        except Exception as error:  # all processes end by it, and then it is raised here
            refused = error
        ray.get(desk.answer.remote(refused and Interrupted(str(refused))))
    fitting.join()
    outcome, told = ray.get(desk.ended.remote())
    return refused, outcome, told


def _fit(
    resolved: ResolvedSpec, asked: Mapping[str, Any], desk: Any, errors: list[Exception]
) -> None:
    """Let Ray Train run the processes to their end."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    distributed = resolved.spec.execution.distributed
    assert distributed is not None
    for name, value in TRAIN.items():
        os.environ.setdefault(name, value)
    # Ray names the model of a GPU that is there; one that is only said to be there has none. Where
    # there is none yet, an autoscaler will bring real ones.
    there = ray.cluster_resources()
    named = any(name.startswith("accelerator_type") for name in there)
    cuda = asked["gpu"] and (named or not there.get("GPU"))
    # What is offloaded is exchanged too: the norm of gradients, whole weights to save.
    backend = "gloo" if not cuda else "nccl" if distributed.offload == "none" else OFFLOADED
    with tempfile.TemporaryDirectory(prefix="llmpred-train-") as scratch:
        trainer = TorchTrainer(
            _process,
            train_loop_config={**asked, "run": resolved, "desk": desk},
            torch_config=TorchConfig(backend=backend),
            scaling_config=ray.train.ScalingConfig(
                num_workers=distributed.workers,
                use_gpu=asked["gpu"],
                resources_per_worker={"CPU": asked["threads"], "GPU": int(asked["gpu"])},
            ),
            run_config=ray.train.RunConfig(
                name=resolved.key,
                storage_path=scratch,  # unused: checkpoints are the engine's own
                # Left to itself it would wait for room without end.
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            errors.append(error)


def _process(config: dict[str, Any]) -> None:
    """Be one of the processes."""
    import ray
    import torch

    from llmpred.engine import parallel

    torch.set_num_threads(config["threads"])
    with suppress(OSError):  # relative paths of data start where the asker is, if that is here
        os.chdir(config["directory"])
    if not torch.cuda.is_available():  # Ray goes by what it was told the node has
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    run: ResolvedSpec = config["run"]
    if not config["gpu"]:  # Ray hides no GPU from those that were given none
        run = run.with_execution(device="cpu")
    desk, folder = config["desk"], Path(config["folder"])

    def call(name: str, *values: Any) -> None:
        if (refused := ray.get(desk.call.remote(name, values))) is not None:
            raise refused

    def stop() -> str | None:
        reason: Interrupted | None = ray.get(desk.asked.remote())
        return str(reason) if reason else None

    if stop():
        return
    try:
        if run.spec.base.name in KNOWN:
            fetch.add(run.spec.base.name)  # the driver brought it to its own node only
        if not folder.is_dir():
            law = f"the processes of a run share its folder, but {folder} is not on all their nodes"
            fix = "Give --storage a folder that all nodes mount."
            raise StorageError(Problem(law, fix=fix))
        outcome = execute(
            run,
            LoadedBases(),
            folder,
            cache=config["cache"],
            trained=config["trained"],
            keep_adapter=config["keep_adapter"],
            stop=stop,
            saved=partial(call, "saved"),
            report=partial(call, "report"),
            report_at=config["report_at"],
        )
    except Interrupted as error:
        ray.get(desk.fail.remote(error))
        return  # all processes end so, at the same step
    except LlmpredError as error:
        ray.get(desk.fail.remote(error))
        raise
    if parallel.first():
        ray.get(desk.finish.remote(outcome))


class _Desk:
    """Where the first process of a run and the one that asked for it meet."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.reason: Exception | None = None
        self.come = False
        self.outcome: Outcome | None = None
        self.told: Exception | None = None

    async def asked(self) -> Exception | None:
        self.come = True
        return self.reason

    async def stop(self, reason: Exception) -> bool:
        """Take a reason to stop; return whether any process has come that will hear of it."""
        self.reason = self.reason or reason
        return self.come

    async def call(self, name: str, values: tuple[Any, ...]) -> Exception | None:
        await self.calls.put((name, values))
        return await self.answers.get()

    async def next(self, seconds: float) -> tuple[str, tuple[Any, ...]] | None:
        try:
            return await asyncio.wait_for(self.calls.get(), seconds)
        except TimeoutError:
            return None

    async def answer(self, refused: Exception | None) -> None:
        await self.answers.put(refused)

    async def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def fail(self, error: Exception) -> None:
        # The first says why; the others were cut off by its end. Memory is the cause of both.
        if self.told is None or isinstance(error, OutOfMemory):
            self.told = error

    async def ended(self) -> tuple[Outcome | None, Exception | None]:
        return self.outcome, self.told


def _kinds(error: BaseException) -> set[str]:
    """Return the names of an error's class and of what Ray wraps in it."""
    inner = getattr(error, "controller_failure", None)
    return {type(error).__name__, *([type(inner).__name__] if inner else [])}


def _cause(error: BaseException) -> str:
    """Return what went wrong first, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    lines = str(next(iter(failures.values()))).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
