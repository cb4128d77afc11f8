import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from sklearn.metrics import brier_score_loss, log_loss

from llmpred.errors import DataError, InputError
from llmpred.evaluation import confidence as measured
from llmpred.evaluation.classification import Classified, classified
from llmpred.evaluation.confidence import confidence, fit_temperature, scaled
from llmpred.tasks.base import Prediction


def simulated(n: int, k: int = 3, temperature: float = 1.0, seed: int = 0) -> Classified:
    """Answers that are calibrated at the temperature: scores are that much too large."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (n, k))
    targets = (logits + draw.gumbel(size=(n, k))).argmax(axis=1)
    labels = [f"label {i}" for i in range(k)]
    rows = [
        Prediction(f"q{i}", labels[t], labels[int(row.argmax())], tuple(row.tolist()))
        for i, (t, row) in enumerate(zip(targets, logits * temperature, strict=True))
    ]
    return classified(rows, labels)


def answers(sure: list[float], right: list[bool]) -> Classified:
    """Answers of two labels with these confidences, all of the second label."""
    rows = [
        Prediction(
            str(i), "b" if hit else "a", "b", (math.log1p(-p) if p < 1 else -800, math.log(p))
        )
        for i, (p, hit) in enumerate(zip(sure, right, strict=True))
    ]
    return classified(rows, "ab")


def gaps_by_loop(sure: np.ndarray, right: np.ndarray, bins: int) -> list[tuple[int, float]]:
    """Guo et al. (2017) as their own code does it: one bin after the other."""
    gaps = []
    for i in range(bins):
        inside = [(i / bins < p or i == 0 == p) and p <= (i + 1) / bins for p in sure]
        if any(inside):
            gap = abs(np.mean(right[inside]) - np.mean(sure[inside]))
            gaps.append((sum(inside), float(gap)))
    return gaps


PAIRS = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([i / 15 for i in range(16)]), st.booleans()),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_calibration_errors_are_those_of_a_loop(pairs: list[tuple[float, bool]]):
    sure, right = (np.array(column) for column in zip(*pairs, strict=True))
    gaps = gaps_by_loop(sure, right, 15)
    assert sum(count for count, _ in gaps) == len(pairs)
    ece = sum(count * gap for count, gap in gaps) / len(pairs)
    assert measured.ece(sure, right) == pytest.approx(ece, abs=1e-12)
    assert measured.mce(sure, right) == pytest.approx(max(gap for _, gap in gaps), abs=1e-12)
    for value in (ece, measured.adaptive_ece(sure, right)):
        assert -1e-12 <= value <= 1 + 1e-12
    # No binning sees more than all bins of one answer, nor less than the one of all.
    assert measured.ece(sure, right) >= abs(right.mean() - sure.mean()) - 1e-12


def test_adaptive_bins_hold_as_many_each_and_part_no_ties():
    draw = np.random.default_rng(0)
    sure = draw.random(300)
    right = draw.random(300) < sure
    order = np.argsort(sure)
    parts = np.array_split(order, 15)
    by_loop = sum(abs(right[p].sum() - sure[p].sum()) for p in parts) / 300
    assert measured.adaptive_ece(sure, right) == pytest.approx(by_loop)
    tied = np.full(100, 0.7)
    right = np.arange(100) < 70
    assert measured.adaptive_ece(tied, right) == pytest.approx(0, abs=1e-12)
    assert measured.adaptive_ece(tied, right[::-1]) == pytest.approx(0, abs=1e-12)


def test_scores_of_probabilities_are_those_of_scikit_learn():
    found = simulated(300, k=4)
    assert measured.nll(found.log_probabilities, found.targets) == pytest.approx(
        log_loss(found.targets, found.probabilities, labels=range(4))
    )
    two = simulated(300, k=2)
    assert measured.brier(two.log_probabilities, two.targets) == pytest.approx(
        2 * brier_score_loss(two.targets, two.probabilities[:, 1])
    )
    by_hand = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert measured.brier(by_hand, np.array([0, 2])) == pytest.approx(
        (0.25 + 0.09 + 0.04 + 0.01 + 0.64 + 0.81) / 2
    )


# Temperature


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_is_that_of_another_optimiser(true: float):
    found = simulated(2000, temperature=true)
    mine = fit_temperature(found.log_probabilities, found.targets)
    logits, targets = torch.tensor(found.log_probabilities), torch.tensor(found.targets)
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [log_t], max_iter=200, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / log_t.exp(), targets)
        value.backward()
        return value

    search.step(loss)
    assert mine == pytest.approx(float(log_t.detach().exp()), rel=1e-4)
    assert mine == pytest.approx(true, rel=0.1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_temperature_of_what_is_calibrated_is_near_one(seed: int):
    found = simulated(3000, seed=seed)
    assert fit_temperature(found.log_probabilities, found.targets) == pytest.approx(1, abs=0.2)


def test_scores_that_say_nothing_all_or_the_wrong_thing():
    flat = np.zeros((5, 2))
    assert fit_temperature(flat, np.array([0, 1, 1, 0, 1])) == 1
    sharp = np.log([[0.9, 0.1], [0.2, 0.8]])
    low, high = measured.BOUNDS
    assert fit_temperature(sharp, np.array([0, 1])) == low
    assert fit_temperature(sharp, np.array([1, 0])) == high


@settings(deadline=None)
@given(
    arrays(float, (4, 3), elements=st.floats(-30, 0)), st.floats(0.05, 20), st.floats(-1000, 1000)
)
def test_scaling(scores: np.ndarray, temperature: float, shift: float):
    logs = log_softmax(scores, axis=1)
    np.testing.assert_allclose(scaled(logs, 1.0), logs, atol=1e-12)
    once = scaled(logs, temperature)
    np.testing.assert_allclose(np.exp(once).sum(axis=1), 1)
    np.testing.assert_allclose(scaled(scores + shift, temperature), once, atol=1e-9 * 1000)
    top = logs.argmax(axis=1)
    assert (once[np.arange(4), top] >= once.max(axis=1) - 1e-12).all()
    np.testing.assert_allclose(scaled(once, 1 / temperature), logs, atol=1e-8)


def test_a_temperature_is_above_zero():
    for wrong in (0, -1, float("nan")):
        with pytest.raises(InputError, match="above 0"):
            scaled(np.zeros((1, 2)), wrong)


def test_scaling_mends_what_is_too_sure_on_examples_it_was_not_fitted_on():
    found = simulated(2000, temperature=3)
    report = confidence(found)["temperature_scaling"]
    assert report["fitted_on"] == "halves"
    assert report["before"]["ece"] == pytest.approx(confidence(found)["ece"])
    assert report["after"]["ece"] < 0.3 * report["before"]["ece"]
    assert report["after"]["nll"] < report["before"]["nll"]
    assert report["temperature"] == fit_temperature(found.log_probabilities, found.targets)
    assert [*report["temperatures"], report["temperature"]] == pytest.approx([3] * 3, rel=0.15)
    assert not report["at_bound"]
    assert report == measured.temperature_report(found)
    assert report != measured.temperature_report(found, seed=1)


def test_each_half_is_scaled_by_what_the_other_says():
    # One half is right and the other wrong, so each fit runs into a bound.
    logs = np.log([[0.9, 0.1]] * 2)
    temperatures, after = measured._crosswise(logs, np.array([0, 1]), seed=0)
    assert sorted(temperatures) == [*measured.BOUNDS]
    np.testing.assert_allclose(after[0], scaled(logs, measured.BOUNDS[1])[0])
    np.testing.assert_allclose(after[1], scaled(logs, measured.BOUNDS[0])[1])


def test_a_validation_set_takes_the_place_of_halves():
    found, validation = simulated(500, temperature=3), simulated(800, temperature=3, seed=1)
    report = confidence(found, validation=validation)["temperature_scaling"]
    fitted = fit_temperature(validation.log_probabilities, validation.targets)
    assert (report["temperature"], report["fitted_on"]) == (fitted, "validation")
    after = scaled(found.log_probabilities, fitted)
    assert report["after"]["nll"] == measured.nll(after, found.targets)
    with pytest.raises(InputError, match="validation examples have the labels"):
        confidence(found, validation=simulated(10, k=2))


# The report


def test_the_report_by_hand():
    found = answers([0.55, 0.94, 0.89, 0.99, 0.85], [False, True, True, True, False])
    report = confidence(found, texts=[*"vwxyz"], samples=2)
    assert report["avg_confidence"] == pytest.approx((0.55 + 0.94 + 0.89 + 0.99 + 0.85) / 5)
    assert report["high_confidence_ratio"] == pytest.approx(2 / 5)
    assert report["share_above"]["0.5"] == 1
    assert report["share_above"]["0.95"] == pytest.approx(1 / 5)
    assert report["mean_confidence_right"] == pytest.approx((0.94 + 0.89 + 0.99) / 3)
    assert report["mean_confidence_wrong"] == pytest.approx(0.7)
    first, second = report["low_confidence_samples"]
    assert first == {
        "id": "0",
        "target": "a",
        "prediction": "b",
        "confidence": pytest.approx(0.55),
        "text": "v",
    }
    assert second["id"] == "4"
    bins = {row["range"]: row for row in report["confidence_distribution"]}
    assert next(iter(bins)) == "0.0-0.1"
    assert len(bins) == 10
    assert bins["0.5-0.6"]["accuracy"] == 0
    assert bins["0.8-0.9"]["count"] == bins["0.9-1.0"]["count"] == 2
    assert bins["0.8-0.9"]["accuracy"] == 0.5
    assert bins["0.1-0.2"]["accuracy"] is None
    assert sum(row["share"] for row in bins.values()) == pytest.approx(1)
    assert sum(row["count"] for row in report["reliability"]) == 5
    assert len(report["reliability"]) == 15
    assert "text" not in confidence(found)["low_confidence_samples"][0]
    with pytest.raises(InputError, match="one text an example, 5 in all, but got 1"):
        confidence(found, texts=["v"])


@pytest.mark.parametrize(
    ("sure", "right"),
    [
        ([0.7], [True]),
        ([0.7], [False]),
        ([1.0] * 20, [True] * 20),
        ([1.0] * 20, [False] * 20),
        ([0.5] * 20, [True, False] * 10),
        ([0.6, 0.8], [True, True]),
    ],
)
def test_degenerate_answers_have_a_report(sure: list[float], right: list[bool]):
    found = answers(sure, right)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = confidence(found)
    json.dumps(report, allow_nan=False)
    assert report["ece"] == pytest.approx(abs(np.mean(sure) - np.mean(right)), abs=0.11)
    assert report["aurc"] == pytest.approx(1 - np.mean(right), abs=1e-12)
    assert (report["mean_confidence_wrong"] is None) == all(right)
    if len(sure) == 1:
        assert report["temperature_scaling"]["after"] is None


def test_answers_that_were_generated_have_no_confidence():
    found = classified([Prediction("0", "a", "a")], "ab")
    for wrong in (confidence, measured.confidences, measured.temperature_report):
        with pytest.raises(DataError, match="answers were generated"):
            wrong(found)


def test_the_report_of_many_answers_stays_small():
    draw = np.random.default_rng(0)
    logs = log_softmax(draw.normal(size=(50_000, 2)), axis=1)
    targets = draw.integers(0, 2, 50_000)
    ids = tuple(map(str, range(50_000)))
    found = Classified(("a", "b"), ("a", "b"), ids, targets, logs.argmax(axis=1), logs)
    report = confidence(found)
    assert len(report["coverage_curve"]) == measured.CURVE
    assert len(json.dumps(report)) < 50_000


# Coverage


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_the_coverage_curve_is_what_thresholds_do(pairs: list[tuple[float, bool]]):
    sure, right = (np.array(column) for column in zip(*pairs, strict=True))
    rows = measured.coverage_curve(sure, right)
    coverage = [row["coverage"] for row in rows]
    assert coverage == sorted(set(coverage))
    assert coverage[-1] == 1
    for row in rows:
        covered = sure >= row["threshold"]
        assert row["count"] == covered.sum()
        assert row["accuracy"] == pytest.approx(right[covered].mean())
    assert [row["threshold"] for row in rows] == sorted(set(sure.tolist()), reverse=True)
    for goal in (0.0, 0.5, 1.0):
        found = measured.threshold_for(sure, right, goal)
        reaching = [t for t in set(sure.tolist()) if right[sure >= t].mean() >= goal]
        assert (found["threshold"] if found else None) == min(reaching, default=None)


def test_the_area_under_the_risk_coverage_curve_by_hand():
    sure, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert measured.aurc(sure, right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert measured.aurc(sure[::-1], right[::-1]) == measured.aurc(sure, right)
    # Of ties, the mean over all orders.
    tied = np.array([0.9, 0.8, 0.8, 0.6])
    orders = [(0 + 1 / 2 + 1 / 3 + 2 / 4) / 4, (0 + 0 + 1 / 3 + 2 / 4) / 4]
    assert measured.aurc(tied, right) == pytest.approx(np.mean(orders))


def test_a_threshold_comes_with_how_sure_its_accuracy_is():
    sure, right = np.linspace(0.5, 1, 101), np.linspace(0.5, 1, 101) > 0.55
    row = measured.threshold_for(sure, right, 0.95)
    assert row["accuracy"] >= 0.95
    assert row["lower"] < row["accuracy"] < row["upper"]
    assert measured.threshold_for(sure, right, 0)["coverage"] == 1
    assert measured.threshold_for(sure, ~right & (sure < 0.5), 0.5) is None
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        measured.threshold_for(sure, right, 95)
