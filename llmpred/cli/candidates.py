"""What `predict`, `screen` and `recommend` share: a model, candidates, and how they are shown."""

from __future__ import annotations

import json as jsonlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    console,
    line,
    open_ledger,
    table,
    warn,
)
from llmpred.cli.data import is_space, refuse_for_space
from llmpred.errors import InputError, Problem, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmpred.meta.trained import Trained
    from llmpred.predict.candidates import Candidates
    from llmpred.predict.forecast import Forecast
    from llmpred.sweep.features import Measured

    Floats = NDArray[np.float64]

SHOWN = 40  # rows of a table for people
FEATURES_SHOWN = 3  # columns that put a run outside
MODEL = "meta/ledger-accuracy_r"  # in the storage: what `llmpred meta train` makes of it
NAMING = ("rank", "order", "row", "key", "dataset", "base", "what")  # columns for people
UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}

# What a data file is tried with, unless --set says otherwise.
GRID = {
    "sampler": "grid",
    "methods": [{"head": "auto", "adapter": {"kind": "lora", "r": {"choice": [4, 16]}}}],
    "optim": {"lr": {"choice": [1e-4, 3e-4, 1e-3, 3e-3]}, "epochs": {"choice": [1, 3]}},
}

Source = Annotated[
    str,
    typer.Argument(
        metavar="SPACE|DATA",
        help="Search space (YAML); a table of candidates with the model's columns; or, with "
        "--task, a data file to fine-tune on, with a small grid of methods.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help=f"What `llmpred meta train` kept; default: {MODEL} in the storage.",
    ),
]
Base = Annotated[str | None, typer.Option(help="Of a data file: the base to fine-tune [proxy].")]
Evaluation = Annotated[
    str | None, typer.Option("--eval", metavar="FILE", help="Of a data file: evaluation rows.")
]
Level = Annotated[float, typer.Option(help="Share of runs that lie in their interval.")]
Question = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Of a table: what runs compete for, such as dataset."),
]
Lower = Annotated[
    bool, typer.Option("--lower-is-better", help="The model predicts a loss, not a score.")
]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster; default RAY_ADDRESS, or this machine alone.")
]


@dataclass(frozen=True)
class Asked:
    """A model, candidates, and what it says of them."""

    trained: Trained
    candidates: Candidates
    forecast: Forecast
    lower_is_better: bool

    def rows(self) -> list[dict[str, Any]]:
        """Return what `--json` says of each candidate."""
        said = self.forecast
        return [
            {
                **about,
                "predicted": float(said.interval.mean[i]),
                "lower": finite(said.interval.lower[i]),
                "upper": finite(said.interval.upper[i]),
                "seconds": None if said.seconds is None else float(said.seconds[i]),
                "outside": list(said.outside[i]),
            }
            for i, about in enumerate(self.candidates.about)
        ]

    def told(self) -> dict[str, Any]:
        """Return what `--json` says beside the candidates."""
        return {
            "target": self.trained.schema.target,
            "already_paid": self.candidates.paid,
            "warnings": self.warnings(),
        }

    def warnings(self) -> list[str]:
        """Return what to be careful about."""
        found = list(self.candidates.warnings)
        unknown = self.forecast.unknown
        if unknown:
            found.append(
                f"unknown of all candidates, though not of the training rows: {few(unknown)}."
                + (" Run the zero-shot runs first." if "zero_shot_score" in unknown else "")
            )
        count = sum(bool(columns) for columns in self.forecast.outside)
        if count:
            found.append(
                f"{count} of {len(self.forecast.outside)} runs lie outside what the model was "
                "trained on: of them it guesses, and its intervals promise nothing."
            )
        return found


def ask(
    source: str,
    model: str | None,
    storage: str,
    level: float,
    lower_is_better: bool,
    *,
    of_file: Mapping[str, Any],
    set_: list[str] | None,
    address: str | None,
    quiet: bool,
    question: str | None = None,
) -> Asked:
    """Load the model, find or read the candidates, and predict them."""
    from llmpred.meta.table import read
    from llmpred.predict.candidates import of_table
    from llmpred.predict.forecast import forecast

    if not 0 < level < 1:
        raise InputError(Problem(f"`--level` must be above 0 and below 1, but got {level:g}"))
    trained = load_model(model, storage)
    if is_space(source):
        refuse_for_space(**{name.rstrip("_"): value for name, value in of_file.items()})
        found = _of_space(source, set_, trained, storage, address, quiet)
    elif of_file["task"] is not None:
        with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
            space = Path(scratch) / "space.yaml"
            space.write_text(jsonlib.dumps(_space_of(source, **of_file)), "utf-8")
            found = _of_space(str(space), set_, trained, storage, address, quiet)
    else:
        found = of_table(read([source]), source, question)
    said = forecast(trained, found.rows, level, source)
    return Asked(trained, found, said, lower_is_better)


def load_model(model: str | None, storage: str) -> Trained:
    """Return the model of a folder, or the one that the storage's ledger was trained to.

    Raises:
        StorageError: if there is none.
    """
    from llmpred.meta import store

    if model is not None:
        return store.load(Path(model).expanduser())
    root = open_ledger(storage).storage
    try:
        with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
            return store.load(root.local_path(MODEL) or root.get_folder(MODEL, Path(scratch)))
    except (FileNotFoundError, StorageError) as error:
        law = f"predictions need a trained model, but {root.root}/{MODEL} is none"
        fix = "Run `llmpred meta train`, or name a model's folder as --model."
        raise StorageError(Problem(law, fix=f"{fix} ({error})")) from error


def _of_space(
    source: str,
    set_: list[str] | None,
    trained: Trained,
    storage: str,
    address: str | None,
    quiet: bool,
) -> Candidates:
    from llmpred.cli.runs import names_of, plan_of
    from llmpred.predict.candidates import of_plan

    ledger = open_ledger(storage)
    ledger.storage.check_writable()
    _, planned = plan_of(source, set_ or [], ledger, bring=True)

    def told(measured: Measured, done: int, total: int) -> None:
        if not quiet:
            job = measured.job
            seconds = measured.error or f"{measured.seconds:.1f} s"
            text = f"{done}/{total} {job.measurement} of {job.run.dataset}: {seconds}"
            console(stderr=True).print(text, markup=False)

    names = names_of(planned.runs.values())
    return of_plan(planned, ledger, trained.schema.columns, names, address=address, told=told)


def _space_of(
    source: str,
    task: str,
    columns: list[str] | None,
    base: str | None,
    eval_: str | None,
) -> dict[str, Any]:
    """Return the space that a data file stands for; JSON is YAML."""
    from llmpred.cli.data import run_of_file

    _, spec = run_of_file(source, task, columns, base or "proxy", None, eval_, None, None)
    data = spec.dataset.model_dump(mode="json", include={"source", "columns"})
    held_out = {"holdout": 0.1} if eval_ is None else {"data": {"source": eval_}}
    return {
        "name": "candidates",
        "task": {"name": task},
        "datasets": [data],
        "bases": [base or "proxy"],
        "evaluation": held_out,
        **GRID,
    }


def parse_duration(text: str) -> float:
    """Return the seconds of `4h`, `90m`, `1h30m` or `2d`.

    Raises:
        InputError: if it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        law = f"`--budget` must be a duration, but got `{text}`"
        raise InputError(Problem(law, fix="Such as 4h, 90m, 1h30m or 2d."))
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def show(
    rows: Sequence[Mapping[str, Any]], asked: Asked, interval: str, *, extra: Sequence[str] = ()
) -> None:
    """Print candidates as a table, with the columns `extra` of their rows."""
    from llmpred.sweep.progress import duration

    if not rows:
        return
    heads = [name for name in NAMING if name in rows[0] and not _same(rows, name)]
    table(
        [*heads, asked.trained.schema.target, interval, "time", *extra, "outside in"],
        [
            [
                *(row[name][:10] if name == "key" else row[name] for name in heads),
                row["predicted"],
                _interval(row["lower"], row["upper"]),
                "–" if row["seconds"] is None else duration(row["seconds"]),
                *(row[name] for name in extra),
                few(row["outside"]),
            ]
            for row in rows[:SHOWN]
        ],
    )
    if len(rows) > SHOWN:
        line(f"… and {len(rows) - SHOWN} more (--json lists all)")


def _same(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a name tells nothing apart."""
    return name in ("dataset", "base") and len({row[name] for row in rows}) == 1


def end(asked: Asked, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what to know beside the table."""
    if asked.candidates.paid:
        line(f"{asked.candidates.paid} more runs are in the ledger already")
    factor = asked.trained.about.get("cost_factor")
    if factor and rows:
        line(f"times are right within a factor of {factor:.2f} in half of all runs")
    warn(asked.warnings())


def _interval(low: float | None, high: float | None) -> str:
    ends = ("?" if end is None else f"{end:.3f}" for end in (low, high))
    return " to ".join(ends)


def few(columns: Sequence[str]) -> str:
    """Return the first names of many."""
    more = f" and {len(columns) - FEATURES_SHOWN} more" if len(columns) > FEATURES_SHOWN else ""
    return ", ".join(columns[:FEATURES_SHOWN]) + more


def finite(value: float) -> float | None:
    """Return a number as JSON holds it; what is not finite is unknown."""
    return float(value) if abs(value) < float("inf") else None
