"""`llmpred meta`: predict scores from a table of finished runs, and say how well that works."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from llmpred.cli.common import line
from llmpred.cli.common import table as show_table

if TYPE_CHECKING:
    from llmpred.meta.benchmark import SplitReport

app = typer.Typer(help="Predict scores from finished runs.", no_args_is_help=True)

SHOWN = ("rmse", "mae", "within_1pp", "within_3pp", "r2", "spearman", "coverage_90", "width_90")
LEDGER = "ledger"  # as --table: the runs of the storage

Names = list[str] | None
Ignore = Annotated[
    Names, typer.Option(help="Columns to leave out; * and ? stand for any text and letter.")
]
Log = Annotated[
    Names, typer.Option(help="Number columns to take as logarithms, beside the obvious.")
]


@app.callback()
def _group() -> None:
    pass


def show_report(kind: str, report: SplitReport) -> None:
    """Print the figures of a kind of split, and what they rest on."""
    show_table(
        ["predictor", *SHOWN],
        [
            [name, *(_number(figures.get(figure)) for figure in SHOWN)]
            for name, figures in report.scores.items()
        ],
        title=f"{kind}: {report.rows} predictions for {report.groups} groups",
    )
    low, high = report.intervals["llmpred"]["rmse"]
    line(f"95 % of group bootstraps: rmse {low:.4g} to {high:.4g}", end="")
    low, high = report.intervals["llmpred"]["coverage_90"]
    line(f", coverage of 90 % intervals {low:.3f} to {high:.3f}")
    if not math.isnan(report.noise_floor):
        line(f"noise floor (RMSE among repeats): {report.noise_floor:.4g}")
    weights = ", ".join(f"{part} {weight:.2f}" for part, weight in report.weights.items())
    line(f"weights: {weights}")


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
