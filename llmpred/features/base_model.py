"""Meta-features of a base model: its shape, and what it scores untouched. No forward pass."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpred.bases.locate import Located
from llmpred.features.base import Feature, Priority


@dataclass(frozen=True)
class BaseFacts:
    """What is known of a base; None where it is not.

    Attributes:
        parameters: number of weights.
        layers, width, vocabulary, positions: of its Transformer; positions are the tokens that a
            sequence may have.
        heads, kv_heads: query heads and key-value heads of a layer.
        zero_shot: score of the untouched base on the run's evaluation set.
    """

    parameters: int
    layers: int | None
    width: int | None
    vocabulary: int | None
    positions: int | None
    heads: int | None
    kv_heads: int | None
    zero_shot: float | None


def base_facts(located: Located, zero_shot: float | None = None) -> BaseFacts:
    """Return the facts of a base from its config and the headers of its weights.

    Args:
        located: the base.
        zero_shot: `accuracy_r` of the run under the spec's zero-shot key; None if it was not paid
            for, or if there is no such run.
    """
    config = _text_config(json.dumps(located.config))

    def size(name: str) -> int | None:
        value = getattr(config, name, None)
        return value if isinstance(value, int) else None

    heads = size("num_attention_heads")
    return BaseFacts(
        parameters=located.parameters,
        layers=size("num_hidden_layers"),
        width=size("hidden_size"),
        vocabulary=size("vocab_size"),
        positions=size("max_position_embeddings"),
        heads=heads,
        kv_heads=size("num_key_value_heads") or heads,
        zero_shot=zero_shot,
    )


@functools.lru_cache(maxsize=64)  # a ledger's runs share few bases, and each takes milliseconds
def _text_config(config: str) -> Any:
    """Return the config of the language model, which knows what its family calls its width."""
    from transformers import AutoConfig

    given = json.loads(config)
    return AutoConfig.for_model(given.pop("model_type"), **given).get_text_config()


def _known(name: str) -> Callable[[BaseFacts], float]:
    def known(facts: BaseFacts) -> float:
        value = getattr(facts, name)
        if value is None:
            raise ValueError(f"the config of the base does not say its {name}")
        return float(value)

    return known


def _kv_share(facts: BaseFacts) -> float:
    return _known("kv_heads")(facts) / _known("heads")(facts)


def _zero_shot(facts: BaseFacts) -> float:
    if facts.zero_shot is None:
        raise ValueError("the untouched base has not been scored on this evaluation set")
    return facts.zero_shot


def _feature(
    name: str,
    fn: Callable[[BaseFacts], float],
    source: str,
    unit: str,
    *,
    priority: Priority = "further",
    **more: Any,
) -> Feature:
    return Feature(name, "base", priority, unit, "free", 1, source, fn, **more)


CONFIG = "config.json of the base"

FEATURES: tuple[Feature, ...] = (
    _feature("base_parameters", _known("parameters"), "safetensors headers", "weights", log=True),
    _feature("base_layers", _known("layers"), CONFIG, "layers"),
    _feature("base_width", _known("width"), CONFIG, "units", log=True),
    _feature("base_vocabulary", _known("vocabulary"), CONFIG, "tokens", log=True),
    _feature("base_positions", _known("positions"), CONFIG, "tokens", log=True),
    _feature("base_heads", _known("heads"), CONFIG, "heads"),
    _feature("base_kv_share", _kv_share, "key-value heads a query head; 1 without sharing", "1"),
    _feature(
        "zero_shot_score",
        _zero_shot,
        "accuracy_r of the untouched base on the same evaluation",
        "1",
        reads_eval_labels=True,
    ),
)
