"""The ledger's runs beside their meta-features: the table that a meta-model learns from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llmpred.features.measurements import BY_NAME, FEATURES, embedder_hash, vector
from llmpred.features.store import get_many
from llmpred.ledger import Ledger
from llmpred.spec.run import RunSpec

if TYPE_CHECKING:
    import pyarrow as pa

# What names a run, and what came out of it; the rest of the columns are features.
IDENTITY = ("key", "dataset", "base", "task", "family")
OUTCOME = ("status", "accuracy_r", "seconds")
FEATURE_NAMES = frozenset(feature.name for feature in FEATURES)


def _is_fine_tune(spec: RunSpec) -> bool:
    """Whether a run scores what it trained: without its adapter it is a test of another kind."""
    return spec.trains and not spec.evaluation.adapter_off


def ledger_table(ledger: Ledger, embedder: str | None = None) -> pa.Table:
    """Return one row for each run that trained: its names, its features and its outcome.

    `family` is the hash of the training rows: runs on the same rows share it, whatever their
    datasets are called. Features come from what `llmpred features` has kept, those of
    hyperparameters and base from the spec itself; what is unknown is null, and features unknown of
    every run have no column. Runs imported without a spec are left out.

    Args:
        ledger: its storage holds the measurements too.
        embedder: with which embeddings were measured; None for each run's own base.

    Returns:
        Columns `key`, `dataset`, `base`, `task`, `family`, `seed`, then features, then `status`,
        `accuracy_r` in [0, 1] (null if the run diverged without a score) and `seconds` (wall time
        of the whole run).
    """
    import pyarrow as pa

    every = list(ledger.records())
    scores = {record.key: record.accuracy_r for record in every}
    runs = [record for record in every if record.spec is not None and _is_fine_tune(record.spec)]
    places = [
        {
            name: (name, each.key(run, embedder_hash(run, embedder)))
            for name, each in BY_NAME.items()
        }
        for run in runs
    ]
    kept = get_many(ledger.storage, {place for of_run in places for place in of_run.values()})
    rows: list[dict[str, Any]] = []
    for run, of_run in zip(runs, places, strict=True):
        assert run.spec is not None
        found = {name: kept[place] for name, place in of_run.items() if place in kept}
        zero_shot = scores.get(run.zero_shot_key or "")
        rows.append(
            {
                "key": run.key,
                "dataset": run.dataset,
                "base": run.base,
                "task": run.spec.task.name,
                "family": run.hashes["train"],
                "seed": run.spec.seed,
                **vector(run, run.counts.get("train", 0), found, zero_shot),
                "status": run.status,
                "accuracy_r": run.accuracy_r,
                "seconds": run.wall_seconds.get("total"),
            }
        )
    text = (*IDENTITY, "status")
    columns: dict[str, pa.Array] = {}
    for name in (*IDENTITY, "seed", *(f.name for f in FEATURES), *OUTCOME):
        values = [None if _nan(row[name]) else row[name] for row in rows]
        if name not in FEATURE_NAMES or any(value is not None for value in values):
            kind = pa.string() if name in text else pa.int64() if name == "seed" else pa.float64()
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
