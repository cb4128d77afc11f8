"""A causal model that reads numbers as `<NUM>` and their values, and says where one is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from llmpred.engine import semantics
from llmpred.engine.encoding import Encoded
from llmpred.engine.models import LoadedBase, forward, last_positions, pad, padded
from llmpred.errors import Problem, SpecError
from llmpred.methods.numeric import AFTER
from llmpred.spec.run import RunSpec
from llmpred.tasks.numeric import scale

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

NUMBER_TOKEN_WEIGHT = 0.3  # of the number-token loss (Zausinger et al., 2025)


@dataclass(frozen=True)
class _Read:
    """What a model made of a batch.

    Attributes:
        states: [rows, length, hidden], after the last norm.
        logits: [rows, last, vocabulary].
        numbers: [rows, length], where a `<NUM>` is.
        values: [rows, length], of each; 0 elsewhere.
    """

    states: torch.Tensor
    logits: torch.Tensor
    numbers: torch.Tensor
    values: torch.Tensor


def _read(
    model: nn.Module,
    base: LoadedBase,
    sequences: Sequence[Sequence[int]],
    values: Sequence[Sequence[float]],
    last: int,
) -> _Read:
    """Run sequences through a model, with the values of their `<NUM>` in order.

    Args:
        model: with a numeric head.
        base: that it was made of.
        sequences: token ids, a row each.
        values: of each row's numbers; those beyond its numbers are not read.
        last: how many last positions to compute logits for.
    """
    inputs = padded(base, sequences)
    ids = inputs.pop("input_ids")
    there: Any = ids == base.model.config.number_token
    found = torch.zeros(ids.shape, dtype=torch.float64)
    for row, places, own in zip(found, there.cpu(), values, strict=True):
        row[places] = torch.tensor(own[: int(places.sum())], dtype=torch.float64)
    found = found.to(ids.device)
    embedded = base.model.get_input_embeddings()(ids)
    with torch.autocast(ids.device.type, enabled=False):
        added = _head(base).read(found)
    embedded = embedded + (added * there[..., None]).to(embedded.dtype)
    out = model(
        inputs_embeds=embedded,
        **inputs,
        logits_to_keep=last_positions(last, base.device),
        use_cache=False,
        output_hidden_states=True,
    )
    return _Read(out.hidden_states[-1], out.logits, there, found)


def _head(base: LoadedBase) -> Any:
    return base.model.numeric


def _said(
    base: LoadedBase, spec: RunSpec, read: _Read, rows: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """Return what the head says from the states at (row, place), as `NumericHead.forward` does."""
    loss = spec.method.loss
    assert loss is not None  # settled
    seen = read.numbers[rows] & (
        torch.arange(read.numbers.shape[1], device=places.device) <= places[:, None]
    )
    most = max(1, int(seen.sum(1).max()))
    order = torch.argsort(seen.int(), dim=1, descending=True, stable=True)[:, :most]
    there = seen.gather(1, order)
    values = read.values[rows].gather(1, order).cpu().numpy()
    known = torch.from_numpy(scale.taught(values, spec.task.values, loss)).to(places.device)
    with torch.autocast(read.states.device.type, enabled=False):
        states = read.states.float()
        row, after = rows[:, None], torch.minimum(order + AFTER, places[:, None])
        sources = torch.cat([states[row, order], states[row, after]], -1)
        said: torch.Tensor = _head(base)(states[rows, places], sources, known, there)
        return said


def loss(
    model: nn.Module, base: LoadedBase, spec: RunSpec, batch: Sequence[Encoded], count: float
) -> torch.Tensor:
    """Return a micro-batch's share of the mean loss a target token: its own, and of its value.

    With `cauchy` that is the negative log-likelihood of the text and its numbers together.

    Args:
        model: with a numeric head.
        base: that it was made of.
        spec: the settled run.
        batch: training examples.
        count: target tokens in the whole global batch.
    """
    longest = max(len(e.target) for e in batch)
    sequences = [[*e.prompt, *e.target[:-1]] for e in batch]
    read = _read(model, base, sequences, [e.values for e in batch], longest)
    labels = pad([e.target for e in batch], semantics.IGNORED, "left", read.logits.device)
    total: torch.Tensor = semantics.token_loss(read.logits, labels, count)
    rows, places = torch.nonzero(labels == base.model.config.number_token, as_tuple=True)
    if not len(rows):
        return total
    said = _said(base, spec, read, rows, places + read.states.shape[1] - longest)
    due = torch.cat([torch.tensor(_of_target(e, base), dtype=torch.float64) for e in batch])
    assert spec.method.loss is not None  # settled
    taught = torch.from_numpy(scale.taught(due.numpy(), spec.task.values, spec.method.loss))
    by_value = semantics.number_loss(said, taught.to(said.device), spec.method.loss, count)
    return total + by_value.to(total.dtype)


def _of_target(example: Encoded, base: LoadedBase) -> tuple[float, ...]:
    """Return the values of the numbers in an example's target: they come last."""
    count = example.target.count(base.model.config.number_token)
    return example.values[len(example.values) - count :]


def scores(
    model: nn.Module, base: LoadedBase, spec: RunSpec, batch: Sequence[Encoded]
) -> list[tuple[float, ...]]:
    """Return of each prompt log p(<NUM>), its rank, and what the head says of the value.

    As `Numeric.answers` takes them: components that are not there are left out.
    """
    read = _read(model, base, [e.prompt for e in batch], [e.values for e in batch], 1)
    rows = torch.arange(len(batch), device=read.states.device)
    said = _said(base, spec, read, rows, rows * 0 + read.states.shape[1] - 1).cpu()
    logits = read.logits[:, -1].float()
    own = logits[:, base.model.config.number_token, None]
    log_p = (own.squeeze(1) - logits.logsumexp(-1)).tolist()
    rank = (1 + (~(logits <= own)).sum(1)).tolist()  # the last of weights that are no numbers
    found = []
    for p, place, row in zip(log_p, rank, said, strict=True):
        if row.ndim == 2:
            row = row[:, ~(row[0] < -1e30)]
        found.append((p, float(place), *row.flatten().tolist()))
    return found


def digits_loss(
    model: nn.Module, base: LoadedBase, batch: Sequence[Encoded], count: float
) -> torch.Tensor:
    """Return a micro-batch's share of the token loss and the number-token loss of its digits.

    The latter is the squared error of the digit that is expected among the ten (NTL-MSE of
    Zausinger et al., 2025), weighed by `NUMBER_TOKEN_WEIGHT`.
    """
    longest = max(len(e.target) for e in batch)
    logits = forward(model, base, [[*e.prompt, *e.target[:-1]] for e in batch], longest)
    labels = pad([e.target for e in batch], semantics.IGNORED, "left", logits.device)
    by_digit = _number_token(base.tokenizer, logits.shape[-1])
    further: torch.Tensor = by_digit(logits.float(), labels, reduction="sum") / count
    return semantics.token_loss(logits, labels, count) + NUMBER_TOKEN_WEIGHT * further


@cache
def _number_token(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Any:
    """Return the number-token loss for a vocabulary.

    Raises:
        SpecError: when the base has no tokens for digits.
    """
    from ntloss import NTLossDotProduct

    if missing := set("0123456789") - tokenizer.get_vocab().keys():
        law = (
            "`loss: number_token` needs a token for each digit, but this base has none for "
            f"{min(missing)}"
        )
        raise SpecError(Problem(law, "method.loss", "Take another base, or another loss."))
    return NTLossDotProduct(tokenizer, vocab_size=vocabulary)
