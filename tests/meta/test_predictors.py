import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge

from llmpred.meta import predictors
from llmpred.meta.transforms import Form, fit_scale


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


def test_a_line_takes_inputs_as_they_are():
    inputs, target = rows()
    line = predictors.fit_ridge(seen(inputs), target)
    scale = fit_scale(inputs)
    library = Ridge(alpha=1.0).fit(scale(inputs), target)
    new, _ = rows(50, seed=1)
    np.testing.assert_allclose(line(seen(new)), library.predict(scale(new)), rtol=1e-9)


def test_rows_held_out_are_predicted_without_their_fold():
    inputs, target = rows()
    folds = np.arange(80) % 4
    poisoned = np.where(folds == 2, target + 1e3, target)
    clean = predictors.held_out_ridge(seen(inputs), target, folds)
    dirty = predictors.held_out_ridge(seen(inputs), poisoned, folds)
    np.testing.assert_array_equal(clean[folds == 2], dirty[folds == 2])
    assert np.abs(clean - dirty)[folds != 2].max() > 10


def test_trees_on_residuals_add_to_their_base():
    inputs, target = rows()
    line = predictors.fit_ridge(seen(inputs), target)
    held = np.arange(80) % 5 == 0
    trees = predictors.fit_boosted(seen(inputs), np.sin(inputs[:, 3]), held, [], seed=0)
    both = predictors.OnResiduals(line, trees)
    view = seen(inputs)
    np.testing.assert_allclose(both(view), line(view) + trees(view))
    assert np.corrcoef(trees(view), np.sin(inputs[:, 3]))[0, 1] > 0.8
