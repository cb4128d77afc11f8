"""What to run, given what is predicted: pure functions of predictive quantiles and costs.

A prediction here is a row of quantiles, made of intervals at several levels. Scores count upwards:
more is better. Runs compete where they answer the same question, such as the same evaluation set;
what is best is asked for every question apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpred.meta.model import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

KINDS = GO, NO_GO, PROBE = "go", "no-go", "probe-more"
LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)  # of the intervals that a distribution is made of
DRAWS = 400  # of every run's score, to estimate the expected best
LEAST = 1e-4  # expected gain for which a run is worth naming
STARTS = 5  # greedy choices are begun with
SHORTLIST = 2000  # candidates that a choice under a budget looks at, the likeliest best


@dataclass(frozen=True)
class Quantiles:
    """Predictive distributions of runs' scores.

    Attributes:
        shares: float64 [quantiles], rising, within 0 and 1.
        values: float64 [rows, quantiles], finite, not falling along a row.
    """

    shares: Floats
    values: Floats


def quantiles(predictions: Sequence[Prediction]) -> Quantiles:
    """Return the distributions that intervals at `LEVELS` stand for.

    Levels that the calibration is too small for, whose ends are infinite, are left out.

    Args:
        predictions: `MetaModel.intervals` at `LEVELS`.
    """
    import numpy as np

    known = [
        (level, each)
        for level, each in zip(LEVELS, predictions, strict=True)
        if np.isfinite(each.lower).all() and np.isfinite(each.upper).all()
    ]
    levels = np.array([level for level, _ in known])
    shares = np.concatenate([(1 - levels[::-1]) / 2, [0.5], (1 + levels) / 2])
    lower = [each.lower for _, each in reversed(known)]
    upper = [each.upper for _, each in known]
    values = np.column_stack([*lower, predictions[0].mean, *upper])
    return Quantiles(shares, np.maximum.accumulate(values, axis=1))


def mirrored(found: Quantiles) -> Quantiles:
    """Return the distributions of minus the target, for a target of which less is better."""
    return Quantiles(1 - found.shares[::-1], -found.values[:, ::-1])


def chance(found: Quantiles, threshold: float) -> Floats:
    """Return float64 [rows], the probability that a run scores at least `threshold`.

    Between quantiles the distribution is a line; beyond the outermost it is taken to end, half of
    what is left lying there: nothing is ever certain.
    """
    import numpy as np

    below = np.array([np.interp(threshold, row, found.shares) for row in found.values])
    low, high = float(found.shares[0]), float(found.shares[-1])
    below = np.where(threshold < found.values[:, 0], low / 2, below)
    below = np.where(threshold > found.values[:, -1], (1 + high) / 2, below)
    chances: Floats = 1 - below
    return chances


@dataclass(frozen=True)
class Screening:
    """What to do with each of many runs, and what that saves and risks.

    Attributes:
        decisions: `go`, `no-go` or `probe-more`, one a run.
        chances: float64 [rows], probability that a run reaches the threshold.
        saved_seconds: of runs not to start; those to probe further are not counted.
        saved_share: the same, of the seconds of all runs.
        lost: number of runs not to start that would reach the threshold, expected.
        lost_share: the same, of all that would; NaN if none would.
        wasted: number of runs to start that would not reach it, expected.
    """

    decisions: tuple[str, ...]
    chances: Floats
    saved_seconds: float
    saved_share: float
    lost: float
    lost_share: float
    wasted: float


def screen(
    found: Quantiles, threshold: float, seconds: Floats, *, risk: float, known: Sequence[bool]
) -> Screening:
    """Decide for each run whether to start it.

    Args:
        found: predictions.
        threshold: score that a run must reach to be worth it.
        seconds: float64 [rows], what each run is expected to take.
        risk: start a run if it misses the threshold with at most this probability; do not if it
            reaches it with at most this one; probe in between. Below 0.5.
        known: whether a run lies within what the model was trained on; others are never refused on
            its word alone, but probed.
    """
    import numpy as np

    chances = chance(found, threshold)
    decisions = [
        GO if there >= 1 - risk and inside else NO_GO if there <= risk and inside else PROBE
        for there, inside in zip(chances, known, strict=True)
    ]
    refused = np.array([decision == NO_GO for decision in decisions])
    started = np.array([decision == GO for decision in decisions])
    lost, all_good = float(chances[refused].sum()), float(chances.sum())
    saved, total = float(seconds[refused].sum()), float(seconds.sum())
    return Screening(
        tuple(decisions),
        chances,
        saved,
        saved / total if total else 0.0,
        lost,
        lost / all_good if all_good else float("nan"),
        float((1 - chances[started]).sum()),
    )


@dataclass(frozen=True)
class Choice:
    """Runs to make within a budget.

    Attributes:
        rows: int64, the runs, the one that adds most for its cost first.
        best: float64, expected best score, the mean over questions, after each of them.
        seconds: of all of them together.
    """

    rows: Rows
    best: Floats
    seconds: float


def recommend(
    found: Quantiles,
    seconds: Floats,
    budget: float,
    *,
    questions: Rows,
    so_far: Floats,
    seed: int = 0,
) -> Choice:
    """Return a set of runs with a high expected best score that a budget allows.

    It need not spend all: runs that add less than `LEAST` are left out.

    The expected best of a set is monotone and submodular, so that a greedy set by gain per second,
    or the best single run where that is better, reaches at least (1 - 1/e)/2 of the optimum
    (Leskovec et al., 2007). Here the best of several greedy sets is taken: cost counting in full,
    by its root and not at all, and begun with each of the `STARTS` runs that add most. Runs' scores
    are drawn independently.

    Args:
        found: predictions.
        seconds: float64 [rows], above 0.
        budget: seconds.
        questions: int64 [rows], from 0, the question that each run answers.
        so_far: float64 [questions], best score there is already.
        seed: of the draws.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    fits = np.flatnonzero(seconds <= budget)
    likely = found.values[fits].mean(axis=1) + found.values[fits].std(axis=1)
    rows = np.sort(fits[np.argsort(-likely, kind="stable")[:SHORTLIST]])
    if not len(rows):
        return Choice(rows, np.empty(0), 0.0)
    drawn = np.empty((DRAWS, len(rows)))
    for place, row in enumerate(rows):
        drawn[:, place] = np.interp(draw.random(DRAWS), found.shares, found.values[row])
    offer = _Offer(drawn, seconds[rows], questions[rows], so_far)
    first = np.argsort(-offer.gains(np.tile(so_far, (DRAWS, 1))), kind="stable")[:STARTS]
    tries = [_greedy(offer, budget, [], weight) for weight in (1.0, 0.5, 0.0)]
    tries += [_greedy(offer, budget, [int(start)], 1.0) for start in first]
    chosen, best = max(tries, key=lambda each: each[1][-1] if each[1] else -np.inf)
    return Choice(rows[chosen], np.array(best), float(offer.seconds[chosen].sum()))


@dataclass(frozen=True)
class _Offer:
    """Runs to choose from: scores drawn [draws, rows], seconds, questions, and the best so far."""

    drawn: Floats
    seconds: Floats
    questions: Rows
    so_far: Floats

    def gains(self, best: Floats) -> Floats:
        """Return what each run adds to the best [draws, questions] in the mean, float64 [rows]."""
        import numpy as np

        gained: Floats = np.maximum(self.drawn - best[:, self.questions], 0.0).mean(axis=0)
        return gained


def _greedy(
    offer: _Offer, budget: float, first: list[int], weight: float
) -> tuple[list[int], list[float]]:
    """Return places of runs, each the one that adds most for its seconds to the power of `weight`.

    Also the expected best after each of them.
    """
    import numpy as np

    best = np.tile(offer.so_far, (DRAWS, 1))
    price = offer.seconds**weight
    free = np.ones(len(price), dtype=bool)
    chosen: list[int] = []
    expected: list[float] = []
    left, waiting = budget, list(first)
    while True:
        gain = np.where(free & (offer.seconds <= left), offer.gains(best), 0.0)
        pick = waiting.pop() if waiting else int(np.argmax(gain / price))
        if gain[pick] < LEAST:
            return chosen, expected
        chosen.append(pick)
        free[pick] = False
        left -= float(offer.seconds[pick])
        question = offer.questions[pick]
        best[:, question] = np.maximum(best[:, question], offer.drawn[:, pick])
        expected.append(float(best.mean()))
