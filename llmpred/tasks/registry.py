"""All tasks and metrics by name: the built-in ones, and those of installed packages.

A package offers a task (a `Task` subclass) or a metric (`function(predictions, spec)`, giving a
number or a dict of numbers) by an entry point:

    [project.entry-points."llmpred.tasks"]
    toxicity = "my_package.toxicity:Toxicity"

    [project.entry-points."llmpred.metrics"]
    brier = "my_package.metrics:brier"

They are loaded when a name is asked for that is not built in, never before.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from llmpred.errors import InputError, Problem, SpecError, nearest
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction, Task
from llmpred.tasks.complexity import Complexity
from llmpred.tasks.multiple_choice import MultipleChoice
from llmpred.tasks.numeric import Numeric
from llmpred.tasks.qa import QuestionAnswering
from llmpred.tasks.sentiment import Sentiment
from llmpred.tasks.summarization import Summarization

BUILT_IN: dict[str, Task] = {
    task.name: task
    for task in (
        Sentiment(),
        QuestionAnswering(),
        Summarization(),
        MultipleChoice(),
        Numeric(),
        Complexity(),
    )
}
TASKS, METRICS = "llmpred.tasks", "llmpred.metrics"  # entry point groups

Metric = Callable[[Sequence[Prediction], TaskSpec], "float | Mapping[str, float]"]


def names() -> tuple[str, ...]:
    """Return the names of all tasks, the built-in ones first."""
    return tuple(dict.fromkeys([*BUILT_IN, *_offered(TASKS)]))


def get(name: str) -> Task:
    """Return the task of that name.

    Raises:
        SpecError: if there is none, or the package that offers it is broken.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in _offered(TASKS):
        law = f"the task must be a registered one, but got {name!r}"
        raise SpecError(Problem(law, "task.name", nearest(name, names())))
    return _plugin_task(name)


def metric(name: str, known: Sequence[str] = ()) -> Metric:
    """Return the further metric of that name; `known` are the task's own, for the message.

    Raises:
        SpecError: if there is none, or the package that offers it is broken.
    """
    offered = _offered(METRICS)
    if name not in offered:
        law = f"a metric must be one of the task's own or a registered one, but got {name!r}"
        valid = [*known, *offered]
        raise SpecError(Problem(law, "evaluation.metrics", nearest(name, valid)))
    found: Metric = _load(METRICS, name)
    if not callable(found):
        raise _broken(offered[name][0], "it must be a function of (predictions, spec)")
    return found


def score(
    task: Task,
    spec: TaskSpec,
    predictions: Sequence[Prediction],
    extra: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return the task's metrics and the further ones named in `extra`; a dict's as `name_key`.

    The task's own are never replaced.

    Raises:
        DataError: if there are no predictions.
        SpecError: if a name is unknown, a metric fails or gives no finite number, or the primary
            metric is outside [0, 1].
    """
    metrics = dict(task.score(predictions, spec))
    for name in extra or ():
        if name not in metrics:
            function = metric(name, tuple(metrics))
            metrics = {**_measure(name, function, predictions, spec), **metrics}
    for name, value in metrics.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise SpecError(
                f"a metric must be a finite number, but {name} of {task.name} is {value!r}"
            )
    if not 0.0 <= metrics[task.metric] <= 1.0:
        law = (
            f"the primary metric must lie in [0, 1], but {task.metric} is {metrics[task.metric]!r}"
        )
        raise SpecError(Problem(law, f"task {task.name}"))
    return {name: float(value) for name, value in metrics.items()}


def _measure(
    name: str, function: Metric, predictions: Sequence[Prediction], spec: TaskSpec
) -> dict[str, float]:
    try:
        value = function(predictions, spec)
    except Exception as error:  # a stranger's code: anything may come out of it
        entry = _offered(METRICS)[name][0]
        raise _broken(entry, f"it fails with {type(error).__name__}: {error}") from error
    if isinstance(value, Mapping):
        return {f"{name}_{key}": number for key, number in value.items()}
    return {name: value}


def _offered(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name; several packages may offer one name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        if entry not in found.setdefault(entry.name, []):
            found[entry.name].append(entry)
    return dict(sorted(found.items()))


@functools.cache
def _plugin_task(name: str) -> Task:
    found = _load(TASKS, name)
    entry = _offered(TASKS)[name][0]
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise _broken(entry, "it must be a subclass of llmpred.tasks.base.Task")
    try:
        task = found()
    except Exception as error:
        raise _broken(entry, f"it fails with {type(error).__name__}: {error}") from error
    if getattr(task, "name", None) != name:
        raise _broken(entry, f"its `name` must be that of the entry point, {name!r}")
    return task


def _load(group: str, name: str) -> Any:
    first, *others = _offered(group)[name]
    if others:
        packages = ", ".join(_package(entry) for entry in [first, *others])
        law = f"{name!r} must be offered by one package, but these offer it: {packages}"
        raise SpecError(Problem(law, group, "Uninstall all but one."))
    try:
        return first.load()
    except Exception as error:
        raise _broken(first, f"loading it fails with {type(error).__name__}: {error}") from error


def _broken(entry: EntryPoint, why: str) -> InputError:
    law = f"{entry.name!r} of the package {_package(entry)} cannot be used: {why}"
    fix = f"Mend, update or uninstall {_package(entry)}."
    return SpecError(Problem(law, f"{entry.group}, {entry.value}", fix))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "of unknown name"
