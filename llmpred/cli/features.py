"""`llmpred features`: describe runs, or a data file, by meta-features before anything is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    DEMO_SPACE,
    Json,
    Set,
    Storage,
    complain,
    console,
    open_ledger,
    print_json,
    split,
    table,
)
from llmpred.cli.data import Columns, TaskName, is_space, refuse_for_space, run_of_file
from llmpred.cli.runs import plan_of
from llmpred.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from llmpred.sweep.features import Extracted, Measured
    from llmpred.sweep.plan import Plan

SHOWN = 6  # datasets side by side in the table for people
HELD_OUT = 0.1  # of a data file without --eval, to compare its rows with


def features(
    source: Annotated[
        str, typer.Argument(metavar="SPACE|DATA", help="Search space (YAML), or a data file.")
    ] = DEMO_SPACE,
    base: Annotated[
        str | None, typer.Option(help="Of a data file: the base to describe it with [proxy].")
    ] = None,
    task: TaskName = None,
    columns: Columns = None,
    eval_: Annotated[
        str | None, typer.Option("--eval", metavar="FILE", help="Of a data file: evaluation rows.")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Only these: text, tokens, embedding, likelihood, probe. Repeatable."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(help="minilm, or a sentence-transformers model [each run's own base]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table (.parquet or .csv).")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Jobs side by side.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default RAY_ADDRESS, or this machine alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Describe every run of a space, or a data file; what was measured before costs nothing."""
    from llmpred.features.measurements import BY_NAME
    from llmpred.sweep.features import extract

    names = split(measure) or list(BY_NAME)
    for name in names:
        if name not in BY_NAME:
            law = f"a measurement must be one of {', '.join(BY_NAME)}, but got {name!r}"
            raise InputError(Problem(law, "--measure", nearest(name, list(BY_NAME))))
    if out is not None and out.suffix not in (".parquet", ".csv"):
        law = f"the table is written as .parquet or .csv, but got {out}"
        raise InputError(Problem(law, "--out", "Such as --out features.parquet."))
    ledger = open_ledger(storage)
    ledger.storage.check_writable()
    of_file = not is_space(source)
    if of_file:
        if measure and "probe" in names:
            law = "a probe is a run's first steps, but a data file says nothing of its training"
            raise InputError(Problem(law, "--measure", "Describe a search space that has it."))
        planned = _plan_of_file(source, task, columns, base, eval_, set_)
        names = [name for name in names if name != "probe"]  # a file has no hyperparameters
    else:
        refuse_for_space(task=task, columns=columns, base=base, eval=eval_)
        _, planned = plan_of(source, set_ or [], ledger, bring=True)
    terminal = console(stderr=True)

    def told(measured: Measured, done: int, total: int) -> None:
        job = measured.job
        what = f"{job.measurement} of {job.run.dataset} ({job.run.base})"
        if not json:
            terminal.print(
                f"{done}/{total} {what}: {measured.error or f'{measured.seconds:.1f} s'}",
                markup=False,
                highlight=False,
            )

    found = extract(
        planned,
        ledger,
        names=names,
        embedder=embedder,
        address=address,
        max_concurrent=max_concurrent,
        told=told,
    )
    if out is not None:
        _write(found.table, out)
    if json:
        print_json(
            {
                "measured": len(found.measured),
                "cached": found.cached,
                "seconds": found.seconds,
                "warnings": list(found.warnings),
                "rows": found.table.to_pylist(),
            }
        )
    else:
        _show(found, of_file=of_file)
        if out is not None:
            console().print(f"written to {out}", markup=False)
    if any(measured.error for measured in found.measured):
        raise typer.Exit(1)


def _plan_of_file(
    source: str,
    task: str | None,
    columns: list[str] | None,
    base: str | None,
    eval_: str | None,
    overrides: Sequence[str] | None,
) -> Plan:
    """Return a plan of one run on the file, whose hyperparameters nobody asks about."""
    from llmpred.bases.resolve import resolve
    from llmpred.sweep.plan import Plan

    _, spec = run_of_file(
        source, task, columns, base or "proxy", None, eval_, None, list(overrides or [])
    )
    if eval_ is None:
        evaluation = spec.evaluation.model_copy(update={"holdout": HELD_OUT})
        spec = spec.model_copy(update={"evaluation": evaluation})
        complain(
            f"a tenth of {source} stands for the evaluation rows; give --eval to compare with yours"
        )
    run = resolve(spec)
    return Plan({run.key: run}, frozenset(), run.notes)


def _write(found: pa.Table, out: Path) -> None:
    if out.suffix == ".csv":
        import pyarrow.csv as csv

        csv.write_csv(found, out)
    else:
        import pyarrow.parquet as parquet

        parquet.write_table(found, out)


def _show(found: Extracted, *, of_file: bool) -> None:
    """Show features of datasets side by side; those of hyperparameters and probes vary by run."""
    from llmpred.features.measurements import FEATURES

    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found.table.to_pylist():
        first.setdefault((row["dataset"], row["base"]), row)
    shown = list(first.values())[:SHOWN]
    groups = ("static", "base") if of_file else ("static", "base", "probe")
    features = [f for f in FEATURES if f.group in groups]
    several = len({row["base"] for row in shown}) > 1
    heads = [f"{r['dataset']}\n{r['base']}" if several else r["dataset"] for r in shown]
    table(
        ["feature", "tier", "unit", *heads],
        [
            [f.name, f.priority, f.unit, *[_number(row[f.name]) for row in shown]]
            for f in features
            if any(row[f.name] is not None for row in shown)
        ],
        title=f"{found.table.num_rows} runs, {len(first)} datasets by base",
    )
    out = console()
    unknown = [f.name for f in features if all(row[f.name] is None for row in shown)]
    if unknown:
        out.print(f"unknown of all: {', '.join(unknown)}", markup=False)
    if len(first) > len(shown):
        out.print(f"… and {len(first) - len(shown)} more datasets (--out keeps all)")
    if not of_file and len(first) < found.table.num_rows:
        out.print("a probe differs by run: shown is each dataset's first (--out keeps all)")
    for warning in found.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)
    out.print(
        f"{len(found.measured)} measured, {found.cached} from the storage, {found.seconds:.0f} s",
        highlight=False,
    )


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
