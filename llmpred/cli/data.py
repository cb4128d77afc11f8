"""`llmpred data`: what a dataset looks like to a run, before anything is trained on it."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import Json, Set, console, line, print_json, split, task_heads
from llmpred.errors import BaseError, InputError, Problem, SpecError, nearest

if TYPE_CHECKING:
    from rich.text import Text

    from llmpred.engine.check import DatasetCheck, Rendered
    from llmpred.spec.run import BaseSpec, RunSpec
    from llmpred.spec.space import Space
    from llmpred.tasks.base import Task

app = typer.Typer(help="What a dataset looks like to a run.", no_args_is_help=True)

TaskName = Annotated[
    str | None, typer.Option("--task", help="sentiment, qa, summarization, multiple_choice, …")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=COLUMN", help="Such as text=review,label=stars. Repeatable."),
]
SHOWN = 600  # characters of a prompt on the screen


@app.command("check")
def check_command(
    source: Annotated[str, typer.Argument(metavar="FILE|SPACE", help="Data, or a search space.")],
    task: TaskName = None,
    columns: Columns = None,
    base: Annotated[str | None, typer.Option(help="Whose tokenizer counts.")] = None,
    head: Annotated[
        str | None, typer.Option(help="label_scoring, classifier, causal_lm or numeric.")
    ] = None,
    eval_: Annotated[
        str | None, typer.Option("--eval", metavar="FILE", help="Evaluation rows, for overlap.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens a sequence has.")] = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Rendered prompts with the loss mask, lengths, truncation, balance, duplicates, overlap."""
    if is_space(source):
        refuse_for_space(task=task, columns=columns, base=base, head=head, eval=eval_)
        lengths = [f"task.max_length={max_length}"] if max_length is not None else []
        found = _check_space(source, [*(set_ or []), *lengths])
    else:
        found = [_check_file(source, task, columns, base, head, eval_, max_length, set_)]
    if json:
        print_json([dataclasses.asdict(each) for each in found])
        return
    for each in found:
        _show(each, short=len(found) > 1)


@app.command()
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Data.")],
    task: TaskName = None,
    columns: Columns = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many examples.")] = 5,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Show the first examples as the task sees them: its fields, mapped and checked."""
    from itertools import islice

    from llmpred.data import load
    from llmpred.tasks.prepare import Examples

    found, spec = run_of_file(file, task, columns, None, None, None, None, set_)
    loaded = load(spec.dataset, found.fields, found.parse)
    examples = list(islice(Examples(loaded.table), n))
    if json:
        print_json(
            {
                "rows": loaded.table.num_rows,
                "skipped": loaded.skipped,
                "columns": loaded.columns,
                "notes": loaded.notes,
                "examples": examples,
            }
        )
        return
    mapped = ", ".join(f"{field} from {column}" for field, column in loaded.columns.items())
    line(f"{file}: {loaded.table.num_rows:,} rows for {found.name}; {mapped}")
    for note in loaded.notes:
        line(f"note: {note}")
    for place, example in enumerate(examples, 1):
        line(f"\n{place}", style="bold")
        for name, value in example.items():
            text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False)
            line(f"  {name}: {_cut(text)}")


# --- one file ----------------------------------------------------------------------------------


def _check_file(
    source: str,
    task: str | None,
    columns: list[str] | None,
    base: str | None,
    head: str | None,
    eval_: str | None,
    max_length: int | None,
    overrides: list[str] | None,
) -> DatasetCheck:
    import pyarrow as pa

    from llmpred.bases.resolve import read_by_head
    from llmpred.data import load
    from llmpred.engine.check import check
    from llmpred.tasks.prepare import Examples

    found, spec = run_of_file(source, task, columns, base, head, eval_, max_length, overrides)
    train = load(spec.dataset, found.fields, found.parse)
    data = spec.evaluation.data
    evaluation = load(data, found.fields, found.parse) if data is not None else None
    rows, notes = found.derive(spec.task, train.table)
    asked, _ = (None, ()) if evaluation is None else found.derive(spec.task, evaluation.table)
    learnt, rows, told = found.learn(spec.task, rows)
    tables = [rows, *([asked] if asked is not None else [])]
    examples = Examples(pa.concat_tables(tables, promote_options="default"))
    settled = read_by_head(spec, found, found.settle(learnt, examples))
    spec = spec.model_copy(update={"task": settled})
    return check(
        spec.dataset.name or Path(source).name,
        found,
        spec,
        rows,
        asked,
        _tokenizer(spec, asked=base is not None),
        [*train.notes, *(evaluation.notes if evaluation is not None else ()), *notes, *told],
    )


def run_of_file(
    source: str,
    task: str | None,
    columns: list[str] | None,
    base: str | None,
    head: str | None,
    eval_: str | None,
    max_length: int | None,
    overrides: list[str] | None,
) -> tuple[Task, RunSpec]:
    """Return the task and the run that the options describe; nothing of it is ever trained."""
    from pydantic import ValidationError

    from llmpred.bases.resolve import with_head
    from llmpred.spec.distributions import dotted
    from llmpred.spec.overrides import LISTS, apply_overrides
    from llmpred.spec.problems import from_pydantic
    from llmpred.spec.run import RunSpec
    from llmpred.tasks import registry

    if task is None:
        raise SpecError(
            Problem(
                "a data file does not say which task it is for",
                source,
                f"Give --task: {', '.join(registry.names())}.",
            )
        )
    found = registry.get(task)
    mapped = pairs_of(columns, "--columns")
    data = {"source": source, "columns": mapped}
    base = base or _base_at_hand(head)
    document: dict[str, Any] = {
        "task": {"name": task, **({"max_length": max_length} if max_length else {})},
        "datasets": [data],
        "bases": [{"name": base}],
        "methods": [{"head": head or "auto"}],
        "optim": {"max_steps": 1},
        "evaluation": {"data": {"source": eval_}} if eval_ else {"holdout": 0.5},
    }
    _, problems = apply_overrides(document, overrides or [], tuple(document))
    if problems:
        raise SpecError(problems)
    run = {k: v for k, v in document.items() if k not in LISTS.values()}
    run |= {single: document[plural][0] for single, plural in LISTS.items()}
    try:
        spec = RunSpec.model_validate_json(jsonlib.dumps(run), strict=True)
    except ValidationError as error:
        raise SpecError(from_pydantic(error, RunSpec, lambda path: dotted(path)).values()) from None
    spec = with_head(spec, _kind(spec.base))
    if spec.method.head not in found.heads:
        law = f"the task {task} is done by {', '.join(found.heads)}, but the head is {head!r}"
        raise SpecError(Problem(law, "--head", nearest(str(head), found.heads)))
    return found, spec


def pairs_of(options: list[str] | None, option: str) -> dict[str, str]:
    """Return the names and values of a repeatable option of the form NAME=VALUE."""
    pairs = [part.partition("=") for part in split(options)]
    wrong = [name + equals + value for name, equals, value in pairs if not (name and value)]
    if wrong:
        law = f"a mapping is written FIELD=COLUMN, but got {', '.join(map(repr, wrong))}"
        raise InputError(Problem(law, option, "Such as --columns text=review,label=stars."))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _base_at_hand(head: str | None) -> str:
    """Return a base that is on this machine and fits the head, for its tokenizer."""
    from llmpred.bases.fetch import is_here
    from llmpred.bases.registry import KNOWN

    causal, encoders = (
        [name for name in KNOWN if KNOWN[name].kind == kind and is_here(name)]
        for kind in ("causal", "encoder")
    )
    return (encoders + causal if head in ("classifier", "boosted") else causal)[
        0
    ]  # one comes with llmpred


def _kind(base: BaseSpec) -> str | None:
    """Return whether a base is `causal` or an `encoder`; None if it is not here to be looked at."""
    from llmpred.bases.locate import locate
    from llmpred.bases.registry import KNOWN

    if base.name in KNOWN:
        return KNOWN[base.name].kind
    try:
        return locate(base).kind
    except BaseError:
        return None


def _tokenizer(spec: RunSpec, *, asked: bool) -> Any:
    """Return the tokenizer of a run; None if its base is not here and nobody asked for it."""
    from llmpred.bases.fetch import is_here
    from llmpred.bases.load import load_tokenizer
    from llmpred.bases.locate import locate
    from llmpred.bases.registry import KNOWN

    base = spec.base.name
    here = Path(base).expanduser().is_dir() or (base in KNOWN and is_here(base))
    if not here and not asked:
        return None
    return load_tokenizer(locate(spec.base), numbers=spec.method.reads_numbers)


# --- a space -----------------------------------------------------------------------------------


def is_space(source: str) -> bool:
    """Whether an argument names a search space rather than data."""
    return Path(source).suffix.lower() in (".yaml", ".yml")


def refuse_for_space(**options: Any) -> None:
    """Refuse options that describe a data file where a space says it itself."""
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        law = f"a search space says this itself, but got {', '.join(given)}"
        raise InputError(Problem(law, fix="Change the space by --set, such as --set base=minilm."))


def _check_space(path: str, overrides: list[str]) -> list[DatasetCheck]:
    """Check each dataset of a space as its first run uses it."""
    from llmpred.bases.resolve import read_by_head, with_head
    from llmpred.engine.check import check
    from llmpred.spec.space import load_space
    from llmpred.tasks.prepare import prepare

    first: dict[int, RunSpec] = {}
    variants: dict[int, set[str]] = {}
    for place, run in _runs(load_space(path, tuple(overrides), task_heads())):
        if run.trains:
            first.setdefault(place, run)
            variants.setdefault(place, set()).add(run.dataset.model_dump_json())
    if not first:
        law = "a space whose data is checked must train, but this one does not"
        raise SpecError(Problem(law, path))
    found, problems = [], []
    for place, spec in sorted(first.items()):
        try:
            spec = with_head(spec, _kind(spec.base))
            prepared = prepare(spec)
            settled = read_by_head(spec, prepared.task, prepared.spec)
            notes = list(prepared.notes)
            if len(variants[place]) > 1:
                notes.append(f"the first of {len(variants[place])} variants that the space draws")
            found.append(
                check(
                    spec.dataset.name or spec.dataset.source,
                    prepared.task,
                    spec.model_copy(update={"task": settled}),
                    prepared.train,
                    prepared.evaluation,
                    _tokenizer(spec, asked=False),
                    notes,
                )
            )
        except InputError as error:
            problems += [
                Problem(p.law, p.where or f"{path}, datasets[{place}]", p.fix)
                for p in error.problems
            ]
    if problems:
        raise SpecError(problems)
    return found


def _runs(space: Space) -> Iterator[tuple[int, RunSpec]]:
    """Yield runs with the place of their dataset; of a search, one of each combination."""
    from llmpred.spec.distributions import ENUMERABLE
    from llmpred.spec.space import combinations, materialize, planned_runs

    if space.mode == "collect":
        for planned in planned_runs(space):
            yield planned.combination.dataset, planned.run
        return
    for combination in combinations(space):
        values = {
            leaf.name: leaf.choices[0] if leaf.kind in ENUMERABLE else leaf.args[0]
            for leaf in combination.leaves
        }
        yield combination.dataset, materialize(space, combination, values)


# --- showing -----------------------------------------------------------------------------------


def _show(found: DatasetCheck, *, short: bool) -> None:
    terminal = console().is_terminal
    against = (
        f", {found.evaluation_rows:,} to evaluate" if found.evaluation_rows is not None else ""
    )
    line(f"\n{found.name}: {found.rows:,} rows{against}", style="bold")
    line(f"{found.task} by {found.head}, language {found.language}")
    for place, rendered in enumerate(found.samples[: 1 if short else 3], 1):
        line(f"\nexample {place}" + (" (truncated)" if rendered.truncated else ""))
        line(_masked(rendered, found.head, terminal=terminal))
    if not short:
        mark = "bold and underlined" if terminal else "⟦in brackets⟧"
        line(f"\nOnly the target ({mark}) is in the loss.")
    line()
    for name, value in _figures(found):
        line(f"{name:<26}{value}")
    for note in found.notes:
        line(f"note: {note}")
    for warning in found.warnings:
        line(f"warning: {warning}", style="yellow")
    if not found.warnings:
        line("no warnings", style="green")


def _figures(found: DatasetCheck) -> list[list[str]]:
    lengths, repeats = found.lengths, found.duplicates
    by = f" of {found.base}" if found.base else " (no tokenizer at hand: give --base)"
    looked = f" (of {lengths.rows:,} rows)" if lengths.rows < found.rows else ""
    rows = [
        [
            f"{lengths.unit}{by}",
            f"min {lengths.minimum}, median {lengths.median:g}, 95 % {lengths.p95}, "
            f"max {lengths.maximum}{looked}",
        ],
    ]
    if found.truncated is not None:
        rows.append(["truncated", f"{found.truncated:.1%} above {found.max_length} tokens"])
    for name, labels in (("labels", found.labels), ("in evaluation", found.evaluation_labels)):
        if labels:
            total = sum(labels.values())
            shown = [f"{label} {count:,} ({count / total:.1%})" for label, count in labels.items()]
            rows.append([name, ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")])
    some = f" (of {repeats.compared:,} rows)" if repeats.compared < repeats.rows else ""
    rows.append(["duplicates", f"{repeats.exact:.1%} exactly, {repeats.near:.1%} nearly{some}"])
    if repeats.evaluation_exact is not None and repeats.evaluation_near is not None:
        rows.append(
            [
                "overlap",
                f"{repeats.evaluation_exact:.1%} of evaluation rows are in the training rows "
                f"exactly, {repeats.evaluation_near:.1%} nearly",
            ]
        )
    rows.append(["contradictory", f"{found.contradictory:.1%}"])
    return rows


def _masked(rendered: Rendered, head: str, *, terminal: bool) -> Text:
    from rich.text import Text

    arrow = " → class " if head == "classifier" else ""
    text = Text(_cut(rendered.prompt) + arrow, style="dim" if terminal else "")
    target = _cut(rendered.target)
    if not terminal:
        return text.append(f"⟦{target}⟧")
    return text.append(target, "bold underline not dim")


def _cut(text: str) -> str:
    """Return a long text without its middle: the question often stands at its end."""
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
