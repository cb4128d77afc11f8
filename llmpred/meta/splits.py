"""Which rows are fitted on and which are tested: the question that a figure answers.

A random split asks about another run on known datasets; a split by group, about a new dataset (or
base, or task: whatever the group column names).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to test on; splits of one seed are scored together."""

    seed: int
    train: Rows
    test: Rows


def random_splits(rows: int, test_size: float, seeds: int) -> list[Split]:
    """Return a split of the rows for each seed from 0, by scikit-learn's `train_test_split`."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    return [
        Split(seed, *train_test_split(np.arange(rows), test_size=test_size, random_state=seed))
        for seed in range(seeds)
    ]


def group_splits(groups: Rows, test_size: float, seeds: int) -> list[Split]:
    """Return a split for each seed, the sorted groups split as `random_splits` splits rows.

    Raises:
        DataError: if there are fewer than two groups.
    """
    import numpy as np

    names = _names(groups)
    made = []
    for parts in random_splits(len(names), test_size, seeds):
        test = np.isin(groups, names[parts.test])
        made.append(Split(parts.seed, np.flatnonzero(~test), np.flatnonzero(test)))
    return made


def group_folds(groups: Rows, folds: int, seeds: int) -> list[Split]:
    """Return all folds of groups for each seed; every row is tested once a seed.

    Args:
        groups: int64 [rows].
        folds: how many; where there are fewer groups, each is a fold.
        seeds: how often the groups are shuffled anew.

    Raises:
        DataError: if there are fewer than two groups.
    """
    import numpy as np

    names = _names(groups)
    made = []
    for seed in range(seeds):
        for test in _dealt(names, min(folds, len(names)), seed):
            tested = np.isin(groups, test)
            made.append(Split(seed, np.flatnonzero(~tested), np.flatnonzero(tested)))
    return made


def fold_numbers(groups: Rows, folds: int, seed: int) -> Rows:
    """Return the fold of each row, 0 to `folds` - 1, rows of a group in the same.

    Large groups are dealt first, so that folds are of similar size; equal ones in random order.

    Args:
        groups: int64 [rows].
        folds: how many, at most as many as there are groups.
        seed: of the order.
    """
    import numpy as np

    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=np.int64)
    fold_of = np.empty(len(names), dtype=np.int64)
    if sizes.max() == sizes.min():
        fold_of[order] = np.arange(len(names)) % folds
        return fold_of[place]
    for group in order:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return fold_of[place]


def _dealt(names: Rows, folds: int, seed: int) -> Sequence[NDArray[Any]]:
    import numpy as np

    return np.array_split(np.random.default_rng(seed).permutation(names), folds)


def _names(groups: Rows) -> Rows:
    import numpy as np

    names = np.unique(groups)
    if len(names) < 2:
        raise DataError(
            Problem(
                "a split by group needs at least 2 groups, but all rows are of one",
                fix="Name another --group, or use --split random.",
            )
        )
    return names
