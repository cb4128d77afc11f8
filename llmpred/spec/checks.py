"""Combinations that no model, no data and no machine could carry out: known from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmpred.errors import nearest
from llmpred.spec.distributions import Path
from llmpred.spec.run import RunSpec

Heads = Mapping[str, Sequence[str]]  # registered task -> heads that can do it, the default first


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
    if run.method.length_normalization and run.method.head not in scoring:
        yield (
            ("method", "length_normalization"),
            "`length_normalization` belongs to head `label_scoring`, but the head is "
            f"`{run.method.head}`",
            "Remove it, or take head `label_scoring`.",
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


def _head(run: RunSpec, heads: Heads) -> Iterator[tuple[Path, str, str]]:
    name = run.task.name
    if name not in heads:
        law = f"there is no task `{name}`"
        yield ("task", "name"), law, nearest(name, sorted(heads))
    elif run.method.head not in ("auto", *heads[name]):
        valid = ", ".join(f"`{head}`" for head in heads[name])
        law = f"task `{name}` is done by {valid}, but the head is `{run.method.head}`"
        yield ("method", "head"), law, f"Take `{heads[name][0]}`."
