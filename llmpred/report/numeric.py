"""What predictions of numbers add to a comparison: before and after, and how good values are.

A head says what number is due where `<NUM>` is the most probable next token; others write numbers
in digits. Both are judged on the same sets, and beside the median of the training rows, which needs
no model.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmpred.ledger import safe_name
from llmpred.report.comparison import Group, Scored
from llmpred.report.numeric_plots import plot_accuracy, plot_calibration, plot_ranks, plot_values
from llmpred.report.stored import training_of
from llmpred.report.tables import Column, Part, Picture, Table, written
from llmpred.tasks.base import Prediction
from llmpred.tasks.numeric.metrics import TOLERANCE, by_set, calibration, figures, sets_of

BASELINE, FINETUNED = "baseline.json", "finetuned.json"
ACCURACY, RANKS = "accuracy_comparison.png", "mean_rank_comparison.png"
OVERALL = "all rows"
MEDIAN = "baseline: training median"
SMALLEST = 90  # rows with a number due, below which the figures of a set are a matter of few
FALSE_ALARMS = 0.02
ERRORS = {"log_error": "log error", "mae": "MAE"}  # in which a value is held against the median
VERDICT = {True: "yes", False: "no", None: None}
# Set -> mean rank of `<NUM>` before and after, and RMSE after.
PUBLISHED = {
    "basic": (82_046, 1, 42.10),
    "QA": (91_343, 1, 48.10),
    "extreme": (81_144, 1, 50_724.62),
    "boundary": (81_314, 1, 6.53),
}

Figures = Mapping[str, float]
Better = Mapping[str, Mapping[str, bool]]  # set -> error -> whether it is less than the median's


@dataclasses.dataclass(frozen=True)
class Judged:
    """The figures of a scheme, mean over seeds; see `llmpred.tasks.numeric.metrics.figures`.

    Attributes:
        overall: of all rows.
        sets: of each evaluation set.
    """

    overall: Figures
    sets: Mapping[str, Figures]

    @property
    def each(self) -> dict[str, Figures]:
        """The figures of the sets, then of all rows."""
        return {**self.sets, OVERALL: self.overall}

    def of(self, figure: str) -> dict[str, float]:
        """Return one figure of the sets that have it, and of all rows."""
        return {name: told[figure] for name, told in self.each.items() if figure in told}


def part(group: Group, folder: Path, sure: bool) -> Part:
    """Return how schemes predict numbers; nothing where no number is due.

    Args:
        group: the schemes.
        folder: for plots.
        sure: whether to tell how often predicted quantiles hold.
    """
    scored = {s.name: [run for run in s.scored if run.predictions] for s in group.schemes}
    runs = {name: found for name, found in scored.items() if found}
    rows = next(iter(runs.values()))[0].predictions if runs else ()
    if not any(_is_due(p) for p in rows):
        return Part()
    trained = [s.name for s in group.schemes if s.name in runs and s.spec.trains]
    heads = [s.name for s in group.schemes if s.name in runs and s.spec.method.head == "numeric"]
    tuned = [name for name in heads if name in trained]
    before = next((name for name in heads if name not in trained), None)
    judged = {name: _judged([run.predictions for run in found]) for name, found in runs.items()}
    start = {} if before is None else {before: judged[before]}
    compared = {**start, **{name: judged[name] for name in tuned}}
    median, why = _training_median(group)
    baseline = {} if median is None else {MEDIAN: _judged([[_constant(p, median) for p in rows]])}
    better = {}
    if median is not None:
        better = {name: _better(judged[name], found, median) for name, found in runs.items()}
    tables = [_values({**judged, **baseline}, better, sure), _published()]
    if tuned:
        tables.insert(0, _changes(judged, before, tuned, rows))
    return Part(
        majority=_quiet(rows),
        columns=(
            Column("numbers found where due", "score"),
            Column("false alarms", "share"),
            Column("log error", "number"),
        ),
        values={
            name: tuple(map(told.overall.get, ("accuracy", "false_alarms", "log_error")))
            for name, told in judged.items()
        },
        tables=tuple(tables),
        pictures=(
            *(_comparisons(compared, before, folder) if tuned else ()),
            *(_calibrations({n: runs[n][0] for n in tuned}, folder) if sure else ()),
            *_predicted({n: runs[n][0] for n in trained}, folder),
        ),
        warnings=(
            *_few(rows),
            *_no_before(before, tuned),
            *_beaten({name: better[name] for name in tuned if name in better}),
            *_alarms({name: judged[name] for name in trained}),
            *why,
        ),
        files={
            name: {
                **({BASELINE: _file(before, runs[before][0])} if before is not None else {}),
                FINETUNED: _file(name, runs[name][0]),
            }
            for name in tuned
        },
        drawn={name: _drawn({**start, name: judged[name]}, before) for name in tuned},
    )


def _quiet(rows: Sequence[Prediction]) -> tuple[str, float]:
    """Return what a model has that never says a number: it is right wherever none is due."""
    return "no number", sum(not _is_due(p) for p in rows) / len(rows)


# --- figures --------------------------------------------------------------------------------------


def _judged(runs: Sequence[Sequence[Prediction]]) -> Judged:
    """Return the figures of a scheme from its runs, one a seed."""
    sets = [by_set(predictions) for predictions in runs]
    return Judged(
        _mean([figures(predictions) for predictions in runs]),
        {name: _mean([told[name] for told in sets]) for name in sets[0]},
    )


def _mean(found: Sequence[Figures]) -> Figures:
    """Return the mean of each figure that all have."""
    return {
        name: statistics.fmean(told[name] for told in found)
        for name in found[0]
        if all(name in told for told in found)
    }


def _training_median(group: Group) -> tuple[float | None, list[str]]:
    """Return the median of the numbers that are due in training rows; None and why without them."""
    records = [run.record for scheme in group.schemes for run in scheme.runs if scheme.spec.trains]
    rows, why = training_of(records[0]) if records else (None, "no scheme trains")
    values = [row["value"] for row in rows or () if row.get("value") is not None]
    if not values:
        why = why or "none has a number due"
        return None, [f"Training rows: {why}. So values are not held against their median."]
    return statistics.median(values), []


def _constant(row: Prediction, value: float | None) -> Prediction:
    """Return the answer to a row that is this value, whatever the row."""
    empty = {"rank": None, "probability": None, "quantiles": None}
    return dataclasses.replace(row, prediction={"due": False, "value": value, **empty})


def _better(told: Judged, runs: Sequence[Scored], median: float) -> Better:
    """Return where a scheme is less off than the median is on the rows that it has a value for."""
    constant = _judged(
        [
            [
                _constant(p, None if p.prediction.get("value") is None else median)
                for p in run.predictions
            ]
            for run in runs
        ]
    )
    return {
        name: {e: mine[e] < constant.each[name][e] for e in ERRORS if e in mine}
        for name, mine in told.each.items()
    }


def _is_due(row: Prediction) -> bool:
    return row.target.get("value") is not None


def _due(rows: Sequence[Prediction]) -> dict[str, int]:
    """Return how many rows have a number due, of each set and of all."""
    return {name: sum(map(_is_due, found)) for name, found in _parts(rows).items()}


def _parts(rows: Sequence[Prediction]) -> dict[str, Sequence[Prediction]]:
    """Return the rows of each set, and all of them."""
    return {**sets_of(rows), OVERALL: rows}


def _figure(figure: str, judged: Mapping[str, Judged]) -> dict[str, dict[str, float]]:
    """Return one figure: scheme -> set -> value."""
    return {name: told.of(figure) for name, told in judged.items()}


def _file(name: str, run: Scored) -> dict[str, Any]:
    """Return what one run came to."""
    told = _judged([run.predictions])
    return {"scheme": name, "key": run.record.key, **dataclasses.asdict(told)}


# --- tables ---------------------------------------------------------------------------------------


def _changes(
    judged: Mapping[str, Judged],
    before: str | None,
    tuned: Sequence[str],
    rows: Sequence[Prediction],
) -> Table:
    shown = {
        "accuracy": "accuracy",
        "mean_rank": "mean rank",
        "mean_probability": "probability",
        "false_alarms": "false alarms",
    }
    start = {} if before is None else judged[before].each
    due = _due(rows)
    return Table(
        "Before and after",
        (
            Column("scheme"),
            Column("set"),
            Column("numbers due", "count"),
            *(Column(f"{said}, before → after", "change") for said in shown.values()),
        ),
        tuple(
            (name, where, due[where], *((start.get(where, {}).get(f), told.get(f)) for f in shown))
            for name in tuned
            for where, told in judged[name].each.items()
        ),
        (
            f"Before is {before or 'not there'}: the same base, in which nothing is trained. "
            "Accuracy is the share of rows with a number due where <NUM> is the most probable "
            "next token, false alarms the share of the others where it is; rank (from 1) and "
            "probability of <NUM> are means over rows with a number due.",
        ),
    )


def _values(judged: Mapping[str, Judged], better: Mapping[str, Better], sure: bool) -> Table:
    columns = {
        "within_tolerance": Column("right", "score"),
        "rmse": Column("RMSE", "number"),
        "rmse_predicted": Column("RMSE where predicted", "number"),
        "mae": Column("MAE", "number"),
        "median_relative_error": Column("median relative error", "number"),
        "log_error": Column("log error", "number"),
    }
    ends = [Column("with a value", "share")]
    ends += [Column("80 % interval holds", "share")] if sure else []
    ends += [Column(f"beats the median in {error}") for error in ERRORS.values()]
    rows = []
    for where in next(iter(judged.values())).each:
        for name, told in judged.items():
            mine = told.each[where]
            if "accuracy" not in mine:  # no number is due in this set
                continue
            found = better.get(name, {}).get(where, {})
            cells: list[Any] = [*map(mine.get, columns), 1 - mine.get("without_value", 0.0)]
            cells += [mine.get("coverage")] if sure else []
            cells += [VERDICT[found.get(error)] for error in ERRORS]
            rows.append((where, name, *cells))
    return Table(
        "Value",
        (Column("set"), Column("scheme"), *columns.values(), *ends),
        tuple(rows),
        (
            "Right is the share of all rows where a number is due, it is predicted, and its value "
            f"is at most {100 * TOLERANCE:g} % off, or where none is due and none is predicted. "
            "Errors are of rows with a number due and a value, predicted or not: a scheme that "
            "says no number is spared an error. Log error is the mean absolute difference of "
            "sign(x) log10(1 + |x|), so 1 is an order of magnitude.",
            "The median is that of the training rows; whether a scheme beats it is told of the "
            "rows that the scheme has a value for.",
        ),
    )


def _published() -> Table:
    return Table(
        "Published, not rerun",
        (
            Column("set"),
            Column("mean rank, before → after", "change"),
            Column("RMSE after", "number"),
        ),
        tuple((name, ranks, rmse) for name, (*ranks, rmse) in PUBLISHED.items()),
        (
            "Published, not rerun, on other data: a <NUM> token with a Cauchy regression head on "
            "Qwen2.5-0.5B. Its open code scales the input by a sigmoid of the value, which is the "
            "same for all large ones.",
        ),
    )


# --- warnings -------------------------------------------------------------------------------------


def _few(rows: Sequence[Prediction]) -> Iterator[str]:
    few = {name: n for name, n in _due(rows).items() if n < SMALLEST}
    if few:
        yield (
            f"Fewer than {SMALLEST} rows have a number due, so that figures are a matter of few: "
            f"{'; '.join(f'{name} {n}' for name, n in few.items())}."
        )


def _no_before(before: str | None, tuned: Sequence[str]) -> Iterator[str]:
    if tuned and before is None:
        yield (
            "There is no before: no scheme with head numeric that trains nothing has a score. "
            f"So nothing tells what training changed of {'; '.join(tuned)}."
        )


def _beaten(better: Mapping[str, Better]) -> Iterator[str]:
    """Tell where what a head says is no better than the median, which needs no model."""
    for name, sets in better.items():
        lost = {s: [ERRORS[e] for e, won in told.items() if not won] for s, told in sets.items()}
        said = [f"{where} ({', '.join(errors)})" for where, errors in lost.items() if errors]
        if said:
            yield f"{name}: its value does not beat the training median on {'; '.join(said)}."


def _alarms(judged: Mapping[str, Judged]) -> Iterator[str]:
    """Tell which schemes often predict a number where none is due."""
    told = []
    for name, found in judged.items():
        often = {s: rate for s, rate in found.of("false_alarms").items() if rate > FALSE_ALARMS}
        rates = "; ".join(f"{where} {written(rate, 'share')}" for where, rate in often.items())
        told += [f"{name} ({rates})"] if rates else []
    if told:
        yield (
            f"A number is predicted in more than {100 * FALSE_ALARMS:g} % of the rows where none "
            f"is due, by {', '.join(told)}."
        )


# --- pictures -------------------------------------------------------------------------------------


def _drawn(judged: Mapping[str, Judged], before: str | None) -> dict[str, Callable[[Path], None]]:
    """Return what draws the schemes against what was before, by file name."""
    return {
        ACCURACY: partial(plot_accuracy, _figure("accuracy", judged), before),
        RANKS: partial(plot_ranks, _figure("mean_rank", judged), before),
    }


def _comparisons(
    judged: Mapping[str, Judged], before: str | None, folder: Path
) -> Iterator[Picture]:
    about = {
        ACCURACY: "How often <NUM> is predicted where a number is due, by set",
        RANKS: "Mean rank of <NUM> where a number is due, by set",
    }
    for name, draw in _drawn(judged, before).items():
        draw(folder / name)
        yield Picture(folder / name, about[name])


def _calibrations(runs: Mapping[str, Scored], folder: Path) -> Iterator[Picture]:
    found = {
        name: {
            where: told
            for where, rows in _parts(run.predictions).items()
            if (told := calibration(rows))
        }
        for name, run in runs.items()
    }
    found = {name: parts for name, parts in found.items() if parts}
    if found:
        path = folder / "calibration.png"
        plot_calibration(found, path)
        yield Picture(path, "How often true values are at most the quantile of each level, by set")


def _predicted(runs: Mapping[str, Scored], folder: Path) -> Iterator[Picture]:
    for name, run in runs.items():
        path = folder / f"predicted-{safe_name(name)}.png"
        if plot_values(sets_of(run.predictions) or {OVERALL: run.predictions}, path):
            yield Picture(path, f"Predicted against true values, by set: {name}", small=True)
