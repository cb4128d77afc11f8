"""Train a meta-model on all rows, and measure on folds how well such a model predicts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmpred import __version__
from llmpred.meta import model
from llmpred.meta.benchmark import SplitReport, as_json, benchmark
from llmpred.meta.cost import fit_cost
from llmpred.meta.shapley import Shapley, agreement, shapley, stability
from llmpred.meta.splits import group_folds, group_splits
from llmpred.meta.table import Table
from llmpred.meta.trained import Trained, table_hash, trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmpred.meta.model import MetaModel

FOLDS = 5
HELD_OUT = 0.1  # of a large table, and its warning says a tenth
TESTED = 10_000  # so many of those rows at most are predicted
EXPLAINED = 60  # training rows whose Shapley values are taken
KINDS = ("random", "group")
LIBRARIES = ("lightgbm", "numpy", "safetensors", "scikit-learn", "scipy", "shap")


@dataclass(frozen=True)
class Training:
    """What a training gives.

    Attributes:
        trained: the model.
        reports: by kind of split, what such models predict of rows held out.
        explained: rows of `trained.sample`.
        shapley: their Shapley values.
        folds: float64 [folds, columns], importance to models without a fold each; None where there
            was one split.
    """

    trained: Trained
    reports: Mapping[str, SplitReport]
    explained: Table
    shapley: Shapley
    folds: NDArray[np.float64] | None


def train(
    table: Table,
    *,
    source: str,
    group: Sequence[str] = (),
    seconds: NDArray[np.float64] | None = None,
    kinds: Sequence[str] = (),
    folds: int = FOLDS,
    seed: int = 0,
    progress: Callable[[str], object] = str,
) -> Training:
    """Return the model of all rows, and the figures of models of `folds` - 1 parts in `folds`.

    Above `model.LARGE` rows a tenth of the rows, or groups, is left out of the model and measures
    it: a further fit would cost as much again.

    Args:
        table: all rows.
        source: where they came from, to be kept beside the model.
        group: columns that named a row's group.
        seconds: float64 [rows], what each run took; NaN where unknown.
        kinds: of splits, of `KINDS`; by default by group where there are groups, else random.
        folds: into how many parts the rows, or groups, are dealt.
        seed: of folds and trees.
        progress: told what is being done.
    """
    import numpy as np

    kinds = kinds or [KINDS[table.grouped]]
    if len(table) > model.LARGE:
        made, fitted, reports = _large(table, kinds, seed, progress)
    else:
        made, fitted, reports = model.fit(table, seed), len(table), {}
        for kind in kinds:
            held = table.groups if kind == "group" else table.twins
            reports[kind] = benchmark(
                table,
                group_folds(held, folds, 1),
                inner=held,
                clusters=table.groups if table.grouped else table.twins,
                progress=lambda done, kind=kind: progress(f"{kind}: {done}"),  # type: ignore[misc]
            )
    names = made.blend.parts.encoder.names  # candidates are asked for these alone
    cost = None if seconds is None or not names else fit_cost(table.only(names), seconds, seed)
    progress("Shapley values")
    kept = trained(made, table, {}, group=tuple(group), seed=seed)
    explained = kept.sample.take(np.arange(min(EXPLAINED, len(kept.sample))))
    found = shapley(lambda rows: made.blend.predict(rows)[0], explained, kept.sample, seed=seed)
    blends = made.calibration.blends
    importances = stability(blends, explained, kept.sample, seed=seed) if blends else None
    about = {
        "source": source,
        "target": table.target_name,
        "group": list(group),
        "rows": len(table),
        "fitted_rows": fitted,
        "groups": len(set(table.groups.tolist())) if table.grouped else None,
        "table_sha256": table_hash(table),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "llmpred": __version__,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "weights": made.weights,
        "benchmark": as_json(reports, table),
        "shapley": {
            "importance": dict(zip(found.columns, found.importance.tolist(), strict=True)),
            "agreement_of_folds": None if importances is None else agreement(importances),
        },
        "cost_factor": cost.factor if cost else None,
        "warnings": list(dict.fromkeys([*table.warnings, *made.warnings])),
    }
    return Training(replace(kept, about=about, cost=cost), reports, explained, found, importances)


def _large(
    table: Table, kinds: Sequence[str], seed: int, progress: Callable[[str], object]
) -> tuple[MetaModel, int, dict[str, SplitReport]]:
    """Return the model of the first kind's training part, its rows, and what the rest measured."""
    models, counts, reports = [], [], {}
    for kind in kinds:
        held = table.groups if kind == "group" else table.twins
        (split,) = group_splits(held, HELD_OUT, 1)
        fitted = model.fit(table.grouped_by(held).take(split.train), seed)
        progress(f"{kind}: measured")
        reports[kind] = benchmark(
            table,
            [replace(split, test=split.test[:: -(-len(split.test) // TESTED)])],
            inner=held,
            clusters=table.groups if table.grouped else table.twins,
            fit=lambda *_, fitted=fitted: fitted,
        )
        models.append(fitted)
        counts.append(len(split.train))
    unit = "groups" if kinds[0] == "group" else "rows"
    told = f"A tenth of the {unit} was not fitted on, and measures the model."
    return replace(models[0], warnings=(*models[0].warnings, told)), counts[0], reports
