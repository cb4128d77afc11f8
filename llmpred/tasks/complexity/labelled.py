"""A file of prompts with their labels, and what the labels are, as JSON that any program reads."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llmpred.errors import DataError, InputError, Problem, StorageError, nearest
from llmpred.spec.run import ClusterSpec
from llmpred.tasks.complexity import labels as labelling
from llmpred.tasks.complexity.labels import Edges, Outliers
from llmpred.tasks.complexity.leakage import leakage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Row = Mapping[str, Any]

Kind = Literal["equal_width", "quantile", "edges", "clusters"]
Censored = Literal["drop", "keep"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TAKES = {
    "equal_width": ("bins",),
    "quantile": ("bins",),
    "edges": ("edges",),
    "clusters": ("k", "outliers", "seed"),
}
FOLDS = 5  # of the leakage check
MAJORITY = 0.5  # from this share of the rows on, a label is told to make accuracy mislead

CLUSTER_CONFIG, CLUSTER_ROWS = "cluster_config_clean.json", "merged_with_clusters_clean.jsonl"
BIN_CONFIG, BIN_ROWS = "bin_config.json", "merged_with_bins.jsonl"


def label_file(
    file: str,
    out: Path,
    *,
    kind: Kind,
    bins: int | None = None,
    edges: Sequence[float] | None = None,
    k: int | Literal["auto"] | None = None,
    outliers: Outliers | None = None,
    seed: int | None = None,
    count: str = "units",
    censored: Censored = "drop",
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Label the prompts of a file, a row a prompt, and write them and what the labels are.

    Args:
        file: or another source, with `prompt`, and `counts` or a `response` to count.
        out: folder, made if it is not there.
        kind: of the labels.
        bins: of `equal_width` and `quantile`; 10.
        edges: of `edges`.
        k: of `clusters`; 10, or 8 without outliers.
        outliers: of `clusters`; kept. Rows that are removed are not written.
        seed: of `clusters`; 0.
        count: what is counted in responses; see `counting.count`.
        censored: whether responses that were cut off are left out.
        columns: field -> column.

    Returns:
        What the file of the settings holds; see `write_clusters` and `write_bins`. Here it has
        more: `notes`, of what is to be known about the rows and the labels, and `leakage`, of the
        labels off the features of the prompts, None of fewer than 5 rows.

    Raises:
        InputError: if a setting is none of the kind, or is missing.
        DataError: if rows cannot be read or labelled.
        StorageError: if the files cannot be written.
    """
    import numpy as np

    from llmpred.tasks.complexity.tags import PROMPT_FEATURES, prompt_features

    given = {"bins": bins, "edges": edges, "k": k, "outliers": outliers, "seed": seed}
    _check(kind, given)
    rows, notes = _rows(file, count, censored, columns or {})
    counts = np.array([row["counts"] for row in rows])
    features = np.array([[*prompt_features(row["prompt"]).values()] for row in rows])
    if kind == "clusters":
        outliers = outliers or "keep"
        k = labelling.K[outliers] if k is None else k
        found = labelling.fit_clusters(counts, features, k=k, outliers=outliers, seed=seed or 0)
        kept = ~labelling.beyond(counts, found)
        labels = labelling.nearest(counts[kept], features[kept], found)
        notes += _cluster_notes(found, len(kept) - int(kept.sum()))
        told = _told(labels, features[kept], notes)
        return write_clusters(out, found, rows, counts, features, names=PROMPT_FEATURES, more=told)
    made = _edges(kind, counts, bins or labelling.BINS, edges)
    labels = labelling.assigned(counts, made.edges)
    notes += _bin_notes(made, counts)
    told = _told(labels, features, notes)
    return write_bins(out, made, rows, counts, features, kind=kind, more=told)


def write_clusters(
    folder: Path,
    clusters: ClusterSpec,
    rows: Sequence[Row],
    counts: Floats,
    features: Floats,
    *,
    names: Sequence[str],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `cluster_config_clean.json` and `merged_with_clusters_clean.jsonl` into a folder.

    Args:
        folder: made if it is not there.
        clusters: of these rows.
        rows: what JSON can hold; those beyond the limit of the clusters are not written, the
            others get a `label`.
        counts: float64 [rows].
        features: float64 [rows, 9], of the prompts.
        names: of the 9 features.
        more: goes into the settings, too.

    Returns:
        What the first file holds: `variables`, and for each `mean` and `scale`; `centroids`
        [clusters][variables] in standard deviations; `limit` of the counts; `left_out`, rows beyond
        it; silhouette and balance as `quality`; `table`, see `labels.summary`; and `more`.

    Raises:
        StorageError: if the files cannot be written.
    """
    kept = ~labelling.beyond(counts, clusters)
    counts, features = counts[kept], features[kept]
    labels = labelling.nearest(counts, features, clusters)
    config = {
        "kind": "clusters",
        "variables": ["counts", *names],
        "mean": clusters.center,
        "scale": clusters.scale,
        "centroids": clusters.centroids,
        "limit": clusters.limit,
        "left_out": len(rows) - int(kept.sum()),
        "quality": labelling.quality(counts, features, clusters),
        "table": labelling.summary(labels, counts, features, k=len(clusters.centroids)),
        **(more or {}),
    }
    shown = [row for row, keep in zip(rows, kept, strict=True) if keep]
    _write(folder, CLUSTER_CONFIG, config, CLUSTER_ROWS, shown, labels)
    return config


def write_bins(
    folder: Path,
    edges: Edges,
    rows: Sequence[Row],
    counts: Floats,
    features: Floats,
    *,
    kind: Kind,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `bin_config.json` and `merged_with_bins.jsonl` into a folder.

    Args:
        folder: made if it is not there.
        edges: of the bins.
        rows: what JSON can hold; each gets a `label`.
        counts: float64 [rows].
        features: float64 [rows, 9], of the prompts.
        kind: how the edges were chosen.
        more: goes into the settings, too.

    Returns:
        What the first file holds: `kind`; `edges`; `merged` bins; `below` and `above`, rows beyond
        the edges; `table`, see `labels.summary`; and `more`.

    Raises:
        StorageError: if the files cannot be written.
    """
    labels = labelling.assigned(counts, edges.edges)
    below, above = labelling.outside(counts, edges.edges)
    config = {
        "kind": kind,
        "edges": edges.edges,
        "merged": edges.merged,
        "below": below,
        "above": above,
        "table": labelling.summary(labels, counts, features, k=len(edges.edges) - 1),
        **(more or {}),
    }
    _write(folder, BIN_CONFIG, config, BIN_ROWS, rows, labels)
    return config


def _check(kind: Kind, given: Mapping[str, Any]) -> None:
    if kind not in KINDS:
        law = f"the kind of labels must be one of {', '.join(KINDS)}, but got {kind!r}"
        raise InputError(Problem(law, "kind", nearest(kind, KINDS)))
    problems = [
        Problem(f"labels of the kind {kind} take no `{name}`, but got {value}", fix="Leave it out.")
        for name, value in given.items()
        if value is not None and name not in TAKES[kind]
    ]
    for name in ("bins", "k"):
        if isinstance(given[name], int) and given[name] < 2:
            law = f"there must be two labels or more, but got {given[name]}"
            problems.append(Problem(law, name))
    edges = given["edges"]
    if kind == "edges" and edges is None:
        problems.append(Problem("labels of the kind edges need edges", "edges", "Name them."))
    elif edges is not None and not _ascend(edges):
        law = f"edges must be three or more finite numbers, ascending, but got {[*edges]}"
        problems.append(Problem(law, "edges"))
    if problems:
        raise InputError(problems)


def _ascend(edges: Sequence[float]) -> bool:
    ascend = all(low < high for low, high in itertools.pairwise(edges))
    return len(edges) > 2 and ascend and all(map(math.isfinite, edges))


def _edges(kind: Kind, counts: Floats, bins: int, edges: Sequence[float] | None) -> Edges:
    if edges is not None:
        return Edges(tuple(map(float, edges)))
    make = labelling.quantile_edges if kind == "quantile" else labelling.equal_width_edges
    return make(counts, bins)


def _rows(
    file: str, count: str, censored: Censored, columns: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return prompts with the medians of their counts, and notes."""
    from statistics import median

    from llmpred.data import load
    from llmpred.spec.run import SourceSpec
    from llmpred.tasks.complexity import counting
    from llmpred.tasks.prepare import Examples

    response = dataclasses.replace(counting.RESPONSE, required=False)
    source = SourceSpec(source=file, columns=dict(columns))
    loaded = load(source, (counting.PROMPT, counting.COUNTS, response), dict)
    by_prompt: dict[str, list[float]] = {}
    lost = cut_off = 0
    for example in Examples(loaded.table):
        own = by_prompt.setdefault(example["prompt"], [])
        if example.get("counts") is not None:
            own.append(example["counts"])
        elif example.get("response") is None:
            lost += 1
        else:
            counted = counting.count(example["response"], count)
            cut_off += counted.censored
            if censored == "keep" or not counted.censored:
                own.append(float(counted.count))
    if lost:
        law = f"a row must have `counts`, or a `response` to count, but {lost:,} have neither"
        raise DataError(Problem(law, file, "Name the column, or count responses first."))
    rows = [{"prompt": p, "counts": median(own)} for p, own in by_prompt.items() if own]
    if not rows:
        law = "every response is cut off while the model still thinks"
        raise DataError(Problem(law, file, "Keep them, or let the model think to its end."))
    notes = [*loaded.notes]
    if cut_off:
        done = "are left out" if censored == "drop" else "count what there is, which is too low"
        notes.append(f"{cut_off:,} of {loaded.table.num_rows:,} responses are cut off and {done}")
    return rows, notes


def _bin_notes(edges: Edges, counts: Floats) -> list[str]:
    notes = []
    if edges.merged:
        left = len(edges.edges) - 1
        notes.append(f"{edges.merged} bins fell together with others, as counts tie: {left} left")
    below, above = labelling.outside(counts, edges.edges)
    if below or above:
        notes.append(
            f"{below:,} rows below the first edge and {above:,} above the last are in the "
            "outer bins"
        )
    return notes


def _cluster_notes(clusters: ClusterSpec, left_out: int) -> list[str]:
    if clusters.limit is None:
        return []
    return [f"{left_out:,} rows with counts above {clusters.limit:g} are left out"]


def _told(labels: Rows, features: Floats, notes: list[str]) -> dict[str, Any]:
    """Return the notes and the leakage of labels; the notes tell of traps, too."""
    label, share, macro_f1 = labelling.majority(labels)
    if share >= MAJORITY:
        notes.append(
            f"{share:.1%} of the rows have the label {label}: always saying so is as accurate, at "
            f"a macro-F1 of {macro_f1:.2f}"
        )
    leak = leakage(features, labels, folds=FOLDS) if len(labels) >= FOLDS else None
    if leak and leak.fires():
        notes.append(
            f"a tree on features of the prompt alone names {leak.accuracy:.1%} of the labels: they "
            "tell of prompts more than of thinking"
        )
    return {"notes": notes, "leakage": leak and dataclasses.asdict(leak)}


def _write(
    folder: Path,
    config_name: str,
    config: Mapping[str, Any],
    rows_name: str,
    rows: Sequence[Row],
    labels: Rows,
) -> None:
    lines = [
        json.dumps({**row, "label": label}, ensure_ascii=False, allow_nan=False)
        for row, label in zip(rows, labels.tolist(), strict=True)
    ]
    text = json.dumps(config, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / rows_name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        (folder / config_name).write_text(text + "\n", "utf-8")
    except OSError as error:
        law = f"the labels must be writable, but says: {error.strerror or error}"
        raise StorageError(Problem(law, str(folder))) from error
