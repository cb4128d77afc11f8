"""`llmpred meta train`: fit the meta-model that predictions are made with, keep it and log it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Storage,
    complain,
    console,
    line,
    open_ledger,
    print_json,
    split,
    wait_passively,
    warn,
)
from llmpred.cli.common import table as show_table
from llmpred.cli.meta import LEDGER, Ignore, Log, Names, show_report
from llmpred.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from llmpred.ledger import Storage as Root
    from llmpred.meta.train import Training
    from llmpred.meta.trained import Trained

SECONDS = "seconds"  # of a run of the ledger, its column
SHOWN = 10  # columns


def train(
    table: Annotated[
        str,
        typer.Option(
            metavar="ledger|FILE", help="Runs of the storage, or a row a run: .csv, .parquet, …"
        ),
    ] = LEDGER,
    target: Annotated[str, typer.Option(help="Column to predict.")] = "accuracy_r",
    group: Annotated[
        Names,
        typer.Option(help="Columns that name a row's group; of the ledger: dataset."),
    ] = None,
    ignore: Ignore = None,
    log: Log = None,
    cost: Annotated[
        str | None,
        typer.Option(help="Column of seconds, to learn what runs take; of the ledger: seconds."),
    ] = None,
    splits: Annotated[
        Names,
        typer.Option(
            "--split", help="What to measure: random, group; default: by group if there is one."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that rows or groups are dealt to.")] = 5,
    name: Annotated[
        str | None,
        typer.Option(help="Of the model, also in MLflow; default: from table and target."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep it here; default: STORAGE/meta/NAME."),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Log nothing to MLflow.")] = (
        False
    ),
    json: Json = False,
) -> None:
    """Train the meta-model on finished runs, measure it on folds, keep it and log it to MLflow."""
    wait_passively()
    from llmpred.ledger.storage import safe_name
    from llmpred.meta.table import make_table
    from llmpred.meta.train import train as fit

    kinds = list(dict.fromkeys(split(splits)))
    columns = {"group": split(group), "ignore": split(ignore), "log": split(log)}
    if table == LEDGER:
        columns["group"] = columns["group"] or ["dataset"]
        cost = cost or SECONDS
    _check(kinds, columns["group"])
    root = open_ledger(storage).storage
    if out is None or not no_tracking:
        root.check_writable()
    source, where = _read(table, storage)
    if cost is not None:
        if cost not in source.column_names:
            law = f"`--cost` must name a column, but there is no `{cost}`"
            raise InputError(Problem(law, where, nearest(cost, source.column_names)))
        columns["ignore"].append(cost)
    made, rows = make_table(source, target, **columns, where=where)
    if not json:
        warn(made.warnings)
    with console(stderr=True).status("fitting") as status:
        training = fit(
            made,
            source=where,
            group=columns["group"],
            seconds=None if cost is None else _seconds(source, cost, rows, where),
            kinds=kinds,
            folds=folds,
            progress=lambda done: status.update(f"measuring, {done}"),
        )
    name = safe_name(name or f"{Path(table).stem}-{target}")
    logged: dict[str, Any] | None = None
    with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
        folder, place = _keep(training, root, out, name, Path(scratch))
        if not no_tracking:
            logged = _logged(training.trained, folder, name, root)
    if json:
        print_json({"model": place, "name": name, **training.trained.about, "mlflow": logged})
        return
    for kind, report in training.reports.items():
        show_report(kind, report)
    seen = set(made.warnings)
    warn(w for w in training.trained.about["benchmark"]["warnings"] if w not in seen)
    _show_importance(training)
    fitted = training.trained.about["fitted_rows"]
    of = f"all {fitted}" if fitted == len(made) else f"{fitted} of {len(made)}"
    line(f"model of {of} rows: {place}; plots in {place}/plots")
    if logged:
        line(f"in MLflow: {logged['uri']}")


def _check(kinds: list[str], group: list[str]) -> None:
    from llmpred.meta.train import KINDS

    problems = []
    for kind in kinds:
        if kind not in KINDS:
            law = f"`--split` must be random or group, but got `{kind}`"
            problems.append(Problem(law, fix=nearest(kind, KINDS)))
    if "group" in kinds and not group:
        problems.append(Problem("`--split group` needs --group", fix="Name the group column."))
    if problems:
        raise InputError(problems)


def _read(table: str, storage: str) -> tuple[pa.Table, str]:
    """Return the rows, and where they came from."""
    from llmpred.meta.table import read
    from llmpred.predict.history import training_rows

    if table == LEDGER:
        ledger = open_ledger(storage)
        return training_rows(ledger, seconds=True), f"ledger {ledger.storage.root}"
    return read([table]), table


def _seconds(source: pa.Table, cost: str, rows: NDArray[np.int64], where: str) -> Any:
    """Return what the rows took, NaN where unknown."""
    from llmpred.meta.table import cells, is_number

    found = cells(source[cost])
    if found is None or not is_number(found):
        law = f"`--cost` must hold numbers, but `{cost}` is {source[cost].type}"
        raise InputError(Problem(law, where, "Name a column of seconds."))
    return found[rows]


def _keep(
    training: Training, root: Root, out: Path | None, name: str, scratch: Path
) -> tuple[Path, str]:
    """Write model and plots; return their folder on this machine, and where users find it."""
    from llmpred.meta.plots import plot_importance, plot_values
    from llmpred.meta.store import save

    local = out or root.local_path(f"meta/{name}")
    folder = local or scratch / name
    save(training.trained, folder)
    target = training.trained.schema.target
    plots = folder / "plots"
    plot_importance(training.shapley, training.folds, target, plots / "shapley_importance.png")
    plot_values(training.shapley, training.explained, target, plots / "shapley_values.png")
    if local is not None:
        return folder, str(folder)
    root.put_folder(folder, f"meta/{name}")
    return folder, f"{root.root}/meta/{name}"


def _show_importance(training: Training) -> None:
    """Print the columns that matter most, and whether folds agree on that."""
    import numpy as np

    found, folds = training.shapley, training.folds
    order = np.argsort(found.importance)[::-1][:SHOWN]
    rows = [[found.columns[i], float(found.importance[i])] for i in order]
    heads = ["column", "mean |Shapley value|"]
    if folds is not None:
        heads.append("over folds")
        for row, i in zip(rows, order, strict=True):
            row.append(f"{folds[:, i].min():.4g} to {folds[:, i].max():.4g}")
    show_table(heads, rows, title="what predictions rest on")
    factor = training.trained.about["cost_factor"]
    if factor is not None:
        line(f"what a run takes is told within a factor of {factor:.2f} (median, on folds)")
    agreed = training.trained.about["shapley"]["agreement_of_folds"]
    if agreed is not None:
        line(f"agreement of folds on this order (Spearman): {agreed:.2f}")


def _logged(trained: Trained, folder: Path, name: str, root: Root) -> dict[str, Any] | None:
    from llmpred.tracking.models import UnloggedError, log_model

    try:
        return vars(log_model(trained, folder, name, storage_root=root.root))
    except UnloggedError as why:  # the model is kept; a server that is down must not cost it
        complain(str(why))
        return None
