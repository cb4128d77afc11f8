"""`llmpred complexity label`: labels of how long a model thinks about the prompts of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from llmpred.cli.common import Json, cell, line, print_json, split, table, warn
from llmpred.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    from llmpred.tasks.complexity.labelled import Censored, Kind
    from llmpred.tasks.complexity.labels import Outliers


def label_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Prompts with counts, or with responses to count.")
    ],
    kind: Annotated[str, typer.Option(help="equal_width, quantile, edges or clusters.")],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="New folder for the rows and the settings.")
    ],
    bins: Annotated[
        int | None, typer.Option(min=2, help="Of equal_width and quantile; default: 10.")
    ] = None,
    edges: Annotated[
        list[str] | None,
        typer.Option(help="Of edges, such as 0,1,8,25; or bin_index, weighted or wait."),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Of clusters; default: 10, or 8 without outliers."),
    ] = None,
    outliers: Annotated[str | None, typer.Option(help="Of clusters: keep or remove.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of clusters; default: 0.")] = None,
    count: Annotated[
        str, typer.Option(help="In responses: units, wait, tokens or sentences.")
    ] = "units",
    censored: Annotated[
        str, typer.Option(help="Responses that were cut off: drop or keep.")
    ] = "drop",
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Such as prompt=question. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Label prompts by how long a model thinks about them: bins of counts, or clusters."""
    from llmpred.cli.data import pairs_of
    from llmpred.report.run_folder import check_empty
    from llmpred.tasks.complexity import labelled, labels

    _among("--kind", kind, labelled.KINDS)
    _among("--censored", censored, get_args(labelled.Censored))
    if outliers is not None:
        _among("--outliers", outliers, get_args(labels.Outliers))
    check_empty(out)
    found = labelled.label_file(
        file,
        out,
        kind=cast("Kind", kind),
        bins=bins,
        edges=_edges(edges),
        k=_k(k),
        outliers=cast("Outliers | None", outliers),
        seed=seed,
        count=count,
        censored=cast("Censored", censored),
        columns=pairs_of(columns, "--columns"),
    )
    if json:
        print_json(found)
        return
    _show(found)
    line(f"written to {out}: {sum(row['n'] for row in found['table']):,} prompts")


def _show(found: dict[str, Any]) -> None:
    rows = [dict(row) for row in found["table"]]
    for place, row in enumerate(rows):
        row["share"] = f"{row['share']:.1%}"
        if "edges" in found:
            low, high = found["edges"][place : place + 2]
            row["counts"] = f"{'[' if place == 0 else '('}{cell(low)}, {cell(high)}]"
    table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])
    leak = found["leakage"]
    if leak is not None:
        line(
            f"off the prompt alone, a tree has a macro-F1 of {leak['macro_f1']:.2f} (accuracy "
            f"{leak['accuracy']:.1%}), the majority class {leak['majority_macro_f1']:.2f}"
        )
    warn(found["notes"])


def _among(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        law = f"{name} must be one of {', '.join(choices)}, but got {value!r}"
        raise InputError(Problem(law, fix=nearest(value, choices)))


def _k(given: str | None) -> int | Literal["auto"] | None:
    if given is None or given == "auto":
        return cast('Literal["auto"] | None', given)
    if not given.isdecimal():
        raise InputError(Problem(f"--k must be a number or auto, but got {given!r}"))
    return int(given)


def _edges(given: list[str] | None) -> tuple[float, ...] | None:
    from llmpred.tasks.complexity.labels import NAMED_EDGES

    parts = split(given)
    if not parts:
        return None
    if len(parts) == 1 and parts[0] in NAMED_EDGES:
        return NAMED_EDGES[parts[0]]
    try:
        return tuple(map(float, parts))
    except ValueError:
        law = f"--edges must be numbers, or one of {', '.join(NAMED_EDGES)}, but got {given}"
        raise InputError(Problem(law)) from None
