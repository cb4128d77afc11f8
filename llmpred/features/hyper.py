"""Hyperparameters of a run as features (`Hj_config`): what its spec says, and what follows from it.

The seed is left out: it is what the prediction has to hold for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmpred.bases.locate import Located
from llmpred.engine import semantics
from llmpred.features.base import Feature
from llmpred.spec.run import MethodSpec, RunSpec

# Codes of what is not a number; a tree may split between any two.
SCHEDULES = ("constant", "linear", "cosine")
HEADS = ("causal_lm", "label_scoring", "classifier", "boosted", "numeric")
LOSSES = (
    *(None, "candidates", "mse", "ordinal", "pinball"),
    *("cauchy", "log1p", "number_token"),
)
ADAPTERS = ("none", "lora", "full")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit")
BITS = {"none": 16.0, "int8": 8.0, "nf4": 4.0}


@dataclass(frozen=True)
class RunFacts:
    """What the features of this file are computed from.

    Attributes:
        spec: the settled run.
        examples: training rows.
        parameters: weights of the base; NaN if unknown.
        trainable: weights that the run trains; NaN if unknown.
        tokens_an_example: mean tokens of prompt and target of a training example; None if unknown.
    """

    spec: RunSpec
    examples: int
    parameters: float
    trainable: float
    tokens_an_example: float | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps (trees, of a boosted head); 0 if nothing is trained."""
        return semantics.total_steps(self.spec.optim, self.examples) if self.spec.trains else 0

    @property
    def examples_seen(self) -> int:
        """Training examples that all steps take; the last batch of an epoch holds what is left."""
        size = self.spec.optim.batch_size
        epochs, more = divmod(self.steps, math.ceil(self.examples / size))
        return epochs * self.examples + more * size


def trainable_parameters(located: Located, method: MethodSpec, classes: int | None) -> int:
    """Count the weights that a method trains on a base, from its config alone: nothing is loaded.

    Args:
        located: the base.
        method: what is trained on it.
        classes: outputs of the classification head; None for other heads.
    """
    method = method.model_copy(update={"class_weights": None, "name": None})  # they train nothing
    return _trainable(located.path, located.revision, method, classes)


@lru_cache(maxsize=256)
def _trainable(path: str, revision: str | None, method: MethodSpec, classes: int | None) -> int:
    from llmpred.methods import adapters

    with adapters.attached(_shapes(path, revision, classes), method, 0) as model:
        return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@lru_cache(maxsize=2)
def _shapes(path: str, revision: str | None, classes: int | None) -> Any:
    """Return a base without memory for its weights."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    options: dict[str, Any] = {} if classes is None else {"num_labels": classes}
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False, **options)
    kind = AutoModelForCausalLM if classes is None else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = kind.from_config(config)
    model.config.number_token = 0  # any row: as many weights are trained of each
    return model


def _coded(values: tuple[Any, ...], get: Callable[[RunSpec], Any]) -> Callable[[RunFacts], float]:
    return lambda run: float(values.index(get(run.spec)))


def _of_lora(get: Callable[[RunFacts], float]) -> Callable[[RunFacts], float]:
    """Return `get` for LoRA runs, and NaN for others, which have no such thing."""
    return lambda run: get(run) if run.spec.method.adapter.kind == "lora" else math.nan


def _of_training(get: Callable[[RunFacts], float]) -> Callable[[RunFacts], float]:
    return lambda run: get(run) if run.spec.trains else math.nan


def _warmup(run: RunFacts) -> float:
    return semantics.warmup_steps(run.spec.optim, run.steps) / run.steps


def _scaling(run: RunFacts) -> float:
    adapter = run.spec.method.adapter
    return adapter.alpha / (math.sqrt(adapter.r) if adapter.use_rslora else adapter.r)


def _targets(run: RunFacts) -> float:
    wanted = run.spec.method.adapter.target_modules
    named = {"attention": 0.0, "all_linear": 1.0}
    return named.get(wanted, math.nan) if isinstance(wanted, str) else 2.0


def _class_weights(run: RunFacts) -> float:
    weights = run.spec.method.class_weights
    return 0.0 if weights is None else 1.0 if weights == "balanced" else 2.0


def _tokens_seen(run: RunFacts) -> float:
    each = math.nan if run.tokens_an_example is None else run.tokens_an_example
    return run.examples_seen * each


def _feature(
    name: str,
    unit: str,
    source: str,
    fn: Callable[[RunFacts], float],
    *,
    version: int = 1,
    log: bool = False,
) -> Feature:
    return Feature(name, "hyper", "core", unit, "free", version, source, fn, log=log)


_LORA = "Hu et al., 2021"
_ADAMW = "Loshchilov & Hutter, 2019"

FEATURES: tuple[Feature, ...] = (
    _feature("lr", "1", _ADAMW, _of_training(lambda r: r.spec.optim.top_lr), log=True),
    _feature("weight_decay", "1", _ADAMW, _of_training(lambda r: r.spec.optim.weight_decay)),
    _feature(
        "lr_schedule",
        "code",
        ", ".join(SCHEDULES),
        _of_training(_coded(SCHEDULES, lambda s: s.optim.schedule)),
    ),
    _feature("warmup_share", "1", "share of the steps", _of_training(_warmup)),
    _feature(
        "epochs",
        "1",
        "passes over the training rows",
        _of_training(lambda r: r.examples_seen / r.examples),
        version=2,
        log=True,
    ),
    _feature("steps", "steps", "optimizer steps", _of_training(lambda r: float(r.steps)), log=True),
    _feature(
        "batch_size",
        "examples",
        "global batch of one optimizer step",
        _of_training(lambda r: float(r.spec.optim.batch_size)),
        log=True,
    ),
    _feature(
        "tokens_seen",
        "tokens",
        "examples seen x mean length",
        _of_training(_tokens_seen),
        version=2,
        log=True,
    ),
    _feature(
        "optimizer",
        "code",
        ", ".join(OPTIMIZERS),
        _of_training(_coded(OPTIMIZERS, lambda s: s.optim.name)),
    ),
    _feature(
        "adapter_kind",
        "code",
        ", ".join(ADAPTERS),
        _coded(ADAPTERS, lambda s: s.method.adapter.kind),
    ),
    _feature("lora_r", "1", _LORA, _of_lora(lambda r: float(r.spec.method.adapter.r)), log=True),
    _feature("lora_alpha", "1", _LORA, _of_lora(lambda r: r.spec.method.adapter.alpha), log=True),
    _feature("lora_scaling", "1", f"alpha / r, {_LORA}", _of_lora(_scaling), log=True),
    _feature("lora_dropout", "1", _LORA, _of_lora(lambda r: r.spec.method.adapter.dropout)),
    _feature("lora_targets", "code", "attention, all_linear, named", _of_lora(_targets)),
    _feature("trainable_parameters", "weights", "weights trained", lambda r: r.trainable, log=True),
    _feature(
        "trainable_share",
        "1",
        "of the weights of base and adapter",
        lambda r: (
            r.trainable
            / (r.parameters + (r.trainable if r.spec.method.adapter.kind == "lora" else 0))
        ),
        log=True,
    ),
    _feature(
        "quantization_bits",
        "bits",
        "of the frozen weights",
        lambda r: BITS[r.spec.base.quantization],
    ),
    _feature("head", "code", ", ".join(HEADS), _coded(HEADS, lambda s: s.method.head)),
    _feature(
        "loss",
        "code",
        "completion, candidates, mse, ordinal, pinball",
        _coded(LOSSES, lambda s: s.method.loss),
    ),
    _feature("class_weights", "code", "none, balanced, given", _class_weights),
)
