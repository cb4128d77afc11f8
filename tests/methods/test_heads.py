"""Heads of a method: their shapes, and what they say before anything is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llmpred.engine import semantics
from llmpred.methods import heads
from llmpred.spec.run import MethodSpec


class RobertaLike(nn.Module):
    """A head that gets the states of all tokens, as RobertaClassificationHead does."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)
        self.out_proj = nn.Linear(8, outputs)


def method(**fields: object) -> MethodSpec:
    return MethodSpec.model_validate({"head": "classifier", **fields})


@pytest.mark.parametrize("loss", [None, "ordinal", "pinball"])
@pytest.mark.parametrize("form", [None, "mlp"])
def test_a_head_has_as_many_outputs_as_asked(loss: str | None, form: str | None) -> None:
    own = nn.Linear(8, 5, bias=False)
    made = heads.drawn(own, method(loss=loss, head_form=form))
    assert made(torch.zeros(3, 4, 8)).shape == (3, 4, 5)
    assert all(weight.dtype == torch.float32 for weight in made.parameters())


@pytest.mark.parametrize("changes", [{"head_form": "mlp"}, {"loss": "ordinal"}])
def test_the_first_token_is_read_where_the_base_s_own_head_reads_it(
    changes: dict[str, str],
) -> None:
    made = heads.drawn(RobertaLike(5), method(**changes)).eval()
    states = torch.randn(3, 4, 8)
    other = states.clone()
    other[:, 1:] = 0.0
    assert made(states).shape == (3, 5)
    assert torch.equal(made(states), made(other))


def test_the_custom_head_is_the_published_one() -> None:
    made = heads.drawn(nn.Linear(384, 8), method(head_form="mlp"))
    assert [type(layer).__name__ for layer in made] == ["Linear", "GELU", "Dropout", "Linear"]
    assert (made[0].out_features, made[2].p, made[3].out_features) == (512, 0.2, 8)


@pytest.mark.parametrize("thresholds", [1, 2, 9])
def test_an_ordinal_head_begins_with_equal_probabilities(thresholds: int) -> None:
    made = heads.drawn(nn.Linear(8, thresholds), method(loss="ordinal"))
    found = semantics.ordinal_scores(made(torch.zeros(1, 8))).exp()
    expected = torch.full((1, thresholds + 1), 1 / (thresholds + 1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_thresholds_ascend_whatever_is_trained() -> None:
    made = heads.CumulativeLink(8, 6)
    made.further.data = torch.tensor([-50.0, 3.0, -1.0, 0.0, -20.0])
    logits = made(torch.randn(4, 8))
    assert (logits.diff(dim=-1) < 0).all()
