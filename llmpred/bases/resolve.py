"""`resolve(spec)`: turn the names in a RunSpec into content, settle every `auto`, give the keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmpred.bases.locate import Located, locate
from llmpred.errors import InputError, Problem, SpecError, UnfitError, nearest
from llmpred.spec.canonical import digest
from llmpred.spec.checks import impossible
from llmpred.spec.distributions import dotted
from llmpred.spec.run import AdapterSpec, MethodSpec, RunSpec, TaskSpec
from llmpred.spec.versions import ENGINE_VERSION, METHOD_VERSIONS
from llmpred.tasks import registry
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

    def with_execution(self, **changes: Any) -> ResolvedSpec:
        """Return the same run, carried out differently: no key depends on `execution`."""
        execution = self.spec.execution.model_copy(update=changes)
        return replace(self, spec=self.spec.model_copy(update={"execution": execution}))

    def train_payload(self) -> dict[str, Any]:
        """Return all that shapes the trained weights: everything but evaluation and execution.

        Of the evaluation, `select` belongs here: it says which of the weights are kept.
        """
        spec = self.spec
        payload: dict[str, Any] = {
            "task": spec.task.model_dump(mode="json"),
            "base": {"weights": self.hashes["weights"], "quantization": spec.base.quantization},
            "method": _method_payload(spec.method),
            "versions": self.versions,
        }
        if not spec.trains:
            return {**payload, "precision": spec.optim.precision}
        best = spec.evaluation.select == "best_on_validation"
        return {
            **payload,
            "data": {k: self.hashes[k] for k in ("train", "validation") if k in self.hashes},
            "optim": spec.optim.model_dump(mode="json"),
            "select": spec.evaluation.select if best else None,
            "seed": spec.seed,
        }

    def payload(self) -> dict[str, Any]:
        """Return all that the run is: `train_payload` and the evaluation."""
        evaluation = self.spec.evaluation
        generates = self.spec.method.head == "causal_lm"
        return {
            "train": self.train_payload(),
            "evaluation": {
                "data": self.hashes["evaluation"],
                "metrics": sorted(set(evaluation.metrics or ())) or None,
                "max_new_tokens": evaluation.max_new_tokens if generates else None,
                "calibration": evaluation.calibration,
                "adapter_off": evaluation.adapter_off or None,
            },
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
        UnfitError: when that is all that is wrong.
        InputError: with all problems of data, task and base together.
    """
    problems: list[Problem] = []
    prepared: Prepared | None = None
    located: Located | None = None
    try:
        located = locate(spec.base)
    except InputError as error:
        problems += error.problems
    try:
        spec = with_head(spec, located.kind if located else None)
        prepared = prepare(spec, cache=cache)
    except InputError as error:
        problems += error.problems
    if located is not None:
        unfit = _unfit(spec, located)
        if unfit is not None and not problems:
            raise UnfitError(unfit)
        problems += [*([unfit] if unfit else []), *_base_problems(spec, located)]
    if prepared is not None:
        problems += _class_problems(spec, prepared.task.class_names(prepared.spec))
    problems += [Problem(law, dotted(path), fix) for path, law, fix in impossible(spec)]
    if problems or prepared is None or located is None:
        raise SpecError(problems)

    settled = _settled(spec, prepared, located)
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


def with_head(spec: RunSpec, kind: str | None) -> RunSpec:
    """Return the spec with `method.head: auto` settled: the task's first, classifier on an encoder.

    Args:
        spec: the run.
        kind: of the base, `causal` or `encoder`; None if not known.

    Raises:
        SpecError: if there is no such task.
    """
    if spec.method.head != "auto":
        return spec
    heads = registry.get(spec.task.name).heads
    head = "classifier" if kind == "encoder" and "classifier" in heads else heads[0]
    return spec.model_copy(update={"method": spec.method.model_copy(update={"head": head})})


def read_by_head(spec: RunSpec, task: Task, settled: TaskSpec) -> TaskSpec:
    """Return the settled task as the head of `spec` reads it.

    A classification head reads the text itself; a question after it would only be noise.
    """
    if not spec.method.has_head or spec.task.prompt is not None:
        return settled
    inputs = [f.name for f in task.fields if f.role == "input" and f.kind != "texts"]
    return settled.model_copy(update={"prompt": "\n".join(f"{{{name}}}" for name in inputs)})


def zero_shot_of(spec: RunSpec) -> RunSpec | None:
    """Return the run that scores the untouched base as `spec` is scored; None if there is none."""
    if not spec.trains or spec.method.has_head:
        return None
    return spec.model_copy(
        update={
            "method": spec.method.model_copy(
                update={
                    "adapter": AdapterSpec(kind="none"),
                    "loss": None,
                    "head_form": None,
                    "class_weights": None,
                    "name": None,  # that of the method, which is another one
                }
            ),
            "evaluation": spec.evaluation.model_copy(update={"select": "last"}),
            "seed": 0,
        }
    )


def _zero_shot_key(settled: RunSpec, cache: Path | None) -> str | None:
    zero_shot = zero_shot_of(settled)
    return resolve(zero_shot, cache=cache).key if zero_shot else None


def _settled(spec: RunSpec, prepared: Prepared, base: Located) -> RunSpec:
    """Return the spec with every `auto` settled, and every default that waits for data or base."""
    task = read_by_head(spec, prepared.task, prepared.spec)
    if not base.chat_template:
        task = task.model_copy(update={"chat_template": "off"})
    precision = spec.optim.precision
    if precision == "auto":
        big = base.parameters > BILLION or spec.base.quantization != "none"
        precision = "bf16" if big else "fp32"
    evaluation = spec.evaluation
    if spec.method.head == "causal_lm" and evaluation.max_new_tokens is None:
        evaluation = evaluation.model_copy(update={"max_new_tokens": prepared.task.max_new_tokens})
    optim = spec.optim.model_copy(update={"precision": precision})
    if optim.stages is not None:  # each has its own
        optim = optim.model_copy(update={"lr": optim.stages[0].lr})
    method = spec.method
    if task.target is not None and task.target.is_regression and method.loss is None:
        method = method.model_copy(update={"loss": "mse"})
    if method.reads_numbers and method.loss is None:
        method = method.model_copy(update={"loss": "cauchy"})
    changed = {"task": task, "method": method, "optim": optim, "evaluation": evaluation}
    return spec.model_copy(update=changed)


def _class_problems(spec: RunSpec, classes: tuple[str, ...] | None) -> list[Problem]:
    """Return what of a spec does not go with the task's classes, or with a task that has none."""
    weights, calibration = spec.method.class_weights, spec.evaluation.calibration
    asked = {"method.class_weights": weights, "evaluation.calibration": calibration}
    if classes is None:
        law = f"belongs to tasks with a fixed set of labels, but the task is {spec.task.name}"
        return [
            Problem(f"`{path.rpartition('.')[2]}` {law}", path, "Remove it.")
            for path, value in asked.items()
            if value is not None
        ]
    names = weights if isinstance(weights, dict) else {}
    return [
        Problem(
            f"`class_weights` must name labels, but {name!r} is none",
            "method.class_weights",
            nearest(name, classes),
        )
        for name in names
        if name not in classes
    ]


def _method_payload(method: MethodSpec) -> dict[str, Any]:
    """Return a method as it shapes weights: a flag that is off is the same as none given."""
    payload = method.model_dump(mode="json", exclude={"name"})
    payload["length_normalization"] = method.length_normalization or None
    if method.adapter.kind == "none":
        if method.loss == "candidates":
            payload["loss"] = None  # nothing is trained by it: a head has losses of its own
        if not method.has_head:
            payload["class_weights"] = None
    if method.adapter.kind != "lora":  # a rank says nothing here
        adapter = {"kind": method.adapter.kind, "last_layers": method.adapter.last_layers}
        return {**payload, "adapter": adapter}
    adapter = payload["adapter"]
    adapter["use_rslora"] = method.adapter.use_rslora or None
    if isinstance(method.adapter.target_modules, tuple):
        adapter["target_modules"] = sorted(set(method.adapter.target_modules))
    return payload


def _unfit(spec: RunSpec, base: Located) -> Problem | None:
    """Return why a method cannot be used with a base of this kind."""
    if base.kind != "encoder" or spec.method.has_head or spec.method.head == "auto":
        return None
    return Problem(
        f"`method.head` {spec.method.head} needs a causal language model, but {base.name} is an "
        "encoder",
        "method.head",
        "Set it to classifier, or choose a causal base such as smollm2-135m.",
    )


def _base_problems(spec: RunSpec, base: Located) -> list[Problem]:
    problems = []
    positions = base.config.get("max_position_embeddings") or base.config.get("n_positions")
    if isinstance(positions, int) and spec.task.max_length > positions:
        law = (
            f"`task.max_length` must be at most the {positions} positions of {base.name}, but got "
            f"{spec.task.max_length}"
        )
        problems.append(Problem(law, "task.max_length", f"Set it to {positions} or less."))
    answer = spec.evaluation.max_new_tokens
    if spec.method.head == "causal_lm" and answer and answer >= spec.task.max_length:
        law = (
            "`evaluation.max_new_tokens` must leave room for a prompt within task.max_length "
            f"({spec.task.max_length}), but got {answer}"
        )
        problems.append(Problem(law, "evaluation.max_new_tokens", "Lower it, or raise max_length."))
    return problems
