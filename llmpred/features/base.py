"""What a meta-feature is, and how features are computed from measurements.

The costly work is done once, in a *measurement*: one pass over the texts, the embeddings of a
sample, the likelihoods under a base, a short probe. A `Feature` is a pure function of one
measurement, so a feature costs nothing once its measurement is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from llmpred.data.fields import Example
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Task

Group = Literal["hyper", "base", "static", "probe"]
Priority = Literal["core", "strong", "further"]
# What it costs to know: nothing, a pass over the texts, embeddings, forward passes, training steps.
Cost = Literal["free", "text", "embed", "forward", "train"]


@dataclass(frozen=True)
class Feature:
    """A meta-feature.

    Attributes:
        name: column name, in the field's terms.
        group: what it describes: hyperparameters, the base, the data alone, or a probe.
        priority: `core`, `strong` or `further`: the tiers that the meta-model ablates.
        unit: of the value; `1` for shares, ratios and cosines.
        cost: what it costs to know.
        version: bumped when the same measurement would give another value.
        source: paper or definition that it follows.
        fn: the value from its measurement. NaN means unknown, never 0; what it raises becomes NaN
            and a warning.
        reads_eval_labels: whether the answers of the evaluation set went into it.
        log: whether its values spread over orders of magnitude, so that a model should take logs.
    """

    name: str
    group: Group
    priority: Priority
    unit: str
    cost: Cost
    version: int
    source: str
    fn: Callable[[Any], float]
    reads_eval_labels: bool = False
    log: bool = False


@dataclass(frozen=True)
class Values:
    """Feature values of one measurement.

    Attributes:
        values: by feature name; NaN where unknown.
        warnings: feature name -> why its value is NaN.
        facts: how the measurement was made: examples used, sampling errors, seconds.
    """

    values: dict[str, float]
    warnings: dict[str, str]
    facts: dict[str, float]


def compute(
    features: Iterable[Feature], measurement: Any, facts: dict[str, float] | None = None
) -> Values:
    """Compute features from their measurement; one that fails is NaN with a warning, no more."""
    values: dict[str, float] = {}
    warnings: dict[str, str] = {}
    for feature in features:
        try:
            value = float(feature.fn(measurement))
        except Exception as error:  # a feature is code of many hands on data of any kind
            value, warnings[feature.name] = math.nan, f"{type(error).__name__}: {error}"
        if math.isinf(value):
            value, warnings[feature.name] = math.nan, "its value is infinite"
        values[feature.name] = value
    return Values(values, warnings, facts or {})


def texts(example: Example, task: Task, spec: TaskSpec) -> tuple[str, str]:
    """Return an example's input and output as text, without the prompt's own words.

    The input is the task's input fields, a line each, so the same example reads the same whatever
    the prompt; the output is what training teaches.
    """
    lines: list[str] = []
    for field in task.fields:
        if field.role != "input" or example.get(field.name) is None:
            continue
        value = example[field.name]
        lines += [str(part) for part in value] if field.kind == "texts" else [str(value)]
    return "\n".join(lines), task.target(example, spec).strip()
