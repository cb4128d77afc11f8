"""What reads values into a causal model and says them: the parts around its token `<NUM>`.

A number in a text is the token `<NUM>`, to whose embedding `NumericHead.read` adds its value. Where
`<NUM>` is due, `NumericHead.forward` says which value, from the state that predicts the token.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from llmpred.methods.heads import DROPOUT, WIDTH
from llmpred.spec.run import MethodSpec
from llmpred.tasks.base import LEVELS

PERIODS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # in powers of ten
KEYS = 64  # width of what a pointer compares
SHIFTS = (0.5, -0.5)  # where a number's shifts begin, in standard deviations: up and down
AFTER = 2  # tokens on from a number, where its unit has been read
LEAST = 1e-3  # smallest scale of a component, in standard deviations of the training values
FEATURES = 4 + 2 * len(PERIODS)


class NumericHead(nn.Module):
    """Reads values and says them; in float32 whatever the base is in, as all that is trained.

    What `forward` returns depends on the loss: a value (`mse`, `log1p`), quantiles at `LEVELS`
    (`pinball`), or a mixture of Cauchy distributions (`cauchy`), of one component unless the form
    is `pointer`. All are in standard deviations of the training values, see
    `llmpred.tasks.numeric.scale`.
    """

    def __init__(self, hidden: int, method: MethodSpec) -> None:
        """Draw the weights from torch's generator.

        Args:
            hidden: width of the base's states.
            method: its loss and form say what the head is.
        """
        super().__init__()
        self.loss, self.points = method.loss, method.head_form == "pointer"
        outputs = {"cauchy": 2, "pinball": len(LEVELS)}.get(method.loss or "", 1)
        self.values = nn.Linear(FEATURES, hidden, bias=False)
        # A base that nothing was trained in reads the token alone.
        nn.init.zeros_(self.values.weight)
        if method.head_form is None:
            self.says: nn.Module = nn.Linear(hidden, outputs)
        else:
            self.says = _layers(hidden, outputs)
        if self.points:
            self.query = nn.Linear(hidden, KEYS)
            self.key = nn.Linear(2 * hidden, (1 + len(SHIFTS)) * KEYS)
            self.new = nn.Linear(hidden, 1)
            self.shift = _layers(3 * hidden, len(SHIFTS))
            # They begin where they are of use: one that strays would never come back.
            last: Any = self.shift[-1]
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.copy_(torch.tensor(SHIFTS))
            self.spread = nn.Parameter(torch.log(torch.tensor([0.1] + [0.3] * len(SHIFTS))))

    def read(self, values: torch.Tensor) -> torch.Tensor:
        """Return what is added to the embedding of `<NUM>`: [..., hidden] of values [...]."""
        added: torch.Tensor = self.values(features(values))
        return added

    def forward(
        self, states: torch.Tensor, sources: torch.Tensor, known: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """Return what is said of each value.

        Args:
            states: [n, hidden], each predicts a `<NUM>`.
            sources: [n, numbers, 2 hidden], of each number before it the state at the number, and
                the state `AFTER` tokens on, which has read its unit.
            known: [n, numbers], their values in standard deviations, float64.
            there: [n, numbers], which of them there are.

        Returns:
            [n, 1], [n, levels], or [n, 3, components]: log-weights, locations and the logarithms
            of the scales of a mixture, float64; the weight of a component that is not there is 0.
        """
        said: torch.Tensor = self.says(states)
        if self.loss != "cauchy":
            return said.double()
        place, spread = said[:, :1].double(), said[:, 1:].double()
        if not self.points:
            return torch.stack([torch.zeros_like(place), place, _log_scale(spread)], 1)
        asked = self.query(states)[:, None]
        keys = self.key(sources).unflatten(-1, (-1, KEYS))
        match = (asked[:, :, None] * keys).sum(-1) / math.sqrt(KEYS)  # [n, numbers, 1 + shifts]
        asking = states[:, None].expand(-1, sources.shape[1], -1)
        pairs = torch.cat([asking, sources], -1)
        moved = self.shift(pairs).double()
        gone = torch.finfo(match.dtype).min
        match = match.masked_fill(~there[..., None], gone)
        weights = torch.cat([self.new(states), match.flatten(1)], 1)
        near = torch.cat([known[..., None], known[..., None] + moved], -1)
        places = torch.cat([place, near.flatten(1)], 1)
        # All copies are as sharp as one another, and so are all shifts of a kind.
        sharp = self.spread.double().expand(near.shape)
        scales = torch.cat([spread, sharp.flatten(1)], 1)
        return torch.stack([weights.double().log_softmax(1), places, _log_scale(scales)], 1)


def features(values: torch.Tensor) -> torch.Tensor:
    """Return what a model reads of values: [..., FEATURES], none of which saturates.

    The sign, whether it is 0, the logarithm of the size with and without the sign, and waves of it
    from one power of ten a period on, which tell sizes apart that are near one another.
    """
    sizes = values.double().abs()
    zero = sizes == 0
    powers = torch.log10(sizes.masked_fill(zero, 1.0))
    sign = torch.sign(values.double())
    found = [sign, zero.double(), powers / 10, sign * torch.log1p(sizes) / 10]
    for period in PERIODS:
        angle = 2 * math.pi * powers / period
        found += [torch.sin(angle), torch.cos(angle)]
    return torch.stack(found, -1).float()


def _log_scale(raw: torch.Tensor) -> torch.Tensor:
    """Return logarithms of scales, above `LEAST`."""
    return torch.logaddexp(raw, torch.full_like(raw, math.log(LEAST)))


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, outputs)
    )
