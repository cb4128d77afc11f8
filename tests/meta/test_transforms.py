import math

import numpy as np
import pyarrow as pa
import pytest

from llmpred.meta.table import Table, make_table
from llmpred.meta.transforms import fit_encoder, fit_scale, log_shift


def table(**columns: list) -> Table:
    rows = len(next(iter(columns.values())))
    score = {"score": np.random.default_rng(0).uniform(size=rows)}
    return make_table(pa.table({**columns, **score}), "score")[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (10 ** np.linspace(-5, -3, 50), 0.0),  # learning rates
        (np.linspace(0.5, 2, 50), None),
        (np.linspace(-1, 100, 50), None),
        (np.concatenate([np.zeros(20), np.geomspace(0.001, 0.9, 30)]), "lifted"),  # shares
        (np.array([0.0, 1.0] * 25), None),
        (np.zeros(9), None),
    ],
)
def test_columns_ask_for_logarithms_by_their_span(values: np.ndarray, expected: object):
    shift = log_shift(values)
    if expected == "lifted":
        assert shift == pytest.approx(3 * np.quantile(values[values > 0], 0.05))
    else:
        assert shift == expected


def test_a_wish_overrules_the_span():
    assert log_shift(np.linspace(0.5, 2, 50), wanted=True) == 0.0


def test_trees_see_columns_as_they_are():
    train = table(lr=[1e-4, None, 1e-3, 1e-2] * 6, base=["b", "b", "a", None] * 6)
    encoder = fit_encoder(train)
    assert encoder.names == ["lr", "base"]
    assert encoder.categorical == [1]
    np.testing.assert_array_equal(encoder.trees(train)[:4, 0], [1e-4, np.nan, 1e-3, 1e-2])
    np.testing.assert_array_equal(encoder.trees(train)[:4, 1], [0, 0, 1, np.nan])


def test_lines_see_no_missing_cell():
    train = table(lr=[1e-4, None, 1e-3, 1e-2] * 6, base=["b", "b", "a", None] * 6)
    encoder = fit_encoder(train)
    made = encoder.dense(train, "both")
    # lr, its logarithm, whether it is missing, base b, base a
    expected = [
        [1e-4, math.log(1e-4), 0, 1, 0],
        [1e-3, math.log(1e-3), 1, 1, 0],
        [1e-3, math.log(1e-3), 0, 0, 1],
        [1e-2, math.log(1e-2), 0, 0, 0],
    ]
    np.testing.assert_allclose(made[:4], expected)
    assert encoder.dense(train, "log").shape[1] == 4
    assert encoder.dense(train, "plain").shape[1] == 4


def test_what_does_not_vary_in_the_training_rows_is_left_out():
    both = table(x=[1.0] * 20 + [2.0] * 20, y=list(np.linspace(0, 1, 40)))
    assert fit_encoder(both.take(np.arange(20))).names == ["y"]


def test_new_rows_below_zero_have_a_logarithm_too():
    train = table(lr=list(10 ** np.linspace(-5, -3, 30)), y=list(np.linspace(1, 2, 30)[::-1]))
    new = Table(**{**vars(train), "features": {"lr": np.array([-1.0]), "y": np.array([1.0])}})
    assert np.isfinite(fit_encoder(train).dense(new, "log")).all()


def test_a_trend_leads_on_in_logarithms_as_far_as_their_range_again():
    train = table(lr=list(10 ** np.linspace(-5, -3, 30)), y=list(np.linspace(1, 2, 30)[::-1]))
    far = {"lr": np.array([1e-2, 1.0]), "y": np.array([2.5, 9.0])}
    new = Table(**{**vars(train), "features": far, "target": np.zeros(2)})
    made = fit_encoder(train).dense(new, "both")
    # lr itself stops at 1e-3, its logarithm two decades further on; y at 3.
    expected = [[1e-3, math.log(1e-2), 2.5], [1e-3, math.log(1e-1), 3.0]]
    np.testing.assert_allclose(made, expected)


def test_scale_only_centres_constants():
    scaled = fit_scale(np.array([[1.0, 5.0], [3.0, 5.0]]))(np.array([[2.0, 6.0]]))
    np.testing.assert_allclose(scaled, [[0.0, 1.0]])
