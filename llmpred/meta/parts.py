"""What the meta-model is composed of: parts that each predict alone, fitted on the same rows.

Trees are strong where there are many rows and steps; on small and near-linear tables a regularised
line or a Gaussian process is stronger, and outside the rows seen only those follow a trend. So each
has its part, and `model` weighs them by what they predict for rows they were not fitted on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.meta import gaussian
from llmpred.meta.splits import fold_numbers
from llmpred.meta.support import beyond
from llmpred.meta.table import Table
from llmpred.meta.transforms import Encoder, Form, Scale, fit_encoder, fit_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Predict = Callable[[Table], Floats]

PARTS = (
    "lightgbm",
    "lightgbm_on_residuals",
    "extra_trees",
    "gaussian_process",
    "gaussian_process_log",
    "linear",
)
LARGE_PARTS = ("lightgbm", "lightgbm_on_residuals", "linear")
FLAT = ("lightgbm", "extra_trees")  # beyond the rows seen they say what they say at the border
FOLDS = 5
ROUNDS, LARGE_ROUNDS = 2000, 200  # of boosting at most; early stopping decides


@dataclass(frozen=True)
class Said:
    """What fitted parts say of rows.

    Attributes:
        names: of the parts.
        each: float64 [rows, parts], what each predicts.
        deviation: float64 [rows], the standard deviation that the Gaussian process expects.
        beyond: bool [rows], whether a number lies clearly beyond those that they were fitted on.
    """

    names: tuple[str, ...]
    each: Floats
    deviation: Floats
    beyond: NDArray[np.bool_]

    def take(self, rows: Rows) -> Said:
        """Return what they say of these rows."""
        return Said(self.names, self.each[rows], self.deviation[rows], self.beyond[rows])


@dataclass(frozen=True)
class Parts:
    """The fitted parts.

    Attributes:
        names: of the parts, as in `PARTS`.
        predictors: one a part.
        encoder: the columns of the rows that they were fitted on.
        deviation: standard deviation of a new run's outcome as the Gaussian process sees it; zeros
            where there is none.
    """

    names: tuple[str, ...]
    predictors: tuple[Predict, ...]
    encoder: Encoder
    deviation: Predict

    def say(self, table: Table) -> Said:
        """Return what the parts say of a table's rows."""
        import numpy as np

        each = np.column_stack([predict(table) for predict in self.predictors])
        far: NDArray[np.bool_] = np.any(beyond(self.encoder, table), axis=1)
        return Said(self.names, each, self.deviation(table), far)


def fit_parts(table: Table, seed: int, *, large: bool = False) -> Parts:
    """Return the parts fitted on all rows of a table; what they tune, they tune by its groups.

    Args:
        table: training rows.
        seed: of folds, trees and the rows that a process takes.
        large: fit `LARGE_PARTS` alone, and spare time where rows abound.
    """
    encoder = fit_encoder(table)
    if large:
        line = _ridge(table, encoder)
        held_out = _held_out_line(table, encoder, seed)
        on_line = _on_residuals(table, encoder, line, held_out, seed, large=True)
        trees = _lightgbm(table, encoder, table.target, seed, large=True)
        return Parts(LARGE_PARTS, (trees, on_line, line), encoder, _zeros)
    process, deviation, held_out = _process(table, encoder, "both", seed)
    logged, _, _ = _process(table, encoder, "log", seed)
    return Parts(
        PARTS,
        (
            _lightgbm(table, encoder, table.target, seed),
            _on_residuals(table, encoder, process, held_out, seed),
            _extra_trees(table, encoder, seed),
            process,
            logged,
            _linear(table, encoder, seed),
        ),
        encoder,
        deviation,
    )


def folds_of(table: Table, seed: int, folds: int = FOLDS) -> Rows:
    """Return the fold of each row: by group, or by row where there are fewer than three groups."""
    import numpy as np

    count = len(np.unique(table.groups))
    if count < 3:
        return fold_numbers(np.arange(len(table)), folds, seed)
    return fold_numbers(table.groups, min(folds, count), seed)


def _zeros(table: Table) -> Floats:
    import numpy as np

    return np.zeros(len(table))


# --- a line ------------------------------------------------------------------------------------


def _linear(table: Table, encoder: Encoder, seed: int) -> Predict:
    """Fit an elastic net on columns and their logarithms, its penalty set by folds."""
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNetCV

    inputs = encoder.dense(table, "both")
    scale = fit_scale(inputs)
    folds = folds_of(table, seed)
    cut = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in np.unique(folds)]
    model = ElasticNetCV(l1_ratio=0.2, alphas=20, eps=1e-3, cv=cut, tol=1e-3)
    with warnings.catch_warnings():
        # The weakest penalties may stop short; the folds judge them as they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scale(inputs), table.target)
    return lambda rows: np.asarray(model.predict(scale(encoder.dense(rows, "both"))))


def _ridge(table: Table, encoder: Encoder) -> Predict:
    """Fit a line where rows abound and the penalty decides nothing."""
    import numpy as np
    from sklearn.linear_model import Ridge

    inputs = encoder.dense(table, "both")
    scale = fit_scale(inputs)
    model = Ridge(alpha=1.0).fit(scale(inputs), table.target)
    return lambda rows: np.asarray(model.predict(scale(encoder.dense(rows, "both"))))


def _held_out_line(table: Table, encoder: Encoder, seed: int) -> Floats:
    import numpy as np

    folds = folds_of(table, seed)
    held_out = np.empty(len(table))
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        line = _ridge(table.take(np.flatnonzero(folds != fold)), encoder)
        held_out[test] = line(table.take(test))
    return held_out


# --- a Gaussian process ------------------------------------------------------------------------


def _process(
    table: Table, encoder: Encoder, form: Form, seed: int
) -> tuple[Predict, Predict, Floats]:
    """Fit a process; return its median, its deviation, and what it predicts for rows held out."""
    inputs = encoder.dense(table, form)
    scale: Scale = fit_scale(inputs)
    process = gaussian.fit(scale(inputs), table.target, seed)
    rows = table.take(process.rows)
    held_out = process.predict(scale(inputs))[0]  # rows that it was not conditioned on are held out
    held_out[process.rows] = process.held_out(folds_of(rows, seed))
    return (
        lambda new: process.predict(scale(encoder.dense(new, form)))[0],
        lambda new: process.predict(scale(encoder.dense(new, form)))[1],
        held_out,
    )


# --- trees -------------------------------------------------------------------------------------


def _share(encoder: Encoder) -> float:
    """Return the share of columns a tree looks at: half of them, but of few columns all."""
    return max(0.5, min(1.0, 8 / max(len(encoder.columns), 1)))


def _lightgbm(
    table: Table, encoder: Encoder, target: Floats, seed: int, *, large: bool = False
) -> Predict:
    """Fit boosted trees; early stopping on a fold sets their number, then all rows are used.

    A large table spares the second fit: a fifth more rows would change little.
    """
    import lightgbm
    import numpy as np

    inputs = encoder.trees(table)
    settings = {
        "objective": "regression",
        "learning_rate": 0.1 if large else 0.05,
        "num_leaves": 15 if len(table) < 2000 else 63,
        "min_child_samples": 5 if len(table) < 2000 else 20,
        "feature_fraction": _share(encoder),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": 0 if large else 1,  # all cores
        "deterministic": True,
        "verbose": -1,
    }
    held = folds_of(table, seed) == 0

    def data(rows: Rows, reference: Any = None) -> Any:
        return lightgbm.Dataset(
            inputs[rows],
            target[rows],
            categorical_feature=encoder.categorical,
            reference=reference,
            params={"verbose": -1},
        )

    fitted = data(np.flatnonzero(~held))
    trial = lightgbm.train(
        settings,
        fitted,
        LARGE_ROUNDS if large else ROUNDS,
        valid_sets=[data(np.flatnonzero(held), fitted)],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    if large:
        model = trial
    else:
        model = lightgbm.train(settings, data(np.arange(len(table))), trial.best_iteration)
    return lambda rows: np.asarray(model.predict(encoder.trees(rows)))


def _on_residuals(
    table: Table,
    encoder: Encoder,
    base: Predict,
    held_out: Floats,
    seed: int,
    *,
    large: bool = False,
) -> Predict:
    """Boost trees on what another part misses of rows that it was not fitted on."""
    trees = _lightgbm(table, encoder, table.target - held_out, seed, large=large)
    return lambda rows: base(rows) + trees(rows)


def _extra_trees(table: Table, encoder: Encoder, seed: int) -> Predict:
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        200, min_samples_leaf=2, max_features=_share(encoder), random_state=seed, n_jobs=1
    )
    model.fit(encoder.dense(table, "plain"), table.target)
    return lambda rows: np.asarray(model.predict(encoder.dense(rows, "plain")))
