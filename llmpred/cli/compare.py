"""`llmpred compare`: the methods of a space side by side, in tables, tests, plots and files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Set,
    Storage,
    console,
    line,
    open_ledger,
    print_json,
    split,
    warn,
)
from llmpred.cli.common import table as show_table
from llmpred.errors import InputError, Problem, nearest
from llmpred.wording import counted

if TYPE_CHECKING:
    from llmpred.report.comparison import Comparison
    from llmpred.sweep.collect import Collected

SUITES = ("metrics", "confidence", "robustness")
SUITE = "metrics,confidence"


def compare(
    space: Annotated[str, typer.Argument(help="Search space (YAML).")],
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; default: comparison-SPACE."),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help=f"What to say of each scheme: {', '.join(SUITES)}; default: {SUITE}."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="To compare with, by name; default: the first that trains."
        ),
    ] = None,
    latency: Annotated[
        int, typer.Option(min=0, metavar="N", help="Texts to take the latency on; 0: none.")
    ] = 50,
    no_collect: Annotated[
        bool, typer.Option("--no-collect", help="Compare what is there; run nothing.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows to ask for robustness; default: all.")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Stop collecting after this many hours.")
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default RAY_ADDRESS, or this machine alone.")
    ] = None,
    no_tracking: Annotated[
        bool, typer.Option("--no-tracking", help="Log nothing to MLflow.")
    ] = False,
    json: Json = False,
) -> None:
    """Collect what a space lacks and put its methods side by side: scores, tests, costs, advice."""
    from llmpred.cli.runs import carry_out, leave, plan_of, tracked
    from llmpred.ledger import safe_name
    from llmpred.report import comparison_folder as folders
    from llmpred.report.asking import Perturbing, ask
    from llmpred.report.groups import groups_of
    from llmpred.sweep.collect import Limits
    from llmpred.sweep.orders import FAILED

    wanted = suite_of(suite)
    perturbing = Perturbing(limit=limit) if "robustness" in wanted else None
    ledger = open_ledger(storage)
    if not no_collect:
        ledger.storage.check_writable()
    loaded, planned = plan_of(space, set_ or [], ledger, bring=not no_collect)
    if loaded.mode == "search":
        law = "only what a space runs in full can be compared, but its mode is `search`"
        raise InputError(Problem(law, space, "Compare a space of `mode: collect`."))
    out = out or Path(f"comparison-{safe_name(loaded.name)}")
    folders.check_ours(out)
    groups_of(planned.runs.values(), ledger, reference)  # a wrong name is told before hours of runs
    if not json:
        for note in planned.notes:
            console(stderr=True).print(f"note: {note}", markup=False)
    result: Collected | None = None
    found: list[Comparison] = []
    with tracked(loaded.name, loaded.path, planned, ledger, off=no_tracking) as tracking:
        if planned.todo and not no_collect:
            limits = Limits(max_hours, max_concurrent=max_concurrent)
            result = carry_out(loaded.name, planned, ledger, tracking, limits, address, quiet=json)
        if result is None or not result.interrupted:
            if not json:
                steps = [f"measuring latency on {counted(latency, 'text')}"] if latency else []
                steps += ["asking for robustness"] if perturbing else []
                said = ", ".join([*steps, "drawing plots"])
                console(stderr=True).print(f"{said} …", markup=False)
            found = folders.write(
                out,
                f"Comparison: {loaded.name}",
                groups_of(planned.runs.values(), ledger, reference),
                ledger,
                published=loaded.published,
                own=loaded.own,
                notes=planned.notes,
                confidence="confidence" in wanted,
                ask=partial(ask, storage=ledger.storage.root, texts=latency, perturbing=perturbing),
            )
            tracking.log_files([out / name for name in folders.REPORT if (out / name).exists()])
    if json and found:
        print_json(folders.read(out))
    for one in [] if json else found:
        _show(one)
    if found and not json:
        line(f"report: {out / folders.HTML}; the rest of it lies beside")
    failed = bool(result and any(done.state in FAILED for done in result.done.values()))
    leave(result.interrupted if result else None, failed, tracking.untracked, json)


def suite_of(suite: list[str] | None) -> tuple[str, ...]:
    """Return the parts of an evaluation that `--suite` names.

    Raises:
        InputError: if one of them is unknown, or none is named.
    """
    wanted = tuple(dict.fromkeys(split(suite or [SUITE])))
    problems = [
        Problem(f"--suite names {', '.join(SUITES)}, but got {name!r}", fix=nearest(name, SUITES))
        for name in wanted
        if name not in SUITES
    ]
    if problems or not wanted:
        raise InputError(problems or Problem("--suite must name at least one of its parts"))
    return wanted


def _show(found: Comparison) -> None:
    """Print a comparison on one screen."""
    from llmpred.report.tables import written

    group = found.group
    rows = []
    for row in found.rows:
        apart = row.apart
        seconds = row.evaluation_seconds if row.latency is None else row.latency.median
        rows.append(
            [
                row.scheme,
                written(row.score, "score"),
                written(row.interval, "interval"),
                written(apart and apart.value, "signed"),
                written(apart and apart.adjusted, "p"),
                written(row.train_seconds if row.trains else None, "time"),
                written(seconds, "time"),
            ]
        )
    if found.majority is not None:
        label, score = found.majority
        rows.append([f"always {label}", written(score, "score"), *[""] * 5])
    measured = any(row.latency is not None for row in found.rows)
    each = "one text" if measured else "an example"
    columns = ["scheme", group.metric, "95 % interval", "difference", "p (Holm)", "training", each]
    show_table(columns, rows, title=f"{group.title}, against {group.reference}")
    warn(found.warnings)
    line(found.advice, style="bold")
