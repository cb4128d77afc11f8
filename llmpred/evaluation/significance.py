"""Whether a difference between two runs is more than chance, and how sure a share is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, InputError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

DRAWS = 10_000
DRAWN = 4_000_000  # examples held at once while resampling
SHOWN = 3  # ids in an error


@dataclass(frozen=True)
class McNemar:
    """Two runs on the same examples, compared where one of them is right and the other wrong.

    Attributes:
        b: examples that only the first has right.
        c: examples that only the second has right.
        p: of the exact conditional test, two-sided.
        mid_p: less conservative, and nearly always below its level; the better of the two for few
            examples (Fagerland, Lydersen & Laake, 2013).
    """

    b: int
    c: int
    p: float
    mid_p: float


@dataclass(frozen=True)
class Difference:
    """The difference of a statistic between two runs on the same examples.

    Attributes:
        difference: of the first less the second.
        lower, upper: percentile interval.
        p: two-sided, that of the interval: it leaves out 0 where p is below 1 - level.
        level: of the interval.
        draws: resamples that count.
        undefined: resamples on which the statistic is not defined, as a correlation with what does
            not vary; they are left out.
    """

    difference: float
    lower: float
    upper: float
    p: float
    level: float
    draws: int
    undefined: int


def paired(ids_a: Sequence[str], ids_b: Sequence[str]) -> Rows:
    """Return int64 [n], the row of the second run for each row of the first.

    Ids of data that bring none are places in the evaluation set, which only mean the same examples
    where both runs have the same evaluation set (`hashes` of their records).

    Raises:
        DataError: if the ids are not the same set, or one occurs twice.
    """
    import numpy as np

    places = {identity: i for i, identity in enumerate(ids_b)}
    problems = []
    for name, ids in (("first", ids_a), ("second", ids_b)):
        if len(set(ids)) < len(ids):
            law = f"an example has one answer in a run, but ids of the {name} occur more than once"
            problems.append(Problem(law, "", "Give every example an id of its own."))
    only = {"first": set(ids_a) - set(ids_b), "second": set(ids_b) - set(ids_a)}
    for name, alone in only.items():
        if alone:
            some = ", ".join(sorted(alone)[:SHOWN]) + (", …" if len(alone) > SHOWN else "")
            law = f"two runs are compared on the same examples, but the {name} alone has {some}"
            fix = "Compare runs with the same evaluation data."
            problems.append(Problem(f"{law} (examples: {len(alone)})", "", fix))
    if problems:
        raise DataError(problems)
    return np.array([places[identity] for identity in ids_a], np.int64)


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """Return McNemar's test of equal accuracy (1947), by the exact binomial distribution.

    Args:
        right_a: bool [n], whether the first run has each example right.
        right_b: bool [n], likewise of the second; see `paired`.

    Raises:
        DataError: if they differ in length, or are empty.
    """
    import numpy as np
    from scipy.stats import binom, binomtest

    first, second = _same_length(right_a, right_b)
    first, second = first.astype(bool), second.astype(bool)
    b, c = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    if b == c == 0:
        return McNemar(0, 0, 1.0, 1.0)
    p = float(binomtest(b, b + c, 0.5).pvalue)
    # Half the probability of what was seen, on one side where both are the same.
    seen = float(binom.pmf(b, b + c, 0.5))
    return McNemar(b, c, p, p - (seen / 2 if b == c else seen))


def paired_bootstrap(
    a_values: ArrayLike,
    b_values: ArrayLike,
    statistic: Callable[[Any, Rows], float] | None = None,
    *,
    n: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return the difference between two runs, with both resampled by the same examples.

    The p-value is that of the percentile interval: twice the share of resamples on the other side
    of 0, this one counted in (Efron & Tibshirani, 1993, ch. 13 and 15; for runs of language models
    Koehn, 2004).

    Args:
        a_values: [rows, …], what the first run has of each example.
        b_values: [rows, …], likewise of the second, in the same order; see `paired`.
        statistic: of values and int64 [rows], the rows drawn, such as
            `lambda values, rows: macro_f1(targets[rows], values[rows])`; the mean if None.
        n: how many resamples.
        level: of the interval.
        seed: of the draws.

    Raises:
        DataError: if the runs differ in length, are empty, or the statistic is not defined on them.
    """
    import numpy as np

    first, second = _same_length(a_values, b_values)
    rows = len(first)
    draw = np.random.default_rng(seed)
    if statistic is None:
        apart = first.astype(float) - second.astype(float)
        difference = float(apart.mean())
        drawn = _means(apart, n, draw)
    else:
        everything = np.arange(rows)
        difference = float(statistic(first, everything) - statistic(second, everything))
        drawn = np.empty(n)
        for i in range(n):
            chosen = draw.integers(0, rows, rows)
            drawn[i] = statistic(first, chosen) - statistic(second, chosen)
    return drawn_difference(difference, drawn, level)


def drawn_difference(difference: float, drawn: Floats, level: float = 0.95) -> Difference:
    """Return a difference with the interval and the p-value that its resamples give.

    Args:
        difference: on all rows.
        drawn: float64 [draws], on resamples; not finite where the statistic is not defined.
        level: of the interval.

    Raises:
        DataError: if the statistic is not defined.
    """
    import numpy as np

    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(difference) or not len(known):
        law = "the statistic is a finite number on the examples of both runs, but it is not defined"
        raise DataError(Problem(law))
    lower, upper = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    below, above = int(np.sum(known <= 0)), int(np.sum(known >= 0))
    p = min(1.0, 2 * (1 + min(below, above)) / (1 + len(known)))
    undefined = len(drawn) - len(known)
    return Difference(difference, float(lower), float(upper), p, level, len(known), undefined)


def _means(values: Floats, n: int, draw: np.random.Generator) -> Floats:
    """Return float64 [n], the means of resamples."""
    import numpy as np

    rows = len(values)
    kinds, counts = np.unique(values, return_counts=True)
    if 10 * len(kinds) <= rows:  # how often each kind is drawn is quicker to draw, and all it takes
        return np.asarray(draw.multinomial(rows, counts / rows, n) @ kinds / rows)
    size = max(1, DRAWN // rows)
    sizes = [min(size, n - start) for start in range(0, n, size)]
    parts = [values[draw.integers(0, rows, (some, rows))].mean(axis=1) for some in sizes]
    return np.concatenate(parts)


def holm(pvalues: ArrayLike) -> Floats:
    """Return float64 [tests], p-values adjusted for being several (Holm, 1979), in their order.

    Those of at most α are significant with the probability of any false one below α.

    Raises:
        InputError: if one is not in [0, 1].
    """
    import numpy as np

    p = np.asarray(pvalues, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError(Problem(f"a p-value is in [0, 1], but got {p.tolist()}"))
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def wilson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share (Wilson, 1927), which holds for few examples too.

    Args:
        k: how many of them, such as right answers.
        n: how many there are.
        level: of the interval.

    Raises:
        InputError: if k is not in 0 … n, or there are none.
    """
    from scipy.stats import binomtest

    if not 0 <= k <= n or n == 0:
        raise InputError(Problem(f"a share is k of n, 0 ≤ k ≤ n and n ≥ 1, but got {k} of {n}"))
    found = binomtest(k, n).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def _same_length(one: ArrayLike, other: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    first, second = np.asarray(one), np.asarray(other)
    if len(first) != len(second) or not len(first):
        law = f"two runs have the same examples, one at least, but got {len(first)} and"
        raise DataError(Problem(f"{law} {len(second)}", "", "Align them by `paired`."))
    return first, second
