"""Train a meta-model on all rows, and measure on folds how well such a model predicts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llmpred import __version__
from llmpred.meta import model
from llmpred.meta.benchmark import SplitReport, as_json, benchmark
from llmpred.meta.splits import group_folds, group_splits
from llmpred.meta.table import Table
from llmpred.meta.trained import Trained, table_hash, trained

FOLDS = 5
KINDS = ("random", "group")
LIBRARIES = ("lightgbm", "numpy", "safetensors", "scikit-learn", "scipy", "shap")


@dataclass(frozen=True)
class Training:
    """A trained model and, by kind of split, what such models predict of rows held out."""

    trained: Trained
    reports: Mapping[str, SplitReport]


def train(
    table: Table,
    *,
    source: str,
    group: Sequence[str] = (),
    kinds: Sequence[str] = (),
    folds: int = FOLDS,
    seed: int = 0,
    progress: Callable[[str], object] = str,
) -> Training:
    """Return the model of all rows, and the figures of models of `folds` - 1 parts in `folds`.

    Above `model.LARGE` rows the figures come from a single split with a fifth of the rows, or
    groups, held out.

    Args:
        table: all rows.
        source: where they came from, to be kept beside the model.
        group: columns that named a row's group.
        kinds: of splits, of `KINDS`; by default by group where there are groups, else random.
        folds: into how many parts the rows, or groups, are dealt.
        seed: of folds and trees.
        progress: told what is being done.
    """
    made = model.fit(table, seed)
    reports = {}
    for kind in kinds or [KINDS[table.grouped]]:
        held = table.groups if kind == "group" else table.twins
        large = len(table) > model.LARGE
        splits = group_splits(held, 1 / folds, 1) if large else group_folds(held, folds, 1)
        reports[kind] = benchmark(
            table,
            splits,
            inner=held,
            clusters=table.groups if table.grouped else table.twins,
            progress=lambda done, kind=kind: progress(f"{kind}: {done}"),  # type: ignore[misc]
        )
    about = {
        "source": source,
        "target": table.target_name,
        "group": list(group),
        "rows": len(table),
        "groups": len(set(table.groups.tolist())) if table.grouped else None,
        "table_sha256": table_hash(table),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "llmpred": __version__,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "weights": made.weights,
        "benchmark": as_json(reports, table),
        "warnings": list(dict.fromkeys([*table.warnings, *made.warnings])),
    }
    return Training(trained(made, table, about, group=tuple(group), seed=seed), reports)
