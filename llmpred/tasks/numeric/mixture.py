"""Mixtures of Cauchy distributions: what a head with loss `cauchy` says of a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STEPS = 80  # of the bisection: more than a double has digits


def read(heads: Sequence[Sequence[float]], levels: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the most probable component's location and the quantiles of each mixture.

    Args:
        heads: of each row the log-weights of its components, then their locations, then the
            logarithms of their scales; rows may have different numbers of components.
        levels: of the quantiles, in (0, 1).

    Returns:
        Locations [rows], quantiles [rows, levels].
    """
    import numpy as np

    most = max(len(row) for row in heads) // 3
    weights, places = np.zeros((len(heads), most)), np.zeros((len(heads), most))
    scales = np.ones((len(heads), most))
    for i, row in enumerate(heads):
        parts = np.array(row, float).reshape(3, -1)
        parts[np.isnan(parts)] = 0.0  # of a head that says nothing
        size = parts.shape[1]
        weights[i, :size], places[i, :size] = np.exp(parts[0]), parts[1]
        scales[i, :size] = np.exp(parts[2])
        places[i, size:] = parts[1, 0]
    weights /= weights.sum(1, keepdims=True)
    best = places[np.arange(len(heads)), weights.argmax(1)]
    return best, np.stack([_quantile(weights, places, scales, at) for at in levels], axis=1)


def _quantile(weights: Floats, places: Floats, scales: Floats, level: float) -> Floats:
    """Return where a share `level` of each mixture is below: it lies among its components'."""
    import numpy as np

    own = places + scales * np.tan(np.pi * (level - 0.5))
    known = np.where(weights > 0, own, np.nan)
    low, high = np.nanmin(known, 1), np.nanmax(known, 1)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = 0.5 + np.arctan((middle[:, None] - places) / scales) / np.pi
        less = (weights * below).sum(1) < level
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray(high)
