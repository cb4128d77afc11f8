"""The scales on which values are taught: as they are, or logarithmic with their sign.

The logarithmic one is asinh(value / linear): near 0 it is value / linear, far from it
sign * log(2 |value| / linear). So it keeps the sign, has no edge at 0 and never saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpred.spec.run import ValuesSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PLAIN = ValuesSpec(linear=1.0, log=(0.0, 1.0), raw=(0.0, 1.0))  # where nothing was trained
NEAR_ZERO = 0.01  # share of the training values, other than 0, that may be below `linear`
DIGITS = 10  # that are kept of what is learnt: the last ones differ from one machine to another
EXACT = 12  # significant digits of a value that is answered, so that 12.5 copied is 12.5
FAR = 1e8  # where asinh is a logarithm to the last digit
LARGEST = 1e307  # of an answer


def learnt(values: Sequence[float]) -> ValuesSpec:
    """Return the scale of training values, of which there are some."""
    import numpy as np

    found = np.array(values, float)
    sizes = np.abs(found[found != 0])
    linear = float(np.quantile(sizes, NEAR_ZERO)) if sizes.size else 1.0
    linear = _rounded(linear)
    log = _logarithmic(found, linear)
    # In units of the largest, so that nothing overflows.
    top = float(np.abs(found).max()) or 1.0
    raw = (float((found / top).mean()) * top, float((found / top).std()) * top)
    return ValuesSpec(linear=linear, log=_spread(log.mean(), log.std()), raw=_spread(*raw))


def taught(values: Floats, scale: ValuesSpec | None, loss: str) -> Floats:
    """Return values as a head with this loss is taught them, in standard deviations."""
    import numpy as np

    scale = scale or PLAIN
    if loss == "mse":
        return np.asarray((values - scale.raw[0]) / scale.raw[1])
    return np.asarray((_logarithmic(values, scale.linear) - scale.log[0]) / scale.log[1])


def said(outputs: Floats, scale: ValuesSpec | None, loss: str) -> Floats:
    """Return the values that `taught` makes of what a head says; finite, `EXACT` digits."""
    import numpy as np

    scale = scale or PLAIN
    with np.errstate(over="ignore"):
        if loss == "mse":
            values = outputs * scale.raw[1] + scale.raw[0]
        else:
            values = np.sinh(outputs * scale.log[1] + scale.log[0]) * scale.linear
    kept = np.clip(np.nan_to_num(values), -LARGEST, LARGEST)
    flat = [float(f"{value:.{EXACT}g}") for value in kept.ravel().tolist()]
    return np.array(flat, float).reshape(kept.shape)


def _logarithmic(values: Floats, linear: float) -> Floats:
    import numpy as np

    near = np.arcsinh(np.clip(values / linear, -FAR, FAR))
    sizes = np.maximum(np.abs(values), linear)
    far = np.sign(values) * (np.log(2.0) + np.log(sizes) - np.log(linear))
    return np.asarray(np.where(np.abs(values) < FAR * linear, near, far))


def _spread(mean: float, deviation: float) -> tuple[float, float]:
    """Return both, the deviation of values that are all the same but for rounding as 1."""
    same = deviation <= abs(mean) * 10.0**-EXACT
    return _rounded(float(mean)), 1.0 if same else _rounded(float(deviation))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
