"""Learning curves: the law, forecasts, and `llmpred meta curves` as others script against it."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpred.errors import DataError
from llmpred.meta.budgets import baselines, measure
from llmpred.meta.curve_table import Curves, read_curves
from llmpred.meta.curves import GRID, forecast, laws, predict

Run = Callable[..., Any]

SIZES = 100 * 2.0 ** np.arange(12)
BUDGETS = [Fraction(1, 2**k) for k in range(3, 10)]


def drawn(seed: int = 0, bases: int = 20, noise: float = 0.01) -> Curves:
    """Curves of the rectified law with a common floor and exponent, and noise on each score."""
    draw = np.random.default_rng(seed)
    exponent, floor = draw.uniform(0.2, 0.7), draw.uniform(0.2, 0.8)
    start = draw.uniform(2, 5, (bases, 1))
    turn = (SIZES[-1] * 2.0 ** draw.uniform(-10, 0, (bases, 1))) ** exponent
    scores = floor + start * turn / (turn + SIZES**exponent)
    scores *= np.exp(noise * draw.normal(size=scores.shape))
    names = tuple(f"base {i}" for i in range(bases))
    unknown = np.full(bases, np.nan)
    return Curves(names, SIZES, scores, unknown, unknown, f"drawn {seed}")


def write(path: Path, curves: Curves, columns: list[int] | None = None) -> Path:
    columns = list(range(len(curves.sizes))) if columns is None else columns
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        sizes = [f"{curves.sizes[i]:.0f}" for i in columns]
        writer.writerow(["config name", "0", *sizes, "size", "family"])
        for name, row in zip(curves.names, curves.scores, strict=True):
            cells = ["" if np.isnan(row[i]) else row[i] for i in columns]
            writer.writerow([name, 9.5, *cells, 1e9, "family"])
    return path


# --- the law -----------------------------------------------------------------------------------


def test_a_law_goes_through_curves_of_its_own():
    part, exponent = 3, 6
    floor, power = 1.0, (exponent + 0.5) / GRID
    curve = np.array([[20.0], [30.0], [40.0]]) / (1 + (SIZES / 3000) ** power) + floor
    # The floor is a part of the lowest score seen; move the lowest curve there.
    lowest = floor / ((part + 0.5) / GRID)
    curve[0] = floor + (lowest - floor) * (1 + (SIZES[7] / 500) ** power) / (
        1 + (SIZES / 500) ** power
    )
    assert curve[:, :8].min() == pytest.approx(lowest)
    told = laws(SIZES[:8], curve[:, :8], SIZES[8:])
    np.testing.assert_allclose(told[part * GRID + exponent], np.log(curve[:, 8:]), rtol=1e-9)


def test_forecasts_know_no_units():
    seen = drawn().up_to(SIZES[6])
    told = forecast(seen, SIZES[-1])
    scaled = forecast(replace(seen, scores=seen.scores * 7), SIZES[-1])
    np.testing.assert_allclose(scaled.predicted, 7 * told.predicted)
    np.testing.assert_allclose(scaled.upper, 7 * told.upper)
    tokens = forecast(replace(seen, sizes=seen.sizes * 512), 512 * SIZES[-1])
    np.testing.assert_allclose(tokens.lower, told.lower)
    order = np.random.default_rng(0).permutation(len(seen.names))
    np.testing.assert_allclose(
        forecast(seen.take(order), SIZES[-1]).predicted, told.predicted[order]
    )


def test_a_curve_that_rises_is_taken_as_flat():
    curves = drawn(bases=3)
    curves.scores[1] = np.linspace(2, 2.2, len(SIZES))
    told = forecast(curves, 8 * SIZES[-1])
    assert np.isfinite(told.predicted).all()
    rising = laws(curves.sizes, curves.scores, np.array([1.0, 8.0]) * SIZES[-1])[:, 1]
    np.testing.assert_allclose(rising[:, 0], rising[:, 1])


def test_shared_floor_and_exponent_beat_a_straight_line_and_single_laws():
    figures: dict[str, list[float]] = {}
    inside = []
    for seed in range(12):
        curves = drawn(seed)
        found = measure(curves, Fraction(1, 64))
        for name, values in found.figures.items():
            figures.setdefault(name, []).append(values["pearson"])
        inside.append(found.coverage_90)
    means = {name: np.mean(values) for name, values in figures.items()}
    assert 1 - means["llmpred"] < 0.6 * (1 - means["straight_line"])
    assert 1 - means["llmpred"] < 0.2 * (1 - means["single_law"])
    assert np.mean(inside) > 0.85


def test_backtests_set_the_level():
    curves = drawn(3)
    seen, outcome = curves.up_to(SIZES[6]), curves.scores[:, -1]
    even = np.exp(laws(seen.sizes, seen.scores, SIZES[-1:])[:, :, 0].mean(axis=0))
    told = forecast(seen, SIZES[-1]).predicted
    ratio = told / even
    np.testing.assert_allclose(ratio, ratio[0])
    assert abs(np.log(told / outcome).mean()) < abs(np.log(even / outcome).mean())


# --- what is seen, and what is not -------------------------------------------------------------


def test_no_size_above_the_budget_is_looked_at():
    curves = drawn()
    found = measure(curves, Fraction(1, 16))
    blind = curves.scores.copy()
    blind[:, 8:] = np.random.default_rng(1).uniform(0.1, 9, blind[:, 8:].shape)
    other = measure(replace(curves, scores=blind), Fraction(1, 16))
    assert (other.chosen, other.predicted) == (found.chosen, found.predicted)
    assert found.seen == other.seen == 8
    assert other.figures["llmpred"] != found.figures["llmpred"]


def test_empty_cells_are_predicted_and_measured_ones_kept():
    curves = drawn()
    table = replace(curves, scores=curves.scores.copy())
    table.scores[4:, 7:] = np.nan
    table.scores[10, 3] = np.nan
    table.scores[11, 6] = np.nan
    told = predict(table)
    np.testing.assert_array_equal(told.predicted[:4], curves.scores[:4, -1])
    np.testing.assert_array_equal(told.lower[:4], told.upper[:4])
    assert (told.lower[4:] < told.predicted[4:]).all()
    assert np.corrcoef(told.predicted[4:], curves.scores[4:, -1])[0, 1] > 0.9
    # The four that are finished say how far the others will come.
    alone = predict(table.take(np.arange(4, 20)), SIZES[-1])
    off = [
        np.abs(np.log(p / curves.scores[4:, -1])).mean()
        for p in (told.predicted[4:], alone.predicted)
    ]
    assert off[0] < off[1]


def test_other_tables_narrow_the_interval():
    curves = drawn(5).up_to(SIZES[5])
    others = [drawn(seed, noise=0.005) for seed in range(6, 10)]
    alone, told = predict(curves, SIZES[-1]), predict(curves, SIZES[-1], others)
    assert np.median(told.upper / told.lower) < np.median(alone.upper / alone.lower)
    assert not told.warnings
    (warning,) = predict(curves, 2 * SIZES[-1], [others[0].up_to(SIZES[5])]).warnings
    assert "drawn 6 says nothing" in warning


def test_a_finished_base_without_small_sizes_is_no_prior():
    curves = drawn()
    table = replace(curves, scores=curves.scores.copy())
    table.scores[5:, 7:] = np.nan
    expected = predict(table).predicted
    table.scores[:2, :6] = np.nan
    told = predict(table)
    np.testing.assert_array_equal(told.predicted[:5], curves.scores[:5, -1])
    np.testing.assert_allclose(told.predicted[5:], expected[5:], rtol=0.1)
    table.scores[:3, :6] = np.nan
    (warning,) = predict(table).warnings
    assert "no 3 bases with 2 sizes up to 0.0312 of its largest" in warning


def test_a_base_is_as_far_from_the_target_as_its_own_last_size():
    curves = drawn(bases=6)
    curves.scores[3:, 4:] = np.nan
    apart = forecast(curves, 4 * SIZES[-1]).apart
    np.testing.assert_allclose(apart[3:] / apart[:3], np.log2(4 * 2**8) / np.log2(4))


def test_accuracies_are_told_apart(llmpred: Run, tmp_path: Path):
    curves = drawn()
    table = write(tmp_path / "t.csv", replace(curves, scores=1 / curves.scores))
    ran = llmpred("meta", "curves", "--table", table, "--budget", "1/8")
    assert ran.code == 0
    assert "rise with more data; lower must be better" in ran.out


def test_the_table_itself_is_no_prior():
    curves = drawn()
    with pytest.raises(DataError, match="must be another table"):
        measure(curves, Fraction(1, 8), [curves])
    with pytest.raises(DataError, match="must be another table"):
        predict(curves.up_to(SIZES[8]), SIZES[-1], [curves.up_to(SIZES[9])])
    open_ = drawn(1)
    open_.scores[2, -1] = np.nan
    with pytest.raises(DataError, match="every base's score at its largest size"):
        measure(curves, Fraction(1, 8), [open_])


def test_straight_line_through_the_last_three_points():
    curves = drawn(bases=4)
    seen = replace(curves, scores=curves.scores.copy()).up_to(SIZES[8])
    seen.scores[0, 8] = np.nan
    told = baselines(seen, SIZES[-1])["straight_line"]
    for i, last in [(0, 7), (1, 8)]:
        known = slice(last - 2, last + 1)
        x, y = np.log(SIZES[known]), np.log(curves.scores[i, known])
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        expected = np.exp(y.mean() + slope * (np.log(SIZES[-1]) - x.mean()))
        assert told[i] == pytest.approx(expected)


# --- published tables --------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "line", "least", "accuracy"),
    [("flan", 0.665, 0.69, 0.921), ("wmt19", 0.871, 0.89, 0.992)],
)
def test_thirty_bases(shared_data: Path, name: str, line: float, least: float, accuracy: float):
    curves = read_curves(shared_data / f"tables/scaling_{name}.csv")
    found = [measure(curves, budget) for budget in BUDGETS]

    def mean(predictor: str, figure: str) -> float:
        return float(np.mean([each.figures[predictor][figure] for each in found]))

    assert mean("straight_line", "pearson") == pytest.approx(line, abs=0.0005)
    assert mean("llmpred", "pearson") >= least
    assert mean("llmpred", "relative_accuracy") >= accuracy


# --- the command -------------------------------------------------------------------------------


def test_measured_in_any_order_of_columns(llmpred: Run, tmp_path: Path):
    curves, out = drawn(), tmp_path / "out.json"
    table = write(tmp_path / "t.csv", curves, [11, 3, 0, 5, 1, 2, 4, 10, 6, 9, 8, 7])
    ran = llmpred("meta", "curves", "--table", table, "--budget", "1/8,1/64", "--json", out)
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert list(found) == ["1/8", "1/64"]
    for text, figures in found.items():
        expected = measure(curves, Fraction(text)).figures["llmpred"]
        assert figures["pearson"] == pytest.approx(expected["pearson"])
        assert figures["relative_accuracy"] == pytest.approx(expected["relative_accuracy"])
        assert figures["baselines"]["model_size"]["pearson"] is None
    for shown in ("straight_line", "zero_shot", "Relative accuracy", found["1/64"]["chosen"]):
        assert shown in ran.out


def test_default_budgets_hold_three_sizes(llmpred: Run, tmp_path: Path):
    out = tmp_path / "out.json"
    table = write(tmp_path / "t.csv", drawn())
    assert llmpred("meta", "curves", "--table", table, "--json", out).code == 0
    assert list(json.loads(out.read_text())) == [f"1/{2**k}" for k in range(3, 10)]
    table = write(tmp_path / "t.csv", drawn().up_to(SIZES[6]))
    assert llmpred("meta", "curves", "--table", table, "--json", out).code == 0
    assert list(json.loads(out.read_text())) == ["1/8", "1/16"]


def test_empty_columns_make_it_predict(llmpred: Run, tmp_path: Path):
    curves, out = drawn(2), tmp_path / "out.json"
    curves.scores[:, 7:] = np.nan
    prior = write(tmp_path / "prior.csv", drawn(3))
    table = write(tmp_path / "t.csv", curves)
    ran = llmpred("meta", "curves", "--table", table, "--prior", prior, "--json", out)
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert found["size"] == SIZES[-1]
    assert len(found["bases"]) == 20
    assert found["bases"][0]["base"] == found["chosen"]
    predicted = [base["predicted"] for base in found["bases"]]
    assert predicted == sorted(predicted)
    assert all(base["lower"] < base["predicted"] < base["upper"] for base in found["bases"])
    assert f"chosen: {found['chosen']}" in ran.out
    further = llmpred("meta", "curves", "--table", table, "--to", "1e6", "--json", out)
    assert further.code == 0, further.err
    assert json.loads(out.read_text())["size"] == 1e6


HEAD = "config name,100,200,400,800,1600\n"
ROWS = "a,5,4,3,2,1.5\nb,5,4,3,2,1.6\nc,5,4,3,2,1.7\n"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("config name,size\na,5\n", "", "2 columns named by a number of examples"),
        ("who,100,200\na,5,4\n", "", "must have a column `config name`"),
        (HEAD + "a,5,4,3,2,1.5\n", "--budget 1/8", "at least 3 bases, but got 1"),
        (HEAD + ROWS + "a,5,4,3,2,1\n", "", "`a` has 2"),
        (HEAD + ROWS + ",5,4,3,2,1\n", "", "`config name` is empty in row 4"),
        (HEAD + ROWS + "d,5,4,soon,2,1\n", "", "`400` of `d` is 'soon'"),
        (HEAD + ROWS + "d,5,4,0,2,-1\n", "", "`1600` of `d` is -1"),
        (HEAD + ROWS + "d,5,inf,3,2,1\n", "", "`200` of `d` is inf"),
        (HEAD + ROWS, "--budget 1/16", "1/16 of 1600 holds 1"),
        (HEAD + ROWS, "--budget 1/999", "The second smallest size is 200"),
        (HEAD + ROWS, "--budget eighth", "must be parts such as 1/8, but got `eighth`"),
        (HEAD + ROWS, "--budget 1/0", "must be parts such as 1/8, but got `1/0`"),
        (HEAD + ROWS, "--budget 3/2", "above 0 and below 1, but got 3/2"),
        (HEAD + ROWS, "--budget 1/4 --to 9999", "Give one of the two"),
        (HEAD + ROWS, "--to 1600", "all are measured there"),
        (HEAD + ROWS + "d,5,4,3,2,\n", "--budget 1/4", "`d` has no score at 1600"),
        (HEAD + ROWS + "d,5,,,,\n", "", "`d` has 1"),
        (HEAD + "a,5,4,3,2,1\nb,4,3,3,2,1\nc,4,4,3,2,1\n", "--budget 1/4", "but all are 1"),
        ("config name,100,100.0,200\na,5,4,3\n", "", "`100` and `100.0` are the same"),
        (HEAD, "", "must have rows"),
    ],
)
def test_what_cannot_be_says_why(llmpred: Run, tmp_path: Path, text: str, options: str, said: str):
    table = tmp_path / "t.csv"
    table.write_text(text)
    ran = llmpred("meta", "curves", "--table", table, *options.split())
    assert ran.code == 2, ran.out
    assert said in ran.err


def test_all_bad_cells_at_once(tmp_path: Path):
    table = tmp_path / "t.csv"
    table.write_text(HEAD + ROWS + "d,0,x,3,-2,1\n")
    with pytest.raises(DataError) as raised:
        read_curves(table)
    assert len(raised.value.problems) == 3
