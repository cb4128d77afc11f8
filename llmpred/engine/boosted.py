"""LightGBM on a base's mean states and features of the prompt: the cheap rival of a fine-tune.

Nothing of the base is trained. One booster a quantile, one for a value, or one of all classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.data.fields import Example
from llmpred.engine import parallel
from llmpred.engine.encoding import encode
from llmpred.engine.models import LoadedBase, autocast, in_batches, padded
from llmpred.errors import Problem, SpecError
from llmpred.meta.codec import booster_of
from llmpred.spec.run import RunSpec
from llmpred.tasks.base import LEVELS, Task

if TYPE_CHECKING:
    import lightgbm as lgb
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FILE = "boosters.json"
SIZE_LIMIT = 500_000_000  # bytes of it
# Small trees, since states are many and rows are few; each tree sees half of the columns.
PARAMETERS: dict[str, Any] = {
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Boosted:
    """Trained boosters: one of classes or of a value, or one for each of `LEVELS`."""

    boosters: tuple[lgb.Booster, ...]

    def scores(self, inputs: Floats) -> list[tuple[float, ...]]:
        """Return log-probabilities [rows, classes], or outputs [rows, boosters]."""
        found = [np.asarray(booster.predict(inputs)) for booster in self.boosters]
        if found[0].ndim == 2:
            return [tuple(row) for row in np.log(np.maximum(found[0], 1e-12)).tolist()]
        return [tuple(row) for row in np.stack(found, 1).tolist()]

    def save(self, folder: Path) -> None:
        """Write the boosters as LightGBM's text."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = [booster.model_to_string() for booster in self.boosters]
        (folder / FILE).write_text(json.dumps(texts))


def read(folder: Path) -> Boosted:
    """Return the boosters of a folder.

    Raises:
        SpecError: when it holds none.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        texts = json.loads(path.read_text("utf-8"))
        if not isinstance(texts, list) or not 0 < len(texts) <= len(LEVELS):
            raise ValueError("it must be a list of boosters")
        return Boosted(tuple(booster_of(str(text)) for text in texts))
    except (OSError, ValueError, RecursionError) as error:
        law = f"the folder of trained weights must hold {FILE} as llmpred wrote it, but: {error}"
        raise SpecError(Problem(law, str(folder), "Copy the folder again.")) from error


def train(
    base: LoadedBase,
    task: Task,
    spec: RunSpec,
    examples: Sequence[Example],
    stop: Callable[[], str | None] = lambda: None,
) -> Boosted:
    """Train boosters of `optim.max_steps` trees with the shrinkage `optim.lr`.

    Args:
        base: whose states are read.
        task: of the run.
        spec: the settled run.
        examples: training rows.
        stop: asked before each batch; see `Interrupted`.
    """
    import lightgbm as lgb

    inputs, _ = inputs_of(base, task, spec, examples, stop)
    rounds = spec.optim.max_steps
    assert rounds is not None  # checked by `impossible`
    common = {**PARAMETERS, "learning_rate": spec.optim.lr, "seed": spec.seed % 2**31}
    common["min_data_in_leaf"] = min(common["min_data_in_leaf"], max(1, len(examples) // 10))

    def fitted(targets: Floats, **parameters: Any) -> lgb.Booster:
        data = lgb.Dataset(inputs, targets, free_raw_data=True)
        return lgb.train({**common, **parameters}, data, num_boost_round=rounds)

    if spec.method.loss in ("mse", "pinball"):
        values = np.array([task.value(example, spec.task) for example in examples])
        if spec.method.loss == "mse":
            return Boosted((fitted(values, objective="l2"),))
        return Boosted(tuple(fitted(values, objective="quantile", alpha=level) for level in LEVELS))
    classes = task.outputs(spec.task, spec.method.loss)
    labels = np.array([task.answer_index(example, spec.task) for example in examples], float)
    return Boosted((fitted(labels, objective="multiclass", num_class=classes),))


def inputs_of(
    base: LoadedBase,
    task: Task,
    spec: RunSpec,
    examples: Sequence[Example],
    stop: Callable[[], str | None] = lambda: None,
) -> tuple[Floats, list[bool]]:
    """Return what boosters read, [examples, features + hidden], and which were truncated.

    The task's features of the example, then the mean of the base's last states over its tokens.
    """
    import torch

    encoded = encode(examples, task, spec, base.tokenizer, training=False)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].prompt))
    body: Any = base.model.base_model
    body.eval()

    def run(batch: Sequence[list[int]]) -> Sequence[Floats]:
        given = padded(base, batch)
        states = body(**given).last_hidden_state.float()
        mask = given["attention_mask"][:, :, None]
        means = (states * mask).sum(1) / mask.sum(1)
        return list(means.cpu().numpy().astype(np.float64))

    with parallel.without_gradients(), torch.no_grad(), autocast(spec.optim.precision, base.device):
        prompts = [encoded[i].prompt for i in order]
        found = list(in_batches(prompts, spec.execution.eval_batch, run, stop))
    states = np.empty((len(encoded), found[0].shape[0] if found else 0))
    states[order] = np.array(found).reshape(states.shape)
    features = [task.features(example, spec.task) for example in examples]
    return np.column_stack([np.array(features, float), states]), [e.truncated for e in encoded]
