"""The probe: a run's own first steps, at its own hyperparameters, and what is measured on them.

The probe trains exactly as the run would (`reference.train` up to a step) and leaves the checkpoint
in the run's folder, so that a run that is then bought goes on from it and ends bit-equal to one
that was never probed. Everything else is measured before the first step or after that checkpoint,
under random states of its own, and is thrown away with the weights; while training, gradients are
only read.

The *slice* is a few training rows that the probe's steps do not see, drawn without the run's seed
among those, or of all rows where fewer than `FEW` are left. Validation rows are not used: most runs
have none, and a feature should mean the same for all.
"""

from __future__ import annotations

import functools
import gc
import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.bases.resolve import ResolvedSpec
from llmpred.data.content import sample
from llmpred.engine import semantics
from llmpred.engine.encoding import Encoded, encode
from llmpred.engine.evaluate import calibration_of, predict
from llmpred.engine.models import (
    LoadedBase,
    LoadedBases,
    OutOfMemory,
    autocast,
    forward,
    free_memory,
    is_out_of_memory,
)
from llmpred.engine.run import load, timed
from llmpred.errors import Problem, SpecError
from llmpred.features.base import Feature, Priority
from llmpred.methods import adapters
from llmpred.methods.adapters import LAYER
from llmpred.spec.run import CheckpointSpec, RunSpec
from llmpred.tasks import registry
from llmpred.tasks.prepare import Examples, Prepared

if TYPE_CHECKING:
    import torch
    from torch import nn

SHARE, FEWEST, MOST = 0.05, 8, 100  # of a run's steps: what a probe takes, and its bounds
SEED = 0  # of all that is drawn beside training
ROWS = 24  # of the slice, at most
FEW = 8  # unseen rows below which nothing is held out
PIECES = 4  # gradients of the noise scale
EARLY, EARLY_GENERATED = 32, 16  # evaluation rows, scored or generated
ACTIVATION_ROWS = 4
COORDINATES = 1_000_000  # of gradients and weights, above which only every n-th is looked at
# Size of a perturbation against each weight, by adapter: half of what was learnt, little of all.
RHO = {"lora": 0.5, "none": 0.5, "full": 0.05}
NEAR_ZERO = 0.1  # of a layer's root mean square activation
LOUDEST = 20  # times the rows looked at: a noise scale above cannot be told from infinity
ACTIVATIONS = ("act", "act_fn", "activation", "activation_fn", "intermediate_act_fn")
PASSAGE_TOKENS = 96
PASSAGES = (
    "The old bridge was closed in spring because the river had carried away one of its piers. "
    "Until a new one was built, people took the ferry, which left every hour and was never on "
    "time. The baker sold bread on board, and two sisters who lived on the other bank learned to "
    "read from the newspaper that travellers left behind. When the bridge opened again in autumn, "
    "there were speeches and music, but many said that they would miss the slow crossing.",
    "春天，河水冲走了老桥的一个桥墩，桥只好关闭。新桥建成以前，人们每天坐渡船过河，船每小时一班，"
    "却从来不准时。面包师在船上卖面包，住在对岸的两姐妹靠旅客留下的报纸学会了认字。"
    "到了秋天，桥又通了，有人讲话，有人奏乐，可是很多人说，他们会怀念那段慢慢过河的日子。",
)


class Unknown(ValueError):  # noqa: N818  (no mistake of anyone)
    """Says why a value is not known."""


@dataclass(frozen=True)
class ProbeTrace:
    """What a probe measured.

    Attributes:
        curve: one row a step, as in a run's record: step, loss, lr, grad_norm before clipping.
        cosines: of each step's gradient with that of the step before.
        values: initial_loss and final_loss, on the slice before the first and after the last step,
            without dropout, by the run's own loss (the mean of its halves); generic_loss and
            generic_loss_after, on a passage of English and one of Chinese, nats a token;
            grad_noise_scale, in examples; relative_change; activation_sparsity; early_score;
            flatness, nats. Those that are not known are not there.
        unknown: why the others are not; `heldout_loss_drop` too, where the slice is not unseen.
        facts: how it was measured: `steps` and their `share` of the run, `rows` of the slice and
            whether they are `unseen`, `diverged` (0 or 1), errors of estimates, and `seconds.PART`.
    """

    curve: tuple[dict[str, float], ...]
    cosines: tuple[float, ...]
    values: dict[str, float]
    unknown: dict[str, str]
    facts: dict[str, float]


@dataclass(frozen=True)
class LossFit:
    """A straight line through losses against the learning rate spent until then.

    Attributes:
        slope: nats that the loss falls for one unit of the learning rate's sum.
        error: standard error of the slope.
        residual: standard deviation around the line, nats.
    """

    slope: float
    error: float
    residual: float


def probe(
    resolved: ResolvedSpec,
    bases: LoadedBases,
    folder: Path,
    *,
    cache: Path | None = None,
    steps: int | None = None,
) -> ProbeTrace:
    """Take the first steps of a run and measure them.

    Args:
        resolved: the run.
        bases: loaded bases of this process; the base of this run is left in it.
        folder: of the run; a checkpoint after the probe's steps is left in it, unless it has one
            already or the run diverged.
        cache: where prepared data is kept.
        steps: how many to take; None takes `probe_steps`. Never more than the run has.

    Raises:
        SpecError: when the run trains nothing, or `steps` is below 1.
        BaseError, DataError: when base or data are no longer those that were resolved.
        OutOfMemory: when one training example does not fit in memory.
    """
    import torch

    spec = resolved.spec
    if not spec.trains:
        law = "a probe is the first steps of a training, but this run trains nothing"
        raise SpecError(Problem(law, "method.adapter.kind", "Use its zero-shot score instead."))
    if spec.method.head == "boosted":
        law = "a probe is the first steps of a training by gradients, but this run has none"
        raise SpecError(Problem(law, "method.head", "Run it: it is about as cheap as a probe."))
    notes = _Notes()
    with timed(notes.seconds, "prepare"):
        prepared, base = load(resolved, bases, cache)
        train, validation = (
            encode(Examples(table), prepared.task, spec, base.tokenizer, training=True)
            for table in (prepared.train, prepared.validation)
        )
    total = semantics.total_steps(spec.optim, len(train))
    taken = probe_steps(total, steps)
    rows, unseen = _slice(train, spec, taken, total)
    if not unseen:
        notes.unknown["heldout_loss_drop"] = f"the probe's {taken} steps see almost all rows"
    devices = [] if base.device.type == "cpu" else [base.device]
    try:
        with (
            torch.random.fork_rng(devices),
            adapters.attached(base.model, spec.method, spec.seed) as model,
        ):
            run = _Run(model, base, spec, prepared, rows)
            gradients = _Gradients(run)
            before = run.sketch()
            notes.take("initial_loss", lambda: float(np.mean(_slice_losses(run))))
            notes.take("generic_loss", lambda: _generic_loss(run))
            with timed(notes.seconds, "train"), _garbage_left():
                curve = _train(run, train, validation, folder, taken, gradients.read)
            _measure_after(run, before, curve, notes)
    finally:
        if spec.method.adapter.kind == "full":
            bases.drop()  # its weights are no longer those of the base
    facts = {
        "steps": float(len(curve)),
        "share": taken / total,
        "rows": float(len(rows)),
        "unseen": float(unseen),
        "diverged": float(semantics.diverged(curve)),
        **notes.facts,
        **_fit_facts(curve),
        **{f"seconds.{part}": value for part, value in notes.seconds.items()},
    }
    return ProbeTrace(tuple(curve), tuple(gradients.cosines), notes.values, notes.unknown, facts)


def probe_steps(total: int, wanted: int | None = None) -> int:
    """Return how many of a run's `total` steps a probe takes: 5 %, from 8 to 100, or `wanted`.

    Raises:
        SpecError: when `wanted` is below 1.
    """
    if wanted is None:
        wanted = min(max(FEWEST, math.ceil(SHARE * total)), MOST)
    elif wanted < 1:
        law = f"a probe takes at least 1 step, but got {wanted}"
        raise SpecError(Problem(law, "steps", f"Leave it out, or give {FEWEST} or more."))
    return min(wanted, total)


def loss_fit(curve: Sequence[dict[str, float]]) -> LossFit:
    """Fit a line by least squares to the losses of a probe.

    A step's loss is that before its update, so it stands against the rates of the steps before it.

    Raises:
        Unknown: with fewer than three steps, or a loss that is not a number.
    """
    _finite_steps(curve)
    if len(curve) < 3:
        raise Unknown("a line and its error need three steps")
    rates = np.array([row["lr"] for row in curve])
    spent = np.concatenate([[0.0], np.cumsum(rates)[:-1]])
    losses = np.array([row["loss"] for row in curve])
    apart = spent - spent.mean()
    spread = float(apart @ apart)
    slope = float(apart @ losses) / spread
    rest = losses - losses.mean() - slope * apart
    residual = math.sqrt(float(rest @ rest) / (len(curve) - 2))
    return LossFit(-slope, residual / math.sqrt(spread), residual)


def _train(
    run: _Run,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    folder: Path,
    until: int,
    gradients: Callable[[], None],
) -> list[dict[str, float]]:
    """Take the run's first steps beside its own checkpoints, then put theirs there.

    So a probe that is killed leaves the folder as it was, and a run that is further already keeps
    its own checkpoint.
    """
    from llmpred.engine import reference

    scratch = folder / "probe"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    alone = {"resume": "none", "checkpoints": CheckpointSpec()}
    execution = run.spec.execution.model_copy(update=alone)
    came_out = reference.train(
        run.model,
        run.base,
        run.spec.model_copy(update={"execution": execution}),
        train,
        validation,
        scratch,
        gradients=gradients,
        until=until,
    )
    made = reference.newest_checkpoint(scratch)
    if made is not None and reference.newest_checkpoint(folder) is None:
        place = folder / made.name
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        made.rename(place)
    shutil.rmtree(scratch)
    return came_out.curve


def _measure_after(
    run: _Run, before: torch.Tensor, curve: Sequence[dict[str, float]], notes: _Notes
) -> None:
    """Measure the weights after the probe's steps; they are not the run's any more then."""
    final = functools.cache(lambda: _slice_losses(run))
    measures: dict[str, Callable[[], float]] = {
        "final_loss": lambda: float(np.mean(final())),
        "grad_noise_scale": lambda: _noise_scale(run),
        "relative_change": lambda: _relative_change(run, before),
        "activation_sparsity": lambda: _sparsity(run),
        "generic_loss_after": lambda: _generic_loss(run),
        "early_score": lambda: _early_score(run, notes.facts),
        "flatness": lambda: _flatness(run, final()[0]),  # last: the weights stay perturbed
    }
    for name, measure in measures.items():
        if all(map(semantics.finite, curve)):
            notes.take(name, measure)
        else:
            notes.unknown[name] = _diverged(curve)


def _slice(
    train: Sequence[Encoded], spec: RunSpec, taken: int, total: int
) -> tuple[list[Encoded], bool]:
    """Return the slice, and whether the probe's steps do not see it.

    It has two batches at most, more in long runs with small ones: what a probe costs beside its
    steps stays in proportion to the run.
    """
    size = spec.optim.batch_size
    order = semantics.batches([e.length for e in train], size, spec.seed)
    seen = set(itertools.chain.from_iterable(itertools.islice(order, taken)))
    left = [i for i in range(len(train)) if i not in seen]
    unseen = len(left) >= FEW
    pool = left if unseen else list(range(len(train)))
    count = min(ROWS, max(2 * size, total * size // 100))
    drawn = np.random.default_rng(SEED).permutation(len(pool))[:count]
    return [train[pool[i]] for i in drawn], unseen


def _slice_losses(run: _Run) -> list[float]:
    """Return the run's loss on each half of the slice."""
    return [_loss(run, half) for half in (run.half, run.rows[len(run.half) :]) if half]


def _loss(run: _Run, rows: Sequence[Encoded]) -> float:
    from llmpred.engine import reference

    size = run.spec.execution.micro_batch
    return reference.validation_loss(run.model, run.base, run.spec, rows, size)


def _noise_scale(run: _Run) -> float:
    """Return the simple noise scale in examples: tr(covariance) / |gradient|², without dropout.

    From gradients of pieces of half the slice, unbiased in numerator and denominator (McCandlish et
    al., 2018, appendix A.1). Cut at `LOUDEST` times those rows.

    Raises:
        Unknown: when there are too few rows, or no gradient at all.
    """
    size = max(1, len(run.half) // PIECES)
    while True:
        try:
            found = _piece_gradients(run, size)
            break
        except Exception as error:
            if not is_out_of_memory(error) or size == 1:
                raise
        size //= 2
        free_memory()
    if len(found) < 2:
        raise Unknown("a variance of gradients needs two rows")
    mean = found.mean(0)
    whole = float(mean.square().sum())
    if whole == 0.0:
        raise Unknown("the gradient is zero")
    spread = float((found - mean).square().sum()) / (len(found) - 1)  # of one piece
    examples = size * len(found)
    signal = max(whole - spread / len(found), size * spread / (LOUDEST * examples))
    return size * spread / signal


def _piece_gradients(run: _Run, size: int) -> torch.Tensor:
    """Return the gradients [pieces, coordinates] of the loss summed over each piece of the rows.

    Summed and not averaged by piece: their mean is then, but for a factor, the gradient of the
    mean over all target tokens, as in training.
    """
    import torch

    from llmpred.engine import reference

    run.model.eval()
    found = []
    for start in range(0, len(run.half) - size + 1, size):
        piece = run.half[start : start + size]
        loss = reference.micro_loss(run.model, run.base, run.spec, piece, 1)
        found.append(run.sketch(torch.autograd.grad(loss, run.weights, allow_unused=True)))
    return torch.stack(found)


def _relative_change(run: _Run, before: torch.Tensor) -> float:
    """Return the norm of what training added to the weights, relative to the weights.

    With LoRA over the effective weights of all adapted layers, ΔW = scale · B A against W (a head
    beside it is left out); otherwise over the trained weights themselves.
    """
    if run.spec.method.adapter.kind != "lora":
        return float((run.sketch() - before).norm() / before.norm())
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    change = whole = 0.0
    for module in run.model.modules():
        if not isinstance(module, LoraLayer):
            continue
        for name in module.active_adapters:
            a, b = (w[name].weight.detach().double() for w in (module.lora_A, module.lora_B))
            # |B A|² = tr(BᵀB A Aᵀ): no product of the full size is needed.
            change += module.scaling[name] ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
        weight = dequantize_module_weight(module.get_base_layer()).detach()
        whole += float(weight.float().norm()) ** 2
    return math.sqrt(change / whole)


def _sparsity(run: _Run) -> float:
    """Return the share of MLP activations near zero, over some rows of the slice and all layers.

    Near is within a tenth of the layer's root mean square: smooth activations are never exactly
    zero (Li et al., 2023, count the zeros of ReLU).

    Raises:
        Unknown: when no activation functions were recognised in the base.
    """
    import torch

    found = [
        module
        for name, module in run.model.named_modules()
        if LAYER.search(name) and name.rsplit(".", 1)[-1] in ACTIVATIONS
    ]
    if not found:
        raise Unknown("no activation functions were recognised in this base")
    shares: list[torch.Tensor] = []

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        near = output.abs() <= NEAR_ZERO * output.float().square().mean().sqrt()
        shares.append(near.float().mean())

    hooks = [module.register_forward_hook(note) for module in found]
    try:
        with _looking(run):
            for row in run.rows[:ACTIVATION_ROWS]:  # one by one: no padding among the activations
                forward(run.model, run.base, [row.prompt], None if run.classifies else 1)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.stack(shares).mean())


def _generic_loss(run: _Run) -> float:
    """Return the mean of the passages' cross-entropy, nats a token.

    Raises:
        Unknown: when the model has no language-model head.
    """
    import torch

    if run.classifies:
        raise Unknown("a classifier has no language-model head")
    encoded = [run.base.tokenizer(p, verbose=False)["input_ids"] for p in PASSAGES]
    length = min(PASSAGE_TOKENS, *map(len, encoded))
    rows = [ids[:length] for ids in encoded]
    with _looking(run):
        logits = forward(run.model, run.base, [ids[:-1] for ids in rows], length - 1)
        labels = torch.tensor([ids[1:] for ids in rows], device=logits.device)
        return float(semantics.token_loss(logits, labels, labels.numel()))


def _early_score(run: _Run, facts: dict[str, float]) -> float:
    """Return the task's metric on a few evaluation rows, the same for every run."""
    limit = EARLY_GENERATED if run.spec.method.head == "causal_lm" else EARLY
    rows = sample(run.prepared.evaluation, limit, SEED)
    facts["early_rows"] = float(rows.num_rows)
    task = run.prepared.task
    calibration = calibration_of(run.model, run.base, run.prepared, run.spec)
    predictions, _ = predict(run.model, run.base, task, run.spec, rows, calibration=calibration)
    return registry.score(task, run.spec.task, predictions)[task.metric]


def _flatness(run: _Run, here: float) -> float:
    """Return the loss on half the slice with each weight w at w (1 ± `RHO`), less `here` at w.

    Once with drawn signs and once with their opposites: the slope cancels, the curvature stays.
    """
    import torch

    rho = RHO[run.spec.method.adapter.kind]
    losses = []
    for turn in (0, 1):
        generator = torch.Generator(run.base.device).manual_seed(SEED)
        with torch.no_grad():
            for weight in run.weights:
                bits = torch.randint(2, weight.shape, generator=generator, device=weight.device)
                step = rho * (2 * bits - 1)
                weight.mul_(1 + step if turn == 0 else (1 - step) / (1 + step))
        losses.append(_loss(run, run.half))
    return sum(losses) / 2 - here


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Keep what is in memory out of garbage collection.

    The Trainer collects at its end, which among all loaded modules takes longer than a step.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def _looking(run: _Run) -> Iterator[None]:
    """Forward passes as in evaluation."""
    import torch

    run.model.eval()
    with torch.no_grad(), autocast(run.spec.optim.precision, run.base.device):
        yield


def _diverged(curve: Sequence[dict[str, float]]) -> str:
    return f"the run diverged in step {len(curve)}"


def _finite_steps(trace_curve: Sequence[dict[str, float]]) -> None:
    """Raise Unknown when the curve ends in a step that is not finite."""
    if not all(map(semantics.finite, trace_curve)):
        raise Unknown(_diverged(trace_curve))


def _fit_facts(curve: Sequence[dict[str, float]]) -> dict[str, float]:
    try:
        return {"loss_decay_error": loss_fit(curve).error}
    except Unknown:
        return {}


def _measured(trace: ProbeTrace, name: str) -> float:
    if name in trace.unknown:
        raise Unknown(trace.unknown[name])
    return trace.values[name]


def _lr_integral(trace: ProbeTrace) -> float:
    return sum(row["lr"] for row in trace.curve)


def _norms(trace: ProbeTrace) -> list[float]:
    _finite_steps(trace.curve)
    return [row["grad_norm"] for row in trace.curve]


def _grad_norm_sd(trace: ProbeTrace) -> float:
    norms = _norms(trace)
    if len(norms) < 2:
        raise Unknown("a standard deviation needs two steps")
    return float(np.std(norms, ddof=1))


def _heldout_loss_drop(trace: ProbeTrace) -> float:
    if "heldout_loss_drop" in trace.unknown:
        raise Unknown(trace.unknown["heldout_loss_drop"])
    return _measured(trace, "initial_loss") - _measured(trace, "final_loss")


def _grad_consistency(trace: ProbeTrace) -> float:
    _finite_steps(trace.curve)
    if not trace.cosines:
        raise Unknown("a cosine needs the gradients of two steps")
    return float(np.mean(trace.cosines))


def _forgetting(trace: ProbeTrace) -> float:
    return _measured(trace, "generic_loss_after") - _measured(trace, "generic_loss")


def _feature(
    name: str,
    priority: Priority,
    unit: str,
    source: str,
    fn: Callable[[ProbeTrace], float],
    *,
    reads_eval_labels: bool = False,
    log: bool = False,
) -> Feature:
    return Feature(
        name=name,
        group="probe",
        priority=priority,
        unit=unit,
        cost="train",
        version=1,
        source=source,
        fn=fn,
        reads_eval_labels=reads_eval_labels,
        log=log,
    )


class _Run:
    """A run with its model in memory, and what all measurements of it share."""

    def __init__(
        self,
        model: nn.Module,
        base: LoadedBase,
        spec: RunSpec,
        prepared: Prepared,
        rows: Sequence[Encoded],
    ) -> None:
        self.model = model
        self.base = base
        self.spec = spec
        self.prepared = prepared
        self.rows = rows
        self.half = rows[: (len(rows) + 1) // 2]
        self.classifies = spec.method.has_head
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.stride = math.ceil(sum(p.numel() for p in self.weights) / COORDINATES)

    def sketch(self, tensors: Sequence[torch.Tensor | None] | None = None) -> torch.Tensor:
        """Return a copy of every `stride`-th coordinate of the weights, or of tensors like them.

        None stands for zeros: the gradient of a weight that took no part.
        """
        import torch

        parts = [
            torch.zeros_like(weight) if tensor is None else tensor
            for weight, tensor in zip(self.weights, tensors or self.weights, strict=True)
        ]
        return torch.cat([part.detach().reshape(-1)[:: self.stride].float() for part in parts])


class _Gradients:
    """Follows the gradients of a training from step to step."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.last: torch.Tensor | None = None
        self.cosines: list[float] = []

    def read(self) -> None:
        """Compare the gradients as they are now with those of the last call."""
        import torch.nn.functional as F  # noqa: N812

        now = self.run.sketch([weight.grad for weight in self.run.weights])
        if self.last is not None:
            self.cosines.append(float(F.cosine_similarity(now, self.last, dim=0)))
        self.last = now


class _Notes:
    """Collects what is measured, why something is not, and how long each part took."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.unknown: dict[str, str] = {}
        self.facts: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def take(self, name: str, measure: Callable[[], float]) -> None:
        """Measure a value; note the reason if it cannot be known, or memory does not suffice."""
        with timed(self.seconds, name):
            try:
                value = measure()
            except Unknown as reason:
                self.unknown[name] = str(reason)
                return
            except Exception as error:
                if not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
                    raise
                self.unknown[name] = "memory does not suffice to measure it"
            else:
                if math.isfinite(value):
                    self.values[name] = value
                else:
                    self.unknown[name] = "it is not a finite number: the run diverged"
                return
        free_memory()


FEATURES = (
    _feature(
        "initial_loss",
        "core",
        "nats",
        "the run's own loss on the slice, weights untouched, without dropout",
        lambda trace: _measured(trace, "initial_loss"),
        log=True,
    ),
    _feature(
        "loss_decay",
        "strong",
        "nats",
        "slope of the losses against the learning rate spent, least squares",
        lambda trace: loss_fit(trace.curve).slope,
    ),
    _feature(
        "lr_integral",
        "strong",
        "1",
        "sum of the learning rates of the probe's steps",
        _lr_integral,
        log=True,
    ),
    _feature(
        "grad_norm",
        "strong",
        "1",
        "mean norm over the steps, before clipping",
        lambda trace: float(np.mean(_norms(trace))),
        log=True,
    ),
    _feature(
        "grad_norm_sd",
        "further",
        "1",
        "standard deviation of the norm over the steps, before clipping",
        _grad_norm_sd,
        log=True,
    ),
    _feature(
        "loss_stability",
        "further",
        "nats",
        "standard deviation of the losses around the line of loss_decay",
        lambda trace: loss_fit(trace.curve).residual,
        log=True,
    ),
    _feature(
        "heldout_loss_drop",
        "further",
        "nats",
        "fall of the loss on training rows that the probe did not see",
        _heldout_loss_drop,
    ),
    _feature(
        "grad_consistency",
        "further",
        "1",
        "mean cosine of successive steps' gradients",
        _grad_consistency,
    ),
    _feature(
        "grad_noise_scale",
        "further",
        "examples",
        "simple noise scale, McCandlish et al. 2018, appendix A.1, after the probe's steps",
        lambda trace: _measured(trace, "grad_noise_scale"),
        log=True,
    ),
    _feature(
        "relative_change",
        "further",
        "1",
        "norm of the change of the (effective) weights over the norm of the weights",
        lambda trace: _measured(trace, "relative_change"),
        log=True,
    ),
    _feature(
        "activation_sparsity",
        "further",
        "1",
        "share of MLP activations near zero, after Li et al. 2023, arXiv 2210.06313",
        lambda trace: _measured(trace, "activation_sparsity"),
    ),
    _feature(
        "flatness",
        "further",
        "nats",
        "average-case adaptive sharpness, Andriushchenko et al. 2023, arXiv 2302.07011",
        lambda trace: _measured(trace, "flatness"),
    ),
    _feature(
        "forgetting",
        "further",
        "nats",
        "rise of the loss on an English and a Chinese passage",
        _forgetting,
    ),
    _feature(
        "early_score",
        "further",
        "1",
        "the task's metric on a slice of the evaluation rows after the probe's steps",
        lambda trace: _measured(trace, "early_score"),
        reads_eval_labels=True,
    ),
)
