"""Other meta-models of the same rows: of fewer features, or one a task. What do they lose or gain?

Each is a function as baselines are, from training rows, rows to predict and a seed to predictions.
Features without a tier, such as hyperparameters, are known before anything is measured, so every
variant has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmpred.meta import model
from llmpred.meta.baselines import Baseline
from llmpred.meta.table import MIN_ROWS, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Select = Callable[[Table, int], "list[str]"]

TIERS = ("core", "strong", "further")


def by_tier(table: Table, tier_of: Mapping[str, str]) -> dict[str, Baseline]:
    """Return the rough model, of core features, and the one of core and strong features.

    Args:
        table: what is predicted from; variants with all its features, or with those
            of a smaller one, are left out.
        tier_of: feature -> one of `TIERS`; features that are not named belong to every variant.
    """
    found: dict[str, Baseline] = {}
    before = 0
    for i in range(1, len(TIERS)):
        kept = [n for n in table.features if tier_of.get(n, TIERS[0]) in TIERS[:i]]
        if before < len(kept) < len(table.features):
            before = len(kept)
            found["llmpred_" + "_".join(TIERS[:i])] = selected(lambda *_, kept=kept: kept)
    return found


def selected(select: Select) -> Baseline:
    """Return the model of the features that are selected anew from each training part.

    Args:
        select: training rows and a seed -> the features to keep.
    """

    def predict(train: Table, test: Table, seed: int) -> Floats:
        kept = select(train, seed)
        return model.fit_blend(train.only(kept), seed).predict(test.only(kept))[0]

    return predict


def by_value(column: str) -> dict[str, Baseline]:
    """Return what models predict that each were fitted to the rows of one value, such as a task.

    A value with fewer than `MIN_ROWS` training rows, or one outcome, gets the model for all.

    Args:
        column: a text feature.
    """

    def predict(train: Table, test: Table, seed: int) -> Floats:
        import numpy as np

        values = train.features[column]
        predicted = np.full(len(test), np.nan)
        for value in {*test.features[column]}:
            rows = np.flatnonzero([v == value for v in values])
            if len(rows) >= MIN_ROWS and np.ptp(train.target[rows]) > 0:
                asked = np.flatnonzero([v == value for v in test.features[column]])
                blend = model.fit_blend(train.take(rows), seed)
                predicted[asked] = blend.predict(test.take(asked))[0]
        left = np.flatnonzero(np.isnan(predicted))
        if len(left):
            predicted[left] = model.fit_blend(train, seed).predict(test.take(left))[0]
        return predicted

    return {f"llmpred_per_{column}": predict}
