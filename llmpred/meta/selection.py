"""Which features pay: those with the largest Shapley values, as many as predict best.

Everything is decided within the rows that are given, by folds of their own groups: the order of the
features anew without each fold, then how few of them predict the fold as well as the best number
does, within a standard error. Whoever measures such a model selects anew from each training part,
so that no tested row has a say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmpred.meta import model
from llmpred.meta.parts import fit_parts, folds_of
from llmpred.meta.shapley import shapley
from llmpred.meta.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARES = (0.1, 0.2, 0.35, 0.6, 1.0)  # of the features, kept
LEAST = 3  # features that are always kept
EXPLAINED = 30  # rows whose Shapley values give the order
EVALUATIONS = 30_000  # of the model, for an order


def pays(table: Table, seed: int) -> list[str]:
    """Return the features worth keeping, in the table's order.

    Args:
        table: training rows.
        seed: of folds, trees and permutations.
    """
    import numpy as np

    sizes = _sizes(len(table.features))
    if len(sizes) == 1 or len(table) > model.LARGE:
        return list(table.features)
    folds = folds_of(table, seed)
    numbers = np.unique(folds)
    errors = np.empty((len(numbers), len(sizes)))  # mean squared error of each fold
    for fold in numbers:
        rest, held = (
            table.take(np.flatnonzero(folds != fold)),
            table.take(np.flatnonzero(folds == fold)),
        )
        blend = model.fit_blend(rest, seed)
        order = _order(blend, rest, seed)
        for place, size in enumerate(sizes):
            # With the weights of the whole blend: to weigh anew would take six fits instead of one.
            some = blend.parts if size == len(order) else fit_parts(rest.only(order[:size]), seed)
            predicted, _ = model.mix(some.say(held), blend.weights)
            errors[fold, place] = np.square(predicted - held.target).mean()
    best = int(errors.mean(axis=0).argmin())
    behind = errors - errors[:, [best]]
    doubt = behind.std(axis=0, ddof=1) / np.sqrt(len(numbers))
    enough = int(np.argmax(behind.mean(axis=0) <= doubt))  # the fewest that are as good
    chosen = set(_order(model.fit_blend(table, seed), table, seed)[: sizes[enough]])
    return [name for name in table.features if name in chosen]


def _sizes(features: int) -> list[int]:
    return sorted({min(features, max(LEAST, round(share * features))) for share in SHARES})


def _order(blend: model.Blend, table: Table, seed: int) -> list[str]:
    """Return the features, the one with the largest mean absolute Shapley value first.

    Args:
        blend: fitted on the table.
        table: its rows.
        seed: of the rows that are explained, and of the permutations.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    rows = table.take(np.sort(draw.permutation(len(table))[:EXPLAINED]))
    found = shapley(
        lambda asked: blend.predict(asked)[0], rows, table, evaluations=EVALUATIONS, seed=seed
    )
    order: NDArray[np.int64] = np.argsort(-found.importance, kind="stable")
    return [found.columns[i] for i in order]
