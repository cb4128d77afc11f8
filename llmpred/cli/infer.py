"""`llmpred infer`: answers of a run's model to texts, files and whoever types."""

from __future__ import annotations

import json as json_text
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Storage,
    complain,
    console,
    line,
    print_json,
    split,
    table,
    wait_passively,
)
from llmpred.errors import InputError, LlmpredError, Problem
from llmpred.wording import counted

if TYPE_CHECKING:
    from llmpred.inference import Answer, Predictor

SHOWN = 6  # labels whose probabilities a table has columns for
WIDTH = 60  # characters of a text in a table
QUIT = {"quit", "exit", "q"}
SAID_SECONDS = 10.0  # between two lines of progress where there is no terminal
BAD_ROW = Literal["error", "skip"]
DEVICE = Literal["auto", "cpu", "cuda"]


def infer(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Key of a run, or a folder of kept weights."),
    ],
    text: Annotated[list[str] | None, typer.Option(help="A text to answer. Repeatable.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="JSONL, CSV, TSV, Parquet or plain text, whose rows are answered."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --file: a .jsonl or .csv of the answers; default: JSON lines."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Answer what is typed, until quit, exit or q.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Answer five built-in examples.")] = False,
    base: Annotated[
        str | None, typer.Option(help="Where the base model lies, if not where the run says.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Examples a forward pass; default: the run's.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Of --file: that of the text, or FIELD=COLUMN. Repeatable."
        ),
    ] = None,
    on_bad_row: Annotated[str, typer.Option(help="Of --file: error or skip.")] = "error",
    storage: Storage = DEFAULT_STORAGE,
    json: Json = False,
) -> None:
    """Answer new inputs with a run's model, exactly as its evaluation did."""
    _check(text, file, out, interactive, demo, column)
    _among("--device", device, get_args(DEVICE))
    _among("--on-bad-row", on_bad_row, get_args(BAD_ROW))
    if file is not None:
        from llmpred.inference.stream import check_out

        check_out(file, out)
    wait_passively()
    from llmpred.inference import Predictor

    predictor = Predictor.load(run, base, cast(DEVICE, device), storage, batch=batch)
    for note in predictor.notes:
        complain(f"note: {note}")
    if file is not None:
        _answer_file(
            predictor, file, out, _columns(predictor, column), cast(BAD_ROW, on_bad_row), json
        )
    elif interactive:
        _converse(predictor, json)
    else:
        from llmpred.inference.examples import examples

        task = predictor.spec.task
        asked: list[Any] = list(text or examples(task.name, task.language))
        answers = predictor.predict_batch(asked)
        _show(predictor, asked, answers, json)


def _check(
    text: list[str] | None,
    file: Path | None,
    out: Path | None,
    interactive: bool,
    demo: bool,
    column: list[str] | None,
) -> None:
    """Check that one thing is asked, and nothing beside it that it does not take."""
    ways = {
        "--text": bool(text), "--file": file is not None,
        "--interactive": interactive, "--demo": demo,
    }  # fmt: skip
    given = [name for name, wanted in ways.items() if wanted]
    problems = []
    if len(given) != 1:
        law = f"one of {', '.join(ways)} must say what to answer"
        problems.append(Problem(f"{law}, but got {' and '.join(given) or 'none'}"))
    for name, value in (("--out", out), ("--column", column)):
        if value and file is None:
            problems.append(Problem(f"`{name}` belongs to --file", fix="Leave it out."))
    if problems:
        raise InputError(problems)


def _among(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        law = f"`{name}` must be {', '.join(choices[:-1])} or {choices[-1]}, but got {value}"
        raise InputError(Problem(law))


def _columns(predictor: Predictor, given: list[str] | None) -> dict[str, str]:
    """Return field -> column; a column alone is that of the field that is the text."""
    main = predictor.task.long_field
    pairs = (part.partition("=") for part in split(given))
    return {
        field if equals else main: column if equals else field for field, equals, column in pairs
    }


def _answer_file(
    predictor: Predictor,
    file: Path,
    out: Path | None,
    columns: dict[str, str],
    on_bad_row: BAD_ROW,
    json: bool,
) -> None:
    from llmpred.inference.stream import answer_file

    with _progress() as progress:
        done = answer_file(
            predictor,
            file,
            out,
            columns=columns,
            on_bad_row=on_bad_row,
            progress=progress,
            stdout=sys.stdout,
        )
    for note in done.notes:
        complain(f"note: {note}")
    rate = done.rows / max(done.seconds, 1e-9)
    if json and out is not None:
        print_json({"key": predictor.key, "out": str(out), "rows_per_second": rate, **asdict(done)})
        return
    said = f"{counted(done.rows, 'row')} answered in {done.seconds:.1f} s ({rate:,.0f} a second)"
    if done.skipped:
        said += f", {counted(done.skipped, 'bad row')} left out"
    if done.truncated:
        said += f", {counted(done.truncated, 'input')} truncated"
    complain(said + (f"; see {out}" if out else ""))


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Give what tells people how many rows are answered: a live line, or one every ten seconds."""
    shown, started, said = console(stderr=True), time.monotonic(), time.monotonic()

    def so_far(rows: int) -> str:
        rate = rows / max(time.monotonic() - started, 1e-9)
        return f"{counted(rows, 'row')} answered, {rate:,.0f} a second"

    if shown.is_terminal:
        with shown.status("reading") as status:
            yield lambda rows: status.update(so_far(rows))
        return

    def tell(rows: int) -> None:
        nonlocal said
        if time.monotonic() - said > SAID_SECONDS:
            said = time.monotonic()
            complain(so_far(rows))

    yield tell


def _converse(predictor: Predictor, json: bool) -> None:
    """Answer what is typed; what cannot be answered is said, and the next input asked for."""
    if sys.stdin.isatty():
        complain("a line is an input; quit, exit, q or the end of input ends")
    while (asked := _typed(predictor)) is not None:
        try:
            answer = predictor.predict(asked)
        except LlmpredError as error:
            complain(str(error))
            continue
        if json:
            typer.echo(json_text.dumps(asdict(answer), ensure_ascii=False))
        else:
            line(_said(answer))


def _typed(predictor: Predictor) -> dict[str, Any] | None:
    """Return the fields of the next input; None at the end."""
    fields: dict[str, Any] = {}
    for field in predictor.fields:
        several = field.kind == "texts"
        hint = " (separated by |)" if several else ""
        while field.required or several:
            if sys.stdin.isatty():
                typer.echo(f"{field.name}{hint}> ", nl=False, err=True)
            said = sys.stdin.readline()
            if not said or said.strip().lower() in QUIT:
                return None
            if said.strip():
                parts = [part.strip() for part in said.split("|")]
                fields[field.name] = parts if several else said.rstrip("\r\n")
            if said.strip() or not field.required:
                break
    return fields


def _said(answer: Answer) -> str:
    """Return an answer in a line."""
    if answer.counts is not None:
        low, *_, high = answer.counts["quantiles"]
        told = f"{answer.counts['route']}, {answer.counts['type']}"
        return f"{answer.counts['mean']:.3g} counts, 80 % in {low:.3g} to {high:.3g}  ({told})"
    if answer.number is not None:
        return _number(answer.number)
    if answer.confidence is None:
        return answer.label
    rest = ", ".join(f"{label} {share:.3f}" for label, share in answer.scores.items())
    cut = "; the input was truncated" if answer.truncated else ""
    return f"{answer.label}  {answer.confidence:.3f}  ({rest}{cut})"


def _number(number: dict[str, Any]) -> str:
    """Return in a line whether a number is due, and which."""
    sure = "" if number.get("probability") is None else f"  (P(<NUM>) {number['probability']:.3f})"
    if not number["due"]:
        return f"no number next{sure}"
    low, high = _ends(number)
    within = "" if low is None else f", 80 % in {low:.6g} to {high:.6g}"
    return f"{number['value']:.6g}{within}{sure}"


def _ends(number: dict[str, Any]) -> tuple[float | None, float | None]:
    quantiles = number.get("quantiles")
    return (None, None) if quantiles is None else (quantiles[0], quantiles[-1])


def _show(
    predictor: Predictor, asked: Sequence[Any], answers: Sequence[Answer], json: bool
) -> None:
    if json:
        rows = [
            {"input": given, **asdict(answer)} for given, answer in zip(asked, answers, strict=True)
        ]
        print_json({"key": predictor.key, "answers": rows})
        return
    title = f"{predictor.key[:10] if predictor.key else 'adapter'} on {predictor.spec.base.name}"
    if predictor.measures == "number":
        numbers = [answer.number or {} for answer in answers]
        table(
            ["input", "a number next", "P(<NUM>)", "rank", "value", "10 %", "90 %"],
            [
                [
                    _brief(given),
                    *(n.get(k) for k in ("due", "probability", "rank", "value")),
                    *_ends(n),
                ]
                for given, n in zip(asked, numbers, strict=True)
            ],
            title=title,
        )
    elif predictor.measures == "counts":
        counts = [answer.counts or {} for answer in answers]
        table(
            ["input", "mean", "10 %", "median", "90 %", "route", "type"],
            [
                [_brief(given), c["mean"], *c["quantiles"][::2], c["route"], c["type"]]
                for given, c in zip(asked, counts, strict=True)
            ],
            title=title,
        )
    else:
        labels = predictor.labels or ()
        labels = labels if len(labels) <= SHOWN else ()
        table(
            ["input", "label", "confidence", *labels],
            [
                [_brief(given), each.label, each.confidence, *(each.scores[n] for n in labels)]
                for given, each in zip(asked, answers, strict=True)
            ],
            title=title,
        )
    if cut := sum(answer.truncated for answer in answers):
        limit = predictor.spec.task.max_length
        complain(f"longer than {limit} tokens, and cut: {counted(cut, 'input')}")


def _brief(given: Any) -> str:
    parts = [given] if isinstance(given, str) else given.values()
    return shorten(" · ".join(map(str, parts)), WIDTH, placeholder=" …")
