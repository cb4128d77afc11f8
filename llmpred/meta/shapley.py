"""Which columns raised or lowered a prediction: Shapley values of the whole blend.

The blend is explained as one function of a run's columns, by antithetic permutations (Štrumbelj &
Kononenko, 2014; `shap.PermutationExplainer`), against a sample of training rows. Explaining parts
apart, the trees exactly, would say less than it costs: what the blend makes of a row beyond those
seen is no sum over its parts. For every row the values add up to the prediction minus the mean
prediction of the background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmpred.meta.model import Blend
from llmpred.meta.table import Table, is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EVALUATIONS = 150_000  # rows that a call may ask the model for; sets background and permutations
BACKGROUND = (10, 100)  # rows to compare with, at least and at most
PERMUTATIONS = 10  # pairs for a row, at most


@dataclass(frozen=True)
class Shapley:
    """Shapley values of rows.

    Attributes:
        columns: of the table.
        values: float64 [rows, columns], in the target's unit.
        errors: float64 [rows, columns], standard error of `values` from the permutations drawn.
        middle: mean prediction of the background.
        predicted: float64 [rows]; `middle` plus the sum of a row's values.
    """

    columns: tuple[str, ...]
    values: Floats
    errors: Floats
    middle: float
    predicted: Floats

    @property
    def importance(self) -> Floats:
        """Mean absolute value of each column, float64 [columns]."""
        import numpy as np

        importance: Floats = np.abs(self.values).mean(axis=0)
        return importance


def shapley(
    predict: Callable[[Table], Floats],
    rows: Table,
    background: Table,
    *,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
) -> Shapley:
    """Return the Shapley values of the columns for each row.

    Args:
        predict: the model.
        rows: to explain.
        background: rows that stand for not knowing a column, such as a sample of training rows.
        evaluations: rows that the model may be asked for.
        seed: of permutations and of the background's sample.
    """
    import numpy as np
    import shap

    names = tuple(background.features)
    code = _Code(names, (rows, background))
    share = evaluations / (len(rows) * (2 * len(names) + 1))
    least, most = BACKGROUND
    size = int(np.clip(share, least, min(most, max(len(background), least))))
    pairs = int(np.clip(share / size, 1, PERMUTATIONS))
    drawn = np.random.default_rng(seed).permutation(len(background))[:size]
    known = code.matrix(background.take(np.sort(drawn)))

    def ask(inputs: Floats) -> Floats:
        return predict(code.table(inputs, rows))

    explainer = shap.PermutationExplainer(
        ask, shap.maskers.Independent(known, max_samples=len(known)), seed=seed
    )
    evals = pairs * (2 * len(names) + 1)
    matrix = code.matrix(rows)
    # Whole permutations at once: the model is quick for many rows together.
    found = explainer(
        matrix, max_evals=evals, error_bounds=True, batch_size=len(names) + 1, silent=True
    )
    middle = float(np.mean(ask(known)))
    errors = np.asarray(found.error_std) / np.sqrt(2 * pairs)
    return Shapley(names, np.asarray(found.values), errors, middle, ask(matrix))


class _Code:
    """Tables as matrices of numbers and back: a text is the place of its level."""

    def __init__(self, names: Sequence[str], tables: Sequence[Table]) -> None:
        self.levels: dict[str, list[str]] = {}
        self.names = names
        for name in names:
            if not is_number(tables[0].features[name]):
                every = {value for table in tables for value in table.features[name]}
                self.levels[name] = sorted(every - {None})

    def matrix(self, table: Table) -> Floats:
        import numpy as np

        columns = []
        for name in self.names:
            values = table.features[name]
            if name in self.levels:
                place = {level: float(i) for i, level in enumerate(self.levels[name])}
                values = np.array([place.get(value, np.nan) for value in values])
            columns.append(values)
        return np.column_stack(columns)

    def table(self, matrix: Floats, like: Table) -> Table:
        import numpy as np

        features = {}
        for i, name in enumerate(self.names):
            column = matrix[:, i]
            if name in self.levels:
                texts = np.array([*self.levels[name], None], dtype=object)
                column = texts[np.where(np.isnan(column), -1, column).astype(np.int64)]
            features[name] = column
        alone = np.arange(len(matrix))
        unknown = np.full(len(matrix), np.nan)
        return replace(
            like, features=features, target=unknown, groups=alone, twins=alone, repeats=alone
        )


def stability(
    blends: Sequence[Blend],
    rows: Table,
    background: Table,
    *,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
) -> Floats:
    """Return the importance of each column to models that were fitted without a fold each.

    Args:
        blends: one a fold.
        rows: to explain by each.
        background: as in `shapley`.
        evaluations: rows that all of them together may be asked for.
        seed: as in `shapley`.

    Returns:
        float64 [blends, columns].
    """
    import numpy as np

    return np.array(
        [
            shapley(
                lambda table, blend=blend: blend.predict(table)[0],  # type: ignore[misc]
                rows,
                background,
                evaluations=evaluations // len(blends),
                seed=seed,
            ).importance
            for blend in blends
        ]
    )


def agreement(importances: Floats) -> float:
    """Return the mean Spearman correlation between two folds' importances; NaN for one fold."""
    import itertools

    import numpy as np
    from scipy.stats import spearmanr

    pairs = list(itertools.combinations(importances, 2))
    if not pairs or importances.shape[1] < 2:
        return float("nan")
    return float(np.mean([spearmanr(one, other).statistic for one, other in pairs]))
