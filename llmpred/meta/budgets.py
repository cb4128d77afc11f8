"""How well small sizes foretell the largest, beside simpler rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from llmpred.errors import DataError, InputError, Problem
from llmpred.meta.curve_table import MIN_SIZES, Curves, check_prior
from llmpred.meta.curves import MIN_BASES, forecast, laws
from llmpred.meta.metrics import pearson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """How well a budget foretold the largest size.

    Attributes:
        figures: predictor -> `pearson` over the bases and `relative_accuracy` of the base it
            chooses, (worst − chosen) / (worst − best); NaN where it says nothing.
        chosen: the base that the forecast chooses.
        rank: its place among all bases at the largest size, from 1.
        predicted, outcome: its score, forecast and come out.
        coverage_90: share of the bases whose score lies in its interval.
        seen: sizes that were looked at.
        warnings: what is odd, a sentence each.
    """

    figures: dict[str, dict[str, float]]
    chosen: str
    rank: int
    predicted: float
    outcome: float
    coverage_90: float
    seen: int
    warnings: tuple[str, ...]


def baselines(curves: Curves, size: float) -> dict[str, Floats]:
    """Return what simpler rules say; only their order and proportions mean something.

    Args:
        curves: what is known.
        size: number of examples to tell the score at.

    Returns:
        `straight_line` through the last three points of log score over log size; `single_law`, the
        rectified law that fits a base best, each alone; `last_value`; and where the table has them,
        `zero_shot` and `model_size` (the larger, the better; its logarithm).
    """
    import numpy as np

    found = {
        "straight_line": _straight_line(curves, size),
        "single_law": _single_law(curves, size),
        "last_value": _last_value(curves),
    }
    if not np.isnan(curves.zero_shot).any():
        found["zero_shot"] = curves.zero_shot
    if not np.isnan(curves.parameters).any():
        found["model_size"] = -np.log(curves.parameters)
    return found


def _straight_line(curves: Curves, size: float) -> Floats:
    import numpy as np

    told = []
    for row in curves.scores:
        known = np.flatnonzero(~np.isnan(row))[-3:]
        slope, start = np.polyfit(np.log(curves.sizes[known]), np.log(row[known]), 1)
        told.append(np.exp(start + slope * np.log(size)))
    return np.array(told)


def _single_law(curves: Curves, size: float) -> Floats:
    import numpy as np

    told = laws(curves.sizes, curves.scores, np.append(curves.sizes, size), shared=False)
    misfit = np.nansum(np.square(told[:, :, :-1] - np.log(curves.scores)), axis=2)
    best: Floats = np.exp(told[misfit.argmin(axis=0), np.arange(len(curves.names)), -1])
    return best


def _last_value(curves: Curves) -> Floats:
    import numpy as np

    return np.array([row[~np.isnan(row)][-1] for row in curves.scores])


def measure(curves: Curves, budget: Fraction, priors: Sequence[Curves] = ()) -> Measured:
    """Return how well the sizes up to a part of the largest foretell the scores at the largest.

    Args:
        curves: of at least three bases, measured at the largest size.
        budget: part of the largest size, in (0, 1); no score above it is looked at.
        priors: curves of other tables.

    Raises:
        InputError: if the budget is not in (0, 1).
        DataError: if it holds fewer than two sizes, or the table has too few bases, or no score or
            the same for all at the largest size.
    """
    import numpy as np

    where, largest, outcome = curves.where, curves.sizes[-1], curves.scores[:, -1]
    if not 0 < budget < 1:
        law = f"a budget must be above 0 and below 1, but got {budget}"
        raise InputError(Problem(law, fix="It is the part of the largest size, such as 1/8."))
    if len(curves.names) < MIN_BASES:
        law = f"a budget is judged over at least {MIN_BASES} bases, but got {len(curves.names)}"
        raise DataError(Problem(law, where, "Add rows, or give --to SIZE to predict."))
    empty = np.flatnonzero(np.isnan(outcome))
    if len(empty):
        law = f"a budget is judged at the largest size, but `{curves.names[empty[0]]}`"
        law += f" and {len(empty) - 1} more bases have" if len(empty) > 1 else " has"
        law += f" no score at {largest:.15g}"
        raise DataError(Problem(law, where, "Leave --budget out to predict the empty cells."))
    if np.ptp(outcome) == 0:
        law = f"scores at the largest size must differ, but all are {outcome[0]:g}"
        raise DataError(Problem(law, where, "There is nothing to choose."))
    seen = curves.up_to(float(budget * Fraction(float(largest))))
    if len(seen.sizes) < MIN_SIZES:
        law = f"a budget must hold at least {MIN_SIZES} sizes, but {budget} of {largest:.15g} holds"
        law += f" {len(seen.sizes)}"
        needs = f"The second smallest size is {curves.sizes[1]:.15g}."
        raise DataError(Problem(law, where, needs))
    for prior in priors:
        check_prior(prior, curves)
    told = forecast(seen, float(largest), priors)
    chosen = int(told.predicted.argmin())
    inside = (told.lower <= outcome) & (outcome <= told.upper)
    return Measured(
        {
            name: _figures(predicted, outcome)
            for name, predicted in {
                "llmpred": told.predicted,
                **baselines(seen, float(largest)),
            }.items()
        },
        curves.names[chosen],
        int((outcome < outcome[chosen]).sum()) + 1,
        float(told.predicted[chosen]),
        float(outcome[chosen]),
        float(inside.mean()),
        len(seen.sizes),
        told.warnings,
    )


def _figures(predicted: Floats, outcome: Floats) -> dict[str, float]:
    chosen, worst = outcome[predicted.argmin()], outcome.max()
    return {
        "pearson": pearson(outcome, predicted),
        "relative_accuracy": float((worst - chosen) / (worst - outcome.min())),
    }
