"""Heads that are trained in place of a base's own: linear or not, of classes, values or ranks."""

from __future__ import annotations

import copy

import torch
from torch import nn

from llmpred.spec.run import MethodSpec

WIDTH, DROPOUT = 512, 0.2  # of the head form `mlp`


def drawn(head: nn.Module, method: MethodSpec) -> nn.Module:
    """Return the head of a method for a base whose head is `head`, its weights drawn anew.

    In float32 whatever the base is in, as all that is trained.
    """
    if method.head_form is None and method.loss != "ordinal":
        made = copy.deepcopy(head).to(torch.float32)
    else:
        made = _made(head, method)
    made.apply(_draw)
    return made


def _made(head: nn.Module, method: MethodSpec) -> nn.Module:
    linear = (
        head
        if isinstance(head, nn.Linear)
        else next(module for module in head.modules() if isinstance(module, nn.Linear))
    )
    hidden, outputs = linear.in_features, _outputs(head)
    last: type[nn.Module] = CumulativeLink if method.loss == "ordinal" else nn.Linear
    if method.head_form == "mlp":
        layers: nn.Module = nn.Sequential(
            nn.Linear(hidden, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), last(WIDTH, outputs)
        )
    else:
        layers = last(hidden, outputs)
    made = layers if isinstance(head, nn.Linear) else _FirstToken(layers)
    # A base on the `meta` device has no memory for weights.
    return made.to(linear.weight.device)


def _outputs(head: nn.Module) -> int:
    """Return how many outputs the last linear layer of a head has."""
    return [m for m in head.modules() if isinstance(m, nn.Linear)][-1].out_features


class CumulativeLink(nn.Module):
    """Logits of P(label > k): one score less an ascending threshold each (McCullagh, 1980)."""

    def __init__(self, hidden: int, thresholds: int) -> None:
        super().__init__()
        self.latent = nn.Linear(hidden, 1, bias=False)
        self.first = nn.Parameter(torch.zeros(1))
        self.further = nn.Parameter(torch.zeros(thresholds - 1))
        self.thresholds = thresholds

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return [..., thresholds] of states [..., hidden]."""
        rises = nn.functional.softplus(self.further) + 1e-3  # no two are the same
        thresholds = torch.cat([self.first, self.first + rises.cumsum(0)])
        logits: torch.Tensor = self.latent(states) - thresholds
        return logits


class _FirstToken(nn.Module):
    """A head that gets the states of all tokens and reads the first one's, as RoBERTa's does."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(states[:, 0])
        return logits


def _draw(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02), biases are 0 (BERT's initialisation)."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, CumulativeLink):
        # Equal probabilities where the score is 0, as far as softplus lets them.
        count = module.thresholds + 1
        with torch.no_grad():
            shares = torch.arange(1, count, device=module.first.device) / count
            thresholds = torch.logit(shares)
            module.first.copy_(thresholds[:1])
            module.further.copy_((thresholds.diff() - 1e-3).expm1().log())
