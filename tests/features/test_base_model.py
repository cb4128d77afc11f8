import math
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from llmpred.bases.locate import Located, locate
from llmpred.features.base import Values, compute
from llmpred.features.base_model import FEATURES, base_facts
from llmpred.spec.run import BaseSpec


def described(located: Located, zero_shot: float | None = None) -> Values:
    return compute(FEATURES, base_facts(located, zero_shot))


def configured(config: dict[str, Any], parameters: int = 1000) -> Located:
    return Located("x", "x", None, "0" * 64, "causal", parameters, config, False)


def shape(values: Values) -> list[float]:
    names = ("layers", "width", "vocabulary", "positions", "heads", "kv_share")
    return [values.values[f"base_{name}"] for name in names]


def test_proxy_is_described_by_what_loading_it_shows() -> None:
    located = locate(BaseSpec(name="proxy"))
    found = described(located, 0.25)
    model = AutoModelForCausalLM.from_pretrained(located.path)
    assert found.values["base_parameters"] == sum(p.numel() for p in model.parameters())
    assert shape(found) == [5, 192, 6144, 1024, 6, pytest.approx(1 / 3)]
    assert found.values["zero_shot_score"] == 0.25
    assert found.warnings == {}


def test_encoder_has_a_shape_too(tiny_encoder: Path) -> None:
    assert shape(described(locate(BaseSpec(name=str(tiny_encoder)))))[:2] == [2, 32]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
            [12, 768, 50257, 1024, 12, 1],
        ),
        (
            {
                "model_type": "qwen2",
                "hidden_size": 896,
                "num_hidden_layers": 24,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
                "vocab_size": 151936,
                "max_position_embeddings": 32768,
            },
            [24, 896, 151936, 32768, 14, 1 / 7],
        ),
        (
            {
                "model_type": "gemma3",
                "text_config": {
                    "model_type": "gemma3_text",
                    "hidden_size": 2560,
                    "num_hidden_layers": 34,
                    "num_attention_heads": 8,
                    "num_key_value_heads": 4,
                    "vocab_size": 262208,
                    "max_position_embeddings": 131072,
                },
            },
            [34, 2560, 262208, 131072, 8, 0.5],
        ),
    ],
    ids=["gpt2", "qwen2", "gemma3"],
)
def test_families_call_their_sizes_differently(
    config: dict[str, Any], expected: list[float]
) -> None:
    assert shape(described(configured(config))) == pytest.approx(expected)


def test_what_a_config_does_not_say_is_unknown() -> None:
    # Its positions are relative: there is no largest one.
    config = AutoConfig.for_model("bloom", hidden_size=64, n_layer=2, n_head=8).to_dict()
    found = described(configured(config))
    assert found.values["base_layers"] == 2
    assert math.isnan(found.values["base_positions"])
    assert "does not say its positions" in found.warnings["base_positions"]


def test_zero_shot_score_that_was_not_paid_for_is_unknown() -> None:
    found = described(locate(BaseSpec(name="proxy")))
    assert math.isnan(found.values["zero_shot_score"])
    assert "has not been scored" in found.warnings["zero_shot_score"]
    assert described(locate(BaseSpec(name="proxy")), 0.0).values["zero_shot_score"] == 0


def test_only_the_zero_shot_score_reads_answers() -> None:
    assert [f.name for f in FEATURES if f.reads_eval_labels] == ["zero_shot_score"]
    assert {f.group for f in FEATURES} == {"base"}
