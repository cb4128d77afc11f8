"""`llmpred ledger`: what was paid for, why a run is not, and runs made elsewhere."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    EXIT_FAILED,
    Json,
    Set,
    Storage,
    complain,
    line,
    open_ledger,
    print_json,
    size,
    split,
    table,
    task_heads,
)
from llmpred.errors import InputError, Problem, SpecError, StorageError, nearest
from llmpred.wording import counted

if TYPE_CHECKING:
    from llmpred.bases.resolve import ResolvedSpec
    from llmpred.ledger import Difference, Ledger, RunRecord
    from llmpred.spec.run import RunSpec

app = typer.Typer(help="The ground truth: every run that was paid for.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="Key of a run, or the beginning of one.")]
COLUMNS = (
    *("key", "dataset", "base", "method.head", "method.adapter.r", "optim.lr", "seed"),
    *("accuracy_r", "zero_shot_accuracy_r", "status", "wall.total", "created"),
)
ATTEMPT_COLUMNS = ("key", "state", "dataset", "base", "accuracy_r", "status", "created", "error")
BARS = "▁▂▃▄▅▆▇█"
# Paths of a payload that hold the hash of what the spec names.
HASHED = ("train.data.train", "train.data.validation", "evaluation.data", "train.base.weights")
ANSWER = 200  # characters of a target or a prediction


@app.command()
def ls(
    storage: Storage = DEFAULT_STORAGE,
    attempts: Annotated[bool, typer.Option("--attempts", help="Also failed attempts.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Also superseded and retracted records.")
    ] = False,
    sort: Annotated[str, typer.Option(help="Column to sort by, highest first.")] = "created",
    ascending: Annotated[bool, typer.Option("--ascending", help="Lowest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 50,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Such as dataset=sst2,base=minilm. Repeatable."),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Columns to show; `all` lists every one.")
    ] = None,
    json: Json = False,
) -> None:
    """List runs."""
    ledger = _existing(storage)
    found = ledger.table(attempts=attempts, history=history)
    names = list(found.schema.names)
    default = [c for c in (ATTEMPT_COLUMNS if attempts else COLUMNS) if c in names]
    if history and "state" not in default:
        default.insert(1, "state")
    wanted = split(columns) or default
    if wanted == ["all"]:
        wanted = names
    conditions = _conditions(where)
    _check_columns({sort: "--sort"} | dict.fromkeys(conditions, "--where"), names)
    _check_columns(dict.fromkeys(wanted, "--columns"), names)
    rows = [
        row
        for row in found.to_pylist()
        if all(_holds(row[name], value) for name, value in conditions.items())
    ]
    known = [row for row in rows if row[sort] is not None]
    known.sort(key=lambda row: row[sort], reverse=not ascending)
    ordered = known + [row for row in rows if row[sort] is None]
    shown = [{name: row[name] for name in wanted} for row in ordered[:limit]]
    _warn_of_damage(ledger)
    if json:
        print_json(shown)
        return
    if not shown:
        typer.echo(f"no runs in {ledger.storage}" + (" fit" if conditions else ""))
        return
    body = [[_short(name, value) for name, value in row.items()] for row in shown]
    table([name.removeprefix("method.") for name in wanted], body)
    if len(ordered) > limit:
        typer.echo(f"{limit} of {counted(len(ordered), 'run')}; --limit shows more")


@app.command()
def show(
    key: Key,
    storage: Storage = DEFAULT_STORAGE,
    predictions: Annotated[int, typer.Option(min=0, help="How many predictions to show.")] = 5,
    json: Json = False,
) -> None:
    """Show one run: what it was, what it scored, its loss curve and some predictions."""
    ledger = _existing(storage)
    record = ledger.get(key)
    attempts = ledger.attempts(record.key)
    rows = []
    if record.predictions_sha256 is not None:
        rows = _some_predictions(ledger.predictions(record.key).to_pylist(), predictions)
    if json:
        print_json(
            {
                "record": record.model_dump(mode="json"),
                "attempts": [attempt.model_dump(mode="json") for attempt in attempts],
                "predictions": rows,
            }
        )
        return
    line(record.key, style="bold")
    for name, value in _facts(record).items():
        line(f"{name:<12}{value}")
    if record.spec is not None:
        spec = record.spec.model_dump(mode="json", exclude_none=True)
        for part in ("task", "dataset", "base", "method", "optim", "evaluation"):
            text = jsonlib.dumps(spec[part], ensure_ascii=False)
            line(f"{part:<12}{text}")
    losses = [loss for row in record.loss_curve if (loss := row.get("loss")) is not None]
    if losses:
        first, last = losses[0], losses[-1]
        line(f"{'loss':<12}{sparkline(losses)}  {first:.4g} → {last:.4g}")
    if attempts:
        line(f"{'attempts':<12}{len(attempts)} failed before: {attempts[-1].error}")
    if rows:
        table(
            ["id", "target", "prediction", "right"],
            [
                [
                    row["id"],
                    *(_answer(row[name]) for name in ("target", "prediction")),
                    "yes" if row["right"] else "no",
                ]
                for row in rows
            ],
            title="predictions",
        )


@app.command()
def diff(
    key: Key,
    spec: Annotated[str, typer.Argument(help="A run or a search space (YAML).")],
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Say why a run of SPEC is not already paid for by the record KEY."""
    from llmpred.bases.resolve import ResolvedSpec
    from llmpred.ledger import diff as differences

    ledger = _existing(storage)
    record = ledger.get(key)
    if record.spec is None:
        law = f"only a run with a spec can be compared, but {record.key} was imported from a table"
        raise InputError(Problem(law, str(ledger.storage)))
    runs = _resolved_runs(spec, set_ or [])
    held = ResolvedSpec(
        spec=record.spec,
        hashes=record.hashes,
        versions=record.versions,
        dataset=record.dataset,
        base=record.base,
        counts=record.counts,
        parameters=0,
    )
    compared = [(differences(held.payload(), run.payload()), run) for run in runs]
    found, nearest_run = min(compared, key=lambda pair: len(pair[0]))
    reasons = _named_content(held, nearest_run, found)
    paid = ledger.has(nearest_run.key)
    same = nearest_run.key == record.key
    verdict = _verdict(record, nearest_run, same=same, paid=paid, differing=len(found))
    if json:
        print_json(
            {
                "record": record.key,
                "run": nearest_run.key,
                "runs_compared": len(runs),
                "same": same,
                "paid": paid,
                "verdict": verdict,
                "differences": [_sides(each) for each in found],
                "because": [_sides(each) for each in reasons],
            }
        )
        return
    if len(runs) > 1:
        line(f"nearest of {counted(len(runs), 'run')} of {spec}: {nearest_run.key[:10]}")
    if found:
        names = ["what", f"record {record.key[:10]}", f"run {nearest_run.key[:10]}"]
        table(names, [[_brief(side) for side in _sides(each).values()] for each in found])
    if reasons:
        names = ["behind the hashes", "record", "run"]
        table(names, [[str(side) for side in _sides(each).values()] for each in reasons])
    elif any(each.path in HASHED for each in found):
        line("What is hashed is named alike and as large; its content has changed.")
    line(verdict)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help=".csv, .parquet or .jsonl")],
    storage: Storage = DEFAULT_STORAGE,
    attempts: Annotated[bool, typer.Option("--attempts", help="Also failed attempts.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Also superseded and retracted records.")
    ] = False,
    json: Json = False,
) -> None:
    """Write one row a run to a file, by its suffix."""
    from llmpred.ledger import export as write

    ledger = _existing(storage)
    rows = write(ledger, file, attempts=attempts, history=history)
    _warn_of_damage(ledger)
    if json:
        print_json({"file": str(file), "rows": rows})
    else:
        typer.echo(f"{_counted(rows, 'run')} written to {file}")


@app.command("import")
def import_(
    file: Annotated[Path | None, typer.Argument(help="A table: .csv, .parquet or .jsonl")] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OURS=THEIRS",
            help="Such as accuracy_r=score,dataset=task,base=model. Repeatable.",
        ),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=VALUE", help="For all rows, such as base=qwen2.5-7b."),
    ] = None,
    scale: Annotated[float, typer.Option(help="Scores are divided by it; 100 for percent.")] = 1.0,
    adapter: Annotated[
        Path | None, typer.Option(help="Folder of a PEFT adapter to score, with --spec.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="The run that the adapter stands for (YAML).")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    json: Json = False,
) -> None:
    """Take in fine-tunes made elsewhere: a table of scores, or an adapter that is scored here."""
    if (file is None) == (adapter is None):
        law = "an import takes either a table or --adapter"
        raise InputError(Problem(law, fix="Such as runs.csv --map accuracy_r=score,dataset=task."))
    ledger = open_ledger(storage)
    if adapter is not None:
        if spec is None:
            law = "an adapter does not say what it was trained for"
            raise InputError(Problem(law, str(adapter), "Give --spec RUN.yaml."))
        ledger.storage.check_writable()
        _import_adapter(ledger, adapter, spec, json)
        return
    from llmpred.ledger import import_table

    assert file is not None  # one of the two is given
    if scale <= 0:
        raise InputError(Problem(f"--scale must be above 0, but got {scale:g}"))
    mapping, constants = _pairs(map_, "--map"), _pairs(constant, "--constant")
    done = import_table(ledger, file, mapping, constants=constants, scale=scale)
    if json:
        print_json(dataclasses.asdict(done))
    else:
        known = f"; {len(done.known):,} were there before" if done.known else ""
        typer.echo(f"{_counted(len(done.added), 'run')} imported into {ledger.storage}{known}")


@app.command()
def retract(
    key: Key,
    why: Annotated[str, typer.Option(help="The reason, for people.")],
    storage: Storage = DEFAULT_STORAGE,
    json: Json = False,
) -> None:
    """Mark a run as not to be trusted: the record stays, the next collection runs it again."""
    record = _existing(storage).retract(key, why)
    if json:
        print_json({"key": record.key, "revision": record.revision, "why": why})
    else:
        typer.echo(f"{record.key} is retracted; the next collection that asks for it runs it again")


@app.command()
def compact(
    storage: Storage = DEFAULT_STORAGE,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Folded files are deleted when their segment is this old.")
    ] = 3600.0,
    json: Json = False,
) -> None:
    """Fold loose records into segments, so that a large ledger opens fast. Safe at any time."""
    done = _existing(storage).compact(grace_seconds)
    if json:
        print_json(dataclasses.asdict(done))
    else:
        typer.echo(
            f"{_counted(done.folded, 'record')} folded into "
            f"{_counted(len(done.segments), 'segment')}, {_counted(done.deleted, 'file')} deleted"
        )


@app.command()
def verify(storage: Storage = DEFAULT_STORAGE, json: Json = False) -> None:
    """Read every file and say what is torn, tampered with, misnamed, duplicate or missing."""
    ledger = _existing(storage)
    findings = ledger.verify()
    if json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    elif findings:
        columns = ["kind", "path", "key", "message"]
        table(columns, [[f.kind, f.path, f.key[:10], f.message] for f in findings])
    else:
        typer.echo(f"{ledger.storage} is sound: {_counted(len(ledger.keys()), 'run')}")
    if findings:
        raise typer.Exit(EXIT_FAILED)


@app.command("sync-mlflow")
def sync_mlflow(
    storage: Storage = DEFAULT_STORAGE,
    uri: Annotated[
        str | None,
        typer.Option(help="MLflow's; default MLFLOW_TRACKING_URI, or beside the ledger."),
    ] = None,
    json: Json = False,
) -> None:
    """Log to MLflow every run that it does not have."""
    from llmpred.redaction import redact
    from llmpred.tracking import Tracker, sync

    ledger = _existing(storage)
    tracker = Tracker(uri, "llmpred", ledger.storage.root)
    done = sync((ledger.get(key) for key in sorted(ledger.keys())), tracker)
    if json:
        print_json({"uri": redact(tracker.uri), **done._asdict(), "unlogged": tracker.unlogged})
    else:
        typer.echo(f"{_counted(done.logged, 'run')} logged, {done.already:,} were logged before")
        if summary := tracker.summary():
            complain(summary)
    if done.failed:
        raise typer.Exit(EXIT_FAILED)


# --- reading -----------------------------------------------------------------------------------


def _existing(storage: str) -> Ledger:
    """Open a ledger to read it; a local folder that is not there is likely misspelt."""
    ledger = open_ledger(storage)
    root = ledger.storage.root
    if "://" not in root and not Path(root).is_dir():
        law = "the storage must exist, but there is no such folder"
        raise StorageError(
            Problem(law, root, "Check --storage; `llmpred collect` makes one on its first run.")
        )
    return ledger


def _warn_of_damage(ledger: Ledger) -> None:
    if ledger.damaged:
        damaged = counted(len(ledger.damaged), "damaged file")
        verify = ledger.storage.hint("llmpred ledger verify")
        complain(f"counted as absent: {damaged}; `{verify}` says which")


def _pairs(options: Iterable[str] | None, option: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in split(options)]
    wrong = [name + equals + value for name, equals, value in pairs if not (name and value)]
    if wrong:
        law = f"it takes NAME=VALUE, but got {', '.join(map(repr, wrong))}"
        raise InputError(Problem(law, option))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _short(name: str, value: Any) -> Any:
    """Return a cell as the list shows it: keys that can be told apart, time by the second."""
    if not isinstance(value, str):
        return value
    return {"key": value[:10], "created": value[:19].replace("T", " ")}.get(name, value)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _conditions(where: list[str] | None) -> dict[str, str]:
    return _pairs(where, "--where")


def _check_columns(asked: dict[str, str], names: Sequence[str]) -> None:
    problems = [
        Problem(f"there is no column `{name}`", option, nearest(name, names))
        for name, option in asked.items()
        if name not in names
    ]
    if problems:
        raise InputError(problems)


def _holds(value: Any, wanted: str) -> bool:
    """Return whether a cell is what the user wrote: equal as text, or as numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() == wanted.lower() if value is not None else wanted == ""
    try:
        return float(wanted) == value
    except ValueError:
        return False


def _some_predictions(rows: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Return some rows, wrong and right ones in turn, with whether they are right."""
    for row in rows:
        row["right"] = _is_right(row["target"], row["prediction"])
    wrong = [row for row in rows if not row["right"]]
    right = [row for row in rows if row["right"]]
    shown = wrong[: max(wanted - len(right), (wanted + 1) // 2)]
    return shown + right[: wanted - len(shown)]


def _is_right(target: str, prediction: str) -> bool:
    """Return whether a stored answer is the target, or one of the accepted ones."""
    accepted, answer = jsonlib.loads(target), jsonlib.loads(prediction)
    return bool(answer == accepted or (isinstance(accepted, list) and answer in accepted))


def _answer(text: str) -> str:
    """Return a stored target or answer for people, long ones cut."""
    value = jsonlib.loads(text)
    shown = " | ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shown if len(shown) <= ANSWER else shown[: ANSWER - 1] + "…"


def _facts(record: RunRecord) -> dict[str, str]:
    """Return what came out of a run, for people."""
    facts = {
        "status": record.status + (" (imported)" if record.origin == "imported" else ""),
        "dataset": record.dataset,
        "base": record.base,
        "accuracy_r": "–" if record.accuracy_r is None else f"{record.accuracy_r:.4f}",
        "metrics": _listed(record.metrics),
        "rows": _listed(record.counts),
        "seconds": _listed(record.wall_seconds),
        "tokens": _listed(record.tokens),
        "memory": size(record.peak_memory_bytes) if record.peak_memory_bytes else "",
        "zero-shot": record.zero_shot_key or "",
        "adapter": record.adapter or "",
        "fields": _listed(record.fields),
        "made": f"{record.provenance.get('created', '')} {record.provenance.get('host', '')}",
        "error": record.error or "",
    }
    return {name: value for name, value in facts.items() if value.strip()}


def _listed(values: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {text(value)}" for name, value in values.items())


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return values as a line of bars, averaged to at most `width` of them."""
    step = max(1.0, len(values) / width)
    parts = [
        values[int(i * step) : max(int(i * step) + 1, int((i + 1) * step))]
        for i in range(min(width, len(values)))
    ]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BARS[round((mean - low) / span * (len(BARS) - 1))] for mean in means)


# --- why a run is not paid for -----------------------------------------------------------------


def _resolved_runs(path: str, overrides: list[str]) -> list[ResolvedSpec]:
    """Return the runs of a space, or the one run of a file, settled."""
    from llmpred.bases.resolve import resolve

    problems: list[Problem] = []
    runs = []
    for spec in _specs(path, overrides):
        try:
            runs.append(resolve(spec))
        except InputError as error:
            problems += [Problem(p.law, p.where or path, p.fix) for p in error.problems]
    if not problems and not runs:
        problems.append(Problem("a search decides its runs as it goes, so none is known", path))
    if problems:
        raise SpecError(problems)
    return runs


def _specs(path: str, overrides: list[str]) -> list[RunSpec]:
    from llmpred.spec.overrides import LISTS
    from llmpred.spec.space import expand, load_run, load_space
    from llmpred.spec.yaml import read_yaml

    heads = task_heads()
    if LISTS.values() & read_yaml(path).keys():
        return expand(load_space(path, tuple(overrides), heads))
    return [load_run(path, overrides, heads)]


def _named_content(
    held: ResolvedSpec, run: ResolvedSpec, found: Sequence[Difference]
) -> list[Difference]:
    """Return what stands behind hashes that differ: in the two specs, or in the rows they read."""
    from llmpred.ledger import diff as differences

    paths = {each.path for each in found}
    parts: set[str] = set()
    if any(path.startswith("train.data") for path in paths):
        parts |= {"dataset"}
    if "evaluation.data" in paths:
        parts |= {"evaluation", "dataset"}
    if "train.base.weights" in paths:
        parts |= {"base"}

    def content(of: ResolvedSpec) -> dict[str, Any]:
        spec = of.spec.model_dump(mode="json")
        rows = {name: of.counts.get(name) for name in ("train", "validation", "evaluation")}
        return {part: spec[part] for part in parts} | ({"rows": rows} if parts - {"base"} else {})

    named = differences(content(held), content(run))
    return [each for each in named if each.path != "dataset.name"]


def _verdict(
    record: RunRecord, run: ResolvedSpec, *, same: bool, paid: bool, differing: int
) -> str:
    if same and paid:
        return "The run is paid for: it is this record."
    if same:
        return "It is the run of this record, but the record was retracted, so it would run again."
    if paid:
        return f"Another record has already paid for the run: {run.key}."
    if not differing and record.origin == "imported":
        return (
            "The run is not paid for: the record was imported, and how it was trained is unknown."
        )
    if not differing:
        return "The run is not paid for: its key was made by another version of llmpred."
    places = _counted(differing, "place")
    return f"The run is not paid for: it differs from the record in {places}."


def _brief(side: Any) -> str:
    """Return a side of a difference, a hash by its beginning."""
    text = str(side)
    return text[:12] + "…" if re.fullmatch("[0-9a-f]{64}", text) else text


def _sides(each: Difference) -> dict[str, Any]:
    from llmpred.ledger.difference import ABSENT

    left, right = ("(absent)" if side is ABSENT else side for side in (each.left, each.right))
    return {"path": each.path, "record": left, "run": right}


# --- adapters made elsewhere -------------------------------------------------------------------


def _import_adapter(ledger: Ledger, adapter: Path, path: Path, json: bool) -> None:
    from llmpred.bases.resolve import resolve
    from llmpred.engine.imported import adapter_problems, content_hash, imported_keys, score
    from llmpred.spec.space import load_run

    spec = load_run(path, heads=task_heads())
    problems = adapter_problems(adapter, spec)
    if problems:
        raise SpecError(problems)
    resolved = resolve(spec)
    key, train_key = imported_keys(resolved, content_hash(adapter))
    if ledger.has(key):
        if json:
            print_json({"key": key, "accuracy_r": ledger.get(key).accuracy_r, "known": True})
        else:
            typer.echo(f"{key} was there before: the same adapter, scored the same way")
        return
    with tempfile.TemporaryDirectory(prefix="llmpred-import-") as scratch:
        outcome = score(resolved, adapter, Path(scratch))
    record = outcome.record.model_copy(update={"key": key, "train_key": train_key})
    if spec.execution.keep != "none":
        place = f"adapters/{train_key}"
        ledger.storage.put_folder(adapter, place)
        record = record.model_copy(update={"adapter": place})
    record = ledger.put(record, outcome.predictions)
    if json:
        print_json({"key": key, "accuracy_r": record.accuracy_r, "known": False})
    else:
        typer.echo(f"{key} imported: accuracy_r {record.accuracy_r:.4f}, {_listed(record.metrics)}")
