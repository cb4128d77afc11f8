"""`llmpred meta curves`: which base to fine-tune, from what each scores on little data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import check_out, line, split, warn, write_json
from llmpred.cli.common import table as show_table
from llmpred.errors import InputError, Problem

if TYPE_CHECKING:
    from llmpred.meta.budgets import Measured
    from llmpred.meta.curve_table import Curves
    from llmpred.meta.curves import Forecast

BUDGETS = ("1/8", "1/16", "1/32", "1/64", "1/128", "1/256", "1/512")
FIGURES = {"pearson": "Pearson over the bases", "relative_accuracy": "Relative accuracy"}


def curves(
    table: Annotated[
        Path,
        typer.Option(
            help="A row a base: its `config name`, a column a size (200, 400, …; 0: untrained), "
            "its `size`. Lower is better."
        ),
    ],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Parts of the largest size to foretell it from, such as 1/8,1/16; default: 1/8 to "
            "1/512, where they hold three sizes."
        ),
    ] = None,
    to: Annotated[
        float | None, typer.Option(min=1, help="Predict this size; default: the largest column.")
    ] = None,
    prior: Annotated[
        list[Path] | None, typer.Option(help="Finished curves of another table. Repeatable.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the figures here.")
    ] = None,
) -> None:
    """Predict scores at the full size from smaller ones, or measure how well that works.

    A table that has all scores is measured; where the largest size has empty cells, or with --to,
    every base is predicted.
    """
    import numpy as np

    from llmpred.meta.budgets import measure
    from llmpred.meta.curve_table import read_curves
    from llmpred.meta.curves import predict

    check_out(json)
    wanted = split(budget)
    if wanted and to is not None:
        law = "`--budget` measures on sizes known and `--to` predicts one that is not"
        raise InputError(Problem(law, fix="Give one of the two."))
    parts = {text: _fraction(text) for text in wanted}
    known = read_curves(table)
    priors = [read_curves(path) for path in prior or []]
    if to is not None or (not wanted and np.isnan(known.scores[:, -1]).any()):
        told = predict(known, to, priors)
        warn(told.warnings)
        found = _show_forecast(known, told, known.sizes[-1] if to is None else to)
    else:
        parts = parts or _default(known)
        measured = {text: measure(known, part, priors) for text, part in parts.items()}
        warn(dict.fromkeys(w for each in measured.values() for w in each.warnings))
        _show_measured(known, measured)
        found = {text: _as_json(each) for text, each in measured.items()}
    if json:
        write_json(json, found)


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        law = f"`--budget` must be parts such as 1/8, but got `{text}`"
        raise InputError(Problem(law, fix="Separate several by commas.")) from error


def _default(known: Curves) -> dict[str, Fraction]:
    """Return the usual budgets that hold three sizes, and at least the first."""
    parts = {text: Fraction(text) for text in BUDGETS}
    largest = known.sizes[-1]
    held = {t: p for t, p in parts.items() if (known.sizes <= largest * float(p)).sum() >= 3}
    return held or {BUDGETS[0]: parts[BUDGETS[0]]}


def _show_measured(known: Curves, measured: Mapping[str, Measured]) -> None:
    bases, largest = len(known.names), f"{known.sizes[-1]:.15g}"
    rivals = next(iter(measured.values())).figures
    for figure, title in FIGURES.items():
        rows = []
        for name in rivals:
            values = [each.figures[name][figure] for each in measured.values()]
            rows.append([name, *map(_number, values), _number(sum(values) / len(values))])
        show_table(
            ["predictor", *measured, "mean"],
            rows,
            title=f"{title}: {bases} bases at {largest}, from parts of it",
        )
    show_table(
        ["budget", "sizes", "chosen", "predicted", "came out", "rank", "in their interval"],
        [
            [text, m.seen, m.chosen, m.predicted, m.outcome, m.rank, f"{m.coverage_90:.0%}"]
            for text, m in measured.items()
        ],
        title=f"The base chosen, of {bases}",
    )


def _deviation(told: Forecast, base: int) -> float:
    """Return the standard deviation of a base's log score, 0 if it was measured."""
    from llmpred.meta.curves import DEVIATIONS

    return math.log(told.upper[base] / told.lower[base]) / (2 * DEVIATIONS)


def _show_forecast(known: Curves, told: Forecast, size: float) -> dict[str, Any]:
    """Print the ranking and return it as JSON."""
    import numpy as np
    from scipy.stats import norm

    order = np.argsort(told.predicted, kind="stable")
    best = told.predicted[order[0]]
    chosen_measured = told.lower[order[0]] == told.upper[order[0]]
    rows = []
    for rank, i in enumerate(order, 1):
        seen = np.flatnonzero(~np.isnan(known.scores[i]) & (known.sizes <= size))[-1]
        away = math.log(told.predicted[i] / best)
        measured = told.lower[i] == told.upper[i]
        better = None
        if measured == chosen_measured:  # what all predictions err by together cancels
            deviation = math.hypot(told.apart[i], told.apart[order[0]])
        else:
            deviation = math.hypot(_deviation(told, i), _deviation(told, order[0]))
        if rank > 1 and deviation > 0:
            better = float(norm.cdf(-away / deviation))
        rows.append(
            {
                "rank": rank,
                "base": known.names[i],
                "predicted": float(told.predicted[i]),
                "lower": float(told.lower[i]),
                "upper": float(told.upper[i]),
                "measured": bool(measured),
                "better_than_chosen": better,
                "last_size": float(known.sizes[seen]),
                "last_score": float(known.scores[i, seen]),
            }
        )
    show_table(
        ["rank", "base", "last size", "score there", "predicted", "90 % interval", "better"],
        [
            [
                row["rank"],
                row["base"],
                f"{row['last_size']:.15g}",
                row["last_score"],
                row["predicted"],
                "measured" if row["measured"] else f"{row['lower']:.4g} – {row['upper']:.4g}",
                "" if row["better_than_chosen"] is None else f"{row['better_than_chosen']:.0%}",
            ]
            for row in rows
        ],
        title=f"Predicted at {size:.15g}",
    )
    line(
        f"chosen: {rows[0]['base']}. `better` is the chance to come out better than it. Intervals "
        "are wide where little is seen: most of an error is common to all bases."
    )
    return {"size": size, "chosen": rows[0]["base"], "bases": rows}


def _as_json(measured: Measured) -> dict[str, Any]:
    figures = {
        name: {figure: _number(value) for figure, value in row.items()}
        for name, row in measured.figures.items()
    }
    return {
        **figures.pop("llmpred"),
        "coverage_90": measured.coverage_90,
        "chosen": measured.chosen,
        "rank": measured.rank,
        "baselines": figures,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
