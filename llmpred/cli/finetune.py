"""`llmpred finetune`: one run, by any number of processes, whose weights are kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Set,
    Storage,
    cell,
    complain,
    console,
    open_ledger,
    print_json,
    size,
    task_heads,
)
from llmpred.errors import InputError, Problem

if TYPE_CHECKING:
    from llmpred.ledger import Ledger, RunRecord
    from llmpred.spec.run import RunSpec

DEMO_RUN = "jobs/finetune.yaml"
KEY = re.compile(r"[0-9a-f]{3,64}")


def finetune(
    run: Annotated[
        str, typer.Argument(metavar="FILE|KEY", help="The run (YAML), or that of a record.")
    ] = DEMO_RUN,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: what the run says, or one.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How they share it: ddp, zero2, zero3, fsdp2; default as for --workers."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="New folder for weights, training and test results, and predictions.",
        ),
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after this many hours; resumable.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default RAY_ADDRESS, or this machine alone.")
    ] = None,
    no_tracking: Annotated[
        bool, typer.Option("--no-tracking", help="Log nothing to MLflow.")
    ] = False,
    json: Json = False,
) -> None:
    """Carry out one run and keep its weights: adapter, record and MLflow run. Rerunning resumes."""
    if out is not None:
        from llmpred.report.run_folder import check_empty

        check_empty(out)
    ledger = open_ledger(storage)
    ledger.storage.check_writable()
    changes = {
        "execution.distributed.workers": workers,
        "execution.distributed.strategy": strategy,
        "execution.keep": "all",
    }
    given = [f"{path}={value}" for path, value in changes.items() if value is not None]
    spec = _spec(run, [*(set_ or []), *given], ledger)
    if not spec.trains:
        law = "a fine-tune must train something, but this run has neither an adapter nor a head"
        fix = "Set method.adapter.kind to lora or full."
        raise InputError(Problem(law, f"{run}, method.adapter.kind", fix))

    from llmpred.cli.runs import bring_bases, leave, tracked
    from llmpred.sweep.collect import Limits, collect
    from llmpred.sweep.orders import FAILED
    from llmpred.sweep.plan import make_plan

    bring_bases({spec.base.name})
    planned = make_plan([(spec, run)], ledger, zero_shot=False)
    [resolved] = planned.runs.values()
    again = bool(planned.paid) and _lost_weights(ledger, resolved.key)
    if not json:
        for note in planned.notes:
            console(stderr=True).print(f"note: {note}", markup=False)
        if planned.paid and not again:
            console(stderr=True).print("note: paid for already; nothing to do", markup=False)
    if again:
        complain("recorded already, but its weights were not kept: training it once more")
    path = Path(run) if Path(run).is_file() else None
    idle = bool(planned.paid) and not again
    with tracked("finetune", path, planned, ledger, off=no_tracking or idle) as tracking:
        result = collect(
            planned,
            ledger,
            name="finetune",
            limits=Limits(max_hours),
            address=address,
            supersede=again,
            quiet=json,
            on_done=tracking.on_done,
        )
        tracking.interrupted = bool(result.interrupted)
    done = result.done.get(resolved.key)
    failed = not ledger.has(resolved.key) or (done is not None and done.state in FAILED)
    if failed:
        message = done.message if done else "it was not begun"
        if json:
            print_json({"key": resolved.key, "state": done and done.state, "message": message})
        elif not result.interrupted:
            complain(f"{done.state if done else 'failed'} {resolved.key[:10]}: {message}")
    else:
        record = ledger.get(resolved.key)
        if out is not None:
            from llmpred.report.run_folder import write

            write(ledger, record, out)
        _report(record, ledger, out, tracking.untracked, json)
    leave(result.interrupted, failed, tracking.untracked, json)


def _spec(run: str, overrides: list[str], ledger: Ledger) -> RunSpec:
    """Return the run of a file, or of the record whose key this is the beginning of."""
    from llmpred.spec.space import changed_run, load_run

    if Path(run).exists() or not KEY.fullmatch(run):
        return load_run(run, overrides, task_heads())
    record = ledger.get(run)
    if record.spec is None:
        law = f"only a run with a spec can be carried out, but {record.key} came from a table"
        raise InputError(Problem(law, fix="Write the run into a file."))
    document = record.spec.model_dump(mode="json", exclude_none=True)
    return changed_run(document, overrides, task_heads(), f"run {record.key[:10]}")


def _lost_weights(ledger: Ledger, key: str) -> bool:
    """Whether a recorded run went well and its weights are not there."""
    record = ledger.get(key)
    kept = record.adapter is not None and bool(ledger.storage.list(f"{record.adapter}/"))
    return record.status == "ok" and not kept


def _report(
    record: RunRecord, ledger: Ledger, out: Path | None, untracked: str | None, json: bool
) -> None:
    """Say what the run scored, what it took and where its weights are."""
    from llmpred.cli.runs import untouched_score
    from llmpred.report.run_folder import weights_name
    from llmpred.sweep.progress import duration

    base = untouched_score(record, ledger)
    where = f"{ledger.storage.root}/{record.adapter}" if record.adapter else None
    if out is not None and record.adapter and record.spec is not None:
        where = str(out / weights_name(record.spec.method))
    distributed = record.provenance.get("execution", {}).get("distributed")
    if json:
        print_json(
            {
                "key": record.key,
                "status": record.status,
                "accuracy_r": record.accuracy_r,
                "zero_shot": base,
                "metrics": record.metrics,
                "seconds": record.wall_seconds,
                "peak_memory_bytes": record.peak_memory_bytes,
                "distributed": distributed,
                "adapter": where,
                "folder": out and str(out),
                "untracked": untracked,
            }
        )
        return
    scores = ", ".join(f"{name} {cell(value)}" for name, value in record.metrics.items())
    lines: dict[str, Any] = {
        "run": f"{record.key[:10]}  {record.dataset} on {record.base}, {record.status}",
        "accuracy_r": cell(record.accuracy_r)
        + ("" if base is None else f"  (untouched base {cell(base)})"),
        "metrics": scores,
        "took": duration(record.wall_seconds.get("total", 0.0))
        + f", {size(record.peak_memory_bytes or 0)} "
        + ("a process" if distributed else "at its peak"),
        "processes": f"{distributed['workers']}, {distributed['strategy']}" if distributed else "1",
        "weights": where or "none were kept",
        "more": ledger.storage.hint(f"llmpred ledger show {record.key[:10]}"),
    }
    for name, value in lines.items():
        console().print(f"{name:<11} {value}", markup=False, soft_wrap=True)
