"""What to change about a run: each thing a user can set, tried at values that others were run with.

A change of one setting moves what follows from it: twice the steps are twice the tokens seen. All
else stays, so the advice is the model's opinion of one change at a time, and no promise about two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmpred.features.hyper import SCHEDULES
from llmpred.features.measurements import FEATURES
from llmpred.meta.support import outside
from llmpred.meta.table import Table, is_number
from llmpred.meta.trained import Trained

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES = 9  # of a number column that are tried at most
LEAST = 0.002  # change of the prediction worth telling, as a share of the target's range

# What a user can set -> columns that move with it, and by which power of its change.
HYPER: Mapping[str, Mapping[str, float]] = {
    "lr": {},
    "steps": {"epochs": 1, "tokens_seen": 1},
    "batch_size": {"epochs": 1, "tokens_seen": 1},
    "lora_r": {"trainable_parameters": 1, "trainable_share": 1, "lora_scaling": -1},
    "lora_alpha": {"lora_scaling": 1},
    "lora_dropout": {},
    "weight_decay": {},
    "warmup_share": {},
    "lr_schedule": {},
}
# Of the data: what collecting, cleaning or balancing changes. More rows at the same number of steps
# are fewer epochs.
DATA: Mapping[str, Mapping[str, float]] = {
    "size_di": {"epochs": -1},
    "label_noise_estimate": {},
    "conflict_share": {},
    "duplicate_share": {},
    "near_duplicate_share": {},
    "label_imbalance": {},
}
NAMES: Mapping[str, tuple[str, ...]] = {"lr_schedule": SCHEDULES}  # what codes stand for


@dataclass(frozen=True)
class Change:
    """One setting changed: the column, its value before and after, and what is then predicted."""

    column: str
    before: Any
    after: Any
    predicted: float
    gain: float


def levers(columns: Sequence[str]) -> dict[str, Mapping[str, float]]:
    """Return the columns that a user can set, with what moves with each.

    Columns of llmpred's own features are those of `HYPER` and `DATA`; any other column may be
    anything, so it is taken to be one.
    """
    own = {feature.name for feature in FEATURES} | {"base", "task"}
    known = {**HYPER, **DATA}
    return {name: known.get(name, {}) for name in columns if name in known or name not in own}


def advise(
    trained: Trained, row: Table, *, lower_is_better: bool = False, shown: int = 5
) -> list[Change]:
    """Return the changes that improve the prediction of a run, the best first, one a column.

    Only values that training rows have are tried, and none that leaves the training support.

    Args:
        trained: the model.
        row: the one run.
        lower_is_better: of the target.
        shown: changes at most.
    """
    import numpy as np

    tried: list[tuple[str, Any]] = []
    made: list[dict[str, NDArray[Any]]] = []
    for name, linked in levers(trained.schema.columns).items():
        for value in _values(trained.sample.features[name], row.features[name][0]):
            tried.append((name, value))
            made.append(_changed(row, name, value, linked))
    if not tried:
        return []
    features = {
        name: np.concatenate([each[name] for each in made]) for name in trained.schema.columns
    }
    alone = np.arange(len(tried))
    unknown = np.full(len(tried), np.nan)
    table = replace(
        row, features=features, target=unknown, groups=alone, twins=alone, repeats=alone
    )
    now = float(trained.model.predict(row).mean[0])
    then = trained.model.predict(table).mean
    encoder = trained.model.blend.parts.encoder
    already = set(outside(encoder, row)[0])
    new = [bool(set(columns) - already) for columns in outside(encoder, table)]
    sign = -1.0 if lower_is_better else 1.0
    best: dict[str, Change] = {}
    for (name, value), predicted, strange in zip(tried, then, new, strict=True):
        gain = sign * (float(predicted) - now)
        if not strange and (name not in best or gain > best[name].gain):
            before = _plain(name, row.features[name][0])
            best[name] = Change(name, before, _plain(name, value), float(predicted), gain)
    least = LEAST * float(np.ptp(trained.sample.target))
    worth = [change for change in best.values() if change.gain > least]
    return sorted(worth, key=lambda change: -change.gain)[:shown]


def _values(seen: NDArray[Any], now: Any) -> list[Any]:
    """Return values of training rows to try in place of the present one."""
    import numpy as np

    if not is_number(seen):
        return [value for value in sorted({*seen} - {None}) if value != now]
    if np.isnan(now):  # what a run does not have cannot be changed
        return []
    known = np.unique(seen[~np.isnan(seen)])
    if len(known) > VALUES:
        known = np.unique(np.quantile(known, np.linspace(0.05, 0.95, VALUES), method="nearest"))
    return [float(value) for value in known if value != now]


def _changed(
    row: Table, name: str, value: Any, linked: Mapping[str, float]
) -> dict[str, NDArray[Any]]:
    """Return the features of the run with one setting changed, and what follows from it."""
    import numpy as np

    features = dict(row.features)
    before = features[name][0]
    kind = float if is_number(features[name]) else object
    features[name] = np.array([value], dtype=kind)
    if linked and before > 0 and value > 0:
        for other, power in linked.items():
            if other in features:
                features[other] = features[other] * (value / before) ** power
    return features


def _plain(name: str, value: Any) -> Any:
    """Return a value as people set it."""
    if value is None or isinstance(value, str):
        return value
    names = NAMES.get(name)
    number = float(value)
    if names and number.is_integer() and 0 <= number < len(names):
        return names[int(number)]
    return number
