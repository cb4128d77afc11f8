"""`llmpred meta`: predict scores from a table of finished runs, and say how well that works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from llmpred.cli.common import check_out, console, line, split, warn, write_json
from llmpred.cli.common import table as show_table
from llmpred.errors import DataError, InputError, Problem, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmpred.meta.benchmark import SplitReport
    from llmpred.meta.splits import Split
    from llmpred.meta.table import Table

    Cuts: TypeAlias = tuple[list[Split], NDArray[np.int64]]

app = typer.Typer(help="Predict scores from finished runs.", no_args_is_help=True)

KINDS = ("random", "group")
SHOWN = ("rmse", "mae", "within_1pp", "within_3pp", "r2", "spearman", "coverage_90", "width_90")
SEEDS = 20

Names = list[str] | None


@app.callback()
def _group() -> None:
    pass


@app.command()
def benchmark(
    target: Annotated[str, typer.Option(help="Column to predict, such as accuracy_r.")],
    table: Annotated[
        Path | None, typer.Option(help="A row a run: .csv, .tsv, .parquet or .jsonl.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Fit on these rows, …")] = None,
    test: Annotated[Path | None, typer.Option(help="… and test on these, instead of --table.")] = (
        None
    ),
    group: Annotated[
        Names,
        typer.Option(help="Columns that name a row's group, such as dataset; several: each cell."),
    ] = None,
    ignore: Annotated[
        Names, typer.Option(help="Columns to leave out; * and ? stand for any text and letter.")
    ] = None,
    log: Annotated[
        Names, typer.Option(help="Number columns to take as logarithms, beside the obvious.")
    ] = None,
    splits: Annotated[
        Names,
        typer.Option(
            "--split", help="random, group or both; default: random, and group where --group is."
        ),
    ] = None,
    test_size: Annotated[float, typer.Option(help="Share of rows, or groups, to test on.")] = 0.28,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help=f"How often to split: {SEEDS}, and of all folds once."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Split by group into so many folds and test all.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the figures here.")
    ] = None,
) -> None:
    """Measure the meta-model beside its baselines on splits of a table."""
    from llmpred.meta.benchmark import as_json
    from llmpred.meta.benchmark import benchmark as measure

    check_out(json)
    columns = {"group": split(group), "ignore": split(ignore), "log": split(log)}
    if train and test and not table:
        made, parts = _holdout(train, test, target, columns, splits, folds)
    elif table and not train and not test:
        made, parts = _of_table(
            table, target, columns, split(splits), test_size=test_size, seeds=seeds, folds=folds
        )
    else:
        law = "a benchmark takes --table FILE, or --train FILE and --test FILE"
        raise InputError(Problem(law, fix="Give one of the two."))
    warn(made.warnings)
    reports = {}
    for kind, (cuts, inner) in parts.items():
        with console(stderr=True).status(kind) as status:
            reports[kind] = measure(
                made,
                cuts,
                inner=inner,
                clusters=made.groups if made.grouped else made.twins,
                progress=status.update,
            )
        show_report(kind, reports[kind])
    warn(dict.fromkeys(w for report in reports.values() for w in report.warnings))
    if json:
        write_json(json, as_json(reports, made))


def _of_table(
    path: Path,
    target: str,
    columns: Mapping[str, list[str]],
    kinds: Sequence[str],
    *,
    test_size: float,
    seeds: int | None,
    folds: int | None,
) -> tuple[Table, dict[str, Cuts]]:
    """Return a table, and by kind its splits and the groups that inner folds hold out."""
    from llmpred.meta.splits import group_folds, group_splits, random_splits
    from llmpred.meta.table import make_table, read

    problems = []
    by_group = bool(columns["group"])
    wanted = list(dict.fromkeys(kinds)) or (["random", "group"] if by_group else ["random"])
    for kind in wanted:
        if kind not in KINDS:
            law = f"`--split` must be random or group, but got `{kind}`"
            problems.append(Problem(law, fix=nearest(kind, KINDS)))
    if "group" in wanted and not by_group:
        problems.append(Problem("`--split group` needs --group", fix="Name the group column."))
    if folds and "group" not in wanted:
        law = "`--folds` is of splits by group, but none is asked for"
        problems.append(Problem(law, fix="Add --group, or leave --folds out."))
    if not 0 < test_size < 1:
        law = f"`--test-size` must be above 0 and below 1, but got {test_size:g}"
        problems.append(Problem(law, fix="Such as 0.28."))
    if problems:
        raise InputError(problems)
    made, _ = make_table(read([path]), target, **columns, where=str(path))
    parts: dict[str, Cuts] = {}
    if "random" in wanted:
        parts["random"] = random_splits(len(made), test_size, seeds or SEEDS), made.twins
    if "group" in wanted and folds:
        parts["group"] = group_folds(made.groups, folds, seeds or 1), made.groups
    elif "group" in wanted:
        parts["group"] = group_splits(made.groups, test_size, seeds or SEEDS), made.groups
    return made, parts


def _holdout(
    train: Path,
    test: Path,
    target: str,
    columns: Mapping[str, list[str]],
    kinds: Names,
    folds: int | None,
) -> tuple[Table, dict[str, Cuts]]:
    """Return both files as one table, and the one split into them."""
    import numpy as np

    from llmpred.meta.splits import Split
    from llmpred.meta.table import make_table, read

    if kinds or folds:
        law = "`--train` and `--test` are the split, so --split and --folds have no place"
        raise InputError(Problem(law, fix="Leave them out, or give --table."))
    fitted = read([train]).num_rows
    both = f"{train}, {test}"
    made, rows = make_table(read([train, test]), target, **columns, where=both)
    cut = Split(0, np.flatnonzero(rows < fitted), np.flatnonzero(rows >= fitted))
    for path, part in ((train, cut.train), (test, cut.test)):
        if len(part) < 2:
            law = f"a file must have at least 2 rows with a `{target}`, but got {len(part)}"
            raise DataError(Problem(law, str(path)))
    return made, {"holdout": ([cut], made.groups if made.grouped else made.repeats)}


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
