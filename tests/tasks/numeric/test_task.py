"""What task numeric teaches, and what it makes of what a head says."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from llmpred.spec.run import TaskSpec
from llmpred.tasks.numeric import Numeric, scale
from llmpred.tasks.numeric.numbers import NUM

TASK = Numeric()


def settled(language: str = "en") -> TaskSpec:
    return TaskSpec.model_validate({"name": "numeric", "language": language, "prompt": "{text}"})


@pytest.mark.parametrize(
    ("language", "value", "following", "digits", "token"),
    [
        ("en", 12.5, "kg.", " 12.5 kg.", f" {NUM} kg."),
        ("en", 5, None, " 5", f" {NUM}"),
        ("en", None, "the crate.", " the crate.", " the crate."),
        ("zh", 350, "人。", "350人。", f"{NUM}人。"),
        ("zh", 3, "%", "3%", f"{NUM}%"),
        ("zh", None, "工人。", "工人。", "工人。"),
        # Together they would be other numbers.
        ("zh", 3.5, "万元", "3.5 万元", f"{NUM} 万元"),
        ("zh", 5, "6个", "5 6个", f"{NUM} {NUM}个"),
    ],
)
def test_what_is_taught_is_read_as_the_value(
    language: str, value: float | None, following: str | None, digits: str, token: str
) -> None:
    row: dict[str, Any] = {"text": "x", "value": value, "next": following}
    row = {name: given for name, given in row.items() if given is not None}
    spec = settled(language)
    assert TASK.target(row, spec) == digits
    assert TASK.with_numbers(row, spec)[0] == token
    read = TASK.read(digits, spec)
    assert (read["due"], read.get("value")) == (value is not None, value)


def test_rows_without_a_number_are_missed() -> None:
    due = {"text": "it is", "value": 5.0, "next": None}
    other = {"text": "it is", "value": None, "next": "late"}
    notes = [TASK.learn(settled(), pa.Table.from_pylist(rows))[2] for rows in ([due, other], [due])]
    assert notes[0] == ()
    assert "always" in notes[1][0]


@pytest.mark.parametrize(
    "residuals",
    [
        "12345",
        [0.0] * 4,
        [5.0, 4.0, 3.0, 2.0, 1.0],
        [math.nan] * 5,
        [0.0, 0.0, 0.0, 0.0, math.inf],
        [10**400] * 5,
    ],
    ids=["text", "few", "order", "nan", "infinite", "huge"],
)
def test_residuals_of_a_stranger_are_refused(residuals: Any) -> None:
    with pytest.raises(ValueError, match="5 numbers in order"):
        TASK.check_calibration(settled(), "mse", {"loss": "mse", "residuals": residuals})
    sound = {"loss": "mse", "residuals": [-1, -0.5, 0.0, 0.5, 1.0]}
    TASK.check_calibration(settled(), "mse", sound)


@pytest.mark.parametrize("loss", ["cauchy", "pinball", "mse"])
def test_a_head_that_says_no_numbers_has_finite_answers(loss: str) -> None:
    said = [math.nan] * (5 if loss == "pinball" else 3)
    (answer,) = TASK.answers([{}], settled(), [[math.nan, 51.0, *said]], {"loss": loss})
    assert not answer["due"]
    assert math.isfinite(answer["probability"])
    assert math.isfinite(answer["value"])


@pytest.mark.parametrize("value", [0.0, 0.1, 3.3, -7.7, 1e12, 1e300])
def test_values_that_are_all_the_same_have_no_spread(value: float) -> None:
    for count in (1, 7, 11):
        found = scale.learnt([value] * count)
        assert (found.log[1], found.raw[1]) == (1.0, 1.0)
