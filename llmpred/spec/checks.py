"""Combinations that no model, no data and no machine could carry out: known from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmpred.errors import nearest
from llmpred.spec.distributions import Path
from llmpred.spec.run import RunSpec

Heads = Mapping[str, Sequence[str]]  # registered task -> heads that can do it, the default first

COUNTED = "complexity"  # the task that has a target, and losses of numbers and ranks
NUMERIC = "numeric"  # the head that says values, and the only task with it
VALUE_LOSSES = ("cauchy", "mse", "log1p", "pinball")  # of that head

OFFLOADS = {  # what each strategy of several processes can keep in the CPU's memory
    "ddp": ("none",),
    "zero2": ("none", "optimizer"),
    "zero3": ("none", "optimizer", "all"),
    "fsdp2": ("none", "all"),  # the optimizer's state lies where the weights are
}


def impossible(run: RunSpec, heads: Heads | None = None) -> Iterator[tuple[Path, str, str]]:
    """Yield (key path, law, fix) for every combination of values that cannot be.

    Args:
        run: a valid run.
        heads: the registered tasks and their heads. The registry stands above this package, so
            without it the check is left to `resolve`, as is all that depends on the base model.
    """
    adapter, quantization, optim = run.method.adapter, run.base.quantization, run.optim
    scoring = ("label_scoring", "auto")  # `resolve` settles `auto` and asks again
    if adapter.kind == "full" and quantization != "none":
        yield (
            ("method", "adapter", "kind"),
            f"quantised weights cannot be trained, but base.quantization is `{quantization}` "
            f"({quantization.upper()} with full fine-tuning)",
            "Take adapter.kind `lora`, or quantization `none`.",
        )
    if run.method.loss == "candidates" and run.method.head not in scoring:
        yield (
            ("method", "loss"),
            f"`loss: candidates` belongs to head `label_scoring`, but the head is "
            f"`{run.method.head}`",
            "Remove it, or take head `label_scoring`.",
        )
    yield from _target(run)
    if run.method.length_normalization and run.method.head not in scoring:
        yield (
            ("method", "length_normalization"),
            "`length_normalization` belongs to head `label_scoring`, but the head is "
            f"`{run.method.head}`",
            "Remove it, or take head `label_scoring`.",
        )
    yield from _head_form(run)
    yield from _numeric(run)
    if adapter.last_layers is not None and adapter.kind != "full":
        yield (
            ("method", "adapter", "last_layers"),
            f"`last_layers` belongs to adapter.kind `full`, but the kind is `{adapter.kind}`",
            "Remove it, or take adapter.kind `full`.",
        )
    if run.method.head == "boosted":
        yield from _boosted(run)
    if run.method.head != "classifier" and any(s.trains == "head" for s in optim.stages or ()):
        yield (
            ("optim", "stages"),
            "a stage that trains the `head` alone needs head `classifier`, but the head is "
            f"`{run.method.head}`",
            "Take head `classifier`, or stages that train `all`.",
        )
    if run.method.class_weights is not None and run.method.head not in ("classifier", *scoring):
        yield (
            ("method", "class_weights"),
            "`class_weights` belongs to heads `classifier` and `label_scoring`, but the head is "
            f"`{run.method.head}`",
            "Remove it, or take one of them.",
        )
    if run.evaluation.calibration is not None and run.method.head not in scoring:
        yield (
            ("evaluation", "calibration"),
            f"`calibration` belongs to head `label_scoring`, but the head is `{run.method.head}`",
            "Remove it, or take head `label_scoring`.",
        )
    if run.evaluation.adapter_off and (run.method.head != "classifier" or adapter.kind != "lora"):
        yield (
            ("evaluation", "adapter_off"),
            "`adapter_off` scores a trained head without its LoRA adapter, but the head is "
            f"`{run.method.head}` and adapter.kind is `{adapter.kind}`",
            "Take head `classifier` and adapter.kind `lora`; other heads without their adapter are "
            "zero-shot.",
        )
    if run.method.head == "auto" and adapter.kind == "none":
        yield (
            ("method", "head"),
            "a base without an adapter is scored as it is or gets a trained head, which `auto` "
            "does not tell",
            "Set it to `classifier` for a frozen base with a trained head; to another one for "
            "zero-shot.",
        )
    if heads is not None:
        yield from _head(run, heads)
    if not run.trains:  # what follows is about training
        return
    if run.evaluation.select == "best_on_validation" and run.dataset.validation is None:
        yield (
            ("evaluation", "select"),
            "`best_on_validation` needs `dataset.validation`, which is not set",
            "Set dataset.validation to a share such as 0.1, or select `last`.",
        )
    if "8bit" in optim.name and run.execution.device == "cpu":
        yield (
            ("optim", "name"),
            f"`{optim.name}` needs a CUDA device, but execution.device is `cpu`",
            "Take `adamw`.",
        )
    yield from _together(run)
    if optim.warmup >= 1 and not optim.warmup.is_integer():
        yield (
            ("optim", "warmup"),
            "`optim.warmup` must be a share below 1 or a whole number of steps, but got "
            f"{optim.warmup:g}",
            "",
        )
    elif optim.warmup >= 1 and optim.max_steps is not None and optim.warmup > optim.max_steps:
        yield (
            ("optim", "warmup"),
            f"`optim.warmup` must be at most max_steps ({optim.max_steps}), but got "
            f"{optim.warmup:g}",
            "Give it as a share of the steps, such as 0.1.",
        )


def _head_form(run: RunSpec) -> Iterator[tuple[Path, str, str]]:
    """Yield a form of the head that it does not have."""
    form, head, loss = run.method.head_form, run.method.head, run.method.loss
    if form == "mlp" and head not in ("classifier", NUMERIC):
        yield (
            ("method", "head_form"),
            f"`head_form: mlp` belongs to head `classifier` or `numeric`, but the head is `{head}`",
            "Remove it, or take one of them.",
        )
    if form == "pointer" and (head != NUMERIC or loss not in (None, "cauchy")):
        yield (
            ("method", "head_form"),
            f"`head_form: pointer` belongs to head `numeric` with loss `cauchy`, but the head is "
            f"`{head}` and the loss `{loss}`",
            "Remove it, or take both.",
        )


def _numeric(run: RunSpec) -> Iterator[tuple[Path, str, str]]:
    """Yield what does not go with numbers as numbers, or only with them."""
    head, loss = run.method.head, run.method.loss
    if run.task.values is not None and run.task.name != NUMERIC:
        law = f"`values` belongs to task `{NUMERIC}`, but the task is `{run.task.name}`"
        yield ("task", "values"), law, "Remove it."
    if loss == "number_token" and head != "causal_lm":
        law = f"`loss: number_token` teaches digits by head `causal_lm`, but the head is `{head}`"
        yield ("method", "loss"), law, "Remove it, or take head `causal_lm`."
    if loss in ("cauchy", "log1p") and head not in (NUMERIC, "auto"):
        law = f"`loss: {loss}` belongs to head `{NUMERIC}`, but the head is `{head}`"
        yield ("method", "loss"), law, f"Remove it, or take head `{NUMERIC}`."
    if head != NUMERIC:
        return
    if loss is not None and loss not in VALUE_LOSSES:
        valid = ", ".join(f"`{name}`" for name in VALUE_LOSSES)
        law = f"head `{NUMERIC}` is taught by {valid}, but the loss is `{loss}`"
        yield ("method", "loss"), law, "Take one of them."
    if run.execution.distributed is not None:
        law = f"head `{NUMERIC}` is trained by one process, but `distributed` is set"
        yield ("execution", "distributed"), law, "Remove it."


def _target(run: RunSpec) -> Iterator[tuple[Path, str, str]]:
    """Yield losses that do not go with what is taught."""
    target, loss = run.task.target, run.method.loss
    if target is not None and run.task.name != COUNTED:
        yield (
            ("task", "target"),
            f"`target` belongs to task `{COUNTED}`, but the task is `{run.task.name}`",
            "Remove it.",
        )
        return
    says_values = run.method.head == NUMERIC or (run.task.name, run.method.head) == (
        NUMERIC,
        "auto",
    )
    if loss not in ("mse", "pinball", "ordinal") or says_values:
        return
    if run.task.name != COUNTED or run.method.head not in ("classifier", "boosted", "auto"):
        yield (
            ("method", "loss"),
            f"`loss: {loss}` belongs to task `{COUNTED}` with head `classifier` or `boosted`, but "
            f"the task is `{run.task.name}` and the head `{run.method.head}`",
            "Remove it.",
        )
        return
    if loss == "pinball" and target is not None and target.kind == "bin_index":
        yield (
            ("method", "loss"),
            "`loss: pinball` teaches quantiles of counts, but task.target.kind is `bin_index`",
            "Take kind `counts` or `log1p`.",
        )
    regresses = target is not None and target.is_regression
    if regresses == (loss == "ordinal"):
        kind = target.kind if target is not None else "none"
        what = "classes" if loss == "ordinal" else "a number"
        fit = "quantile" if loss == "ordinal" else "log1p"
        yield (
            ("method", "loss"),
            f"`loss: {loss}` teaches {what}, but task.target.kind is `{kind}`",
            f"Remove it, or take a target such as kind `{fit}` (task complexity).",
        )


def _boosted(run: RunSpec) -> Iterator[tuple[Path, str, str]]:
    """Yield what does not go with LightGBM on a frozen base."""
    if run.method.adapter.kind != "none":
        yield (
            ("method", "adapter", "kind"),
            f"head `boosted` trains nothing of the base, but adapter.kind is "
            f"`{run.method.adapter.kind}`",
            "Set it to `none`.",
        )
    if run.optim.max_steps is None:
        yield (
            ("optim", "max_steps"),
            "head `boosted` needs `optim.max_steps`, its number of trees",
            "Set it, to 200 for instance.",
        )
    for path, value in {
        ("method", "class_weights"): run.method.class_weights,
        ("execution", "distributed"): run.execution.distributed,
    }.items():
        if value is not None:
            yield path, f"`{path[1]}` does not go with head `boosted`", "Remove it."
    if run.method.loss == "ordinal":
        yield ("method", "loss"), "head `boosted` has no ordinal loss", "Remove it."
    if run.evaluation.select == "best_on_validation":
        yield ("evaluation", "select"), "head `boosted` keeps its last tree", "Select `last`."


def _together(run: RunSpec) -> Iterator[tuple[Path, str, str]]:
    """Yield what the strategy of several processes cannot do."""
    distributed = run.execution.distributed
    if distributed is None:
        return
    strategy, offload = distributed.strategy, distributed.offload
    if run.optim.stages is not None and strategy != "ddp":
        yield (
            ("optim", "stages"),
            f"`stages` hold weights back, which strategy `{strategy}` cannot",
            "Take strategy `ddp`, or one stage.",
        )
    can = OFFLOADS[strategy]
    if offload not in can:
        valid = " or ".join(f"`{name}`" for name in can)
        yield (
            ("execution", "distributed", "offload"),
            f"strategy `{strategy}` offloads {valid}, but offload is `{offload}`",
            f"Take {valid}, or another strategy.",
        )
    if strategy == "fsdp2" and run.base.quantization == "int8":
        yield (
            ("execution", "distributed", "strategy"),
            "`fsdp2` cannot split weights of 8 bits: bitsandbytes keeps their scales on the "
            "parameter itself, which a slice of it loses",
            "Take `zero3`, or quantization `nf4`.",
        )
    if strategy == "fsdp2" and "8bit" in run.optim.name:
        yield (
            ("optim", "name"),
            f"`{run.optim.name}` does not know the slices of weights that `fsdp2` trains",
            "Take `adamw`, or strategy `zero2` or `zero3`.",
        )


def _head(run: RunSpec, heads: Heads) -> Iterator[tuple[Path, str, str]]:
    name = run.task.name
    if name not in heads:
        law = f"there is no task `{name}`"
        yield ("task", "name"), law, nearest(name, sorted(heads))
    elif run.method.head not in ("auto", *heads[name]):
        valid = ", ".join(f"`{head}`" for head in heads[name])
        law = f"task `{name}` is done by {valid}, but the head is `{run.method.head}`"
        yield ("method", "head"), law, f"Take `{heads[name][0]}`."
