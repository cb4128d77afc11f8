"""The runs of a ledger as rows to train a meta-model on, or to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmpred.errors import DataError, Problem
from llmpred.features.joined import ledger_table
from llmpred.ledger import Ledger

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = "seconds"
NAMES = ("key", "family")  # of a run: nothing to predict from


def training_rows(ledger: Ledger, *, seconds: bool = False, names: bool = False) -> pa.Table:
    """Return a row for each run that trained: dataset, base, task, seed, features, `status`, score.

    Args:
        ledger: the runs. Features that were never measured of a run are null.
        seconds: also the column `seconds`, which is known only after a run.
        names: also the columns `key` and `family`.

    Raises:
        DataError: if no run has trained.
    """
    table = ledger_table(ledger)
    if not table.num_rows:
        law = "the ledger must hold runs that trained, but has none"
        first = ledger.storage.hint("llmpred collect --space SPACE")
        raise DataError(Problem(law, ledger.storage.root, f"Run `{first}` first."))
    return table.drop_columns([*([] if names else NAMES), *([] if seconds else [SECONDS])])


def run_row(ledger: Ledger, key: str) -> pa.Table:
    """Return the row of one run that trained, with all that `ledger_table` has.

    Args:
        ledger: the runs.
        key: of the run.
    """
    import pyarrow.compute as pc

    table = ledger_table(ledger)
    return table.filter(pc.equal(table["key"], key))
