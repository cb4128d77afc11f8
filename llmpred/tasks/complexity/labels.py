"""Labels of how long a model thinks: bins of counts, and clusters of prompts and counts.

Labels are numbered from 0 by ascending counts. Bins are closed on the right and the first one on
both sides, as pandas has them; the outer bins take what lies beyond them, so no row is ever lost.

Nine of the ten variables that a cluster is made of describe the prompt alone. Such labels can be
read off the prompt without knowing anything about thinking: see `leakage`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmpred.errors import DataError, Problem
from llmpred.spec.run import ClusterSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Flags = NDArray[np.bool_]

Outliers = Literal["keep", "remove"]

# Edges that were published with their methods, for counts of thinking units:
BIN_INDEX_EDGES = (0, 1, 8, 16, 25, 35, 56, 81, 140, 239, 3000)  # regression on the bin's number
WEIGHTED_EDGES = (0, 1, 4, 8, 17, 28, 41, 66, 98, 200, 1000)  # the class-weighted classifier
# The published classes of "wait" counts are 1, 2, 3, 4, 5 to 8 and more. A third of real answers
# never say it, so 0 has a bin of its own before them. The ends only have to lie outside.
WAIT_EDGES = (-1, 0, 1, 2, 3, 4, 8, 1000)
NAMED_EDGES = {"bin_index": BIN_INDEX_EDGES, "weighted": WEIGHTED_EDGES, "wait": WAIT_EDGES}

PROMPT_FEATURES = 9  # columns of a prompt's features, the six flags last
FLAGS = ("explain", "creative", "calculate", "list", "why", "how")
PLAIN, MIXED = "plain", "mixed"
COMPLEXITIES = ("low", "medium", "high")

BINS = 10  # of equal width or size, unless told otherwise
K: dict[Outliers, int] = {"keep": 10, "remove": 8}  # as published
AUTO_K = range(2, 13)
OUTLIER = 130.0  # counts above it are outliers, as published …
OUTLIERS_AT_MOST = 0.1  # … unless they are none, or more than this share of the rows;
OUTLIER_QUANTILE = 0.99  # then what lies above this quantile is
STARTS = 10  # of K-means
SAMPLE = 2_000  # rows that a silhouette is taken on


# --- bins ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edges:
    """Where bins begin and end.

    Attributes:
        edges: of K bins, K + 1 ascending numbers.
        merged: how many of the bins that were asked for fell together with another.
    """

    edges: tuple[float, ...]
    merged: int = 0


def equal_width_edges(counts: Floats, bins: int) -> Edges:
    """Return the edges of bins of equal width from the least to the largest count.

    They are those of `pandas.cut`, which moves the first one down by a thousandth of the range.
    Of counts with a heavy tail nearly all fall into the first bin.

    Args:
        counts: float64 [rows].
        bins: how many.

    Raises:
        DataError: if counts do not hold.
    """
    import pandas as pd

    _, edges = pd.cut(checked(counts), bins, retbins=True)
    return Edges(tuple(edges.tolist()))


def quantile_edges(counts: Floats, bins: int) -> Edges:
    """Return the edges of bins that hold equally many rows, as far as ties let them.

    They are those of `pandas.qcut`; quantiles that are the same count make one edge. Counts that
    are all the same make one bin around them.

    Args:
        counts: float64 [rows].
        bins: how many; fewer come out where `merged` is above 0.

    Raises:
        DataError: if counts do not hold.
    """
    import pandas as pd

    counts = checked(counts)
    if counts.min() == counts.max():
        return Edges(equal_width_edges(counts, 1).edges, merged=bins - 1)
    _, edges = pd.qcut(counts, bins, retbins=True, duplicates="drop")
    return Edges(tuple(edges.tolist()), merged=bins + 1 - len(edges))


def assigned(counts: Floats, edges: Sequence[float]) -> Rows:
    """Return the bin of each count, int64 [rows] from 0.

    A count at an edge belongs to the bin below it; counts beyond the ends go to the outer bins.

    Args:
        counts: float64 [rows].
        edges: of K bins, K + 1 ascending numbers.

    Raises:
        DataError: if counts do not hold.
    """
    return binned(checked(counts), edges)


def binned(values: ArrayLike, edges: ArrayLike) -> Rows:
    """Return the bin of each value, int64 [n], as `assigned` does, but of any numbers."""
    import numpy as np

    inner = np.asarray(edges, float)[1:-1]
    return np.searchsorted(inner, np.asarray(values, float), side="left").astype(np.int64)


def outside(counts: Floats, edges: Sequence[float]) -> tuple[int, int]:
    """Return how many counts lie below the first edge, and how many above the last."""
    counts = checked(counts)
    return int((counts < edges[0]).sum()), int((counts > edges[-1]).sum())


def majority(labels: Rows) -> tuple[int, float, float]:
    """Return the commonest label, its share of the rows, and the macro-F1 of always saying it.

    The share is the accuracy of that answer; its macro-F1, over the labels that occur, shows how
    little it is worth.
    """
    import numpy as np

    rows = np.bincount(labels)
    share = float(rows.max() / rows.sum())
    return int(rows.argmax()), share, 2 * share / (1 + share) / int((rows > 0).sum())


def checked(counts: Any) -> Floats:
    """Return counts as float64 [rows].

    Raises:
        DataError: if there are none, or one is no finite number of at least 0.
    """
    import numpy as np

    found: Floats = np.asarray(counts, dtype=np.float64)
    if found.ndim != 1 or not len(found):
        law = f"counts must be one number for each of some rows, but their shape is {found.shape}"
        raise DataError(Problem(law, "counts"))
    bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(bad):
        law = f"counts must be finite and at least 0, but {len(bad):,} of {len(found):,} are not"
        first = f"row {bad[0] + 1} has {found[bad[0]]:g}"
        raise DataError(Problem(f"{law}: {first}", "counts", "Mend these rows, or leave them out."))
    return found


# --- clusters --------------------------------------------------------------------------------


def fit_clusters(
    counts: Floats,
    features: Floats,
    *,
    k: int | Literal["auto"],
    outliers: Outliers,
    seed: int = 0,
) -> ClusterSpec:
    """Group rows by counts and features of the prompt.

    Equal rows give equal clusters, in whatever order they come: they are sorted first.

    Args:
        counts: float64 [rows].
        features: float64 [rows, 9], of the prompts, in the order of `tags.PROMPT_FEATURES`.
        k: how many clusters (published: `K`); `auto` takes the one of `AUTO_K` with the best
            `score` of `quality`, the smallest of equals.
        outliers: `remove` leaves out rows with counts above a limit: 130 as published; where that
            is none of them, or more than a tenth as in other units of counting, above their 0.99
            quantile.
        seed: of the starts of K-means.

    Raises:
        DataError: if counts or features do not hold, or fewer than k rows differ.
    """
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    rows = _variables(counts, features)
    limit = _limit(rows[:, 0]) if outliers == "remove" else None
    if limit is not None:
        rows = rows[rows[:, 0] <= limit]
    rows = rows[np.lexsort(rows.T)]
    distinct = len(np.unique(rows, axis=0))
    if distinct < (least := 3 if k == "auto" else k):  # a silhouette needs a row more than clusters
        law = f"{least} or more rows must differ to be clustered, but {distinct} do"
        raise DataError(Problem(law, "k", "Ask for fewer clusters, or bring more rows."))
    scaler = StandardScaler().fit(rows)
    center, scale = tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist())
    scaled = scaler.transform(rows)

    def grouped(some: int) -> ClusterSpec:
        return ClusterSpec(
            center=center, scale=scale, centroids=_centroids(scaled, some, seed), limit=limit
        )

    if k != "auto":
        return grouped(k)
    candidates = [grouped(some) for some in AUTO_K if some < distinct]
    return max(candidates, key=lambda each: quality(rows[:, 0], rows[:, 1:], each)["score"])


def nearest(counts: Floats, features: Floats, clusters: ClusterSpec) -> Rows:
    """Return the nearest cluster of each row, int64 [rows]; of rows beyond the limit, too.

    Args:
        counts: float64 [rows].
        features: float64 [rows, 9].
        clusters: to choose from; of equally near ones the first.

    Raises:
        DataError: if counts or features do not hold.
    """
    import numpy as np

    scaled = _scaled(_variables(counts, features), clusters)
    squares = [((scaled - centroid) ** 2).sum(axis=1) for centroid in clusters.centroids]
    found: Rows = np.argmin(squares, axis=0)
    return found


def beyond(counts: Floats, clusters: ClusterSpec) -> Flags:
    """Return which rows are left out of training, bool [rows]: those above the limit."""
    import numpy as np

    limit = math.inf if clusters.limit is None else clusters.limit
    return np.greater(checked(counts), limit)


def quality(counts: Floats, features: Floats, clusters: ClusterSpec) -> dict[str, float]:
    """Return how well clusters divide the rows within their limit.

    Args:
        counts: float64 [rows].
        features: float64 [rows, 9].
        clusters: of these rows, or of others.

    Returns:
        `silhouette`, mean over at most `SAMPLE` rows, evenly taken by counts (Rousseeuw, 1987), 0
        where they are all in one cluster or each in one of its own; `balance`, entropy of the
        clusters' shares of the rows over that of equal shares, so 1 if all are equally large and
        near 0 if one has nearly all; `score`, their product.
    """
    import numpy as np
    from scipy.stats import entropy
    from sklearn.metrics import silhouette_score

    rows = _variables(counts, features)
    rows = rows[~beyond(rows[:, 0], clusters)]
    rows = rows[np.lexsort(rows.T[::-1])]
    labels = nearest(rows[:, 0], rows[:, 1:], clusters)
    k = len(clusters.centroids)
    balance = float(entropy(np.bincount(labels, minlength=k), base=k)) if k > 1 else 1.0
    some = slice(None, None, math.ceil(len(rows) / SAMPLE))
    taken, seen = labels[some], len(np.unique(labels[some]))
    silhouette = 0.0
    if 1 < seen < len(taken):
        silhouette = float(silhouette_score(_scaled(rows[some], clusters), taken))
    return {"silhouette": silhouette, "balance": balance, "score": silhouette * balance}


def _variables(counts: Floats, features: Floats) -> Floats:
    import numpy as np

    counts, features = checked(counts), np.asarray(features, dtype=np.float64)
    shape = (len(counts), PROMPT_FEATURES)
    if features.shape != shape:
        law = f"features of the prompts must have the shape {shape}, but have {features.shape}"
        raise DataError(Problem(law, "features"))
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        law = "features of the prompts must be finite numbers, but some are not"
        raise DataError(Problem(law, f"row {bad[0] + 1}"))
    return np.column_stack([counts, features])


def _limit(counts: Floats) -> float:
    import numpy as np

    if 0 < np.mean(counts > OUTLIER) <= OUTLIERS_AT_MOST:
        return OUTLIER
    return float(np.quantile(counts, OUTLIER_QUANTILE))


def _centroids(scaled: Floats, k: int, seed: int) -> tuple[tuple[float, ...], ...]:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # threads add up in any order, and sums of floats show it
        found = KMeans(k, n_init=STARTS, random_state=seed).fit(scaled)
    return tuple(sorted(tuple(map(float, centroid)) for centroid in found.cluster_centers_))


def _scaled(rows: Floats, clusters: ClusterSpec) -> Floats:
    scaled: Floats = (rows - clusters.center) / clusters.scale
    return scaled


# --- what labels are -------------------------------------------------------------------------


def summary(
    labels: Rows, counts: Floats, features: Floats, *, k: int | None = None
) -> list[dict[str, Any]]:
    """Return what each label holds, in their order, as JSON can hold it.

    Args:
        labels: int64 [rows], from 0.
        counts: float64 [rows].
        features: float64 [rows, 9], of the prompts.
        k: how many labels there are; by default as many as occur.

    Returns:
        A row a label: `label`; `type`, the flags that at least half of its prompts have, commonest
        first (`why+explain`), `plain` if half have none, else `mixed`, None without rows;
        `complexity`, low, medium or high by the third of the labels that it is among; `mean_counts`
        and `median_counts`, None without rows; `n` and `share` of the rows.
    """
    import numpy as np

    rows = _variables(counts, features)
    k = int(labels.max()) + 1 if k is None else k
    table = []
    for label in range(k):
        own = rows[labels == label]
        table.append(
            {
                "label": label,
                "type": _type(own[:, -len(FLAGS) :] > 0) if len(own) else None,
                "complexity": COMPLEXITIES[3 * (2 * label + 1) // (2 * k)],
                "mean_counts": float(own[:, 0].mean()) if len(own) else None,
                "median_counts": float(np.median(own[:, 0])) if len(own) else None,
                "n": len(own),
                "share": len(own) / len(rows),
            }
        )
    return table


def _type(flags: Flags) -> str:
    """Return what most prompts of a label are, from bool [rows, 6]."""
    shares = dict(zip(FLAGS, flags.mean(axis=0), strict=True))
    common = sorted((f for f in FLAGS if shares[f] >= 0.5), key=lambda f: -shares[f])
    if common:
        return "+".join(common)
    return PLAIN if (~flags.any(axis=1)).mean() >= 0.5 else MIXED
