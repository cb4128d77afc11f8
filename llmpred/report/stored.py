"""What is stored of a run, read: its predictions and the rows they answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from llmpred.data.fields import Example
from llmpred.errors import InputError
from llmpred.ledger import Ledger
from llmpred.ledger.record import RunRecord
from llmpred.tasks.base import Prediction
from llmpred.tasks.prepare import Examples, prepare

if TYPE_CHECKING:
    import pyarrow as pa


def predictions_of(ledger: Ledger, record: RunRecord) -> tuple[Prediction, ...]:
    """Return the stored predictions of a run, in the order of its evaluation rows."""
    if record.predictions_sha256 is None:
        return ()
    return read_predictions(ledger.predictions(record.key, record.revision))


def read_predictions(table: pa.Table) -> tuple[Prediction, ...]:
    """Return stored predictions as they were before they were stored."""
    columns = [table[name].to_pylist() for name in ("id", "target", "prediction")]
    further = [
        table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
        for name in ("scores", "lengths")
    ]
    return tuple(
        Prediction(
            identity,
            json.loads(target),
            json.loads(answer),
            None if scores is None else tuple(scores),
            None if lengths is None else tuple(lengths),
        )
        for identity, target, answer, scores, lengths in zip(*columns, *further, strict=True)
    )


def examples_of(record: RunRecord) -> tuple[tuple[Example, ...] | None, str]:
    """Return the evaluation rows of a run; None and why if its data are not there any more."""
    return _rows_of(record, "evaluation")


def training_of(record: RunRecord) -> tuple[tuple[Example, ...] | None, str]:
    """Return the training rows of a run; None and why if its data are not there any more."""
    if record.spec is not None and not record.spec.trains:
        return None, "the run trains nothing"
    return _rows_of(record, "train")


def _rows_of(
    record: RunRecord, part: Literal["train", "evaluation"]
) -> tuple[tuple[Example, ...] | None, str]:
    if record.spec is None:
        return None, "the run came from a table"
    try:
        prepared = prepare(record.spec)
    except InputError as error:
        return None, f"its data cannot be read: {error.problems[0].law}"
    if prepared.hashes[part] != record.hashes.get(part):
        return None, "its data have changed since"
    return tuple(Examples(getattr(prepared, part))), ""
