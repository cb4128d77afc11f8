"""What a run *means*: data order, schedule, loss, optimizer, seeds. Pure functions.

Every engine calls these and only executes them, so runs of different engines are the same runs.
A change here that alters any run's result needs a bump of `ENGINE_VERSION`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.spec.run import OptimSpec
from llmpred.tasks.base import LEVELS

if TYPE_CHECKING:
    import torch
    from torch import nn

IGNORED = -100  # label of positions that take no part in the loss
DIVERGED_FACTOR = 2.0  # a run that ends at twice its first loss has diverged


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on every device."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_step(seed: int, step: int, process: int = 0) -> None:
    """Seed what a training step draws (dropout) by run, step and process alone.

    So a step draws the same after a resume, or after it ran out of memory and starts over.
    """
    import torch

    entropy = [seed % 2**64, step, *([process] if process else [])]
    drawn = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    torch.manual_seed(int(drawn[0]))


def total_steps(optim: OptimSpec, examples: int) -> int:
    """Return the number of optimizer steps: `max_steps`, or epochs of ceil(examples / batch)."""
    if optim.stages is not None:
        return sum(steps for _, steps in stages(optim, examples))
    if optim.max_steps is not None:
        return optim.max_steps
    assert optim.epochs is not None  # the spec holds exactly one of the two
    return max(1, math.ceil(optim.epochs * math.ceil(examples / optim.batch_size)))


def stages(optim: OptimSpec, examples: int) -> list[tuple[OptimSpec, int]]:
    """Return the trainings that follow one another: what each is like, and its steps."""
    if optim.stages is None:
        return [(optim, total_steps(optim, examples))]
    parts = [
        optim.model_copy(
            update={"lr": s.lr, "epochs": s.epochs, "max_steps": s.max_steps, "stages": None}
        )
        for s in optim.stages
    ]
    return [(part, total_steps(part, examples)) for part in parts]


def trains_head_alone(optim: OptimSpec, examples: int, step: int) -> bool:
    """Whether step `step` (from 0) is of a stage that leaves all but the head as it is."""
    for stage, (_, steps) in zip(optim.stages or (), stages(optim, examples), strict=False):
        if step < steps:
            return stage.trains == "head"
        step -= steps
    return False


def batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield the examples of one optimizer step after the other, without end.

    Each epoch is a permutation of its own, cut into batches; the last batch of an epoch may be
    smaller. Inside a batch the examples stand sorted by length, so that micro-batches need little
    padding. Which examples share a step does not depend on their length: batches of one length
    each gave worse models here (docs/LOG.md). Reads nothing but its arguments: the same order on
    any machine.

    Args:
        lengths: tokens of each example.
        batch_size: examples a step.
        seed: of the run.
    """
    length = np.asarray(lengths)
    epoch = 0
    while True:
        order = np.random.default_rng([seed % 2**64, epoch, 0x0DA7A]).permutation(len(length))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            yield batch[np.argsort(length[batch], kind="stable")].tolist()
        epoch += 1


def warmup_steps(optim: OptimSpec, steps: int) -> int:
    """Return the number of warm-up steps: a share of all steps below 1, a count from 1 on."""
    return math.ceil(optim.warmup * steps) if optim.warmup < 1 else int(optim.warmup)


def lr_factor(optim: OptimSpec, steps: int, step: int) -> float:
    """Return the share of the peak learning rate that step `step` (from 0) uses.

    Linear warm-up, then constant, linear to 0 or half a cosine to 0 at `steps`.
    """
    warmup = warmup_steps(optim, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if optim.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    if optim.schedule == "linear":
        return max(0.0, 1.0 - progress)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def optimizer(model: nn.Module, optim: OptimSpec) -> torch.optim.Optimizer:
    """Return AdamW over the trainable weights; only matrices decay (Loshchilov & Hutter, 2019)."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    # A weight that DeepSpeed has split keeps its shape beside it.
    matrices = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) >= 2]
    others = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas)
    import bitsandbytes as bnb

    kind = bnb.optim.AdamW8bit if optim.name == "adamw_8bit" else bnb.optim.PagedAdamW8bit
    made: torch.optim.Optimizer = kind(groups, lr=optim.lr, betas=optim.betas)
    return made


def scheduler(
    optimizer: torch.optim.Optimizer, optim: OptimSpec, examples: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the learning-rate schedule of `lr_factor`, stage by stage, as torch's scheduler."""
    import torch

    parts = stages(optim, examples)

    def factor(step: int) -> float:
        for part, steps in parts[:-1]:
            if step < steps:
                return lr_factor(part, steps, step) * (part.lr / optim.lr)
            step -= steps
        part, steps = parts[-1]
        return lr_factor(part, steps, step) * (part.lr / optim.lr)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def class_weights(
    labels: Sequence[int], classes: Sequence[str], how: str | Mapping[str, float]
) -> list[float]:
    """Return how much an example of each class counts in the loss.

    `balanced` is n / (classes * n of the class), as scikit-learn has it (King & Zeng, 2001): all
    classes that there are count the same, and the mean weight is 1. A class without examples has
    no weight to speak of and gets 1.

    Args:
        labels: class of each training example.
        classes: names of the classes, in order.
        how: `balanced`, or a weight a name; names without one get 1.
    """
    if not isinstance(how, str):
        return [float(how.get(name, 1.0)) for name in classes]
    counts = np.bincount(labels, minlength=len(classes))
    return [len(labels) / (np.count_nonzero(counts) * n) if n else 1.0 for n in counts.tolist()]


def token_loss(
    logits: torch.Tensor, labels: torch.Tensor, count: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a micro-batch's share of the mean cross-entropy over the global batch.

    Args:
        logits: [rows, positions, vocabulary]; each position predicts the label at its place.
        labels: [rows, positions], token ids; `IGNORED` outside the targets.
        count: target tokens in the whole global batch, each times the weight of its row.
        weights: [rows]; None weighs all the same.
    """
    import torch.nn.functional as F  # noqa: N812

    flat, ids = logits.flatten(0, 1).float(), labels.flatten()
    if weights is None:
        return F.cross_entropy(flat, ids, ignore_index=IGNORED, reduction="sum") / count
    each = F.cross_entropy(flat, ids, ignore_index=IGNORED, reduction="none")
    return (each.view_as(labels).sum(1) * weights).sum() / count


def candidate_loss(
    scores: Sequence[torch.Tensor],
    labels: Sequence[int],
    count: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return a micro-batch's share of the mean cross-entropy among candidates.

    Args:
        scores: of each example's candidates, their log-probabilities up to a constant.
        labels: which candidate is right.
        count: examples in the whole global batch, each times its weight.
        weights: [rows]; None weighs all the same.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    losses = [
        F.cross_entropy(row, torch.tensor(label, device=row.device))
        for row, label in zip(scores, labels, strict=True)
    ]
    each = torch.stack(losses)
    return (each if weights is None else each * weights).sum() / count


def class_loss(
    logits: torch.Tensor, labels: torch.Tensor, count: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a micro-batch's share of the mean cross-entropy over the global batch.

    Args:
        logits: [rows, classes].
        labels: [rows], class indices.
        count: examples in the whole global batch, each times its weight.
        weights: [rows]; None weighs all the same.
    """
    import torch.nn.functional as F  # noqa: N812

    if weights is None:
        return F.cross_entropy(logits.float(), labels, reduction="sum") / count
    return (F.cross_entropy(logits.float(), labels, reduction="none") * weights).sum() / count


def value_loss(outputs: torch.Tensor, values: torch.Tensor, count: float) -> torch.Tensor:
    """Return a micro-batch's share of the mean squared error over the global batch.

    Args:
        outputs: [rows, 1].
        values: [rows].
        count: examples in the whole global batch.
    """
    import torch.nn.functional as F  # noqa: N812

    return F.mse_loss(outputs.float().squeeze(-1), values, reduction="sum") / count


def quantile_loss(
    outputs: torch.Tensor, values: torch.Tensor, levels: Sequence[float], count: float
) -> torch.Tensor:
    """Return a micro-batch's share of the pinball loss, mean over levels (Koenker & Bassett, 1978).

    Args:
        outputs: [rows, levels].
        values: [rows].
        levels: of the quantiles, in (0, 1).
        count: examples in the whole global batch.
    """
    import torch

    over = values[:, None] - outputs.float()
    level = torch.tensor(levels, device=over.device)
    return torch.maximum(level * over, (level - 1) * over).mean(1).sum() / count


def number_loss(
    outputs: torch.Tensor, values: torch.Tensor, loss: str, count: float
) -> torch.Tensor:
    """Return a micro-batch's share of a numeric head's loss, a target token of the global batch.

    Args:
        outputs: [n, 1], [n, levels], or [n, 3, components]: log-weights, locations and logarithms
            of the scales of a mixture of Cauchy distributions.
        values: [n], what is due, on the scale of the outputs.
        loss: `mse` and `log1p` (the squared error on two scales), `pinball`, or `cauchy`: the
            negative log-likelihood.
        count: target tokens in the whole global batch.
    """
    if loss == "pinball":
        return quantile_loss(outputs, values, LEVELS, count)
    if loss != "cauchy":
        return value_loss(outputs, values.float(), count)
    weights, places, scales = outputs.unbind(1)
    off = (values[:, None] - places) * (-scales).exp()
    density = weights - scales - off.square().log1p() - math.log(math.pi)
    return -density.logsumexp(1).sum() / count


def ordinal_loss(
    outputs: torch.Tensor, labels: torch.Tensor, count: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a micro-batch's share of the mean loss of the cumulative link model (McCullagh, 1980).

    Args:
        outputs: [rows, classes - 1]: logits of P(label > k).
        labels: [rows], class indices.
        count: examples in the whole global batch, each times its weight.
        weights: [rows]; None weighs all the same.
    """
    each = -ordinal_scores(outputs).gather(-1, labels[:, None]).squeeze(-1)
    return (each if weights is None else each * weights).sum() / count


def ordinal_scores(outputs: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities [rows, classes] from logits [rows, classes - 1] of P(label > k)."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    above = outputs.float()
    # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), exact where s saturates.
    first, last = F.logsigmoid(-above[:, :1]), F.logsigmoid(above[:, -1:])
    gap = (above[:, 1:] - above[:, :-1]).clamp(max=-1e-6)
    between = F.logsigmoid(above[:, :-1]) + F.logsigmoid(-above[:, 1:]) + torch.log(-gap.expm1())
    return torch.cat([first, between, last], 1)


def head_scores(outputs: torch.Tensor, loss: str | None) -> torch.Tensor:
    """Return what a head's outputs say, by what it was trained on.

    Log-probabilities of the classes; a value or quantiles as they are.
    """
    import torch

    if loss in ("mse", "pinball"):
        return outputs.float()
    return ordinal_scores(outputs) if loss == "ordinal" else torch.log_softmax(outputs.float(), -1)


def finite(step: Mapping[str, float]) -> bool:
    """Whether loss and gradient norm of a step are numbers; training stops where they are not."""
    return math.isfinite(step["loss"]) and math.isfinite(step["grad_norm"])


def diverged(curve: Sequence[Mapping[str, float]]) -> bool:
    """Whether training diverged: a step that is not finite, or an end far above the start.

    The end is the mean loss of the last tenth of the steps (at least one), the start that of as
    many first ones; far above is a factor of `DIVERGED_FACTOR` and at least 0.5 nats.
    """
    if not all(map(finite, curve)):
        return True
    if not curve:
        return False
    losses = [step["loss"] for step in curve]
    n = max(1, len(losses) // 10)
    start, end = float(np.mean(losses[:n])), float(np.mean(losses[-n:]))
    return end > DIVERGED_FACTOR * start and end > start + 0.5
