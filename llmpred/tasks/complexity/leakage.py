"""Whether labels can be read off the prompt's surface, without knowing anything about thinking.

A small tree sees nothing but the nine features of a prompt. What a method scores above the
majority class is only worth something as far as the tree does not score it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

DEPTH = 5  # of the tree
# It is a leak if the tree has this share of a method's gain over the majority class in macro-F1. Of
# a perfect method's gain it had 0.56 to 0.98 with clusters of real and generated prompts, and 0.02
# to 0.26 with quantile bins of their counts.
FIRES = 0.5


@dataclass(frozen=True)
class Leakage:
    """Scores without a model, on rows that the tree was not grown on.

    Attributes:
        accuracy, macro_f1: of a tree on features of the prompt.
        majority_accuracy, majority_macro_f1: of always saying the class that is commonest in the
            other folds.
    """

    accuracy: float
    macro_f1: float
    majority_accuracy: float
    majority_macro_f1: float

    def share(self, score: float = 1.0) -> float | None:
        """Return the tree's share of a method's macro-F1; by default of a perfect one's."""
        return share_of(score, self.macro_f1, self.majority_macro_f1)

    def fires(self, score: float = 1.0) -> bool:
        """Return whether the tree alone reaches `FIRES` of a method's macro-F1.

        A method that is no better than the majority class has nothing that could be read off.
        """
        share = self.share(score)
        return share is not None and share >= FIRES


def leakage(features: Floats, labels: Rows, *, folds: int = 5, seed: int = 0) -> Leakage:
    """Score a small tree on features of the prompt, fold by fold.

    Args:
        features: float64 [rows, any], of the prompts alone.
        labels: int64 [rows].
        folds: each is predicted by a tree that was grown on the others.
        seed: of the folds and the tree.

    Raises:
        DataError: if there are fewer rows than folds.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=DEPTH, random_state=seed)
    told = _out_of_fold(tree, features, labels, folds, seed)
    majority = _out_of_fold(DummyClassifier(), features, labels, folds, seed)
    return Leakage(
        accuracy=float(accuracy_score(labels, told)),
        macro_f1=float(f1_score(labels, told, average="macro", zero_division=0)),
        majority_accuracy=float(accuracy_score(labels, majority)),
        majority_macro_f1=float(f1_score(labels, majority, average="macro", zero_division=0)),
    )


def rank_leakage(features: Floats, targets: Floats, *, folds: int = 5, seed: int = 0) -> float:
    """Return how well a small tree on features of the prompt ranks the targets of a regression.

    The tree is grown on their ranks, so counts and their logarithms have the same leakage.

    Args:
        features: float64 [rows, any], of the prompts alone.
        targets: float64 [rows].
        folds: each is predicted by a tree that was grown on the others.
        seed: of the folds and the tree.

    Returns:
        Spearman's correlation of the targets with the predictions, 0 where one of them does not
        vary; `share_of(score, it, 0.0)` is the share of a method's own.

    Raises:
        DataError: if there are fewer rows than folds.
    """
    import numpy as np
    from scipy.stats import rankdata, spearmanr
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_depth=DEPTH, random_state=seed)
    told = _out_of_fold(tree, features, rankdata(targets), folds, seed)
    if np.ptp(told) == 0 or np.ptp(targets) == 0:
        return 0.0
    return float(spearmanr(targets, told).statistic)


def share_of(score: float, tree: float, baseline: float) -> float | None:
    """Return what share of a method's gain over a baseline a tree on the prompt's features has.

    Args:
        score: of the method, higher is better.
        tree: the same figure of the tree.
        baseline: the same figure of the majority class, or 0 for a correlation.

    Returns:
        0 if the tree is below the baseline, 1 if it is as good as the method, more if better; None
        if the method is not above the baseline.
    """
    if score <= baseline:
        return None
    return max(tree - baseline, 0.0) / (score - baseline)


def _out_of_fold(model: Any, features: Any, targets: Any, folds: int, seed: int) -> Any:
    from sklearn.model_selection import KFold, cross_val_predict

    if len(targets) < folds:
        law = f"{folds} folds need as many rows, but there are {len(targets)}"
        raise DataError(Problem(law, "leakage", "Evaluate more rows."))
    parts = KFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(model, features, targets, cv=parts)
