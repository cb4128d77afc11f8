"""What a classification adds to a comparison; the files of its metrics and confidence."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmpred.evaluation.classification import Classified, bootstrap, classified, metrics
from llmpred.evaluation.confidence import confidence
from llmpred.evaluation.significance import wilson
from llmpred.ledger import safe_name
from llmpred.report.comparison import Group, Scheme, Scored
from llmpred.report.plots import plot_confusion
from llmpred.report.schemes_plots import plot_reliabilities
from llmpred.report.tables import Column, Part, Picture, Table
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction

METRICS, CONFIDENCE = "metrics.json", "confidence_analysis.json"
SHOWN = 5  # labels in a sentence


def metrics_file(found: Classified, positive: str | None = None) -> dict[str, Any]:
    """Return `metrics.json`: all metrics, and 95 % intervals of accuracy and macro-F1."""
    figures = metrics(found, positive)
    right = int(found.right.sum())
    low, high = wilson(right, len(found))
    wilsons = {"value": figures["accuracy"], "lower": low, "upper": high}
    return {**figures, "intervals": {"bootstrap": bootstrap(found), "wilson_accuracy": wilsons}}


def never_predicted(told: Mapping[str, Any]) -> str:
    """Return the labels that are targets but never answers, of a `metrics.json`; empty of none."""
    never = told["never_predicted"]
    return ", ".join(never[:SHOWN]) + (", …" if len(never) > SHOWN else "")


def read(predictions: Sequence[Prediction], spec: TaskSpec) -> Classified:
    """Return the predictions of a run as a classification."""
    return classified(predictions, spec.labels or {})


def part(group: Group, folder: Path, sure: bool) -> Part:
    """Return what the predictions of a classification say beyond its accuracy."""
    names = ("macro-F1", "AUC", *(("ECE",) if sure else ()))
    values: dict[str, tuple[Any, ...]] = {}
    files: dict[str, dict[str, Any]] = {}
    for scheme in group.schemes:
        runs = [run for run in scheme.scored if run.predictions]
        if not runs:
            continue
        told = [_told(run, scheme, group.texts, sure) for run in runs]
        figures = [(t[METRICS]["macro"]["f1"], t[METRICS]["auc"], _ece(t)) for t in told]
        values[scheme.name] = tuple(map(_mean, zip(*figures, strict=True)))[: len(names)]
        files[scheme.name] = told[0]
    if not files:
        return Part()
    first = next(iter(files.values()))[METRICS]
    return Part(
        majority=(first["majority"], first["majority_share"]),
        columns=tuple(Column(name, "score") for name in names),
        values=values,
        tables=tuple(_tables(files)),
        pictures=tuple(_pictures(files, folder)),
        warnings=_warnings(files),
        files=files,
    )


def _warnings(files: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    said = {name: never_predicted(told[METRICS]) for name, told in files.items()}
    each = "; ".join(f"{labels} (by {name})" for name, labels in said.items() if labels)
    return (f"Labels that are never predicted: {each}.",) if each else ()


def _told(run: Scored, scheme: Scheme, texts: Sequence[str] | None, sure: bool) -> dict[str, Any]:
    found = read(run.predictions, scheme.spec.task)
    told = {METRICS: metrics_file(found)}
    if sure and found.log_probabilities is not None:
        told[CONFIDENCE] = confidence(found, texts=texts)
    return told


def _ece(told: Mapping[str, Any]) -> float | None:
    return told[CONFIDENCE]["ece"] if CONFIDENCE in told else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _tables(files: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    figures = {name: told[METRICS] for name, told in files.items()}
    one = next(iter(figures.values()))
    of = f"label {one['positive']}" if one["averaging"] == "binary" else "mean over labels"
    single = Table(
        "Precision and recall",
        (
            Column("scheme"),
            *(Column(name, "score") for name in ("precision", "recall", "F1", "balanced accuracy")),
            Column("Matthews correlation", "score"),
            Column("answers that are no label", "count"),
        ),
        tuple(
            (
                name,
                *(told[n] for n in ("precision", "recall", "f1", "balanced_accuracy")),
                told["matthews_correlation"],
                told["no_label"],
            )
            for name, told in figures.items()
        ),
        (f"Precision, recall and F1: {of}. Of the first seed, where there are several.",),
    )
    sure = {name: told[CONFIDENCE] for name, told in files.items() if CONFIDENCE in told}
    if not sure:
        return [single]
    return [
        single,
        Table(
            "Confidence",
            (
                Column("scheme"),
                Column("mean confidence", "score"),
                Column("surer than 0.9", "share"),
                Column("ECE", "score"),
                Column("ECE, temperature-scaled", "score"),
                Column("Brier score", "score"),
                Column("area under risk-coverage", "score"),
            ),
            tuple(
                (
                    name,
                    told["avg_confidence"],
                    told["high_confidence_ratio"],
                    told["ece"],
                    _scaled_ece(told["temperature_scaling"]),
                    told["brier"],
                    told["aurc"],
                )
                for name, told in sure.items()
            ),
            (
                "ECE, Brier score and the area: lower is better. Of the first seed, where there "
                "are several. The temperature is fitted on one half of these rows and judged on "
                "the other, and the other way round (Guo et al., 2017); none is told where no "
                "finite one is best. The Brier score is summed over labels (Brier, 1950): of two "
                "labels, twice scikit-learn's.",
            ),
        ),
    ]


def _scaled_ece(scaling: Mapping[str, Any]) -> float | None:
    if scaling["after"] is None or scaling["at_bound"]:
        return None
    return float(scaling["after"]["ece"])


def _pictures(files: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Picture]:
    sure = {name: told[CONFIDENCE] for name, told in files.items() if CONFIDENCE in told}
    pictures = []
    if sure:
        path = folder / "reliability.png"
        plot_reliabilities(sure, path)
        about = "Reliability: how often answers are right against how sure they are, by scheme"
        pictures.append(Picture(path, about))
    for name, told in files.items():
        path = folder / f"confusion-{safe_name(name)}.png"
        stands_for = plot_confusion(told[METRICS], path)
        key = "".join(f"; {short}: {label}" for short, label in stands_for.items())
        pictures.append(Picture(path, f"Confusion matrix: {name}{key}", small=True))
    return pictures
