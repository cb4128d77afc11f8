"""`llmpred complexity`: how long a reasoning model thinks about a prompt."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from llmpred.cli import complexity_labels
from llmpred.cli.common import Json, line, print_json, table, warn
from llmpred.errors import InputError, Problem, StorageError, nearest

if TYPE_CHECKING:
    from llmpred.tasks.complexity.counting import Summary

app = typer.Typer(help="How long a reasoning model thinks about a prompt.", no_args_is_help=True)

app.command("label")(complexity_labels.label_command)

BAD_ROW = Literal["error", "skip"]
QUANTILES = {"min": 0.0, "10 %": 0.1, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "90 %": 0.9}
QUANTILES |= {"max": 1.0}
NEARLY_ALL = 0.9  # share of prompts that count 0 beyond which a kind tells them apart no more
FEW = 0.05  # share of censored responses beyond which counts are too low
PART = ".part"  # of the output's name, until it is whole


@app.command("count")
def count_command(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Prompts and responses: JSONL, CSV, Parquet, …"),
    ],
    prompt: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Default: prompt, question, instruction.")
    ] = None,
    response: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Default: response, reasoning, output, answer."),
    ] = None,
    kind: Annotated[str, typer.Option(help="units, wait, tokens or sentences.")] = "units",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write a row a prompt.")
    ] = None,
    on_bad_row: Annotated[str, typer.Option(help="error or skip.")] = "error",
    json: Json = False,
) -> None:
    """Count the reasoning of responses; a prompt with several has the median of their counts."""
    from llmpred.data import load
    from llmpred.spec.run import SourceSpec
    from llmpred.tasks.complexity import counting
    from llmpred.tasks.prepare import Examples

    _among("--kind", kind, counting.KINDS)
    _among("--on-bad-row", on_bad_row, get_args(BAD_ROW))
    if out is not None:
        _check_out(file, out)
    given = {"prompt": prompt, "response": response}
    source = SourceSpec(
        source=file,
        columns={field: column for field, column in given.items() if column is not None},
        on_bad_row=cast(BAD_ROW, on_bad_row),
    )
    loaded = load(source, (counting.PROMPT, counting.RESPONSE), dict)
    examples = Examples(loaded.table)
    summaries = counting.by_prompt(((e["prompt"], e["response"]) for e in examples), kind)
    untagged = sum(not counting.thinking(example["response"]).tagged for example in examples)
    figures = _figures(kind, len(examples), summaries.values())
    warnings = _warnings(figures, untagged)
    if out is not None:
        _write(out, summaries)
    if json:
        facts = {"columns": loaded.columns, "skipped": loaded.skipped, "notes": loaded.notes}
        print_json({**figures, **facts, "warnings": warnings})
        return
    mapped = ", ".join(f"{field} from {column}" for field, column in loaded.columns.items())
    line(f"{file}: {mapped}")
    for note in loaded.notes:
        line(f"note: {note}")
    shown = {**figures, **figures["quantiles"], "zeros": f"{figures['zeros']:.1%}"}
    del shown["quantiles"]
    table(list(shown), [list(shown.values())])
    warn(warnings)
    if out is not None:
        line(f"written to {out}: {len(summaries):,} prompts")


def _among(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        law = f"`{name}` must be {', '.join(choices[:-1])} or {choices[-1]}, but got {value}"
        raise InputError(Problem(law, fix=nearest(value, choices)))


def _check_out(file: str, out: Path) -> None:
    """Raise InputError for an output that cannot be, before anything is counted."""
    law = ""
    if out.suffix != ".jsonl":
        law = f"`--out` must end in .jsonl, but got {out.name}"
    elif not out.parent.is_dir():
        law = f"`--out` must be in a folder, but there is no folder {out.parent}"
    elif out.is_dir():
        law = f"`--out` must be a file, but {out} is a folder"
    elif out.resolve() == Path(file).expanduser().resolve():
        law = "`--out` must be a file of its own, but this is the input"
    if law:
        raise InputError(Problem(law, fix="Name another file."))


def _figures(kind: str, rows: int, summaries: Iterable[Summary]) -> dict[str, Any]:
    """Return what is shown of all counts; quantiles and zeros are over prompts."""
    import numpy as np

    found = list(summaries)
    counts = np.array([each.counts for each in found])
    levels = np.quantile(counts, list(QUANTILES.values()))
    return {
        "kind": kind,
        "rows": rows,
        "prompts": len(found),
        "censored": sum(each.censored for each in found),
        "zeros": float((counts == 0).mean()),
        "quantiles": dict(zip(QUANTILES, map(float, levels), strict=True)),
    }


def _warnings(figures: Mapping[str, Any], untagged: int) -> list[str]:
    rows, censored = figures["rows"], figures["censored"]
    said = []
    if figures["zeros"] >= NEARLY_ALL:
        said.append(
            f"{figures['zeros']:.1%} of the counts are 0: the kind `{figures['kind']}` hardly "
            "tells these prompts apart; try another --kind"
        )
    if censored > FEW * rows:
        said.append(
            f"{censored:,} of {rows:,} responses ({censored / rows:.1%}) never close <think>: "
            "their counts are lower bounds; let the model think longer, or leave them out"
        )
    if untagged:
        said.append(
            f"{untagged:,} of {rows:,} responses ({untagged / rows:.1%}) have no <think> or "
            "</think>: all of their text counts, and whether they were cut off is unknown"
        )
    return said


def _write(out: Path, summaries: Mapping[str, Summary]) -> None:
    """Write a row a prompt, under the output's name once all are there."""
    part = out.with_name(out.name + PART)
    try:
        with part.open("w", encoding="utf-8") as stream:
            for prompt, summary in summaries.items():
                row = {"prompt": prompt, **asdict(summary)}
                stream.write(jsonlib.dumps(row, ensure_ascii=False) + "\n")
        part.replace(out)
    except OSError as error:
        law = f"the output must be writable, but says: {error.strerror or error}"
        raise StorageError(Problem(law, str(out))) from error
