"""Carry out one run by several processes, which Ray Train places and starts.

The one that asks stays in charge: it waits at a desk, an actor that the run's first process comes
to with what only the asker can do (keep a checkpoint, judge a report) and with what came out.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
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
LIVES = 3  # how often processes are started when one died, or failed by no error of ours


def carry_out(
    resolved: ResolvedSpec,
    folder: Path,
    *,
    cpus: int = 1,
    cache: Path | None = None,
    trained: Path | None = None,
    keep_adapter: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    saved: Callable[[], None] = lambda: None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_at: Collection[int] = (),
) -> Outcome:
    """Carry out a run that names `execution.distributed`; arguments are those of `execute`.

    Each process has `cpus` of the cluster's, and a GPU where there is one for each.
    To be called where Ray is connected. Where a process runs out of memory, all start again from
    the newest checkpoint with micro-batches of half the size; where one dies or fails otherwise, as
    they were.

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
    }
    answers: dict[str, Callable[..., None]] = {"saved": saved, "report": report}
    micro_batch, deaths = resolved.spec.execution.micro_batch, 0
    while True:
        try:
            outcome = _started(_cut(resolved, micro_batch), asked, answers, stop)
        except OutOfMemory:
            if micro_batch == 1:
                raise
            micro_batch //= 2
        except _BrokenError as death:
            deaths += 1
            if deaths == LIVES:
                raise LlmpredError(f"its processes failed {LIVES} times: {death}") from death
        else:
            record = outcome.record.model_copy(update={"spec": resolved.spec})
            return Outcome(record, outcome.predictions, outcome.adapter)


class _BrokenError(Exception):
    """A process died, or the others' words broke off: worth another try."""


def _cut(resolved: ResolvedSpec, micro_batch: int) -> ResolvedSpec:
    import dataclasses

    execution = resolved.spec.execution.model_copy(update={"micro_batch": micro_batch})
    spec = resolved.spec.model_copy(update={"execution": execution})
    return dataclasses.replace(resolved, spec=spec)


def _started(
    resolved: ResolvedSpec,
    asked: Mapping[str, Any],
    answers: Mapping[str, Callable[..., None]],
    stop: Callable[[], str | None],
) -> Outcome:
    """Start the processes once, serve them, and return what they gave."""
    import ray

    desk = ray.remote(num_cpus=0)(_Desk).remote()
    errors: list[Exception] = []
    fitting = threading.Thread(target=_fit, args=(resolved, asked, desk, errors), name="fit")
    fitting.start()
    refused: Exception | None = None
    while fitting.is_alive():
        if refused is None and (reason := stop()):
            ray.get(desk.stop.remote(Interrupted(reason)))
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
    ray.kill(desk)
    if refused is not None:
        raise refused
    if told is not None:
        raise told
    if outcome is None:
        raise _BrokenError(_cause(errors[0]) if errors else "no outcome")
    found: Outcome = outcome
    return found


def _fit(
    resolved: ResolvedSpec, asked: Mapping[str, Any], desk: Any, errors: list[Exception]
) -> None:
    """Let Ray Train run the processes to their end."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    distributed = resolved.spec.execution.distributed
    assert distributed is not None
    total = ray.cluster_resources()
    gpu = resolved.spec.execution.device != "cpu" and total.get("GPU", 0) >= distributed.workers
    with tempfile.TemporaryDirectory(prefix="llmpred-train-") as scratch:
        trainer = TorchTrainer(
            _process,
            train_loop_config={**asked, "run": resolved, "desk": desk},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=distributed.workers,
                use_gpu=gpu,
                resources_per_worker={"CPU": asked["threads"], "GPU": int(gpu)},
            ),
            run_config=ray.train.RunConfig(
                name=resolved.key,
                storage_path=scratch,  # unused: checkpoints are the engine's own
                failure_config=ray.train.FailureConfig(max_failures=0),
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
    run: ResolvedSpec = config["run"]
    desk, folder = config["desk"], Path(config["folder"])

    def call(name: str, *values: Any) -> None:
        if (refused := ray.get(desk.call.remote(name, values))) is not None:
            raise refused

    def stop() -> str | None:
        reason: Interrupted | None = ray.get(desk.asked.remote())
        return str(reason) if reason else None

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
        self.outcome: Outcome | None = None
        self.told: Exception | None = None

    async def asked(self) -> Exception | None:
        return self.reason

    async def stop(self, reason: Exception) -> None:
        self.reason = self.reason or reason

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


def _cause(error: BaseException) -> str:
    """Return what went wrong first, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    lines = str(next(iter(failures.values()))).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
