"""Answers about numbers are judged as by hand, and whatever they say figures are finite."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    root_mean_squared_error,
)

from llmpred.errors import DataError
from llmpred.tasks.base import LEVELS, Prediction
from llmpred.tasks.numeric.metrics import by_set, calibration, figures, right, sets_of, symlog


def answer(
    true: float | None,
    value: float | None = None,
    due: bool = True,
    rank: int | None = 1,
    quantiles: list[float] | None = None,
    of: str | None = "basic",
) -> Prediction:
    told = {
        "due": due,
        "rank": rank,
        "probability": None if rank is None else 0.5 / rank,
        "value": value,
        "quantiles": quantiles,
    }
    return Prediction("0", {"value": true, "set": of}, told)


def text(true: float | None, value: float | None) -> Prediction:
    """A generated text, whose number is the first thing it says."""
    return answer(true, value, due=value is not None, rank=None)


@pytest.mark.parametrize(
    ("true", "value", "due", "expected"),
    [
        (100.0, 100.0, True, True),
        (100.0, 105.0, True, True),
        (100.0, 105.1, True, False),
        (100.0, 95.0, True, True),
        (100.0, 94.9, True, False),
        (-100.0, -105.0, True, True),
        (-100.0, 100.0, True, False),
        (1e18, 1.04e18, True, True),
        (1e-9, 1.04e-9, True, True),
        (1e-9, 2e-9, True, False),
        (0.0, 0.05, True, True),
        (0.0, -0.05, True, True),
        (0.0, 0.06, True, False),
        (100.0, 100.0, False, False),  # right value, where none was predicted
        (100.0, None, True, False),
        (1e308, -1e308, True, False),
        (100.0, math.nan, True, False),
        (None, 5.0, False, True),
        (None, 5.0, True, False),
        (None, None, False, True),
    ],
)
def test_what_is_right(true: float | None, value: float | None, due: bool, expected: bool):
    assert right(answer(true, value, due)) is expected


HEAD = [
    answer(10.0, 12.0, rank=1),
    answer(-20.0, -17.0, due=False, rank=4),
    answer(0.0, 1.0, rank=1),
    answer(1000.0, 1010.0, rank=2, due=False),
    answer(None, 7.0, due=False, rank=9),
    answer(None, 7.0, due=True, rank=1),
    answer(None, 7.0, due=False, rank=3),
]


def test_figures_of_a_head():
    true, said = [10, -20, 0, 1000], [12, -17, 1, 1010]
    found = figures(HEAD)
    assert found == {
        "within_tolerance": pytest.approx(2 / 7),  # the two rows where nothing is due
        "accuracy": 0.5,
        "false_alarms": pytest.approx(1 / 3),
        "mean_rank": 2.0,
        "mean_probability": pytest.approx((0.5 + 0.125 + 0.5 + 0.25) / 4),
        "rmse": pytest.approx(root_mean_squared_error(true, said)),
        "mae": pytest.approx(mean_absolute_error(true, said)),
        "median_relative_error": pytest.approx(0.15),  # of 0.2, 0.15 and 0.01
        "log_error": pytest.approx(
            np.mean(np.abs(np.log10([11 / 13, 21 / 18, 1 / 2, 1001 / 1011])))
        ),
        "rmse_predicted": pytest.approx(root_mean_squared_error([10, 0], [12, 1])),
        "mae_predicted": pytest.approx(1.5),
        "median_relative_error_predicted": pytest.approx(0.2),
        "log_error_predicted": pytest.approx(np.mean(np.log10([13 / 11, 2]))),
    }


def test_figures_of_generated_texts():
    rows = [text(10.0, 10.0), text(10.0, 30.0), text(10.0, None), text(10.0, None)]
    found = figures([*rows, text(None, None), text(None, 3.0)])
    assert found["without_value"] == 0.5
    assert found["accuracy"] == 0.5
    assert found["false_alarms"] == 0.5
    assert found["within_tolerance"] == pytest.approx(2 / 6)
    assert found["mae"] == found["mae_predicted"] == 10.0
    assert not {"mean_rank", "mean_probability", "coverage", "pinball"} & set(found)
    silent = figures([text(10.0, None)])
    assert silent == {"within_tolerance": 0.0, "accuracy": 0.0, "without_value": 1.0}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([answer(None, 3.0)], {"within_tolerance", "false_alarms"}),
        (
            [answer(0.0, 3.0, due=False)],  # no error is relative to 0, none is predicted
            {
                *("within_tolerance", "accuracy", "mean_rank", "mean_probability"),
                *("rmse", "mae", "log_error"),
            },
        ),
    ],
)
def test_figures_that_rows_do_not_have_are_left_out(rows: list[Prediction], names: set[str]):
    assert set(figures(rows)) == names


def test_quantiles():
    draw = np.random.default_rng(0)
    true = draw.normal(0, 1000, 400)
    quantiles = np.quantile(true, LEVELS) * draw.uniform(0.5, 1.5, (400, 1))
    rows = [answer(t, q[2], quantiles=q.tolist()) for t, q in zip(true, quantiles, strict=True)]
    rows += [answer(None, 0.0, quantiles=[0.0] * 5), answer(5.0, 5.0)]  # neither is one of these
    found = figures(rows)
    inside = (quantiles[:, 0] <= true) & (true <= quantiles[:, 4])
    losses = [
        mean_pinball_loss(symlog(true), symlog(quantiles[:, i]), alpha=level)
        for i, level in enumerate(LEVELS)
    ]
    assert found["coverage"] == pytest.approx(inside.mean())
    assert found["pinball"] == pytest.approx(np.mean(losses))
    told = calibration(rows)
    assert [*told] == [*LEVELS]
    assert told[0.9] == pytest.approx((true <= quantiles[:, 4]).mean())
    assert calibration([answer(5.0, 5.0)]) == {}


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (9, 1), (-9, -1), (99, 2), (-(10**18), -18), (1e-3, 4.3408e-4)]
)
def test_symlog_tells_orders_of_magnitude(value: float, expected: float):
    assert symlog([value])[0] == pytest.approx(expected, rel=1e-4)


def test_sets_are_in_order_of_appearance():
    rows = [
        answer(1.0, 1.0, of="extreme"),
        answer(1.0, 3.0, of="基础"),
        answer(2.0, 2.5, of="extreme"),
        answer(1.0, 9.0, of=None),
    ]
    assert [*sets_of(rows)] == [*by_set(rows)] == ["extreme", "基础"]
    assert by_set(rows)["extreme"] == figures([rows[0], rows[2]])
    assert by_set(rows)["基础"]["mae"] == 2.0


def test_there_must_be_predictions():
    with pytest.raises(DataError):
        figures([])


@pytest.mark.parametrize(
    ("value", "left_out"),
    [
        (1e300, set()),  # its square overflows
        (1.7e308, {"mae", "rmse"}),  # and this its sum
        (math.inf, {"mae", "rmse", "log_error"}),
        (math.nan, {"mae", "rmse", "log_error", "median_relative_error"}),
    ],
)
def test_silly_values_leave_figures_finite(value: float, left_out: set[str]):
    rows = [answer(1e18, 1e18), answer(1e18, value), answer(-1e18, value), answer(5.0, 6.0)]
    rows += [answer(5.0, 6.0)] * 2
    found = figures(rows)
    named = {"mae", "rmse", "log_error", "median_relative_error"}
    assert named - set(found) == left_out
    if "rmse" in found:
        assert found["rmse"] == pytest.approx(value * math.sqrt(2 / 6))


REAL = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.none() | REAL, REAL, st.booleans(), st.none() | st.lists(REAL, min_size=5)),
        min_size=1,
    )
)
def test_whatever_is_said_figures_are_finite(rows: list[tuple[Any, ...]]):
    told = [answer(true, value, due, quantiles=q and sorted(q[:5])) for true, value, due, q in rows]
    found = figures(told)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert 0 <= found["within_tolerance"] <= 1
