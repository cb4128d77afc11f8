"""What a part of the meta-model is once it is fitted: arrays, or LightGBM's trees, and no more.

So a fitted part can be written as text and read back without running anything. Each takes a view of
rows, the function from a form to their matrix in it, which makes each form once for all parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from llmpred.meta.gaussian import GaussianProcess
from llmpred.meta.table import Table
from llmpred.meta.transforms import Encoder, Form, Scale, fit_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

View: TypeAlias = "Callable[[Form], Floats]"
Predictor: TypeAlias = "Line | Process | Forest | Boosted | OnResiduals"

ROUNDS, LARGE_ROUNDS = 2000, 200  # of boosting at most; early stopping decides
TREES = 200  # of a forest
BLOCK = 50_000  # so many rows at once, where matrices of all would be large


def blocks(rows: int) -> Iterator[Rows]:
    """Return the numbers of rows, block by block."""
    import numpy as np

    for start in range(0, rows, BLOCK):
        yield np.arange(start, min(start + BLOCK, rows))


# --- a line ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line through standardised inputs.

    Attributes:
        form: of its inputs.
        slopes: float64 [inputs], of the inputs as they are.
        intercept: its value where all inputs are 0.
    """

    form: Form
    slopes: Floats
    intercept: float

    def __call__(self, view: View) -> Floats:
        """Return float64 [rows], what it predicts."""
        predicted: Floats = view(self.form) @ self.slopes + self.intercept
        return predicted


def _line(form: Form, scale: Scale, slopes: Floats, intercept: float) -> Line:
    """Return the line of slopes that were found for standardised inputs."""
    raw = slopes / scale.deviation
    return Line(form, raw, intercept - float(scale.mean @ raw))


def fit_elastic_net(view: View, target: Floats, folds: Rows) -> Line:
    """Fit an elastic net on columns and their logarithms, its penalty set by folds."""
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNetCV

    inputs = view("both")
    scale = fit_scale(inputs)
    cut = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in np.unique(folds)]
    model = ElasticNetCV(l1_ratio=0.2, alphas=20, eps=1e-3, cv=cut, tol=1e-3)
    with warnings.catch_warnings():
        # The weakest penalties may stop short; the folds judge them as they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scale(inputs), target)
    return _line("both", scale, model.coef_, float(model.intercept_))


def fit_ridge(encoder: Encoder, table: Table, folds: Rows) -> tuple[Line, Floats]:
    """Fit a line where rows abound and the penalty decides nothing.

    From sums of products over blocks of rows, since the whole matrix might not fit into memory.

    Returns:
        The line, and float64 [rows], what the line of the other folds predicts for each row.
    """
    import numpy as np

    cut = list(blocks(len(table)))
    # About standardised, so that sums of squares keep their digits.
    rough = fit_scale(encoder.dense(table.take(cut[0]), "both"))
    columns = len(rough.mean) + 1
    names = np.unique(folds)
    products = np.zeros((len(names), columns, columns))
    with_target = np.zeros((len(names), columns))

    def inputs(rows: Rows) -> Floats:
        scaled = rough(encoder.dense(table.take(rows), "both"))
        return np.column_stack([scaled, np.ones(len(rows))])

    middle = float(table.target.mean())
    for rows in cut:
        made = inputs(rows)
        for i, name in enumerate(names):
            here = folds[rows] == name
            products[i] += made[here].T @ made[here]
            with_target[i] += made[here].T @ (table.target[rows][here] - middle)
    whole, whole_target = products.sum(axis=0), with_target.sum(axis=0)
    without = np.array(
        [
            _solved(whole - own, whole_target - own_target)
            for own, own_target in zip(products, with_target, strict=True)
        ]
    )
    held_out = np.empty(len(table))
    place = np.searchsorted(names, folds)
    for rows in cut:
        held_out[rows] = np.einsum("ij,ij->i", inputs(rows), without[place[rows]]) + middle
    found = _solved(whole, whole_target)
    return _line("both", rough, found[:-1], float(found[-1]) + middle), held_out


def _solved(products: Floats, with_target: Floats) -> Floats:
    """Return slopes and intercept of a ridge with penalty 1 on standardised inputs.

    Args:
        products: float64 [inputs + 1, inputs + 1], sums over rows; the last input is 1.
        with_target: float64 [inputs + 1], sums of products with the target.
    """
    import numpy as np

    rows = products[-1, -1]
    mean, middle = products[-1, :-1] / rows, with_target[-1] / rows
    spread = products[:-1, :-1] - rows * np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(spread), 0) / rows)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    system = spread / np.outer(deviation, deviation) + np.eye(len(mean))
    slopes = np.linalg.solve(system, (with_target[:-1] - rows * mean * middle) / deviation)
    slopes /= deviation
    return np.append(slopes, middle - mean @ slopes)


# --- a Gaussian process ------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A Gaussian process over standardised inputs."""

    form: Form
    scale: Scale
    process: GaussianProcess

    def __call__(self, view: View) -> Floats:
        """Return float64 [rows], the median that it expects."""
        return self.process.median(self.scale(view(self.form)))

    def doubting(self, view: View) -> tuple[Floats, Floats]:
        """Return the medians and the standard deviations of new runs' outcomes, both [rows]."""
        return self.process.predict(self.scale(view(self.form)))


def fit_process(view: View, form: Form, target: Floats, seed: int) -> Process:
    """Fit a process; `seed` draws the rows that it takes where there are too many."""
    from llmpred.meta import gaussian

    inputs = view(form)
    scale = fit_scale(inputs)
    return Process(form, scale, gaussian.fit(scale(inputs), target, seed))


def held_out_process(process: Process, view: View, folds: Rows) -> Floats:
    """Return float64 [rows], what the process without a row's fold predicts for it."""
    held_out = process(view)  # rows that it was not conditioned on are held out
    rows = process.process.rows
    held_out[rows] = process.process.held_out(folds[rows])
    return held_out


# --- trees -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Boosted:
    """LightGBM's trees."""

    booster: Any

    def __call__(self, view: View) -> Floats:
        """Return float64 [rows], what they predict."""
        import numpy as np

        return np.asarray(self.booster.predict(view("trees")))


@dataclass(frozen=True)
class OnResiduals:
    """Trees on what another part misses."""

    base: Line | Process
    trees: Boosted

    def __call__(self, view: View) -> Floats:
        """Return float64 [rows], what both predict together."""
        predicted: Floats = self.base(view) + self.trees(view)
        return predicted


@dataclass(frozen=True)
class Forest:
    """Trees drawn at random, their nodes one after the other.

    Attributes:
        roots: int64 [trees], the place of each tree's first node.
        column: int64 [nodes], the input that a node asks for; -1 in leaves.
        threshold: float64 [nodes]; rows up to it go left.
        left, right: int64 [nodes], where to go on.
        value: float64 [nodes], the mean of the training rows there.
    """

    roots: Rows
    column: Rows
    threshold: Floats
    left: Rows
    right: Rows
    value: Floats

    def __call__(self, view: View) -> Floats:
        """Return float64 [rows], the mean of the leaves that a row falls in."""
        import numpy as np

        inputs = view("plain").astype(np.float32)  # as they were when the thresholds were drawn
        node = np.repeat(self.roots[:, None], len(inputs), axis=1).ravel()
        row = np.tile(np.arange(len(inputs)), len(self.roots))
        moving = np.flatnonzero(self.column[node] >= 0)
        while len(moving):
            at = node[moving]
            goes_left = inputs[row[moving], self.column[at]] <= self.threshold[at]
            node[moving] = np.where(goes_left, self.left[at], self.right[at])
            moving = moving[self.column[node[moving]] >= 0]
        mean: Floats = self.value[node].reshape(len(self.roots), len(inputs)).mean(axis=0)
        return mean


def fit_forest(view: View, target: Floats, columns: int, seed: int) -> Forest:
    """Fit extremely randomised trees (Geurts et al., 2006) to columns as they are.

    Args:
        view: of the training rows.
        target: float64 [rows].
        columns: how many the table has.
        seed: of the draws.
    """
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        TREES, min_samples_leaf=2, max_features=_share(columns), random_state=seed, n_jobs=1
    )
    model.fit(view("plain"), target)
    trees = [each.tree_ for each in model.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])

    def together(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    shift = np.repeat(roots, [tree.node_count for tree in trees])
    leaf = together("children_left") < 0
    return Forest(
        roots,
        np.where(leaf, -1, together("feature")),
        together("threshold"),
        together("children_left") + shift,
        together("children_right") + shift,
        together("value")[:, 0, 0],
    )


@dataclass(frozen=True)
class Binned:
    """Training rows as LightGBM takes them: cut into bins once, for several targets.

    Attributes:
        held: bool [rows], which rows stop.
        columns: how many there are.
        fitted, stopping: the rows that trees are first fitted on, and those that stop.
        whole: all rows; None where the first fit is the last one.
    """

    held: NDArray[np.bool_]
    columns: int
    fitted: Any
    stopping: Any
    whole: Any


def binned(
    view: View, held: NDArray[np.bool_], categorical: list[int], *, large: bool = False
) -> Binned:
    """Return training rows for `fit_boosted`.

    Args:
        view: of the training rows.
        held: bool [rows], which rows stop.
        categorical: places of text columns.
        large: spare the second fit: a fifth more rows would change little.
    """
    import lightgbm

    inputs = view("trees")

    def data(rows: Any, reference: Any = None) -> Any:
        return lightgbm.Dataset(
            inputs[rows],
            categorical_feature=categorical,
            reference=reference,
            params={"verbose": -1},
        )

    fitted = data(~held)
    whole = None if large else data(slice(None))
    return Binned(held, inputs.shape[1], fitted, data(held, fitted), whole)


def fit_boosted(rows: Binned, target: Floats, seed: int) -> Boosted:
    """Fit boosted trees; early stopping on rows held out sets their number, then all rows are used.

    Args:
        rows: of the training table; large ones take all cores and fewer, larger steps.
        target: float64 [rows].
        seed: of the draws.
    """
    import lightgbm

    large = rows.whole is None
    settings = {
        "objective": "regression",
        "learning_rate": 0.1 if large else 0.05,
        "num_leaves": 15 if len(target) < 2000 else 63,
        "min_child_samples": 5 if len(target) < 2000 else 20,
        "feature_fraction": _share(rows.columns),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": 0 if large else 1,  # 0: all cores
        "deterministic": True,
        "verbose": -1,
    }
    trial = lightgbm.train(
        settings,
        rows.fitted.set_label(target[~rows.held]),
        LARGE_ROUNDS if large else ROUNDS,
        valid_sets=[rows.stopping.set_label(target[rows.held])],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    if large:
        return Boosted(trial)
    return Boosted(lightgbm.train(settings, rows.whole.set_label(target), trial.best_iteration))


def _share(columns: int) -> float:
    """Return the share of columns a tree looks at: half of them, but of few columns all."""
    return max(0.5, min(1.0, 8 / max(columns, 1)))
