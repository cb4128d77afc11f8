import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge

from llmpred.meta import predictors
from llmpred.meta.table import Table, make_table
from llmpred.meta.transforms import Form, fit_encoder, fit_scale


def rows(count: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, 5)) * [1, 10, 0.1, 1, 1] + 3
    return inputs, inputs @ [1, 0.1, 5, 0, 0] + 0.1 * draw.normal(size=count)


def seen(inputs: np.ndarray) -> predictors.View:
    def view(form: Form) -> np.ndarray:
        return inputs

    return view


def test_a_forest_of_arrays_says_what_the_library_says():
    inputs, target = rows()
    forest = predictors.fit_forest(seen(inputs), target, 5, seed=3)
    library = ExtraTreesRegressor(
        predictors.TREES, min_samples_leaf=2, max_features=1.0, random_state=3
    ).fit(inputs, target)
    new, _ = rows(50, seed=1)
    np.testing.assert_allclose(forest(seen(new)), library.predict(new), rtol=1e-12)


def table(inputs: np.ndarray, target: np.ndarray) -> Table:
    columns = {f"x{i}": inputs[:, i] for i in range(inputs.shape[1])}
    return make_table(pa.table({**columns, "score": target}), "score")[0]


def test_a_line_from_blocks_is_the_line_of_all_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictors, "BLOCK", 30)
    inputs, target = rows()
    inputs[:, 4] += 1e6
    folds = np.arange(80) % 4
    line, held_out = predictors.fit_ridge(fit_encoder(runs := table(inputs, target)), runs, folds)

    def library(rows: np.ndarray, new: np.ndarray) -> np.ndarray:
        scale = fit_scale(inputs[rows])
        fitted = Ridge(alpha=1.0).fit(scale(inputs[rows]), target[rows])
        return fitted.predict(scale(new))

    np.testing.assert_allclose(line(seen(inputs)), library(np.arange(80), inputs), rtol=1e-6)
    for fold in range(4):
        expected = library(np.flatnonzero(folds != fold), inputs[folds == fold])
        np.testing.assert_allclose(held_out[folds == fold], expected, rtol=1e-6)


def test_trees_on_residuals_add_to_their_base():
    inputs, target = rows()
    line = predictors.fit_elastic_net(seen(inputs), target, np.arange(80) % 4)
    binned = predictors.binned(seen(inputs), np.arange(80) % 5 == 0, [])
    trees = predictors.fit_boosted(binned, np.sin(inputs[:, 3]), seed=0)
    both = predictors.OnResiduals(line, trees)
    view = seen(inputs)
    np.testing.assert_allclose(both(view), line(view) + trees(view))
    assert np.corrcoef(trees(view), np.sin(inputs[:, 3]))[0, 1] > 0.8


def test_rows_cut_into_bins_serve_any_target():
    inputs, target = rows()
    held, view = np.arange(80) % 5 == 0, seen(inputs)
    shared = predictors.binned(view, held, [])
    first = predictors.fit_boosted(shared, target, seed=0)(view)
    predictors.fit_boosted(shared, -target, seed=0)
    np.testing.assert_array_equal(predictors.fit_boosted(shared, target, seed=0)(view), first)
