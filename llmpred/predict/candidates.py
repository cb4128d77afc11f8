"""Runs that nobody has paid for, as rows for the meta-model, and what competes with what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.errors import DataError, Problem
from llmpred.features.measurements import MEASUREMENTS
from llmpred.ledger import Ledger
from llmpred.sweep.features import Measured, extract
from llmpred.sweep.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """Runs to predict.

    Attributes:
        rows: a row a run, with the columns that a model reads.
        about: what to tell people of each row: key, dataset, base, … or its number in a file.
        questions: int64 [rows], from 0; runs compete where they answer the same one.
        so_far: float64 [questions], best score there is already; NaN where there is none.
        paid: how many more runs the ledger has already.
        warnings: features that are unknown, and why.
    """

    rows: pa.Table
    about: tuple[Mapping[str, Any], ...]
    questions: NDArray[np.int64]
    so_far: NDArray[np.float64]
    paid: int = 0
    warnings: tuple[str, ...] = ()


def measurements_for(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the measurements that columns of a model come from, by name; the probe costs steps."""
    wanted = set(columns)
    names = {each.name for each in MEASUREMENTS if wanted & {f.name for f in each.features}}
    if "tokens_seen" in wanted:
        names.add("tokens")
    return tuple(each.name for each in MEASUREMENTS if each.name in names and each.name != "probe")


def of_plan(
    plan: Plan,
    ledger: Ledger,
    columns: Sequence[str],
    names: Mapping[str, str],
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    told: Callable[[Measured, int, int], None] = lambda measured, done, total: None,
) -> Candidates:
    """Return the runs of a space that train and are not paid for, measured as far as they need.

    Args:
        plan: of the space.
        ledger: what is measured is kept in its storage; its runs say what is the best so far.
        columns: that the model reads.
        names: by key, what is trained how.
        address: of a Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine.
        max_concurrent: jobs side by side at most.
        told: called after each measurement.

    Raises:
        DataError: if every run is paid for.
    """
    import dataclasses

    import numpy as np

    todo = {run.key: run for run in plan.todo if run.spec.trains}
    if not todo:
        law = "a space must have runs that nobody has paid for, but the ledger has all of them"
        fix = f"`{ledger.storage.hint('llmpred ledger ls')}` shows their scores."
        raise DataError(Problem(law, ledger.storage.root, fix))
    found = extract(
        dataclasses.replace(plan, runs=todo),
        ledger,
        names=measurements_for(columns),
        address=address,
        max_concurrent=max_concurrent,
        told=told,
    )
    about = tuple(
        {
            "key": run.key,
            "dataset": run.dataset,
            "base": run.base,
            "task": run.spec.task.name,
            "what": names[run.key],
        }
        for run in todo.values()
    )
    places: dict[tuple[str, str], int] = {}
    questions = [places.setdefault(_question(run), len(places)) for run in todo.values()]
    best = np.full(len(places), np.nan)
    for row in ledger.table().to_pylist():
        place = places.get((row["task"], row.get("hash.evaluation")))
        if place is not None and row["accuracy_r"] is not None:
            best[place] = np.fmax(best[place], row["accuracy_r"])
    paid = sum(run.spec.trains for key, run in plan.runs.items() if key in plan.paid)
    return Candidates(found.table, about, np.array(questions), best, paid, found.warnings)


def _question(run: ResolvedSpec) -> tuple[str, str]:
    return run.spec.task.name, run.hashes["evaluation"]


def of_table(rows: pa.Table, where: str, question: str | None = None) -> Candidates:
    """Return the rows of a file as candidates.

    Args:
        rows: a row a run.
        where: the file, for messages.
        question: column that says what runs compete for; None where all do.

    Raises:
        DataError: if there are no rows, or no such column.
    """
    import numpy as np

    if not rows.num_rows:
        raise DataError(Problem("a table of candidates must have rows, but has none", where))
    asked = np.zeros(rows.num_rows, dtype=np.int64)
    if question is not None:
        if question not in rows.column_names:
            law = f"`--question` must name a column, but there is no `{question}`"
            raise DataError(Problem(law, where))
        labels = [str(value) for value in rows[question].to_pylist()]
        asked = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    about = tuple({"row": number} for number in range(1, rows.num_rows + 1))
    return Candidates(rows, about, asked, np.full(int(asked.max()) + 1, np.nan))
