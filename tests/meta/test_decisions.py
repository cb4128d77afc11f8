"""What to run, on predictions whose right answer is known."""

import itertools

import numpy as np
import pytest

from llmpred.meta.decisions import (
    GO,
    LEVELS,
    NO_GO,
    PROBE,
    Quantiles,
    chance,
    quantiles,
    recommend,
    screen,
)
from llmpred.meta.model import Prediction

SHARES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def spread(middles: list[float], widths: list[float]) -> Quantiles:
    steps = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    return Quantiles(SHARES, np.array(middles)[:, None] + np.outer(widths, steps))


def test_intervals_become_distributions():
    middle = np.array([0.5, 0.6])
    levels = [Prediction(middle, middle - level, middle + level) for level in LEVELS[:-1]]
    endless = np.full(2, np.inf)
    found = quantiles([*levels, Prediction(middle, -endless, endless)])
    # A level that the calibration knows no end of is left out.
    assert len(found.shares) == 2 * len(LEVELS) - 1
    assert found.shares[len(LEVELS) - 1] == 0.5
    assert np.all(np.diff(found.shares) > 0)
    np.testing.assert_allclose(found.values[0, len(LEVELS) - 1], 0.5)
    assert np.all(np.diff(found.values, axis=1) >= 0)
    np.testing.assert_allclose(found.values[0, -1], 0.5 + LEVELS[-2])
    blind = quantiles([Prediction(middle, -endless, endless)] * len(LEVELS))
    np.testing.assert_allclose(chance(blind, 0.55), [0.25, 0.75])


def test_chances_follow_the_quantiles_and_are_never_certain():
    found = spread([0.5], [0.1])
    assert chance(found, 0.5)[0] == pytest.approx(0.5)
    assert chance(found, 0.6)[0] == pytest.approx(0.25)
    assert chance(found, 0.45)[0] == pytest.approx(0.625)
    assert chance(found, 5.0)[0] == pytest.approx(0.025)
    assert chance(found, -5.0)[0] == pytest.approx(0.975)
    flat = Quantiles(SHARES, np.full((1, 5), 0.5))  # a model without doubt
    assert chance(flat, 0.6)[0] == pytest.approx(0.025)
    assert chance(flat, 0.4)[0] == pytest.approx(0.975)


def test_screening_decides_by_the_risk_and_counts_what_it_saves_and_costs():
    found = spread([0.9, 0.5, 0.52, 0.9], [0.05, 0.05, 0.2, 0.05])
    seconds = np.array([10.0, 20.0, 30.0, 40.0])
    known = [True, True, True, False]
    made = screen(found, 0.7, seconds, risk=0.1, known=known)
    assert made.decisions == (GO, NO_GO, PROBE, PROBE)
    assert made.saved_seconds == 20
    assert made.saved_share == pytest.approx(0.2)
    assert made.lost == pytest.approx(made.chances[1])
    assert made.lost_share == pytest.approx(made.chances[1] / made.chances.sum())
    assert made.wasted == pytest.approx(1 - made.chances[0])
    bolder = screen(found, 0.7, seconds, risk=0.4, known=known)
    assert bolder.decisions == (GO, NO_GO, NO_GO, PROBE)


def test_screening_keeps_its_risk_where_the_distributions_are_right():
    draw = np.random.default_rng(0)
    middles = draw.uniform(0.3, 0.7, 4000)
    shares = np.linspace(0.01, 0.99, 99)
    errors = np.sort(0.05 * draw.normal(size=200_000))
    found = Quantiles(shares, middles[:, None] + np.quantile(errors, shares))
    true = middles + 0.05 * draw.normal(size=4000)
    made = screen(found, 0.5, np.ones(4000), risk=0.1, known=[True] * 4000)
    decided = np.array(made.decisions)
    assert (true[decided == GO] < 0.5).mean() < 0.1
    assert (true[decided == NO_GO] >= 0.5).mean() < 0.1
    assert (true[decided == NO_GO] >= 0.5).sum() == pytest.approx(made.lost, rel=0.5, abs=5)


def best_of(found: Quantiles, rows: tuple[int, ...]) -> float:
    draw = np.random.default_rng(1)
    drawn = [np.interp(draw.random(20_000), found.shares, found.values[row]) for row in rows]
    return float(np.maximum.reduce([np.zeros(20_000), *drawn]).mean())


def test_a_choice_is_near_the_best_of_all_sets_that_fit():
    draw = np.random.default_rng(2)
    for _ in range(5):
        found = spread(list(draw.uniform(0.3, 0.7, 8)), list(draw.uniform(0.01, 0.15, 8)))
        seconds = draw.uniform(1, 5, 8)
        made = recommend(
            found, seconds, 8.0, questions=np.zeros(8, dtype=np.int64), so_far=np.zeros(1)
        )
        assert made.seconds <= 8
        assert made.seconds == pytest.approx(seconds[made.rows].sum())
        sets = [
            rows
            for size in range(1, 9)
            for rows in itertools.combinations(range(8), size)
            if seconds[list(rows)].sum() <= 8
        ]
        optimum = max(best_of(found, rows) for rows in sets)
        assert best_of(found, tuple(made.rows)) >= 0.97 * optimum
        assert made.best[-1] == pytest.approx(best_of(found, tuple(made.rows)), abs=0.02)


def test_one_dear_run_may_beat_many_cheap_ones():
    found = spread([0.9, 0.1, 0.1], [0.001, 0.001, 0.001])
    seconds = np.array([10.0, 0.5, 0.5])
    made = recommend(
        found, seconds, 10.0, questions=np.zeros(3, dtype=np.int64), so_far=np.zeros(1)
    )
    assert list(made.rows) == [0]


def test_what_is_there_already_counts_and_questions_are_apart():
    found = spread([0.6, 0.61, 0.3], [0.001, 0.001, 0.001])
    seconds, questions = np.ones(3), np.array([0, 0, 1])
    made = recommend(found, seconds, 2.0, questions=questions, so_far=np.zeros(2))
    assert set(made.rows) == {1, 2}
    made = recommend(found, seconds, 2.0, questions=questions, so_far=np.array([0.9, 0.0]))
    assert list(made.rows) == [2]
    nothing = recommend(found, seconds, 0.5, questions=questions, so_far=np.zeros(2))
    assert len(nothing.rows) == 0
    assert nothing.seconds == 0
