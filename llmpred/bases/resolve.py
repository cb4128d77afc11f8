"""`resolve(spec)`: turn the names in a RunSpec into content, settle every `auto`, give the keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmpred.bases.locate import Located, locate
from llmpred.errors import InputError, Problem, SpecError
from llmpred.spec.canonical import digest
from llmpred.spec.run import AdapterSpec, RunSpec, TaskSpec
from llmpred.spec.versions import ENGINE_VERSION, METHOD_VERSIONS
from llmpred.tasks.base import Task
from llmpred.tasks.prepare import Prepared, prepare

BILLION = 1_000_000_000


@dataclass(frozen=True)
class ResolvedSpec:
    """A RunSpec whose names are settled to content.

    Attributes:
        spec: with every `auto` replaced by its value.
        hashes: train, validation, evaluation, weights; without train if nothing is trained.
        versions: semantics versions of task, method and engine.
        dataset, base: display names.
        counts: rows after recipes and limits: train, validation, evaluation, skipped.
        parameters: number of weights of the base.
        zero_shot_key: the run that scores the untouched base on the same evaluation; None where
            the head has no zero-shot form, or for that run itself.
        notes: what the user should know about the data.
    """

    spec: RunSpec
    hashes: dict[str, str]
    versions: dict[str, int]
    dataset: str
    base: str
    counts: dict[str, int]
    parameters: int
    zero_shot_key: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def train_payload(self) -> dict[str, Any]:
        """Return all that shapes the trained weights: everything but evaluation and execution."""
        spec = self.spec
        method = spec.method.model_dump(mode="json")
        if spec.method.adapter.kind != "lora":
            method["adapter"] = {"kind": spec.method.adapter.kind}  # a rank says nothing here
        payload: dict[str, Any] = {
            "task": spec.task.model_dump(mode="json"),
            "base": {
                "weights": self.hashes["weights"],
                "quantization": spec.base.quantization,
            },
            "method": method,
            "versions": self.versions,
        }
        if spec.trains:
            payload |= {
                "data": {k: self.hashes[k] for k in ("train", "validation") if k in self.hashes},
                "optim": spec.optim.model_dump(mode="json"),
                "seed": spec.seed,
            }
        else:
            payload["precision"] = spec.optim.precision
        return payload

    def payload(self) -> dict[str, Any]:
        """Return all that the run is: `train_payload` and the evaluation."""
        evaluation = self.spec.evaluation.model_dump(
            mode="json", include={"select", "metrics", "max_new_tokens"}
        )
        if not self.spec.trains:
            evaluation.pop("select")
        return {
            "train": self.train_payload(),
            "evaluation": {"data": self.hashes["evaluation"], **evaluation},
        }

    @property
    def train_key(self) -> str:
        """Hash of what shapes the trained weights; adapters are kept under it."""
        return digest(self.train_payload())

    @property
    def key(self) -> str:
        """Hash of the whole run; it is paid for once."""
        return digest(self.payload())


def resolve(spec: RunSpec, *, cache: Path | None = None) -> ResolvedSpec:
    """Settle a RunSpec: load and hash its data, locate and hash its base.

    Data and hashes are cached on disk by file size and time, so a second call is quick. Nothing is
    imported that needs torch.

    Raises:
        InputError: with all problems of data, task and base together.
    """
    problems: list[Problem] = []
    prepared: Prepared | None = None
    located: Located | None = None
    try:
        prepared = prepare(spec, cache=cache)
    except InputError as error:
        problems += error.problems
    try:
        located = locate(spec.base)
    except InputError as error:
        problems += error.problems
    if prepared is not None:
        problems += _task_problems(spec, prepared)
    if located is not None:
        problems += _base_problems(spec, located)
    if problems or prepared is None or located is None:
        raise SpecError(problems)

    task = read_by_head(spec, prepared.task, prepared.spec)
    precision = spec.optim.precision
    if precision == "auto":
        big = located.parameters > BILLION or spec.base.quantization != "none"
        precision = "bf16" if big else "fp32"
    evaluation = spec.evaluation
    if spec.method.head == "causal_lm" and evaluation.max_new_tokens is None:
        evaluation = evaluation.model_copy(
            update={"max_new_tokens": prepared.task.max_new_tokens}
        )
    settled = spec.model_copy(
        update={
            "task": task,
            "optim": spec.optim.model_copy(update={"precision": precision}),
            "evaluation": evaluation,
        }
    )
    return ResolvedSpec(
        spec=settled,
        hashes={**prepared.hashes, "weights": located.weights_hash},
        versions={
            "task": prepared.task.version,
            "method": METHOD_VERSIONS[spec.method.adapter.kind],
            "engine": ENGINE_VERSION,
        },
        dataset=spec.dataset.name or Path(spec.dataset.source).name,
        base=spec.base.name,
        counts=prepared.counts,
        parameters=located.parameters,
        zero_shot_key=_zero_shot_key(settled, cache),
        notes=prepared.notes,
    )


def read_by_head(spec: RunSpec, task: Task, settled: TaskSpec) -> TaskSpec:
    """Return the settled task as the head of `spec` reads it.

    A classification head reads the text itself; a question after it would only be noise.
    """
    if spec.method.head != "classifier" or spec.task.prompt is not None:
        return settled
    inputs = [f.name for f in task.fields if f.role == "input"]
    return settled.model_copy(update={"prompt": "\n".join(f"{{{name}}}" for name in inputs)})


def zero_shot_of(spec: RunSpec) -> RunSpec | None:
    """Return the run that scores the untouched base as `spec` is scored; None if there is none."""
    if not spec.trains or spec.method.head == "classifier":
        return None
    return spec.model_copy(
        update={
            "method": spec.method.model_copy(update={"adapter": AdapterSpec(kind="none")}),
            "evaluation": spec.evaluation.model_copy(update={"select": "last"}),
            "seed": 0,
        }
    )


def _zero_shot_key(settled: RunSpec, cache: Path | None) -> str | None:
    zero_shot = zero_shot_of(settled)
    return resolve(zero_shot, cache=cache).key if zero_shot else None


def _task_problems(spec: RunSpec, prepared: Prepared) -> list[Problem]:
    head, task = spec.method.head, prepared.task
    if head not in task.heads:
        return [
            Problem(
                f"the task `{task.name}` can be done by {', '.join(task.heads)}, but "
                f"`method.head` is {head}",
                fix=f"Set method.head to {task.heads[0]}.",
            )
        ]
    return []


def _base_problems(spec: RunSpec, base: Located) -> list[Problem]:
    if base.kind == "encoder" and spec.method.head != "classifier":
        return [
            Problem(
                f"`method.head` {spec.method.head} needs a causal language model, but "
                f"{base.name} is an encoder",
                fix="Set method.head to classifier, or choose a causal base such as smollm2-135m.",
            )
        ]
    return []
