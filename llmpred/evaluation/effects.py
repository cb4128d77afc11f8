"""What data and hyperparameters did to `accuracy_r`, read off the rows of finished runs."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmpred.ledger.record import best_first

LEVELS = 5  # a number with more values than this is shown by thirds
HYPERPARAMETERS = ("base.", "method.", "optim.")
FIRST = ("method.head", "method.adapter.kind")  # others may only go with them

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DatasetEffect:
    """The runs on one dataset with one base.

    Attributes:
        task, dataset, base: which runs.
        examples: training examples, after the recipe.
        runs: how many were trained.
        zero_shot: score of the untouched base on the same evaluation set, if it was taken.
        mean, best: scores of the trained runs.
        best_key: the run that scored `best`.
    """

    task: str
    dataset: str
    base: str
    examples: int | None
    runs: int
    zero_shot: float | None
    mean: float
    best: float
    best_key: str


@dataclass(frozen=True)
class LevelEffect:
    """The runs that share a value of a hyperparameter, or a third of its values.

    Attributes:
        name: column of the ledger's table, such as `optim.lr`.
        level: the value, or the range of the third.
        runs: how many.
        effect: mean difference of their scores from the mean of all runs on the same dataset with
            the same base, so that runs of several tasks can be taken together.
    """

    name: str
    level: str
    runs: int
    effect: float


def dataset_effects(rows: Iterable[Row]) -> list[DatasetEffect]:
    """Return what came out on each dataset; rows without a score or without training are left out.

    Args:
        rows: of the ledger's table.
    """
    found = []
    for (task, dataset, base), group in _by_dataset(rows).items():
        best = min(group, key=lambda row: best_first(row["accuracy_r"], row["key"]))
        scores = [row["accuracy_r"] for row in group]
        found.append(
            DatasetEffect(
                task,
                dataset,
                base,
                best.get("count.train"),
                len(group),
                best.get("zero_shot_accuracy_r"),
                statistics.fmean(scores),
                best["accuracy_r"],
                best["key"],
            )
        )
    return found


def hyperparameter_effects(rows: Iterable[Row]) -> list[LevelEffect]:
    """Return what each hyperparameter that varies did, within datasets and bases.

    Only runs on a dataset on which the hyperparameter varies say something of it. What goes with a
    hyperparameter told of before, such as alpha with r, is left out.

    Args:
        rows: of the ledger's table.
    """
    groups = [[_meant(row) for row in group] for group in _by_dataset(rows).values()]
    names = {n for group in groups for row in group for n in row if n.startswith(HYPERPARAMETERS)}
    found = []
    told: list[set[frozenset[str]]] = []
    for name in [*FIRST, *sorted(names - {*FIRST}, key=lambda n: (len(n), n)), "seed"]:
        values: dict[str, Any] = {}
        differences: dict[str, float] = {}
        for group in groups:
            if len({row.get(name) for row in group}) > 1:
                mean = statistics.fmean(row["accuracy_r"] for row in group)
                values |= {row["key"]: row.get(name) for row in group}
                differences |= {row["key"]: row["accuracy_r"] - mean for row in group}
        levels = _levels(values) if values else {}
        parts = {frozenset(keys) for keys in levels.values()}
        if len(parts) < 2 or parts in told:
            continue
        told.append(parts)
        for level, keys in levels.items():
            effect = statistics.fmean(differences[key] for key in keys)
            found.append(LevelEffect(name, level, len(keys), effect))
    return found


def _meant(row: Row) -> Row:
    """Return the row without the adapter's fields where it is no LoRA: they say nothing there."""
    if row.get("method.adapter.kind", "lora") == "lora":
        return row
    return {n: v for n, v in row.items() if not n.startswith("method.adapter.") or n in FIRST}


def _by_dataset(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["accuracy_r"] is not None and row.get("tokens.steps"):
            groups.setdefault((row["task"], row["dataset"], row["base"]), []).append(row)
    return groups


def _levels(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Group keys by value, in order; a number of many values by thirds of the keys."""
    distinct = set(values.values())
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    if not numeric:
        order: Sequence[Any] = sorted(distinct, key=str)
        return {_shown(v): [key for key in values if values[key] == v] for v in order}
    if len(distinct) <= LEVELS:
        return {_shown(v): [k for k in values if values[k] == v] for v in sorted(distinct)}
    ranked = sorted(values, key=lambda key: values[key])
    cuts = [round(len(ranked) * third / 3) for third in range(4)]
    thirds = [ranked[start:end] for start, end in itertools.pairwise(cuts)]
    return {f"{values[t[0]]:.3g} to {values[t[-1]]:.3g}": t for t in thirds}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
