"""`llmpred meta explain`: why a run is predicted to score what it does, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.candidates import Lower, Model, finite, load_model
from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Storage,
    cell,
    line,
    open_ledger,
    print_json,
    warn,
)
from llmpred.cli.common import table as show_table
from llmpred.errors import InputError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

    from llmpred.predict.advice import Change

LEVEL = 0.9
SHOWN = 5  # columns that raised, and that lowered
LEAST = 0.01  # share of all that the columns did, from which on one is worth naming


def explain(
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="Run of the ledger, or with --table a row's number."),
    ],
    model: Model = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table that has the row, instead of the ledger."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw what raised and lowered it.")
    ] = None,
    lower_is_better: Lower = False,
    storage: Storage = DEFAULT_STORAGE,
    json: Json = False,
) -> None:
    """Say what raised and what lowered a run's predicted score, and what to change about it."""
    from llmpred.meta.plots import plot_row
    from llmpred.meta.schema import candidates, differing
    from llmpred.meta.shapley import shapley
    from llmpred.meta.support import outside
    from llmpred.predict.advice import advise

    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(Problem(f"a plot is written as .png, but got {plot}", "--plot"))
    trained = load_model(model, storage)
    source, name = _row(key, table, storage)
    row = candidates(source, trained.schema, str(table or ""))
    target = trained.schema.target
    actual = source[target][0].as_py() if target in source.column_names else None
    predicted = trained.model.predict(row, LEVEL)
    found = shapley(lambda rows: trained.model.blend.predict(rows)[0], row, trained.sample)
    changes = advise(trained, row, lower_is_better=lower_is_better)
    beyond = outside(trained.model.blend.parts.encoder, row)[0]
    strange = (*beyond, *differing(source, trained.schema)[0])
    if plot is not None:
        plot_row(found, target, plot)
    values = dict(zip(found.columns, found.values[0].tolist(), strict=True))
    cells = {column: _plain(row.features[column][0]) for column in found.columns}
    if json:
        print_json(
            {
                "run": name,
                "target": target,
                "predicted": float(predicted.mean[0]),
                "lower": finite(predicted.lower[0]),
                "upper": finite(predicted.upper[0]),
                "actual": actual,
                "average": found.middle,
                "shapley": values,
                "values": cells,
                "changes": [vars(change) for change in changes],
                "outside": list(strange),
            }
        )
        return
    low, high = finite(predicted.lower[0]), finite(predicted.upper[0])
    said = f"{name}: {target} {predicted.mean[0]:.3f} predicted"
    if low is not None and high is not None:
        said += f" ({LEVEL:.0%}: {low:.3f} to {high:.3f})"
    line(said + ("" if actual is None else f", {actual:.3f} measured"))
    line(f"a run of the training table is predicted {found.middle:.3f} on average; here")
    worth = LEAST * sum(abs(value) for value in values.values())
    ordered = sorted(values.items(), key=lambda item: -abs(item[1]))
    for verb, sign in (("raised", 1), ("lowered", -1)):
        named = [(c, v) for c, v in ordered if v * sign > worth][:SHOWN]
        told = ", ".join(f"{column} {cell(cells[column])} ({v:+.3f})" for column, v in named)
        line(f"  {verb} it: {told or 'nothing much'}")
    _show_changes(changes, target)
    if strange:
        warn([f"the run lies outside what the model was trained on, in {', '.join(strange)}"])


def _row(key: str, table: Path | None, storage: str) -> tuple[pa.Table, str]:
    """Return the run's row, and what it is called."""
    from llmpred.meta.table import read
    from llmpred.predict.history import run_row

    if table is None:
        ledger = open_ledger(storage)
        record = ledger.get(key)
        if record.spec is None or not record.spec.trains:
            law = f"an explanation is of a run that trains, but {record.key[:10]} does not"
            fix = f"See `{ledger.storage.hint('llmpred ledger ls')}`."
            raise InputError(Problem(law, ledger.storage.root, fix))
        return run_row(ledger, record.key), f"{record.key[:10]} {record.dataset} {record.base}"
    source = read([table])
    if not key.isdigit() or not 1 <= int(key) <= source.num_rows:
        law = f"a row of the table is named by its number, 1 to {source.num_rows}, but got `{key}`"
        raise InputError(Problem(law, str(table)))
    return source.slice(int(key) - 1, 1), f"row {key}"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else finite(value)


def _show_changes(changes: list[Change], target: str) -> None:
    if not changes:
        line("nothing that was tried in other runs is predicted to do better")
        return
    show_table(
        ["change", "from", "to", f"{target} then", "gain"],
        [
            [change.column, cell(change.before), cell(change.after), change.predicted, change.gain]
            for change in changes
        ],
        title="what to change, one at a time",
    )
