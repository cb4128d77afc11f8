"""Pretrain on Ray Train: workers share every step; whatever ended, the same call goes on."""

from __future__ import annotations

import json
import platform
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmpred.bases.pretraining.prepare import Prepared
from llmpred.bases.pretraining.train import Settings, Step
from llmpred.errors import DataError, LlmpredError, Problem, StorageError
from llmpred.sweep.cluster import connected

LOG, SETTINGS = "log.jsonl", "settings.json"
VALIDATION_WINDOWS = 64  # of the held-out stream, scored while training


@dataclass(frozen=True)
class Placement:
    """Where to train.

    Attributes:
        workers: processes; each takes its share of every step.
        threads: CPUs of each.
        address: of a Ray cluster; None starts one on this machine.
        checkpoint_seconds: time between checkpoints.
        validation_steps: optimizer steps between validations.
    """

    workers: int = 1
    threads: int = 1
    address: str | None = None
    checkpoint_seconds: float = 120.0
    validation_steps: int = 100


def pretrain(
    prepared: Prepared,
    settings: Settings,
    placement: Placement,
    out: Path,
    command: str,
    show: Callable[[str], None],
) -> None:
    """Train, save the model in bfloat16 with its card.

    A run that was interrupted, in whatever way, goes on from its last checkpoint when it is called
    again with the same arguments; one that is complete is only saved again.

    Args:
        prepared: what to train on; its folder also keeps log and checkpoints.
        settings: how to train.
        placement: where.
        out: folder of the model.
        command: for the card.
        show: tells people about progress, a line at a time.

    Raises:
        DataError: if too little text is held out to validate on.
        StorageError: if the folder holds a run with other settings.
        LlmpredError: if training fails.
    """
    longest = max(len(held_out.ids) for held_out in prepared.validation().values())
    if longest < settings.length:
        law = (
            "one corpus at least must have so much text that one document in 100, which is held "
            f"out, gives {settings.length} tokens to validate on, but the most is {longest}"
        )
        raise DataError(Problem(law, fix="Give more text."))
    _same_settings(prepared.folder / SETTINGS, settings, placement)
    with connected(placement.address) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0)) >= placement.workers
        checkpoint = _fit(prepared, settings, placement, gpus, show)
    _finish(prepared, settings, placement, Path(checkpoint), out, command, show, gpus)


def _same_settings(path: Path, settings: Settings, placement: Placement) -> None:
    """Note the settings of a run, or refuse others than those it began with."""
    wanted = {**asdict(settings), "workers": placement.workers}
    if not path.is_file():
        path.write_text(json.dumps(wanted))
        return
    begun = json.loads(path.read_text())
    if begun != wanted:
        names = sorted(k for k in wanted if begun.get(k) != wanted[k])
        law = (
            "a pretraining goes on with the settings that it began with, but these differ: "
            + ", ".join(f"{k} was {begun.get(k)}, now {wanted[k]}" for k in names)
        )
        raise StorageError(Problem(law, str(path), "Choose another --work folder."))


def _fit(
    prepared: Prepared,
    settings: Settings,
    placement: Placement,
    gpus: bool,
    show: Callable[[str], None],
) -> str:
    """Run the workers to the end of the budget; return the folder of the last checkpoint."""
    import ray.train
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "prepared": prepared,
            "settings": settings,
            "placement": placement,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": placement.threads, "GPU": 1 if gpus else 0},
        ),
        run_config=ray.train.RunConfig(
            name="train",  # a name that stays lets Ray Train find the checkpoints of last time
            storage_path=str(prepared.folder.resolve() / "checkpoints"),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )
    over = threading.Event()
    follower = threading.Thread(
        target=_follow, args=(prepared.folder / LOG, show, over), daemon=True
    )
    follower.start()
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise LlmpredError(f"Training failed: {_cause(error)}") from error
    finally:
        over.set()
        follower.join()
    if result.checkpoint is None:
        raise LlmpredError("Training ended without a checkpoint.")
    return str(result.checkpoint.path)


def _cause(error: BaseException) -> str:
    """Return what went wrong first, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    lines = str(next(iter(failures.values()))).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _follow(path: Path, show: Callable[[str], None], over: threading.Event) -> None:
    """Show the validations that are written to the log until `over` is set."""
    place = path.stat().st_size if path.is_file() else 0
    last = False
    while not last:
        last = over.wait(1.0)
        if not path.is_file() or path.stat().st_size <= place:
            continue
        with path.open() as file:
            file.seek(place)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        place += len(whole.encode())
        for line in whole.splitlines():
            row = json.loads(line)
            if "validation_loss" in row:
                left = row["seconds"] * (1 / max(row["progress"], 1e-9) - 1) / 60
                show(
                    f"step {row['step']:,}  {row['tokens']:,} tokens  loss {row['loss']:.3f}  "
                    f"validation {row['validation_loss']:.3f}  {row['tokens_per_second']:,.0f} "
                    f"tokens/s  {100 * row['progress']:.0f} %, about {left:.0f} min left"
                )


def _worker(config: dict[str, Any]) -> None:
    """Train in one process of the group."""
    import numpy as np
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed

    from llmpred.bases.pretraining import train
    from llmpred.bases.pretraining.model import build

    prepared: Prepared = config["prepared"]
    settings: Settings = config["settings"]
    placement: Placement = config["placement"]
    context = ray.train.get_context()
    rank, world = int(context.get_world_rank()), int(context.get_world_size())
    torch.set_num_threads(placement.threads)
    packed = prepared.train()
    held_out = np.concatenate([part.ids for part in prepared.validation().values()])
    model = build(prepared.tokenizer(), settings.seed)
    tuned = train.optimizers(model, settings)
    done = None
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            done = train.load_checkpoint(Path(folder), model, tuned)
    forward = ray.train.torch.prepare_model(model)
    log = prepared.folder / LOG
    if rank == 0:
        _cut_log(log, done.step if done else 0)

    def agree(value: float) -> float:
        if world == 1:
            return value
        device = next(model.parameters()).device
        mean = torch.tensor(value, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(mean)
        return float(mean) / world

    kept = logged = done or Step(0, 0, 0.0, 0.0, 0.0, 0.0)
    for step in train.steps(
        model, forward, tuned, packed, settings, done=done, rank=rank, world=world, agree=agree
    ):
        last = step.progress >= 1.0
        if rank == 0:
            row = asdict(step)
            spent = step.seconds - logged.seconds
            row["tokens_per_second"] = (step.tokens - logged.tokens) / max(spent, 1e-9)
            if step.step % placement.validation_steps == 0 or last:
                losses = train.validate(model, held_out, settings.length, VALIDATION_WINDOWS)
                row["validation_loss"] = float(losses.mean())
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            logged = step
        if not last and step.seconds - kept.seconds < placement.checkpoint_seconds:
            continue
        kept = step
        with tempfile.TemporaryDirectory() as folder:
            made = None
            if rank == 0:
                train.save_checkpoint(Path(folder), model, tuned, step)
                made = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"step": step.step, "loss": step.loss}, checkpoint=made)


def _cut_log(log: Path, step: int) -> None:
    """Drop the lines of steps that will be taken again."""
    if log.is_file():
        rows = [line for line in log.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in rows if json.loads(line)["step"] <= step]
        log.write_text("".join(f"{line}\n" for line in kept))


def _finish(
    prepared: Prepared,
    settings: Settings,
    placement: Placement,
    checkpoint: Path,
    out: Path,
    command: str,
    show: Callable[[str], None],
    gpus: bool,
) -> None:
    """Save the model and its card; files of an earlier model are replaced at the very end."""
    import torch
    from transformers import AutoModelForCausalLM

    from llmpred.bases.pretraining import card, train
    from llmpred.bases.pretraining.model import build, save

    torch.set_num_threads(placement.threads)
    tokenizer = prepared.tokenizer()
    model = build(tokenizer, settings.seed)
    done = train.load_checkpoint(checkpoint, model, train.optimizers(model, settings))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        save(model, tokenizer, made)
        # What is scored is what is shipped: the weights as they were rounded.
        shipped = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval()
        scores = card.score(shipped, prepared, settings)
        names = ("torch", "transformers", "tokenizers", "ray")
        about = {
            "command": command,
            "hardware": _hardware(gpus),
            "workers": f"{placement.workers} × {placement.threads} threads",
            "versions": ", ".join(f"{name} {version(name)}" for name in names),
        }
        card.write_card(made, prepared, settings, done, scores, about)
        out.mkdir(exist_ok=True)
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
            file.replace(out / file.name)
    total = scores[-1]
    show(
        f"{out}: validation loss {total.per_token('model'):.3f} nats a token "
        f"(trigram {total.per_token('trigram'):.3f}, unigram {total.per_token('unigram'):.3f})"
    )


def _hardware(gpus: bool) -> str:
    import psutil
    import torch

    if gpus:
        return str(torch.cuda.get_device_name())
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total
    processor = found[0] if found else platform.processor() or platform.machine()
    return f"{psutil.cpu_count()} cores ({processor}), {memory / 1e9:.0f} GB memory, no GPU"
