"""What a prediction must beat, printed beside it always.

Each baseline is a function of training rows, rows to predict and a seed. Those that rest on a
column are there only where the table has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmpred.meta.table import Table, is_number
from llmpred.meta.transforms import fit_encoder, fit_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Baseline = Callable[[Table, Table, int], "Floats"]

# Names under which tables keep what some baselines need; after the last dot of a column's name.
ZERO_SHOT = ("zero_shot_accuracy_r", "zero_shot_score", "zero_shot")
EARLY_STOP = ("early_stop_extrapolation", "early_score")
MODEL_SIZE = ("base_parameters", "model_size", "parameters", "total_params", "size")

BLOCK = 1000  # so many rows at once are compared with all groups

# The published settings of TuneAhead's LightGBM.
TUNEAHEAD = {
    "learning_rate": 0.05,
    "n_estimators": 140,
    "num_leaves": 4,
    "min_child_samples": 20,
    "subsample": 0.6,
    "subsample_freq": 0,
    "colsample_bytree": 0.6,
}


def baselines(table: Table) -> dict[str, Baseline]:
    """Return the baselines that a table allows, by name."""
    found: dict[str, Baseline] = {
        "mean": mean,
        "nearest_dataset": nearest_dataset,
        "ridge": ridge,
        "tuneahead_lightgbm": tuneahead_lightgbm,
    }
    for name, columns, log in (
        ("zero_shot", ZERO_SHOT, False),
        ("early_stop", EARLY_STOP, False),
        ("model_size", MODEL_SIZE, True),
    ):
        column = _find(table, columns)
        if column:
            found[name] = _line(column, log=log)
    return found


def mean(train: Table, test: Table, seed: int) -> Floats:
    """Predict the training rows' mean."""
    import numpy as np

    return np.full(len(test), train.target.mean())


def nearest_dataset(train: Table, test: Table, seed: int) -> Floats:
    """Predict the mean of the group whose centre is nearest in standardised features.

    Without a group column that is the nearest run.
    """
    import numpy as np

    encoder = fit_encoder(train)
    inputs = encoder.dense(train, "log")
    scale = fit_scale(inputs)
    _, place, sizes = np.unique(train.groups, return_inverse=True, return_counts=True)
    centres = np.zeros((len(sizes), inputs.shape[1]))
    np.add.at(centres, place, scale(inputs))
    centres /= sizes[:, None]
    means = np.bincount(place, train.target) / sizes
    asked = scale(encoder.dense(test, "log"))
    predicted = np.empty(len(test))
    for start in range(0, len(test), BLOCK):
        # Of squared distances; the row's own square is the same for all centres.
        far = np.square(centres).sum(axis=1) - 2 * asked[start : start + BLOCK] @ centres.T
        predicted[start : start + BLOCK] = means[far.argmin(axis=1)]
    return predicted


def ridge(train: Table, test: Table, seed: int) -> Floats:
    """Predict by ridge regression on standardised columns, its penalty by leave-one-out error."""
    import numpy as np
    from sklearn.linear_model import RidgeCV

    encoder = fit_encoder(train)
    inputs = encoder.dense(train, "plain")
    scale = fit_scale(inputs)
    model = RidgeCV(np.logspace(-2, 4, 25)).fit(scale(inputs), train.target)
    predicted: Floats = model.predict(scale(encoder.dense(test, "plain")))
    return predicted


def tuneahead_lightgbm(train: Table, test: Table, seed: int) -> Floats:
    """Predict by LightGBM with TuneAhead's published settings.

    Early stopping after 50 rounds on a random fifth of the training rows, drawn with the seed.
    """
    import lightgbm
    import numpy as np
    from sklearn.model_selection import train_test_split

    encoder = fit_encoder(train)
    inputs = encoder.trees(train)
    fitted, held = train_test_split(np.arange(len(train)), test_size=0.2, random_state=seed)
    data = lightgbm.Dataset(
        inputs[fitted], train.target[fitted], categorical_feature=encoder.categorical
    )
    model = lightgbm.train(
        {**TUNEAHEAD, "objective": "regression", "seed": seed, "num_threads": 1, "verbose": -1},
        data,
        valid_sets=[lightgbm.Dataset(inputs[held], train.target[held], reference=data)],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    return np.asarray(model.predict(encoder.trees(test)))


def _find(table: Table, names: tuple[str, ...]) -> str | None:
    for wanted in names:
        for name, values in table.features.items():
            if name.rpartition(".")[2].lower() == wanted and is_number(values):
                return name
    return None


def _line(column: str, *, log: bool) -> Baseline:
    """Return the baseline that knows one column: a straight line through the training rows."""

    def predict(train: Table, test: Table, seed: int) -> Floats:
        import numpy as np

        def inputs(table: Table) -> Floats:
            values = table.features[column]
            shown: Floats = np.log(np.maximum(values, 1e-12)) if log else values
            return shown

        known = ~np.isnan(inputs(train))
        middle = train.target[known].mean() if known.any() else train.target.mean()
        x = inputs(train)[known]
        if len(x) < 2 or np.ptp(x) == 0:
            return np.full(len(test), middle)
        slope = np.cov(x, train.target[known], bias=True)[0, 1] / x.var()
        line = middle + slope * (inputs(test) - x.mean())
        predicted: Floats = np.where(np.isnan(line), middle, line)
        return predicted

    return predict
