import numpy as np
import pyarrow as pa
import pytest

from llmpred.meta.baselines import (
    baselines,
    mean,
    nearest_dataset,
    ridge,
    tuneahead_lightgbm,
)
from llmpred.meta.metrics import rmse
from llmpred.meta.table import Table, make_table


def table(rows: int = 200, seed: int = 0) -> Table:
    draw = np.random.default_rng(seed)
    dataset = draw.integers(0, 10, rows)
    level = np.linspace(0, 1, 10)[dataset]
    size = 10 ** draw.uniform(7, 10, rows)
    source = {
        "level": level + 0.01 * draw.normal(size=rows),
        "base.parameters": size,
        "zero_shot_accuracy_r": np.where(draw.random(rows) < 0.1, np.nan, level),
        "score": 0.3 * level + 0.05 * np.log10(size / 1e7) + 0.01 * draw.normal(size=rows),
        "dataset": [f"d{d}" for d in dataset],
    }
    return make_table(pa.table(source), "score", group=["dataset"])[0]


def test_each_predicts_what_it_can_know():
    train, test = table(), table(100, seed=1)
    errors = {name: rmse(test.target, fn(train, test, 0)) for name, fn in baselines(train).items()}
    assert errors["ridge"] < errors["zero_shot"] < errors["mean"]
    assert errors["model_size"] < errors["mean"]
    assert errors["tuneahead_lightgbm"] < 0.6 * errors["mean"]
    assert "early_stop" not in errors


def test_the_mean_and_the_nearest_dataset_by_hand():
    source = {
        "x": [0.0] * 10 + [1.0] * 10,
        "score": [0.1, 0.3] * 5 + [0.7, 0.9] * 5,
        "dataset": ["a"] * 10 + ["b"] * 10,
    }
    train = make_table(pa.table(source), "score", group=["dataset"])[0]
    test = train.take(np.array([0, 19]))
    assert mean(train, test, 0) == pytest.approx([0.5, 0.5])
    assert nearest_dataset(train, test, 0) == pytest.approx([0.2, 0.8])


def test_ridge_takes_missing_cells_and_unseen_rows():
    train = table()
    assert np.isfinite(ridge(train, table(50, seed=2), 0)).all()


def test_the_published_lightgbm_is_exactly_its_settings():
    """The same fit written out with LightGBM's own estimator."""
    import lightgbm
    from sklearn.model_selection import train_test_split

    train, test = table(), table(50, seed=1)
    inputs = np.column_stack(list(train.features.values()))
    fitted, held = train_test_split(np.arange(len(train)), test_size=0.2, random_state=3)
    model = lightgbm.LGBMRegressor(
        learning_rate=0.05,
        n_estimators=140,
        num_leaves=4,
        min_child_samples=20,
        subsample=0.6,
        subsample_freq=0,
        colsample_bytree=0.6,
        random_state=3,
        verbose=-1,
    )
    model.fit(
        inputs[fitted],
        train.target[fitted],
        eval_X=inputs[held],
        eval_y=train.target[held],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    expected = model.predict(np.column_stack(list(test.features.values())))
    np.testing.assert_allclose(tuneahead_lightgbm(train, test, 3), expected, rtol=1e-9)
