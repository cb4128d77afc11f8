"""How sure a classification is, whether it is right as often, and what can be done about it.

The confidence of an answer is the probability of its label: with the settled scores, the largest
of the example's probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, InputError, Problem
from llmpred.evaluation.classification import Classified
from llmpred.evaluation.significance import wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Flags = NDArray[np.bool_]

BINS = 15
HIGH = 0.9
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SAMPLES = 20
CURVE = 101  # rows of a coverage curve that is kept
BOUNDS = (0.01, 100.0)  # of temperatures


def confidence(
    found: Classified,
    *,
    validation: Classified | None = None,
    texts: Sequence[str] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all that there is to say of the confidence of n answers, as JSON can hold it.

    Args:
        found: answers with probabilities.
        validation: answers of the same run to other examples, to fit the temperature on.
        texts: of the examples, in their order, to show with the least certain ones.
        thresholds: shares of answers above each of these are told.
        samples: how many of the least certain to return.
        seed: of the halves that the temperature is fitted on.

    Returns:
        `avg_confidence`; `high_confidence_ratio`, share above 0.9; `share_above`, by threshold;
        `mean_confidence_right` and `mean_confidence_wrong`, None where there are none;
        `low_confidence_samples`, the least certain first; `confidence_distribution`, ten bins;
        `reliability`, the `BINS` bins of `ece`; `adaptive_ece`, `mce`, `brier`, `nll` (see the
        functions so named; lower is better); `temperature_scaling` (see `temperature_report`);
        `coverage_curve`, at most `CURVE` rows of it, and its `aurc`.

    Raises:
        DataError: if the answers have no probabilities.
        InputError: if the texts are of other examples.
    """
    import numpy as np

    logs = _logs(found)
    if texts is not None and len(texts) != len(found):
        law = f"there is one text an example, {len(found)} in all, but got {len(texts)}"
        raise InputError(Problem(law, "texts"))
    sure, right = confidences(found), found.right
    return {
        "n": len(found),
        "accuracy": float(right.mean()),
        "avg_confidence": float(sure.mean()),
        "high_confidence_ratio": float(np.mean(sure > HIGH)),
        "share_above": {f"{t:g}": float(np.mean(sure > t)) for t in thresholds},
        "mean_confidence_right": _mean(sure[right]),
        "mean_confidence_wrong": _mean(sure[~right]),
        "low_confidence_samples": _least_certain(found, sure, texts, samples),
        "confidence_distribution": _distribution(sure, right),
        "ece": ece(sure, right),
        "adaptive_ece": adaptive_ece(sure, right),
        "mce": mce(sure, right),
        "brier": brier(logs, found.targets),
        "nll": nll(logs, found.targets),
        "reliability": reliability(sure, right),
        "temperature_scaling": temperature_report(found, validation, seed=seed),
        "coverage_curve": _thinned(coverage_curve(sure, right)),
        "aurc": aurc(sure, right),
    }


def confidences(found: Classified) -> Floats:
    """Return float64 [n], the probability of each answer.

    Raises:
        DataError: if the answers have no probabilities.
    """
    import numpy as np

    return np.exp(_logs(found)[np.arange(len(found)), found.predicted])


def _logs(found: Classified) -> Floats:
    if found.log_probabilities is None:
        law = "confidence is the probability of a label, but the answers were generated"
        fix = "Evaluate with the head label_scoring or classifier."
        raise DataError(Problem(law, "", fix))
    return found.log_probabilities


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _least_certain(
    found: Classified, sure: Floats, texts: Sequence[str] | None, samples: int
) -> list[dict[str, Any]]:
    import numpy as np

    return [
        {
            "id": found.ids[i],
            "target": found.labels[found.targets[i]],
            "prediction": found.labels[found.predicted[i]],
            "confidence": float(sure[i]),
            **({} if texts is None else {"text": texts[i]}),
        }
        for i in np.argsort(sure, kind="stable")[:samples].tolist()
    ]


def _distribution(sure: Floats, right: Flags) -> list[dict[str, Any]]:
    return [
        {
            "range": f"{row['lower']:.1f}-{row['upper']:.1f}",
            "lower": row["lower"],
            "upper": row["upper"],
            "count": row["count"],
            "share": row["count"] / len(sure),
            "accuracy": row["accuracy"],
        }
        for row in reliability(sure, right, 10)
    ]


# Calibration


def reliability(sure: Floats, right: Flags, bins: int = BINS) -> list[dict[str, Any]]:
    """Return the rows of a reliability diagram, of equal width (Guo et al., 2017, eq. 1-2).

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].
        bins: how many; one takes what is above its lower bound up to its upper one.

    Returns:
        `bin`, `lower`, `upper`, `count`, mean `confidence` and `accuracy`, None of an empty bin.
    """
    import numpy as np

    edges = np.arange(bins + 1) / bins
    place = np.maximum(np.searchsorted(edges, sure, side="left") - 1, 0)
    counts, total, hits = _sums(place, sure, right, bins)
    return [
        {
            "bin": i,
            "lower": float(edges[i]),
            "upper": float(edges[i + 1]),
            "count": int(counts[i]),
            "confidence": float(total[i] / counts[i]) if counts[i] else None,
            "accuracy": float(hits[i] / counts[i]) if counts[i] else None,
        }
        for i in range(bins)
    ]


def ece(sure: Floats, right: Flags, bins: int = BINS) -> float:
    """Return the expected calibration error, in [0, 1] (Guo et al., 2017, eq. 3).

    The mean distance of accuracy from confidence over bins of equal width, weighted by their
    answers. Of few answers it is well above 0 even where they are calibrated.

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].
        bins: how many.
    """
    rows = [row for row in reliability(sure, right, bins) if row["count"]]
    return math.fsum(row["count"] * _gap(row) for row in rows) / len(sure)


def mce(sure: Floats, right: Flags, bins: int = BINS) -> float:
    """Return the maximum calibration error, of the bins of `ece` that hold any (eq. 4 there)."""
    return max(_gap(row) for row in reliability(sure, right, bins) if row["count"])


def _gap(row: dict[str, Any]) -> float:
    return float(abs(row["accuracy"] - row["confidence"]))


def adaptive_ece(sure: Floats, right: Flags, bins: int = BINS) -> float:
    """Return the calibration error over bins of as many answers each (Nguyen & O'Connor, 2015).

    Answers of the same confidence are never parted, so it does not depend on their order.

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].
        bins: how many, at most.
    """
    import numpy as np
    from scipy.stats import rankdata

    below = rankdata(sure, method="min").astype(np.int64) - 1
    _, total, hits = _sums(below * bins // len(sure), sure, right, bins)
    return float(np.abs(hits - total).sum() / len(sure))


def _sums(place: Rows, sure: Floats, right: Flags, bins: int) -> tuple[Rows, Floats, Floats]:
    """Return for each bin its answers, the sum of their confidences and the right ones."""
    import numpy as np

    return (
        np.bincount(place, minlength=bins),
        np.asarray(np.bincount(place, sure, bins), float),
        np.asarray(np.bincount(place, right, bins), float),
    )


def brier(log_probabilities: Floats, targets: Rows) -> float:
    """Return the mean over examples of the squared error summed over labels (Brier, 1950).

    In [0, 2]: for two labels that is twice what scikit-learn returns for the positive one.

    Args:
        log_probabilities: float64 [n, k], natural logs.
        targets: int64 [n].
    """
    import numpy as np

    truth = np.eye(log_probabilities.shape[1])[targets]
    return float(np.mean(np.sum((np.exp(log_probabilities) - truth) ** 2, axis=1)))


def nll(log_probabilities: Floats, targets: Rows) -> float:
    """Return the mean negative natural-log probability of the targets, in nats.

    Args:
        log_probabilities: float64 [n, k], natural logs.
        targets: int64 [n].
    """
    import numpy as np

    return -float(np.mean(log_probabilities[np.arange(len(targets)), targets]))


# Temperature scaling


def fit_temperature(log_scores: Floats, targets: Rows) -> float:
    """Return the temperature that minimises the NLL of scaled scores (Guo et al., 2017, sec. 4.2).

    The NLL is convex in 1/T, so the minimum is the only one. Where every target has the largest
    score it lies at 0, and where scores mislead at infinity: then one of `BOUNDS` is returned.

    Args:
        log_scores: float64 [n, k], natural logs, normalised or not.
        targets: int64 [n].
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    fitted = minimize_scalar(
        lambda log_t: nll(scaled(log_scores, math.exp(log_t)), targets),
        bounds=tuple(map(math.log, BOUNDS)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    # The search never tries its bounds themselves; where nothing is better, scores are left alone.
    tried = [1.0, *BOUNDS, math.exp(fitted.x)]
    return tried[int(np.argmin([nll(scaled(log_scores, t), targets) for t in tried]))]


def scaled(log_scores: Floats, temperature: float) -> Floats:
    """Return float64 [n, k], log-probabilities at a temperature: softmax of the scores over it.

    Above 1 they are less sure, below 1 surer; which label is the most probable stays.

    Args:
        log_scores: float64 [n, k], natural logs, normalised or not.
        temperature: above 0.

    Raises:
        InputError: if the temperature is not above 0.
    """
    import numpy as np
    from scipy.special import log_softmax

    if not temperature > 0:
        raise InputError(Problem(f"a temperature is above 0, but got {temperature}"))
    return np.asarray(log_softmax(log_scores / temperature, axis=1))


def temperature_report(
    found: Classified, validation: Classified | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Return what temperature scaling does to calibration, on examples it was not fitted on.

    Without validation examples the temperature is fitted on each half of the examples and tried on
    the other, so that every example counts once, scaled by what the others say.

    Args:
        found: answers with probabilities.
        validation: answers of the same run to other examples.
        seed: of the halves.

    Returns:
        `temperature`, to be used from now on: fitted on the validation examples, or on all;
        `fitted_on`: `validation` or `halves`; `temperatures` of the fits that were tried;
        `before` and `after`: `ece`, `adaptive_ece`, `nll`, `brier`; `at_bound`: whether a fit
        found no minimum, so that a figure of it says little. All None but `fitted_on` with fewer
        than two examples to split.

    Raises:
        DataError: if one has no probabilities.
        InputError: if the validation examples have other labels.
    """
    logs = _logs(found)
    if validation is not None and validation.labels != found.labels:
        law = f"validation examples have the labels {found.labels}, but got {validation.labels}"
        raise InputError(Problem(law, "validation"))
    report: dict[str, Any] = {"fitted_on": "halves" if validation is None else "validation"}
    if validation is not None:
        final = fit_temperature(_logs(validation), validation.targets)
        temperatures, after = [final], scaled(logs, final)
    elif len(found) > 1:
        final = fit_temperature(logs, found.targets)
        temperatures, after = _crosswise(logs, found.targets, seed)
    else:
        names = ("temperature", "temperatures", "before", "after", "at_bound")
        return report | dict.fromkeys(names)
    return report | {
        "temperature": final,
        "temperatures": temperatures,
        "before": _calibration(logs, found),
        "after": _calibration(after, found),
        "at_bound": any(t in BOUNDS for t in [final, *temperatures]),
    }


def _crosswise(logs: Floats, targets: Rows, seed: int) -> tuple[list[float], Floats]:
    """Return the temperatures of two random halves, and each half scaled by the other's."""
    import numpy as np

    halves = np.array_split(np.random.default_rng(seed).permutation(len(logs)), 2)
    temperatures, after = [], np.empty_like(logs)
    for half, other in (halves, halves[::-1]):
        temperatures.append(fit_temperature(logs[half], targets[half]))
        after[other] = scaled(logs[other], temperatures[-1])
    return temperatures, after


def _calibration(logs: Floats, found: Classified) -> dict[str, float]:
    import numpy as np

    sure = np.exp(logs[np.arange(len(found)), found.predicted])
    return {
        "ece": ece(sure, found.right),
        "adaptive_ece": adaptive_ece(sure, found.right),
        "nll": nll(logs, found.targets),
        "brier": brier(logs, found.targets),
    }


# Answering only when sure


def coverage_curve(sure: Floats, right: Flags) -> list[dict[str, Any]]:
    """Return what is answered, and how well, if answers below a threshold are withheld.

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].

    Returns:
        A row for each confidence that occurs, the highest first: `threshold`, `count` of the
        answers at or above it, `coverage`, their share, and their `accuracy`.
    """
    thresholds, counts, hits = _covered(sure, right)
    return [
        {
            "threshold": threshold,
            "count": count,
            "coverage": count / len(sure),
            "accuracy": hit / count,
        }
        for threshold, count, hit in zip(
            thresholds.tolist(), counts.tolist(), hits.tolist(), strict=True
        )
    ]


def _covered(sure: Floats, right: Flags) -> tuple[Floats, Rows, Rows]:
    """Return each confidence, from the highest, and how many answers reach it, and right ones."""
    import numpy as np

    thresholds, place, counts = np.unique(-sure, return_inverse=True, return_counts=True)
    hits = np.bincount(place, right).astype(np.int64)
    return -thresholds, np.cumsum(counts), np.cumsum(hits)


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `CURVE` rows, evenly spread over the coverage, the ends among them."""
    import numpy as np

    if len(rows) <= CURVE:
        return rows
    coverage = np.array([row["coverage"] for row in rows])
    wanted = np.linspace(coverage[0], coverage[-1], CURVE)
    return [rows[i] for i in np.unique(np.searchsorted(coverage, wanted)).tolist()]


def aurc(sure: Floats, right: Flags) -> float:
    """Return the area under the risk-coverage curve (Geifman, Uziel & El-Yaniv, 2019, eq. 2).

    The mean, over the numbers of answers 1 … n that could be given, the surest first, of the share
    of wrong ones among them; lower is better. Answers of the same confidence come in no order: what
    is expected of a random one is taken.

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].
    """
    import numpy as np

    _, counts, hits = _covered(sure, right)
    answered = np.arange(1, len(sure) + 1)
    expected = np.interp(answered, np.append(0, counts), np.append(0, counts - hits))
    return float(np.mean(expected / answered))


def threshold_for(sure: Floats, right: Flags, accuracy: float) -> dict[str, Any] | None:
    """Return the lowest threshold at which the answers given are right as often as wanted.

    It is chosen by these answers, so others will do somewhat worse; the interval does not say so.

    Args:
        sure: float64 [n], confidence of each answer.
        right: bool [n].
        accuracy: the goal, in [0, 1].

    Returns:
        A row of `coverage_curve`, with `lower` and `upper`, Wilson's 95 % interval of its accuracy;
        None if no threshold reaches the goal.

    Raises:
        InputError: if the goal is not in [0, 1].
    """
    if not 0 <= accuracy <= 1:
        raise InputError(Problem(f"an accuracy is in [0, 1], but got {accuracy}"))
    reached = [row for row in coverage_curve(sure, right) if row["accuracy"] >= accuracy]
    if not reached:
        return None
    row = reached[-1]
    lower, upper = wilson(round(row["accuracy"] * row["count"]), row["count"])
    return {**row, "lower": lower, "upper": upper}
