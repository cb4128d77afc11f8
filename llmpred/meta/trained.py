"""A meta-model with what is needed to use it elsewhere and later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmpred.meta.cost import Cost
from llmpred.meta.model import MetaModel, Prediction
from llmpred.meta.schema import Schema, candidates, schema_of
from llmpred.meta.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 100  # training rows that are kept: Shapley values compare with them


@dataclass(frozen=True)
class Trained:
    """A meta-model and what is needed to use it.

    Attributes:
        model: as fitted.
        schema: columns that a row to predict must have.
        sample: training rows, at most `SAMPLE`.
        about: what it was trained on and how well it does, as JSON holds it.
        cost: what runs take; None where the training rows do not say.
    """

    model: MetaModel
    schema: Schema
    sample: Table
    about: Mapping[str, Any]
    cost: Cost | None = None

    def predict(self, source: pa.Table, level: float = 0.9, where: str = "") -> Prediction:
        """Return predictions with intervals for rows as `candidates` takes them."""
        return self.model.predict(candidates(source, self.schema, where), level)


def trained(
    model: MetaModel,
    table: Table,
    about: Mapping[str, Any],
    *,
    group: tuple[str, ...] = (),
    seed: int = 0,
) -> Trained:
    """Return a fitted model with what is needed to use it.

    Args:
        model: fitted on the table.
        table: its training rows.
        about: what to keep beside it; tuples become lists.
        group: columns that named a row's group.
        seed: of the rows that are kept.
    """
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(table))
    used = model.blend.parts.encoder.names
    sample = table.take(np.sort(order[:SAMPLE]))
    sample = replace(sample, features={name: sample.features[name] for name in used})
    return Trained(model, schema_of(table, used, group), sample, about)


def table_hash(table: Table) -> str:
    """Return the SHA-256 of a table's columns and target, whatever file they came from."""
    import numpy as np

    whole = hashlib.sha256()
    columns = {**table.features, f"target {table.target_name}": table.target}
    for name in sorted(columns):
        values = columns[name]
        whole.update(f"{name}\0{len(values)}\0".encode())
        if values.dtype == object:
            whole.update(json.dumps(list(values), ensure_ascii=False).encode())
        else:
            whole.update(np.where(np.isnan(values), np.nan, values + 0.0).tobytes())
    return whole.hexdigest()
