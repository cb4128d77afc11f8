"""Learning curves: what bases will score at the full size, from what they score at small sizes.

The law is the rectified scaling law, L(N) = E + B / (D + N^β) (Lin et al., 2024): flat while N^β is
below D, a power of N after it, and flat again at the floor E. A base alone has too few and too
noisy points to tell its four numbers, so the bases of a table share floor and exponent. Then
1 / (L − E) is a straight line over N^β, and a base is two numbers: a line through its points, each
weighing as its size, because the latest say most about what follows.

Which floor and which exponent? Few doublings cannot tell, and what forecasts them best (a floor
close below the losses seen) orders the bases worst many doublings later. So nothing is chosen:

- the *order* of the bases is that of the mean of log L over all laws, with β even in (0, 1) and E
  even in (0, the lowest loss seen), which is all that the law allows;
- the *level*, one factor for all bases, is that of the laws weighed by 1 / their mean squared error
  in backtests: forecasts of sizes seen, from the sizes below them (Bates & Granger, 1969).

Other tables weigh the laws too: for the level by their error over the same distance, for the order
by what of the outcome they leave unexplained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.errors import DataError, Problem
from llmpred.meta.curve_table import MIN_SIZES, Curves, check_points, check_prior
from llmpred.meta.metrics import pearson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_BASES = 3  # a correlation of two is 1 or −1 whatever they are
GRID = 10  # values of floor and of exponent, in the middles of as many equal parts
DEVIATIONS = 1.645  # of a normal distribution, 90 % lie within so many on either side
ROUNDING = 1e-9  # of a part of a size
SMALLEST = 1e-12  # keeps a law that fits without error from weighing infinitely


@dataclass(frozen=True)
class Forecast:
    """What bases will score at a size.

    Attributes:
        predicted: float64 [bases].
        lower, upper: float64 [bases], borders of the 90 % interval.
        apart: float64 [bases], standard deviation of the log score about its forecast, beside the
            error that all bases share; 0 where nothing could be backtested, or is measured.
        warnings: what is odd, a sentence each.
    """

    predicted: Floats
    lower: Floats
    upper: Floats
    apart: Floats
    warnings: tuple[str, ...] = ()


# --- the forecast ------------------------------------------------------------------------------


def forecast(curves: Curves, size: float, priors: Sequence[Curves] = ()) -> Forecast:
    """Return what the bases will score at a larger size.

    Args:
        curves: what is known; every base needs two sizes.
        size: number of examples, above the sizes known.
        priors: curves of other tables, complete to their own largest size. One that does not reach
            over the same distance, from as little, is left out with a warning.

    Raises:
        DataError: if a base has fewer than two sizes.
    """
    import numpy as np

    check_points(curves)
    known = laws(curves.sizes, curves.scores, np.array([size]))[:, :, 0]
    last = _last(curves.sizes, curves.scores)
    trials, warnings = _backtests(curves), _odd(curves)
    for prior in priors:
        trial = _on_prior(prior, last.min() / size)
        if trial:
            trials.append(trial)
        else:
            warnings.append(
                f"{prior.where} says nothing: it has no {MIN_BASES} bases with {MIN_SIZES} sizes "
                f"up to {last.min() / size:.3g} of its largest."
            )
    unexplained = [t.unexplained for t in trials if t.unexplained is not None]
    ranked = _inverse(np.mean(unexplained, axis=0) if unexplained else np.ones(len(known))) @ known
    squares = [t.squares for t in trials]
    weights = _inverse(np.mean(squares, axis=0) if squares else np.ones(len(known)))
    level = weights @ known
    middle = ranked - ranked.mean() + level.mean()
    noise = float(np.mean([t.noise for t in trials])) if trials else 0.0
    apart = np.sqrt(noise) * np.log2(size / last)
    half = DEVIATIONS * np.sqrt(weights @ np.square(known - level) + apart**2)
    return Forecast(
        np.exp(middle), np.exp(middle - half), np.exp(middle + half), apart, tuple(warnings)
    )


def predict(curves: Curves, size: float | None = None, priors: Sequence[Curves] = ()) -> Forecast:
    """Return what every base scores at a size: measured where it is, else predicted.

    Bases that are measured there serve as a prior for the others.

    Args:
        curves: what is known.
        size: number of examples; default: the largest column, measured or not.
        priors: curves of other tables.

    Raises:
        DataError: if no base is left to predict, one that is has fewer than two sizes below, or a
            prior is not complete or the table itself.
    """
    import numpy as np

    for prior in priors:
        check_prior(prior, curves)
    size = curves.sizes[-1] if size is None else size
    column = np.flatnonzero(curves.sizes == size)
    known = curves.scores[:, column[0]] if len(column) else np.full(len(curves.names), np.nan)
    finished = ~np.isnan(known)
    open_ = np.flatnonzero(~finished)
    if not len(open_):
        law = f"a base must be left to predict at {size:.15g}, but all are measured there"
        raise DataError(Problem(law, curves.where, "Give --to another size, or --budget."))
    own = curves.up_to(size).take(np.flatnonzero(finished))
    told = forecast(
        curves.take(open_).up_to(np.nextafter(size, 0)),
        size,
        [*priors, *([own] if finished.sum() >= MIN_BASES else [])],
    )
    predicted, lower, upper = known.copy(), known.copy(), known.copy()
    apart = np.zeros(len(known))
    predicted[open_], lower[open_], upper[open_] = told.predicted, told.lower, told.upper
    apart[open_] = told.apart
    return Forecast(predicted, lower, upper, apart, told.warnings)


def laws(sizes: Floats, scores: Floats, targets: Floats, *, shared: bool = True) -> Floats:
    """Return what each law, fitted to the sizes seen, says at others.

    Args:
        sizes: float64 [sizes], rising.
        scores: float64 [bases, sizes]; NaN where not measured.
        targets: float64 [targets], sizes.
        shared: whether bases share the floor, a part of the lowest score seen in the table; else
            each has its own, the same part of its own lowest.

    Returns:
        log scores, float64 [laws, bases, targets]; NaN for bases with fewer than two sizes.
    """
    import numpy as np

    parts = (np.arange(GRID) + 0.5) / GRID
    measured = ~np.isnan(scores)
    lowest = np.full(len(scores), np.nanmin(scores)) if shared else np.nanmin(scores, axis=1)
    floors = (parts[:, None] * lowest)[:, None, :, None]  # [floors, 1, bases, 1]
    weight = np.where(measured, sizes / sizes[-1], 0.0)
    weight = np.where(measured.sum(axis=1, keepdims=True) < MIN_SIZES, np.nan, weight)
    weight /= weight.sum(axis=1, keepdims=True)
    powers = ((sizes / sizes[-1]) ** parts[:, None])[:, None, :]  # [exponents, 1, sizes]
    ahead = ((targets / sizes[-1]) ** parts[:, None])[:, None, :]
    line = np.where(measured, 1 / (np.where(measured, scores, np.inf) - floors), 0.0)
    mean_power = (weight * powers).sum(axis=-1, keepdims=True)  # [exponents, bases, 1]
    away = weight * (powers - mean_power)
    mean = (weight * line).sum(axis=-1, keepdims=True)  # [floors, 1, bases, 1]
    slope = (away * line).sum(axis=-1, keepdims=True)
    slope = slope / (away * powers).sum(axis=-1, keepdims=True)  # [floors, exponents, bases, 1]
    # More data never hurts: a rise is noise, as no law has one.
    reached = mean + np.maximum(slope, 0.0) * (ahead - mean_power)
    lowest_reached = mean * SMALLEST
    logs: Floats = np.log(floors + 1 / np.maximum(reached, lowest_reached))
    return logs.reshape(GRID * GRID, len(scores), len(targets))


# --- where the outcome is known ----------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """How the laws did where the outcome is known.

    Attributes:
        squares: float64 [laws], mean squared error of the log score a doubling.
        noise: variance over the bases of the error a doubling, which is what sets bases apart.
        unexplained: float64 [laws], 1 − r² of outcome and forecast, and what as many bases leave to
            chance; none of sizes seen, which are too near to say which law orders bases best.
    """

    squares: Floats
    noise: float
    unexplained: Floats | None = None


def _backtests(curves: Curves) -> list[Trial]:
    """Return one trial, of sizes seen told from the sizes below them; none without three sizes."""
    import numpy as np

    squares, noise = [], []
    for seen in range(MIN_SIZES, len(curves.sizes)):
        sizes, later = curves.sizes[:seen], curves.sizes[seen:]
        off = laws(sizes, curves.scores[:, :seen], later) - np.log(curves.scores[:, seen:])
        off /= np.log2(later / _last(sizes, curves.scores[:, :seen])[:, None])
        for i in range(len(later)):
            there = ~np.isnan(off[0, :, i])
            if there.any():
                squares.append((off[:, there, i] ** 2).mean(axis=1))
                noise.append(np.var(off[:, there, i].mean(axis=0)))
    return [Trial(np.mean(squares, axis=0), float(np.mean(noise)))] if squares else []


def _on_prior(prior: Curves, part: float) -> Trial | None:
    """Return a trial of the largest size of a table, told from the sizes up to a part of it."""
    import numpy as np

    largest = prior.sizes[-1]
    seen = prior.up_to(largest * part * (1 + ROUNDING))
    enough = np.flatnonzero((~np.isnan(seen.scores)).sum(axis=1) >= MIN_SIZES)
    if len(enough) < MIN_BASES:
        return None
    outcome, seen = np.log(prior.scores[enough, -1]), seen.take(enough)
    told = laws(seen.sizes, seen.scores, prior.sizes[-1:])[:, :, 0]
    off = (told - outcome) / np.log2(largest / _last(seen.sizes, seen.scores))
    unexplained = np.nan_to_num([1 - pearson(outcome, law) ** 2 for law in told], nan=1.0)
    # Among few bases a correlation of nearly 1 is chance, and must not rule.
    unexplained += 1 / len(enough)
    return Trial((off**2).mean(axis=1), float(np.var(off.mean(axis=0))), unexplained)


def _odd(curves: Curves) -> list[str]:
    """Return a warning where most curves rise, as accuracies do."""
    import numpy as np

    rows = [row[~np.isnan(row)] for row in curves.scores]
    if np.mean([row[-1] > row[0] for row in rows]) <= 0.5:
        return []
    return [
        f"most curves of {curves.where} rise with more data; lower must be better. If these are "
        "accuracies, give 1 − accuracy."
    ]


def _last(sizes: Floats, scores: Floats) -> Floats:
    """Return the last size at which each base is measured, float64 [bases]; the first for none."""
    import numpy as np

    measured = ~np.isnan(scores)
    last: Floats = sizes[(measured * np.arange(len(sizes))).max(axis=1)]
    return last


def _inverse(errors: Floats) -> Floats:
    """Return weights that sum to 1, in inverse proportion to errors."""
    import numpy as np

    weights: Floats = 1 / np.maximum(errors, SMALLEST)
    weights /= weights.sum()
    return weights
