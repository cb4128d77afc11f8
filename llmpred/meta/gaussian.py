"""Gaussian process regression that learns which inputs matter and how the target bends.

The kernel is a Matérn 5/2 with a length scale an input, a linear part over the inputs scaled the
same way (so that what lies outside the training rows follows the trend rather than the mean), a
constant, and noise. The target is warped by z = log(1 + λy)/λ of its standardised values: λ = 0 is
no warp, and the inverse has a floor, or for λ < 0 a ceiling, as losses and scores do. All is learnt
by marginal likelihood (Rasmussen & Williams, 2006, ch. 5; warping: Snelson et al., 2004).

Own code, because general libraries hold the gradient as rows × rows × inputs: here it takes one
matrix product, which makes hundreds of fits affordable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

LEARNING_ROWS = 400  # of so many rows at most the hyperparameters are learnt
ROWS = 2000  # so many rows at most are conditioned on; both at random
STEPS = 50  # of the optimiser; stopping early forgets no more than it overfits
JITTER = 1e-8
FIXED = 4  # hyperparameters before the inputs' scales: smooth, linear, noise (log variances), λ


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    Attributes:
        rows: int64, which of the training rows it is conditioned on.
        inputs: float64 [rows, inputs], standardised.
        warped: float64 [rows], the target on the scale of the process.
        theta: log variances of smooth part, linear part and noise, λ, log scale of each input.
        inverse: float64 [rows, rows], of the training rows' covariance.
        mean, deviation: of the target before the warp.
    """

    rows: Rows
    inputs: Floats
    warped: Floats
    theta: Floats
    inverse: Floats
    mean: float
    deviation: float

    def median(self, inputs: Floats) -> Floats:
        """Return the median of new runs' outcomes, float64 [rows].

        Args:
            inputs: float64 [rows, inputs], standardised as the training rows.
        """
        import numpy as np

        cross = _kernel(inputs, self.inputs, self.theta)
        middle = cross @ (self.inverse @ self.warped)
        return self._unwarped(middle, np.zeros(len(middle)))[0]

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return `median` and the standard deviation of new runs' outcomes, noise included."""
        import numpy as np

        smooth, linear, noise = np.exp(self.theta[:3])
        scales = np.exp(self.theta[FIXED:])
        cross = _kernel(inputs, self.inputs, self.theta)
        prior = smooth + linear * np.square(inputs * scales).sum(axis=1) + 1.0
        # Single precision halves the time of nearly all there is to do, and a doubt needs no more.
        narrow = cross.astype(np.float32)
        known = np.einsum("ij,ij->i", narrow @ self.inverse.astype(np.float32), narrow)
        variance = np.maximum(prior - known, 0.0) + noise
        middle = cross @ (self.inverse @ self.warped)
        return self._unwarped(middle, variance)

    def held_out(self, folds: Rows) -> Floats:
        """Return what each training row is predicted by the rows of other folds.

        The hyperparameters stay as they are, so this is closed form (Rasmussen & Williams, 2006,
        eq. 5.12, for blocks instead of rows).

        Args:
            folds: int64 [rows], the fold of each row in `self.rows`.
        """
        import numpy as np

        weighted = self.inverse @ self.warped
        middle = np.empty(len(self.warped))
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            block = self.inverse[np.ix_(rows, rows)]
            middle[rows] = self.warped[rows] - np.linalg.solve(block, weighted[rows])
        return self._unwarped(middle, np.zeros(len(middle)))[0]

    def _unwarped(self, middle: Floats, variance: Floats) -> tuple[Floats, Floats]:
        import numpy as np

        bend = self.theta[3]
        # Far from the training rows the exponential would run away.
        limit = np.abs(self.warped).max() * 2
        middle = np.clip(middle, -limit, limit)
        straight = np.expm1(bend * middle) / bend if abs(bend) > 1e-6 else middle
        slope = np.exp(bend * middle)
        return (
            straight * self.deviation + self.mean,
            np.sqrt(variance) * slope * self.deviation,
        )


def fit(inputs: Floats, target: Floats, seed: int) -> GaussianProcess:
    """Return the process that makes the training rows likeliest.

    Args:
        inputs: float64 [rows, inputs], standardised.
        target: float64 [rows], not constant.
        seed: of the rows that are taken where there are too many.
    """
    import numpy as np
    from scipy.optimize import minimize

    draw = np.random.default_rng(seed)
    order = draw.permutation(len(target))
    rows = np.sort(order[:ROWS])
    mean, deviation = float(target[rows].mean()), float(target[rows].std()) or 1.0
    scaled = (target - mean) / deviation
    learnt = np.sort(order[:LEARNING_ROWS])
    count = inputs.shape[1]
    start = np.concatenate(
        [[0.0, 0.0, np.log(0.1), 0.0], np.full(count, np.log(0.7 / np.sqrt(count)))]
    )
    # 1 + λy must stay positive for every row.
    bend = (-0.97 / max(scaled[rows].max(), 0.1), -0.97 / min(scaled[rows].min(), -0.1))
    bounds = [(-8.0, 6.0), (-14.0, 8.0), (-12.0, 1.0), bend, *[(-9.0, 3.0)] * count]
    found = minimize(
        _negative_log_likelihood,
        start,
        args=(inputs[learnt], scaled[learnt]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    theta = found.x
    covariance = _kernel(inputs[rows], inputs[rows], theta)
    covariance[np.diag_indices(len(rows))] += np.exp(theta[2]) + JITTER
    inverse = _inverse(covariance)[0]
    return GaussianProcess(
        rows, inputs[rows], _warp(scaled[rows], theta[3])[0], theta, inverse, mean, deviation
    )


def _warp(scaled: Floats, bend: float) -> tuple[Floats, Floats]:
    """Return the warped target and its derivative by λ."""
    import numpy as np

    if abs(bend) < 1e-6:
        return scaled - bend * scaled**2 / 2, -(scaled**2) / 2 + 2 / 3 * bend * scaled**3
    warped = np.log1p(bend * scaled) / bend
    return warped, (scaled / (1 + bend * scaled) - warped) / bend


def _distances(left: Floats, right: Floats) -> Floats:
    import numpy as np

    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)
    distances: Floats = np.maximum(squares - 2 * left @ right.T, 0.0)
    return distances


def _kernel(left: Floats, right: Floats, theta: Floats) -> Floats:
    """Return the covariance of the functions at two sets of inputs, without noise."""
    import numpy as np

    scales = np.exp(theta[FIXED:])
    left, right = left * scales, right * scales
    far = np.sqrt(5 * _distances(left, right))
    smooth = (1 + far + far**2 / 3) * np.exp(-far)
    both: Floats = np.exp(theta[0]) * smooth + np.exp(theta[1]) * (left @ right.T) + 1.0
    return both


def _inverse(covariance: Floats) -> tuple[Floats, float]:
    """Return the inverse of a covariance and half its log determinant."""
    import numpy as np
    from scipy.linalg import cholesky, lapack

    factor = cholesky(covariance, lower=True, check_finite=False)
    lower = np.tril(lapack.dpotri(factor, lower=1)[0])
    inverse: Floats = lower + np.tril(lower, -1).T
    return inverse, float(np.log(np.diag(factor)).sum())


def _negative_log_likelihood(theta: Floats, inputs: Floats, scaled: Floats) -> tuple[float, Floats]:
    """Return minus the log marginal likelihood of the unwarped target, and its gradient."""
    import numpy as np
    from scipy.linalg import LinAlgError

    smooth, linear, noise = np.exp(theta[:3])
    bend, scales = theta[3], np.exp(theta[FIXED:])
    warped, by_bend = _warp(scaled, bend)
    moved = inputs * scales
    far = np.sqrt(5 * _distances(moved, moved))
    decay = np.exp(-far)
    matern = (1 + far + far**2 / 3) * decay
    product = moved @ moved.T
    covariance = smooth * matern + linear * product + 1.0
    covariance[np.diag_indices(len(scaled))] += noise + JITTER
    try:
        inverse, half_log_determinant = _inverse(covariance)
    except LinAlgError:
        return 1e25, np.zeros_like(theta)
    weighted = inverse @ warped
    stretch = 1 + bend * scaled
    value = 0.5 * warped @ weighted + half_log_determinant + np.log(stretch).sum()
    outer = 0.5 * (inverse - np.outer(weighted, weighted))  # d value / d covariance
    by_scale = 2 * linear * np.einsum("id,id->d", moved, outer @ moved)
    # d matern / d squared distance = -5/6 (1 + far) exp(-far); the squared distance of two rows in
    # an input is a difference of squares, so its weighted sum is one product over all rows.
    pull = smooth * outer * (-5 / 6) * (1 + far) * decay
    by_scale += 4 * (
        pull.sum(axis=1) @ np.square(moved) - np.einsum("id,id->d", moved, pull @ moved)
    )
    gradient = np.concatenate(
        [
            [
                smooth * np.sum(outer * matern),
                linear * np.sum(outer * product),
                noise * np.trace(outer),
                weighted @ by_bend + np.sum(scaled / stretch),
            ],
            by_scale,
        ]
    )
    return float(value), gradient
