"""How good answers about numbers are: whether one is said to be due, and how near its value is.

All is told of stored predictions, see `llmpred.tasks.numeric`, and is finite: a figure that rows do
not have, or that overflows since an answer is beyond all bounds, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpred.tasks.base import LEVELS, Prediction, mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

TOLERANCE = 0.05


def right(prediction: Prediction) -> bool:
    """Return whether an answer is right.

    Where a number is due, it must be predicted, its value at most 5 % off (relaxed accuracy;
    Methani et al., 2020); of a true 0, at most 0.05. Where none is due, none may be predicted.
    """
    true, answer = prediction.target.get("value"), prediction.prediction
    if true is None:
        return not answer["due"]
    if not answer["due"] or answer.get("value") is None:
        return False
    return bool(abs(answer["value"] - true) <= TOLERANCE * (abs(true) or 1.0))


def figures(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return how good answers are.

    Returns:
        `within_tolerance`, the share of right ones. Where rows have a number due: `accuracy`, the
        share where it is predicted; `mean_rank` and `mean_probability` of `<NUM>`, or, of generated
        texts, `without_value`, the share that says no number. Where rows have none due:
        `false_alarms`, the share where one is predicted.

        Of rows with a number due and a value: `rmse`, `mae`; `median_relative_error`, of true
        values but 0; `log_error`, mean absolute difference of `symlog`; all of them once more with
        `_predicted`, of those rows alone where a number is predicted. Of rows with quantiles:
        `coverage`, how often the true value is between the 10 and the 90 % one, which should be
        0.8; `pinball`, their mean loss in units of `symlog` (Koenker & Bassett, 1978).

    Raises:
        DataError: if there are no predictions.
    """
    found = {"within_tolerance": mean([float(right(p)) for p in predictions])}
    due = [p for p in predictions if p.target.get("value") is not None]
    others = [p.prediction for p in predictions if p.target.get("value") is None]
    ranked = [p.prediction for p in due if p.prediction.get("rank") is not None]
    texts = [p.prediction for p in due if p.prediction.get("rank") is None]
    valued = [p for p in due if p.prediction.get("value") is not None]
    if due:
        found["accuracy"] = mean([float(p.prediction["due"]) for p in due])
    if others:
        found["false_alarms"] = mean([float(answer["due"]) for answer in others])
    if ranked:
        found["mean_rank"] = mean([answer.get("rank") for answer in ranked])
        found["mean_probability"] = mean([answer.get("probability") for answer in ranked])
    if texts:
        found["without_value"] = mean([float(answer.get("value") is None) for answer in texts])
    found |= _errors(valued)
    predicted = _errors([p for p in valued if p.prediction["due"]])
    found |= {f"{name}_predicted": value for name, value in predicted.items()}
    found |= _intervals([p for p in due if p.prediction.get("quantiles") is not None])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def sets_of(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Return predictions by evaluation set, in order of first appearance; not those of none."""
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if prediction.target.get("set") is not None:
            found.setdefault(prediction.target["set"], []).append(prediction)
    return found


def by_set(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Return the `figures` of each evaluation set, in order of first appearance."""
    return {name: figures(rows) for name, rows in sets_of(predictions).items()}


def calibration(predictions: Sequence[Prediction]) -> dict[float, float]:
    """Return how often true values are at most the quantile of each level; empty of no quantiles.

    A head whose quantiles hold has the level itself.
    """
    import numpy as np

    rows = [
        p
        for p in predictions
        if p.target.get("value") is not None and p.prediction.get("quantiles")
    ]
    if not rows:
        return {}
    below = _true(rows)[:, None] <= np.array([p.prediction.get("quantiles") for p in rows], float)
    return dict(zip(LEVELS, below.mean(axis=0).tolist(), strict=True))


def symlog(values: ArrayLike) -> Floats:
    """Return sign(x) log10(1 + |x|), which tells numbers of any size and sign apart (Webber, 2013).

    A difference of 1 is one order of magnitude, but of numbers below 1.
    """
    import numpy as np

    values = np.asarray(values, float)
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)) / math.log(10))


def _errors(rows: Sequence[Prediction]) -> dict[str, float]:
    """Return how far values are off, of rows with a true and a predicted one."""
    import numpy as np

    if not rows:
        return {}
    true, said = _true(rows), np.array([p.prediction.get("value") for p in rows], float)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is left out
        off = np.abs(said - true)
        found = {
            # `hypot` scales, so that squares of large errors do not overflow.
            "rmse": math.hypot(*off.tolist()) / math.sqrt(len(off)),
            "mae": float(off.mean()),
            "log_error": float(np.abs(symlog(said) - symlog(true)).mean()),
        }
        there = true != 0
        if there.any():
            found["median_relative_error"] = float(np.median(off[there] / np.abs(true[there])))
    return found


def _intervals(rows: Sequence[Prediction]) -> dict[str, float]:
    """Return whether quantiles hold, of rows with a true value and quantiles."""
    import numpy as np

    if not rows:
        return {}
    true = _true(rows)[:, None]
    quantiles = np.array([p.prediction.get("quantiles") for p in rows], float)
    holds = (quantiles[:, :1] <= true) & (true <= quantiles[:, -1:])
    levels, above = np.array(LEVELS), symlog(true) - symlog(quantiles)
    losses = np.maximum(levels * above, (levels - 1) * above)
    return {"coverage": float(holds.mean()), "pinball": float(losses.mean())}


def _true(rows: Sequence[Prediction]) -> Floats:
    import numpy as np

    return np.array([p.target.get("value") for p in rows], float)
