"""From answers back to counts: against numpy, scikit-learn, and samples of mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmpred.errors import DataError
from llmpred.tasks.complexity.mapping import (
    LEVELS,
    Scalar,
    counts_by_label,
    expected,
    from_scores,
    plain,
)

LABELS = np.array([0, 0, 0, 1, 1, 3])
COUNTS = np.array([1, 2, 6, 10, 20, 100.0])


def test_labels_stand_for_their_training_counts():
    table = counts_by_label(LABELS, COUNTS, 4, LEVELS)
    assert [label.n for label in table] == [3, 2, 0, 1]
    assert [label.mean for label in table] == pytest.approx([3, 15, COUNTS.mean(), 100])
    assert [label.median for label in table] == [2, 15, 8, 100]
    assert table[0].quantiles == pytest.approx(np.quantile([1, 2, 6], LEVELS))
    assert table[2].counts == ()
    everything = np.eye(4)[[2]]  # nothing better is known of a label without rows
    assert expected(everything, table)[1][0, 2] == 6
    means, quantiles = plain(np.array([1, 3, 0]), table)
    assert means.tolist() == [15, 100, 3]
    assert quantiles.shape == (3, 5)
    assert quantiles[:, 2].tolist() == [15, 100, 2]


def test_best_for_each_loss():
    rng = np.random.default_rng(0)
    labels, counts = rng.integers(0, 3, 900), rng.lognormal(2, 1, 900)
    means, quantiles = plain(labels, counts_by_label(labels, counts, 3))
    medians = quantiles[:, 2]
    assert ((counts - means) ** 2).mean() < ((counts - medians) ** 2).mean()
    assert np.abs(counts - medians).mean() < np.abs(counts - means).mean()


def test_mixtures_are_those_that_samples_show():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 600)
    counts = rng.lognormal(1 + labels, 0.5).round(1)
    table = counts_by_label(labels, counts, 3)
    probabilities = np.array([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]])
    means, quantiles = expected(probabilities, table)
    for p, mean, found in zip(probabilities, means, quantiles, strict=True):
        chosen = rng.choice(3, 100_000, p=p)
        drawn = np.concatenate(
            [rng.choice(table[i].counts, int((chosen == i).sum())) for i in range(3)]
        )
        assert mean == pytest.approx(drawn.mean(), rel=0.02)
        assert found == pytest.approx(np.quantile(drawn, LEVELS), rel=0.03)


def test_a_sure_mixture_is_the_label():
    table = counts_by_label(LABELS, COUNTS, 4)
    sure = np.eye(4)
    means, quantiles = expected(sure, table)
    np.testing.assert_allclose(means, plain(np.arange(4), table)[0])
    inverted = np.quantile([1, 2, 6], LEVELS, method="inverted_cdf")
    np.testing.assert_array_equal(quantiles[0], inverted)
    assert (np.diff(expected(np.full((1, 4), 0.25), table)[1]) >= 0).all()


def test_many_rows_are_done_in_batches():
    table = counts_by_label(LABELS, COUNTS, 4)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 2300)
    means, quantiles = expected(probabilities, table, (0.0, 1.0))
    assert len(means) == 2300
    np.testing.assert_array_equal(quantiles[:, 1], np.full(2300, 100))
    last = expected(probabilities[-1:], table)
    np.testing.assert_array_equal(expected(probabilities, table)[1][-1:], last[1])


@pytest.mark.parametrize(
    "probabilities", [np.full((2, 3), 1 / 3), np.full((2, 4), 1.0), np.full((1, 4), np.nan), [1.0]]
)
def test_what_is_no_probability(probabilities: Any):
    with pytest.raises(DataError, match="sum to 1"):
        expected(np.array(probabilities), counts_by_label(LABELS, COUNTS, 4))


def test_scores_become_counts_by_isotonic_regression():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(0)
    counts = rng.lognormal(2, 1, 500).round()
    scores = np.log1p(counts) + rng.normal(0, 0.3, 500)
    found = from_scores(scores, counts)
    asked = np.linspace(-3, 9, 200)
    means, quantiles = found.apply(asked)
    model = IsotonicRegression(out_of_bounds="clip").fit(scores, counts)
    np.testing.assert_allclose(means, model.predict(asked))
    assert quantiles.shape == (200, 5)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (np.diff(means) >= 0).all()
    assert (quantiles >= 0).all()
    own = found.apply(scores)[1]
    covered = (counts[:, None] <= own + 1e-9).mean(axis=0)
    assert covered == pytest.approx(LEVELS, abs=0.02)
    again = Scalar.model_validate_json(found.model_dump_json())
    np.testing.assert_array_equal(again.apply(asked)[1], quantiles)


@pytest.mark.parametrize(
    ("scores", "counts", "mean"),
    [
        ([1.0], [4.0], 4.0),  # one row
        ([1.0, 1.0, 1.0], [0, 3, 6], 3.0),  # a head that says the same of all
        ([3.0, 2.0, 1.0], [0, 3, 6], 3.0),  # and one that ranks the wrong way round
        ([1.0, 2.0], [0, 0], 0.0),
    ],
)
def test_scores_that_say_little(scores: list[float], counts: list[float], mean: float):
    means, quantiles = from_scores(np.array(scores), np.array(counts)).apply(np.array([-9, 1, 9]))
    assert means == pytest.approx([mean] * 3)
    assert np.isfinite(quantiles).all()


def test_a_diverged_model():
    with pytest.raises(DataError, match="1 of 2 are not"):
        from_scores(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="1 of 1 are not"):
        from_scores(np.arange(3.0), np.arange(3.0)).apply(np.array([np.inf]))
