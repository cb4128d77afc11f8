import numpy as np
import pytest
from scipy.optimize import check_grad

from llmpred.meta import gaussian


def curve(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(rows, 4))
    noise = 0.05 * draw.normal(size=rows)
    return inputs, np.sin(2 * inputs[:, 0]) + 0.5 * inputs[:, 1] + noise


def test_the_gradient_is_that_of_the_likelihood():
    inputs, target = curve(30)
    scaled = (target - target.mean()) / target.std()
    draw = np.random.default_rng(1)
    likelihood = gaussian._negative_log_likelihood
    for bend in (0.2, -0.15, 0.0):
        theta = np.concatenate([[0.1, -1.0, -2.0, bend], 0.3 * draw.normal(size=4)])
        off = check_grad(
            lambda t: likelihood(t, inputs, scaled)[0],
            lambda t: likelihood(t, inputs, scaled)[1],
            theta,
        )
        assert off < 1e-4 * np.linalg.norm(likelihood(theta, inputs, scaled)[1])


def test_it_learns_a_curve_its_noise_and_what_matters():
    process = gaussian.fit(*curve(150), seed=0)
    inputs, target = curve(200, seed=1)
    middle, deviation = process.predict(inputs)
    error = middle - target
    assert np.sqrt(np.mean(error**2)) < 0.12
    assert 0.8 < np.std(error / deviation) < 1.25
    scales = np.exp(process.theta[gaussian.FIXED :])
    assert scales[2:].max() < 0.2 * scales[:2].min()


def test_it_follows_a_trend_beyond_the_rows_seen_and_doubts_itself_there():
    draw = np.random.default_rng(0)
    inputs = draw.uniform(-1.5, 1.5, (80, 1))
    process = gaussian.fit(inputs, 2 * inputs[:, 0] + 0.05 * draw.normal(size=80), seed=0)
    middle, deviation = process.predict(np.array([[0.0], [3.0]]))
    assert middle[1] == pytest.approx(6, abs=0.6)
    assert deviation[1] > deviation[0]


def test_a_skewed_target_is_bent_straight():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(120, 2))
    target = 3 + np.exp(inputs[:, 0] + 0.3 * inputs[:, 1] + 0.02 * draw.normal(size=120))
    process = gaussian.fit(inputs, target, seed=0)
    assert process.theta[3] > 0.1
    new = draw.normal(size=(50, 2))
    true = 3 + np.exp(new[:, 0] + 0.3 * new[:, 1])
    assert np.median(np.abs(process.predict(new)[0] / true - 1)) < 0.02


def test_rows_held_out_are_predicted_as_if_they_were_not_there():
    inputs, target = curve(60)
    process = gaussian.fit(inputs, target, seed=0)
    folds = np.arange(60) % 5
    closed = process.held_out(folds)
    for fold in range(5):
        kept, gone = folds != fold, folds == fold
        theta = process.theta
        covariance = gaussian._kernel(inputs[kept], inputs[kept], theta)
        covariance[np.diag_indices(kept.sum())] += np.exp(theta[2]) + gaussian.JITTER
        cross = gaussian._kernel(inputs[gone], inputs[kept], theta)
        middle = cross @ np.linalg.solve(covariance, process.warped[kept])
        np.testing.assert_allclose(
            closed[gone], process._unwarped(middle, np.zeros(gone.sum()))[0], rtol=1e-6
        )


def test_many_rows_are_thinned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gaussian, "ROWS", 50)
    monkeypatch.setattr(gaussian, "LEARNING_ROWS", 40)
    process = gaussian.fit(*curve(200), seed=0)
    assert len(process.rows) == 50
    assert process.predict(curve(7)[0])[0].shape == (7,)
