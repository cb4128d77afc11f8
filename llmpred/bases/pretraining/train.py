"""The pretraining loop: schedule, optimizers, steps, validation; one process of one or several."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmpred.bases.pretraining.packing import Ids, Packed, batches, windows
from llmpred.errors import Problem, StorageError

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        tokens, minutes: the budget: exactly one of them is given. Time counts over all attempts.
        seed: of weights and order.
        optimizer: `muon` for the matrices of the blocks (Jordan et al., 2024) and AdamW for the
            rest, or `adamw` for all.
        lr, matrix_lr: peak learning rates of AdamW and Muon.
        weight_decay: of matrices.
        batch: tokens a step.
        micro: tokens that go through the model at once.
        length, long_length: of a sequence, and of one in the decay phase, so that late positions
            are learnt too.
        warmup, decay: shares of the budget: linear warm-up, and linear decay to 0 at the end.
        precision: of the computation; weights and optimizer are in float32.
    """

    tokens: int | None = None
    minutes: float | None = None
    seed: int = 0
    optimizer: Literal["adamw", "muon"] = "muon"
    lr: float = 1e-2
    matrix_lr: float = 5e-3
    weight_decay: float = 0.1
    batch: int = 4096
    micro: int = 2048
    length: int = 256
    long_length: int = 1024
    warmup: float = 0.02
    decay: float = 0.3
    precision: Literal["fp32", "bf16"] = "bf16"


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        step: its number, from 1.
        tokens: trained on so far.
        loss: mean of the step, nats a token.
        lr: of AdamW.
        seconds: trained so far, over all attempts.
        progress: share of the budget that is used.
    """

    step: int
    tokens: int
    loss: float
    lr: float
    seconds: float
    progress: float


def lr_factor(settings: Settings, progress: float) -> float:
    """Return the share of the peak learning rate at a share of the budget.

    Warm-up, constant, linear decay to 0: "WSD" (Hu et al., 2024; Hägele et al., 2024).
    """
    if progress < settings.warmup:
        return (progress + 1e-3) / (settings.warmup + 1e-3)
    return min(1.0, max(0.0, 1.0 - progress) / settings.decay)


def optimizers(model: torch.nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return the optimizers: AdamW, preceded by Muon for the matrices of the blocks if asked for.

    Embeddings and gains do not decay. Muon's updates are scaled to the size of AdamW's
    (`match_rms_adamw`, Liu et al., 2025) where the learning rates are.
    """
    import torch

    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in f".{name}"]
    others = [p for name, p in named if not (p.ndim == 2 and ".layers." in f".{name}")]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    made: list[torch.optim.Optimizer] = []
    if settings.optimizer == "muon":
        made.append(
            torch.optim.Muon(
                matrices,
                lr=settings.matrix_lr,
                weight_decay=settings.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    else:
        groups.append({"params": matrices, "weight_decay": settings.weight_decay})
    made.append(torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.95)))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def steps(
    model: torch.nn.Module,
    forward: torch.nn.Module,
    tuned: list[torch.optim.Optimizer],
    packed: Packed,
    settings: Settings,
    *,
    done: Step | None = None,
    rank: int = 0,
    world: int = 1,
    agree: Callable[[float], float] = lambda value: value,
) -> Iterator[Step]:
    """Train, yielding after each optimizer step, until the budget is used.

    Args:
        model: whose weights are trained.
        forward: the same, as it is called: itself, or wrapped to share gradients.
        tuned: its optimizers.
        packed: documents to train on.
        settings: how to train.
        done: the last step of an earlier attempt, whose state model and optimizers have.
        rank: which process this is; each takes its rows of every batch.
        world: how many there are.
        agree: makes a number the same in all processes: the time and the loss.

    Raises:
        FloatingPointError: when the loss is no number any more.
    """
    import torch

    device = next(model.parameters()).device
    done = done or Step(0, 0, math.nan, 0.0, 0.0, 0.0)
    started = time.monotonic() - done.seconds
    stream = batches(packed, settings.batch, settings.seed, done.step)
    number, progress = done.step, done.progress
    while progress < 1.0:
        factor = lr_factor(settings, progress)
        for optimizer in tuned:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        late = progress >= 1.0 - settings.decay
        rows = windows(next(stream), settings.long_length if late else settings.length)
        mine = torch.from_numpy(rows[rank::world]).to(device)
        loss = _accumulate(forward, mine, settings)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        loss = agree(loss)
        if not math.isfinite(loss + float(norm)):
            raise FloatingPointError(f"the loss of step {number + 1} is {loss}: lower the lr")
        for optimizer in tuned:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        number += 1
        seconds = agree(time.monotonic() - started)
        progress = (
            number * settings.batch / settings.tokens
            if settings.tokens
            else seconds / (60 * (settings.minutes or 0.0))
        )
        yield Step(
            number,
            number * settings.batch,
            loss,
            tuned[-1].param_groups[0]["lr"],
            seconds,
            min(1.0, progress),
        )


def _accumulate(forward: torch.nn.Module, rows: torch.Tensor, settings: Settings) -> float:
    """Add the gradients of one step, a micro-batch at a time; return its mean loss."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    pieces = torch.split(rows, max(1, settings.micro // rows.shape[1]))
    total = 0.0
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        # Gradients are shared between processes once a step.
        if isinstance(forward, DistributedDataParallel) and not last:
            quiet: AbstractContextManager[None] = forward.no_sync()
        else:
            quiet = nullcontext()
        with quiet:
            share = next_token_loss(forward, piece, settings.precision).mean()
            share = share * (len(piece) / len(rows))
            share.backward()  # type: ignore[no-untyped-call]
        total += float(share.detach())
    return total


def next_token_loss(forward: torch.nn.Module, rows: torch.Tensor, precision: str) -> torch.Tensor:
    """Return the cross-entropy of each token but the first of each row.

    Args:
        forward: the model.
        rows: [rows, length], token ids.
        precision: `bf16` computes in bfloat16 where torch deems it safe.

    Returns:
        [rows, length - 1], nats.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    with torch.autocast(rows.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = forward(input_ids=rows).logits[:, :-1]
    return (
        F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        .view(len(rows), -1)
        .float()
    )


def validate(
    model: torch.nn.Module, ids: Ids, length: int, rows: int | None = None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the cross-entropy of each token of a stream cut into windows, in float32.

    Args:
        model: to score with.
        ids: [tokens].
        length: of a window; its first token is not scored.
        rows: how many windows, evenly spread; None for all.

    Returns:
        [windows, length - 1], nats.
    """
    import torch

    cut = windows(ids, length)
    if rows is not None and len(cut) > rows:
        cut = cut[np.linspace(0, len(cut) - 1, rows).astype(int)]
    device = next(model.parameters()).device
    with torch.no_grad():
        scored = [
            next_token_loss(model, torch.from_numpy(cut[i : i + 8]).to(device), "fp32").cpu()
            for i in range(0, len(cut), 8)
        ]
    return torch.cat(scored).double().numpy() if scored else np.zeros((0, length - 1))


# --- checkpoints -----------------------------------------------------------------------------


def save_checkpoint(
    folder: Path, model: LlamaForCausalLM, tuned: list[torch.optim.Optimizer], done: Step
) -> None:
    """Write all that a later attempt needs to go on exactly here."""
    from safetensors.torch import save_file

    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    save_file(weights, folder / WEIGHTS)
    moments = {
        f"{i}.{index}.{name}": value.detach().cpu().contiguous()
        for i, optimizer in enumerate(tuned)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    save_file(moments, folder / OPTIMIZER)
    (folder / STATE).write_text(json.dumps(asdict(done)))


def load_checkpoint(
    folder: Path, model: LlamaForCausalLM, tuned: list[torch.optim.Optimizer]
) -> Step:
    """Put weights and optimizers into the state that `save_checkpoint` wrote; return its step.

    Raises:
        StorageError: if the checkpoint is of another model or optimizer.
    """
    import torch
    from safetensors.torch import load_file

    weights, moments = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
    parameters = dict(model.named_parameters())
    if {n: p.shape for n, p in parameters.items()} != {n: w.shape for n, w in weights.items()}:
        law = "a checkpoint must be of the model that is trained, but its weights are others"
        raise StorageError(Problem(law, str(folder), "Choose another --work folder."))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for i, optimizer in enumerate(tuned):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in moments.items():
            which, index, name = key.split(".", 2)
            if int(which) == i:
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return Step(**json.loads((folder / STATE).read_text()))
