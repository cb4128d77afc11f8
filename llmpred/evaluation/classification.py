"""How good the answers of a classification are, from stored predictions of any kind of run.

Probabilities of labels are the softmax of the stored scores: of a classifier's log-probabilities
that is what they are, of label scoring it is p(label | prompt, the answer is a label).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, InputError, Problem, nearest
from llmpred.tasks.base import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Flags = NDArray[np.bool_]

NO_LABEL = -1
OTHER = "other"  # the column of answers that are no label
POSITIVE = ("positive", "正面", "1")
DRAWS = 2_000
CELLS = 4_000_000  # counts held at once while resampling


@dataclass(frozen=True)
class Classified:
    """The answers of a run on n examples with k labels, as indices; see `classified`.

    Attributes:
        labels: the k labels, in the settled order.
        words: what the model sees of each, in the same order; the labels themselves if none were
            told.
        ids: of the n examples.
        targets: int64 [n], index of the right label.
        predicted: int64 [n], index of the answer; -1 for an answer that is no label.
        log_probabilities: float64 [n, k], natural logs, normalised over the labels; None of a run
            that generates its answers.
    """

    labels: tuple[str, ...]
    words: tuple[str, ...]
    ids: tuple[str, ...]
    targets: Rows
    predicted: Rows
    log_probabilities: Floats | None

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def probabilities(self) -> Floats | None:
        """Probabilities of the labels, float64 [n, k]; rows sum to 1."""
        import numpy as np

        return None if self.log_probabilities is None else np.exp(self.log_probabilities)

    @cached_property
    def right(self) -> Flags:
        """Whether each answer is the target, bool [n]."""
        import numpy as np

        return np.equal(self.predicted, self.targets)


def classified(
    predictions: Sequence[Prediction] | pa.Table, labels: Sequence[str] | Mapping[str, str]
) -> Classified:
    """Read predictions of a classification.

    Args:
        predictions: of a run, or their stored table.
        labels: in the order of the scores, as `Sentiment.classes` returns them; or the settled
            `labels` of the spec, which map each to the word that the model sees.

    Raises:
        DataError: if there are no predictions, a target is no label, or scores are missing from
            some, are not one finite number a label, or go with an answer that is no label.
    """
    import numpy as np
    from scipy.special import log_softmax

    names = tuple(labels)
    words = tuple(labels.values()) if isinstance(labels, Mapping) else names
    index = {label: i for i, label in enumerate(names)}
    if len(names) < 2 or len(index) < len(names):
        law = f"a classification has at least two labels, each once, but got {_shown(names)}"
        raise DataError(Problem(law, "labels"))
    rows = list(_rows(predictions))
    if not rows:
        law = "there are no predictions to measure"
        raise DataError(Problem(law, "", "Evaluate at least one row."))
    problems = [problem for row in rows for problem in _problems(row, index)]
    scored = sum(row.scores is not None for row in rows)
    if 0 < scored < len(rows):
        law = f"all predictions have scores or none has, but {scored} of {len(rows)} have"
        problems.append(Problem(law, "", "Measure the predictions of one run at a time."))
    if problems:
        raise DataError(problems)
    scores = np.array([row.scores for row in rows], float) if scored else None
    return Classified(
        labels=names,
        words=words,
        ids=tuple(row.id for row in rows),
        targets=np.array([index[row.target] for row in rows], np.int64),
        predicted=np.array([_place(row.prediction, index) for row in rows], np.int64),
        log_probabilities=None if scores is None else log_softmax(scores, axis=1),
    )


def _rows(predictions: Sequence[Prediction] | pa.Table) -> Iterator[Prediction]:
    if isinstance(predictions, Sequence):
        yield from predictions
        return
    names = ("id", "target", "prediction", "scores")
    if missing := [name for name in names if name not in predictions.column_names]:
        law = f"stored predictions have the columns {', '.join(names)}, but {missing} are missing"
        raise DataError(Problem(law))
    columns = (predictions[name].to_pylist() for name in names)
    for identity, target, answer, scores in zip(*columns, strict=True):
        yield Prediction(identity, json.loads(target), json.loads(answer), scores)


def _problems(row: Prediction, index: Mapping[str, int]) -> Iterator[Problem]:
    where = f"id {row.id}"
    if _place(row.target, index) == NO_LABEL:
        law = f"a target is one of the labels {_shown([*index])}, but this one is {row.target!r}"
        yield Problem(law, where, "Pass the labels that the run was settled with.")
    if row.scores is None:
        return
    if len(row.scores) != len(index):
        law = f"there is one score for each of the {len(index)} labels, but got {len(row.scores)}"
        yield Problem(law, where, "Pass the labels that the run was settled with.")
    elif not all(map(math.isfinite, row.scores)):
        yield Problem(f"a score is a finite number, but got {[*row.scores]}", where)
    if _place(row.prediction, index) == NO_LABEL:
        law = f"an answer chosen by scores is one of the labels, but this one is {row.prediction!r}"
        yield Problem(law, where, "Pass the labels that the run was settled with.")


def _place(value: Any, index: Mapping[str, int]) -> int:
    return index.get(value, NO_LABEL) if isinstance(value, str) else NO_LABEL


def _shown(labels: Sequence[str]) -> str:
    return (", ".join(map(repr, labels[:10])) or "none") + (", …" if len(labels) > 10 else "")


def metrics(found: Classified, positive: str | None = None) -> dict[str, Any]:
    """Return all figures of a classification as a dict that JSON can hold.

    Args:
        found: answers and targets.
        positive: label, or word, of the positive class of two; by default the one that is called
            positive, 正面 or 1, else the last.

    Returns:
        `accuracy`; `precision`, `recall` and `f1` as `averaging` says: `binary`, those of the
        `positive` label, where there are two, else `macro`; all of them by `macro`, `weighted` (by
        the targets of each label) and `per_label`, where `support` is the number of targets. As
        scikit-learn defines them: a label that is never answered has the precision 0, one that is
        neither target nor answer has none and is left out of averages. `balanced_accuracy`, mean
        recall of the labels that occur as targets; `matthews_correlation` (Gorodkin, 2004, for
        several labels), 0 where it is not defined. `roc_auc`, also as `auc`, and `pr_auc` (average
        precision): of the positive label, or the mean of one label against the rest over the labels
        that occur. `confusion_matrix`, [targets][answers] in the order of `labels`; its columns are
        `confusion_columns`, with one more where an answer is no label, of which there are
        `no_label`: they count as wrong, and for the Matthews correlation as a label. `majority`
        and `majority_share`: the commonest target, whose share is the accuracy of always saying so.
        `never_predicted`: labels that are targets but no answers. `undefined`: why a figure is
        None, or is 0 by convention, as the precision of a label that is never predicted.

    Raises:
        InputError: if `positive` is no label, or there are more than two.
    """
    import numpy as np
    from sklearn.metrics import confusion_matrix, matthews_corrcoef

    chosen = positive_label(found, positive)
    k = len(found.labels)
    counts = confusion_matrix(found.targets, found.predicted, labels=[*range(k), NO_LABEL])[:k]
    no_label = int(counts[:, k].sum())
    columns = [*found.labels, *([_other(found.labels)] if no_label else [])]
    per_label, averages = _by_label(found)
    undefined = _areas(found, per_label)
    support = counts.sum(axis=1)
    never = [found.labels[i] for i in np.flatnonzero((support > 0) & (counts.sum(axis=0)[:k] == 0))]
    reason = "0/0, counted as 0: the label is never predicted"
    undefined |= {f"per_label.{label}.precision": reason for label in never}
    absent = np.flatnonzero((support == 0) & (counts.sum(axis=0)[:k] > 0))
    reason = "0/0, counted as 0: no row has the label"
    undefined |= {f"per_label.{found.labels[i]}.recall": reason for i in absent}
    varied = np.count_nonzero(counts) > 1  # scikit-learn warns of a single cell
    matthews = float(matthews_corrcoef(found.targets, found.predicted)) if varied else 0.0
    if chosen is None:
        single = averages["macro"]
        areas = {name: _mean_known(per_label, name) for name in ("roc_auc", "pr_auc")}
    else:
        single = {name: per_label[chosen][name] for name in ("precision", "recall", "f1")}
        areas = {name: per_label[chosen][name] for name in ("roc_auc", "pr_auc")}
        if single["f1"] is None:
            reason = f"the positive label {chosen!r} is neither target nor answer"
            undefined |= dict.fromkeys(single, reason)
    return {
        "n": len(found),
        "accuracy": float(found.right.mean()),
        **single,
        "averaging": "macro" if chosen is None else "binary",
        "positive": chosen,
        "auc": areas["roc_auc"],
        **areas,
        **averages,
        "per_label": per_label,
        "balanced_accuracy": float(np.mean(counts.diagonal()[support > 0] / support[support > 0])),
        "matthews_correlation": matthews,
        "labels": [*found.labels],
        "confusion_matrix": counts[:, : len(columns)].tolist(),
        "confusion_columns": columns,
        "no_label": no_label,
        "majority": found.labels[int(support.argmax())],
        "majority_share": float(support.max() / len(found)),
        "never_predicted": never,
        "undefined": undefined,
    }


def positive_label(found: Classified, wanted: str | None = None) -> str | None:
    """Return the positive one of two labels; None of more.

    Args:
        found: answers and targets.
        wanted: label or word; by default what is called positive, 正面 or 1, else the last label.

    Raises:
        InputError: if what is wanted is no label, or there are more than two.
    """
    names = {word.strip().casefold(): label for label, word in _names(found)}
    if wanted is None:
        there = [names[name] for name in POSITIVE if name in names]
        return None if len(found.labels) > 2 else [*there, found.labels[-1]][0]
    if len(found.labels) > 2:
        law = f"one of two labels is positive, but there are {len(found.labels)}"
        raise InputError(Problem(law, "positive", "Leave it out."))
    exact = {word: label for label, word in _names(found)}
    if wanted not in exact:
        law = f"the positive class is one of the labels, but got {wanted!r}"
        raise InputError(Problem(law, "positive", nearest(wanted, found.labels)))
    return exact[wanted]


def _names(found: Classified) -> list[tuple[str, str]]:
    """Return pairs of a label and what it is called; its own value is the name that counts most."""
    words = zip(found.labels, found.words, strict=True)
    return [*words, *((label, label) for label in found.labels)]


def _other(labels: Sequence[str]) -> str:
    return OTHER if OTHER not in labels else f"no label ({OTHER})"


def _by_label(found: Classified) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return precision, recall, F1 and support of each label, and the averages."""
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    there = np.union1d(found.targets, found.predicted)
    there = there[there != NO_LABEL]
    precision, recall, f1, support = precision_recall_fscore_support(
        found.targets, found.predicted, labels=there, zero_division=0
    )
    named = {"precision": precision, "recall": recall, "f1": f1}
    nothing: dict[str, Any] = {"precision": None, "recall": None, "f1": None, "support": 0}
    per_label = {label: {**nothing} for label in found.labels}
    for place, i in enumerate(there):
        per_label[found.labels[i]] = {
            **{name: float(values[place]) for name, values in named.items()},
            "support": int(support[place]),
        }
    return per_label, {
        "macro": {name: float(values.mean()) for name, values in named.items()},
        "weighted": {
            name: float(np.average(values, weights=support)) for name, values in named.items()
        },
    }


def _areas(found: Classified, per_label: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Put the areas under the curves of each label into `per_label`; return why there are none."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    logs = found.log_probabilities
    for i, label in enumerate(found.labels):
        per_label[label] |= {"roc_auc": None, "pr_auc": None}
        is_label = found.targets == i
        if logs is None or not is_label.any() or is_label.all():
            continue
        odds = _log_odds(logs, i)
        per_label[label]["roc_auc"] = float(roc_auc_score(is_label, odds))
        per_label[label]["pr_auc"] = float(average_precision_score(is_label, odds))
    if logs is None:
        reason = "the answers were generated, so labels have no scores"
    elif (found.targets == found.targets[0]).all():
        reason = f"all targets are {found.labels[found.targets[0]]!r}"
    else:
        return {}
    return dict.fromkeys(("auc", "roc_auc", "pr_auc"), reason)


def _log_odds(logs: Floats, i: int) -> Floats:
    """Return the log odds of a label: they rank as probabilities do, but not tied at 1."""
    import numpy as np
    from scipy.special import logsumexp

    odds = logs[:, i].copy()
    likely = odds > math.log(0.5)  # elsewhere 1 - p is as exact as p
    odds[~likely] -= np.log1p(-np.exp(odds[~likely]))
    if likely.any():
        odds[likely] -= logsumexp(np.delete(logs[likely], i, axis=1), axis=1)
    return odds


def _mean_known(per_label: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    known = [row[name] for row in per_label.values() if row[name] is not None]
    return sum(known) / len(known) if known else None


def bootstrap(
    found: Classified, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Return percentile intervals of accuracy and macro-F1 when examples are drawn anew.

    Both depend on nothing but the counts of the confusion matrix, and the counts of n examples
    drawn with replacement are multinomial, so it is these that are drawn: the same distribution
    (Efron & Tibshirani, 1993, ch. 13) at a fraction of the work.

    Args:
        found: answers and targets.
        draws: how many samples.
        level: of the intervals.
        seed: of the draws.

    Returns:
        `accuracy` and `macro_f1`, each with `value`, `lower` and `upper`; `level`, `draws`, `seed`.
    """
    import numpy as np

    k = len(found.labels)
    # Cells of the confusion matrix that are not empty; the last column takes what is no label.
    column = np.where(found.predicted == NO_LABEL, k, found.predicted)
    cells, counts = np.unique(found.targets * (k + 1) + column, return_counts=True)
    target, answer = np.divmod(cells, k + 1)
    draw = np.random.default_rng(seed)
    size = max(1, CELLS // (len(cells) + k))
    sizes = [min(size, draws - start) for start in range(0, draws, size)]
    parts = [draw.multinomial(len(found), counts / len(found), size=some) for some in sizes]
    figures = [_figures(part, target, answer, k) for part in [counts[None], *parts]]
    low, high = (1 - level) / 2, (1 + level) / 2
    intervals = {}
    for name in ("accuracy", "macro_f1"):
        value, *drawn = (part[name] for part in figures)
        lower, upper = np.quantile(np.concatenate(drawn), [low, high])
        intervals[name] = {
            "value": float(value[0]),
            "lower": float(lower),
            "upper": float(upper),
        }
    return {**intervals, "level": level, "draws": draws, "seed": seed}


def _figures(counts: Rows, target: Rows, answer: Rows, k: int) -> dict[str, Floats]:
    """Return accuracy and macro-F1 of each draw.

    Args:
        counts: int64 [draws, cells], examples in each cell.
        target: int64 [cells], their labels.
        answer: int64 [cells], likewise; k for what is no label.
        k: how many labels.
    """
    import numpy as np

    of_target = (target[:, None] == np.arange(k)).astype(float)
    of_answer = (answer[:, None] == np.arange(k)).astype(float)
    drawn = counts.astype(float)
    hits = drawn @ (of_target * of_answer)  # [draws, labels]
    involved = drawn @ (of_target + of_answer)
    there = involved > 0
    f1 = np.divide(2 * hits, involved, out=np.zeros(hits.shape), where=there)
    return {
        "accuracy": hits.sum(axis=1) / drawn.sum(axis=1),
        "macro_f1": f1.sum(axis=1) / there.sum(axis=1),
    }
