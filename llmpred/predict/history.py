"""The runs of a ledger as rows to train a meta-model on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llmpred.ledger as ledgers

if TYPE_CHECKING:
    import pyarrow as pa

BEFORE = ("task.", "base.", "method.", "optim.")  # groups of the spec that are features
IDENTITY = ("dataset", "base", "task", "seed")


def training_rows(ledger: ledgers.Ledger) -> pa.Table:
    """Return a row for each run that trained: its name, what was known before it, and its score."""
    import pyarrow.compute as pc

    table = ledger.table()
    table = table.filter(pc.is_valid(table["optim.lr"]))
    known = [name for name in table.column_names if name.startswith(BEFORE)]
    return table.select([*IDENTITY, *known, "accuracy_r", "wall.total"])
