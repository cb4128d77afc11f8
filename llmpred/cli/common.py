"""What all commands share: the storage option, lists, JSON, tables, complaints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.errors import Problem, StorageError
from llmpred.ledger import DEFAULT_STORAGE as DEFAULT_STORAGE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from llmpred.ledger import Ledger

EXIT_FAILED = 1  # some runs have no outcome
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="LLMPRED_STORAGE",
        help="Folder or bucket (s3://…) of the ledger.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change the space, such as optim.lr=1e-4. Repeatable."
    ),
]
DEMO_SPACE = "search_spaces/demo.yaml"


def open_ledger(storage: str) -> Ledger:
    """Open the ledger at a storage root."""
    from llmpred.ledger import opened

    return opened(storage)


def task_heads() -> dict[str, tuple[str, ...]]:
    """Return each registered task and the heads it can be done with."""
    from llmpred.tasks import registry

    return {name: registry.get(name).heads for name in registry.names()}


def split(values: Iterable[str] | None) -> list[str]:
    """Return the values of a repeatable option whose values may also be comma-separated."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def console(*, stderr: bool = False) -> Console:
    """Return a console; what is piped keeps its full width."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, 160)
    return made


def line(text: str | Text = "", *, style: str = "", end: str = "\n") -> None:
    """Print text as it is: no markup, and no line breaks but the terminal's own."""
    console().print(text, style=style, markup=False, soft_wrap=True, end=end)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """Print a table; numbers go to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for i, column in enumerate(columns):
        numeric = bool(body) and all(isinstance(row[i], int | float | None) for row in body)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        made.add_row(*(Text(cell(value)) for value in row))
    console().print(made)


def cell(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def check_out(path: Path | None) -> None:
    """Raise StorageError if a `--json` file cannot be, before hours are spent on what it says."""
    if path and not path.parent.is_dir():
        law = f"`--json` must name a file in a folder, but there is no folder {path.parent}"
        raise StorageError(Problem(law, fix="Make it, or name another file."))


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures to a `--json` file.

    Raises:
        StorageError: if the file cannot be written.
    """
    text = json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        law = f"the figures must be writable, but says: {error.strerror or error}"
        raise StorageError(Problem(law, str(path))) from error


def warn(warnings: Iterable[str]) -> None:
    """Print warnings, a line each."""
    for warning in warnings:
        line(f"warning: {warning}", style="yellow")


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the environment says else.

    Spinning, as they do otherwise, turns a minute on two cores into ten where others use them too.
    Libraries read this when they are loaded, so it goes first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def size(count: float) -> str:
    """Return bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def complain(text: str) -> None:
    """Print an error for people, without the credentials that addresses in it may have."""
    from llmpred.redaction import redact

    typer.echo(f"llmpred: {redact(text)}", err=True)
