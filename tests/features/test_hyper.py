"""Hyperparameters as features: a table of specs and what each must say."""

import math
from pathlib import Path
from typing import Any

import pytest

from llmpred.bases.locate import locate
from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.features.base import compute
from llmpred.features.hyper import FEATURES, RunFacts, trainable_parameters
from llmpred.methods import adapters
from tests.runs import LABELS, lora, run_spec

NONE = {"adapter": {"kind": "none"}}


def values(base: Path, tokens: float | None = 20.0, /, **changes: Any) -> dict[str, float]:
    spec = resolve(run_spec(base, **changes)).spec
    found = compute(FEATURES, RunFacts(spec, 48, 10_000, 200, tokens))
    assert not found.warnings
    return found.values


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"optim": {"lr": 3e-4}}, {"lr": 3e-4}),
        ({"optim": {"weight_decay": 0.1}}, {"weight_decay": 0.1}),
        ({"optim": {"schedule": "cosine"}}, {"lr_schedule": 2.0}),
        ({"optim": {"warmup": 0.5}}, {"warmup_share": 0.5}),
        ({"optim": {"warmup": 3}}, {"warmup_share": 0.5}),
        ({}, {"steps": 6.0, "batch_size": 16.0, "epochs": 2.0, "tokens_seen": 6 * 16 * 20.0}),
        ({"optim": {"max_steps": None, "epochs": 3}}, {"steps": 9.0, "epochs": 3.0}),
        ({"optim": {"batch_size": 8}}, {"batch_size": 8.0, "epochs": 1.0}),
        # 48 rows by 20 are batches of 20, 20 and 8.
        (
            {"optim": {"max_steps": None, "epochs": 3, "batch_size": 20}},
            {"steps": 9.0, "epochs": 3.0},
        ),
        (
            {"optim": {"batch_size": 20, "max_steps": 4}},
            {"epochs": 68 / 48, "tokens_seen": 68 * 20.0},
        ),
        (
            {"method": {"adapter": lora(r=4, alpha=32, dropout=0.1)}},
            {"lora_r": 4.0, "lora_alpha": 32.0, "lora_scaling": 8.0, "lora_dropout": 0.1},
        ),
        ({"method": {"adapter": lora(alpha=8, use_rslora=True)}}, {"lora_scaling": 4.0}),
        ({"method": {"adapter": lora(target_modules="attention")}}, {"lora_targets": 0.0}),
        ({"method": {"adapter": lora(target_modules="all_linear")}}, {"lora_targets": 1.0}),
        ({"method": {"adapter": lora(target_modules=["q_proj"])}}, {"lora_targets": 2.0}),
        ({}, {"adapter_kind": 1.0, "trainable_parameters": 200.0, "trainable_share": 200 / 10_200}),
        ({"method": {"adapter": {"kind": "full"}}}, {"adapter_kind": 2.0, "lora_r": math.nan}),
        ({"method": {"head": "label_scoring", **NONE}}, {"lr": math.nan, "steps": math.nan}),
        ({"base": {"quantization": "nf4"}}, {"quantization_bits": 4.0}),
        ({}, {"quantization_bits": 16.0, "head": 1.0, "loss": 0.0}),
        ({"method": {"head": "classifier"}}, {"head": 2.0}),
        ({"method": {"loss": "candidates"}}, {"loss": 1.0, "class_weights": 0.0}),
        ({"method": {"class_weights": "balanced"}}, {"class_weights": 1.0}),
        ({"method": {"class_weights": {"positive": 2.0}}}, {"class_weights": 2.0}),
    ],
)
def test_values(changes: dict[str, Any], wanted: dict[str, float], tiny_causal: Path) -> None:
    found = values(tiny_causal, **changes)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)


def test_every_feature_is_in_the_table(tiny_causal: Path) -> None:
    [mark] = [m for m in test_values.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    named = {name for _, wanted in mark.args[1] for name in wanted}
    assert named | {"optimizer"} == set(values(tiny_causal))


def test_the_seed_is_left_out(tiny_causal: Path) -> None:
    assert values(tiny_causal, seed=7) == pytest.approx(values(tiny_causal), nan_ok=True)


def test_unknown_lengths_leave_tokens_unknown(tiny_causal: Path) -> None:
    assert math.isnan(values(tiny_causal, None)["tokens_seen"])


@pytest.mark.parametrize(
    "method",
    [
        {"adapter": lora(target_modules="all_linear")},
        {"adapter": lora(target_modules="attention")},
        {"adapter": {"kind": "full"}},
        {"head": "classifier", "adapter": lora()},
        {"head": "classifier", "adapter": {"kind": "none"}},
    ],
)
def test_trainable_weights_are_those_that_the_engine_trains(
    method: dict[str, Any], tiny_causal: Path
) -> None:
    resolved = resolve(run_spec(tiny_causal, method=method))
    chosen = resolved.spec.method
    classes = len(LABELS) if chosen.head == "classifier" else None
    base = LoadedBases().get(resolved, classes)
    with adapters.attached(base.model, chosen, 0) as model:
        wanted = sum(weight.numel() for weight in adapters.trainable(model).values())
    assert wanted > 0
    assert trainable_parameters(locate(resolved.spec.base), chosen, classes) == wanted
