"""What is odd about rows of runs: some come twice, a column gives the outcome away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

LEAK = 0.995  # rank correlation with the target from which on a column is suspected of being it
BY_CHANCE = 0.01  # probability of two rows to have the same target, from which twins prove little
LEAK_ROWS = 50_000  # of so many rows at most it is computed, …
LEAK_LEAST = 20  # … and of so many at least


def row_hashes(columns: Iterable[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Return a 64-bit hash a row; missing cells are alike."""
    import numpy as np

    mixed = np.zeros(rows, dtype=np.uint64)
    for values in columns:
        if values.dtype.kind == "f":
            numbers = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, one zero
        else:
            codes: dict[str | None, int] = {}
            numbers = np.fromiter((codes.setdefault(v, len(codes)) for v in values), float, rows)
        bits = np.ascontiguousarray(numbers).view(np.uint64)
        # The finaliser of splitmix64 (Steele et al., 2014), over what came before.
        mixed = (mixed ^ bits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def alike(hashes: NDArray[Any]) -> Rows:
    """Return for each row the first row with the same hash."""
    import numpy as np

    _, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    return first[place].astype(np.int64)


def joined(groups: Rows, twins: Rows, target: Floats) -> Rows:
    """Return the groups, those that share rows joined under the lowest of their numbers.

    Where scores are coarse, unlike datasets have twins by chance too: there two groups are joined
    if more than half of the rows of the smaller one are twins of rows of the other.

    Args:
        groups: int64 [rows], numbers from 0.
        twins: int64 [rows], the first row that is the same.
        target: float64 [rows].
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(groups.max()) + 1
    counts = np.unique(target, return_counts=True)[1].astype(np.float64)
    chance = (counts * (counts - 1)).sum() / (len(target) * max(1, len(target) - 1))
    rows = np.unique(np.column_stack([groups, twins]), axis=0)  # each once a group
    sizes = np.bincount(rows[:, 0], minlength=size)
    if chance < BY_CHANCE or sizes.max(initial=0) == 1:
        links = coo_array((np.ones(len(groups)), (groups, groups[twins])), shape=(size, size))
    else:
        ones = np.ones(len(rows), dtype=np.int32)
        has = coo_array((ones, (rows[:, 0], rows[:, 1])), shape=(size, len(groups))).tocsr()
        shared = (has @ has.T).tocoo()
        alike = shared.data * 2 > np.minimum(sizes[shared.row], sizes[shared.col])
        places = (shared.row[alike], shared.col[alike])
        links = coo_array((np.ones(len(places[0])), places), shape=(size, size))
    count, component = connected_components(links, directed=False)
    lowest = np.full(count, size, dtype=np.int64)
    np.minimum.at(lowest, component, np.arange(size))
    joined: Rows = lowest[component][groups]
    return joined


def leaks(features: Mapping[str, NDArray[Any]], outcome: Floats, target: str) -> list[str]:
    """Return a warning for each column that ranks the rows as the target does."""
    import numpy as np
    from scipy.stats import rankdata

    rows = np.arange(len(outcome))
    if len(rows) > LEAK_ROWS:
        rows = np.random.default_rng(0).choice(rows, LEAK_ROWS, replace=False)
    ranks = rankdata(outcome[rows])
    warnings = []
    for name, values in features.items():
        if values.dtype.kind != "f":
            continue
        known = ~np.isnan(values[rows])
        column = values[rows][known]
        if known.sum() < LEAK_LEAST or len(np.unique(column)) < 10:
            continue
        other = ranks[known]
        if np.ptp(other) == 0:
            continue
        correlation = abs(float(np.corrcoef(rankdata(column), other)[0, 1]))
        if correlation >= LEAK:
            warnings.append(
                f"`{name}` ranks the rows as `{target}` does (Spearman {correlation:.4f}): if it "
                f"is known only after a run, --ignore it, else every figure is too good."
            )
    return warnings
