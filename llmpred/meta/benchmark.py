"""How well scores are predicted on a table: the meta-model beside its baselines, split by split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem
from llmpred.meta import metrics, model
from llmpred.meta.baselines import Baseline, baselines
from llmpred.meta.parts import LEAST
from llmpred.meta.splits import Split
from llmpred.meta.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmpred.meta.model import MetaModel

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

OWN = "llmpred"
LEVEL = 0.9


@dataclass(frozen=True)
class SplitReport:
    """What came out on the splits of one kind.

    Attributes:
        scores: by predictor (`llmpred` and the baselines), by figure: means over the seeds.
        intervals: as `scores`, the 95 % group-bootstrap interval of figures pooled over the seeds.
        weights: mean weight of each part of the meta-model.
        noise_floor: RMSE that repeats of the same run have among themselves; NaN without repeats.
        groups: how many groups were tested.
        rows: how many rows were tested, each seed counted.
        warnings: of the meta-model.
    """

    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    weights: dict[str, float]
    noise_floor: float
    groups: int
    rows: int
    warnings: tuple[str, ...] = ()


@dataclass
class _Tested:
    """Predictions for the test rows of one seed, in pieces."""

    rows: list[Rows] = field(default_factory=list)
    predicted: dict[str, list[Floats]] = field(default_factory=dict)
    lower: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)


def benchmark(
    table: Table,
    splits: Sequence[Split],
    *,
    inner: Rows,
    clusters: Rows,
    variants: Mapping[str, Baseline] = MappingProxyType({}),
    lower_is_better: bool = False,
    fit: Callable[[Table, int], MetaModel] = model.fit,
    progress: Callable[[str], object] = str,
) -> SplitReport:
    """Fit and test the meta-model and its baselines on every split of one kind.

    Above `model.LARGE` training rows, baselines are fitted on so many of them.

    Args:
        table: all rows.
        splits: which of them are fitted on and tested; those of one seed are scored together.
        inner: int64 [rows], groups that the meta-model's own folds hold out: rows where the split
            is by row, the split's groups where it is by group.
        clusters: int64 [rows], groups that the bootstrap draws.
        variants: other models, by name; they hold out groups as the meta-model does.
        lower_is_better: the best outcome is the lowest.
        fit: what gives the meta-model of training rows and a seed.
        progress: told after each fit how many are done.

    Raises:
        DataError: if a split leaves fewer than `LEAST` rows to fit on.
    """
    import numpy as np

    seeds: dict[int, _Tested] = {}
    weights: list[dict[str, float]] = []
    warnings: dict[str, None] = {}
    rivals = baselines(table)
    least = min(len(split.train) for split in splits)
    if least < LEAST:
        law = f"a split must leave at least {LEAST} rows to fit on, but one leaves {least}"
        raise DataError(Problem(law, fix="Collect more runs, or take another --split."))
    inside = table.grouped_by(inner)
    for done, split in enumerate(splits, 1):
        train, test = inside.take(split.train), inside.take(split.test)
        fitted = fit(train, split.seed)
        prediction = fitted.predict(test, LEVEL)
        tested = seeds.setdefault(split.seed, _Tested())
        tested.rows.append(split.test)
        tested.predicted.setdefault(OWN, []).append(prediction.mean)
        tested.lower.append(prediction.lower)
        tested.upper.append(prediction.upper)
        for name, variant in variants.items():
            tested.predicted.setdefault(name, []).append(variant(train, test, split.seed))
        # Baselines see the table's own groups, whatever the split is by.
        seen = split.train
        if len(seen) > model.LARGE:
            seen = np.random.default_rng(split.seed).choice(seen, model.LARGE, replace=False)
            warnings[f"Baselines are fitted on {len(seen)} of {len(split.train)} rows."] = None
        train, test = table.take(seen), table.take(split.test)
        for name, baseline in rivals.items():
            tested.predicted.setdefault(name, []).append(baseline(train, test, split.seed))
        weights.append(fitted.weights)
        warnings |= dict.fromkeys(fitted.warnings)
        progress(f"{done} of {len(splits)} fits")
    scores = _scores(table, list(seeds.values()), lower_is_better)
    rows = np.concatenate([row for tested in seeds.values() for row in tested.rows])
    return SplitReport(
        scores,
        _intervals(table, list(seeds.values()), clusters),
        {part: float(np.mean([w[part] for w in weights])) for part in weights[0]},
        metrics.noise_floor(table.target, table.repeats),
        len(np.unique(clusters[rows])),
        len(rows),
        tuple(warnings),
    )


def _scores(
    table: Table, seeds: Sequence[_Tested], lower_is_better: bool
) -> dict[str, dict[str, float]]:
    import numpy as np

    found: dict[str, list[dict[str, float]]] = {}
    for tested in seeds:
        rows = np.concatenate(tested.rows)
        target, groups = table.target[rows], table.groups[rows]
        for name, pieces in tested.predicted.items():
            predicted = np.concatenate(pieces)
            figures = metrics.scores(target, predicted)
            if name == OWN:
                lower, upper = np.concatenate(tested.lower), np.concatenate(tested.upper)
                figures["coverage_90"] = metrics.coverage(target, lower, upper)
                figures["width_90"] = float(np.mean(upper - lower))
            figures["decision_accuracy"] = metrics.decision_accuracy(target, predicted)
            if set(np.unique(table.target)) <= {0.0, 1.0}:
                # Of a run that did and one that did not: pairs in the right order are the area.
                figures["auc"] = figures["decision_accuracy"]
            if table.grouped:
                figures["spearman_within"] = metrics.spearman_within(target, predicted, groups)
                figures["spearman_across"] = metrics.spearman_across(target, predicted, groups)
            for k in (1, 5):
                figures[f"regret_at_{k}"] = metrics.regret(
                    target, predicted, k, lower_is_better=lower_is_better
                )
            found.setdefault(name, []).append(figures)
    return {
        name: {figure: _mean([one[figure] for one in every]) for figure in every[0]}
        for name, every in found.items()
    }


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the seeds that define a figure."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _intervals(
    table: Table, seeds: Sequence[_Tested], clusters: Rows
) -> dict[str, dict[str, tuple[float, float]]]:
    import numpy as np

    rows = np.concatenate([piece for tested in seeds for piece in tested.rows])
    target, drawn = table.target[rows], clusters[rows]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in seeds[0].predicted:
        predicted = np.concatenate([piece for t in seeds for piece in t.predicted[name]])
        error = np.abs(predicted - target)
        low, high = metrics.bootstrap_mean(error**2, drawn)
        found[name] = {
            "rmse": (math.sqrt(low), math.sqrt(high)),
            "mae": metrics.bootstrap_mean(error, drawn),
            "within_3pp": metrics.bootstrap_mean(metrics.within(error, 0.03), drawn),
        }
    lower = np.concatenate([piece for tested in seeds for piece in tested.lower])
    upper = np.concatenate([piece for tested in seeds for piece in tested.upper])
    inside = ((target >= lower) & (target <= upper)).astype(float)
    found[OWN]["coverage_90"] = metrics.bootstrap_mean(inside, drawn)
    return found


def as_json(
    reports: Mapping[str, SplitReport],
    table: Table,
    divergence: Mapping[str, SplitReport] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what `llmpred meta benchmark --json` writes; what is not defined is null.

    `splits` holds the figures by split and predictor; beside it stand `intervals`, `weights`,
    `noise_floor`, `tested`, `warnings` and, where runs diverged, `divergence`: how well that is
    predicted.
    """
    made: dict[str, Any] = _plain(
        {
            "splits": {name: report.scores for name, report in reports.items()},
            "intervals": {name: report.intervals for name, report in reports.items()},
            "weights": {name: report.weights for name, report in reports.items()},
            "noise_floor": next(iter(reports.values())).noise_floor,
            "tested": {
                name: {"rows": report.rows, "groups": report.groups}
                for name, report in reports.items()
            },
            "divergence": {
                name: {
                    predictor: {"auc": figures["auc"], "rmse": figures["rmse"]}
                    for predictor, figures in report.scores.items()
                }
                for name, report in divergence.items()
            },
            "table": {
                "target": table.target_name,
                "rows": len(table),
                "features": list(table.features),
            },
            "warnings": [
                *table.warnings,
                *dict.fromkeys(w for report in reports.values() for w in report.warnings),
            ],
        }
    )
    return made


def _plain(value: Any) -> Any:
    """Return a value with NaN and infinities as None, as JSON has neither."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
