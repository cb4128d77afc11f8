"""A folder of kept weights, whole in itself: what was trained, its tokenizer, what its run was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from llmpred.bases.resolve import ResolvedSpec
from llmpred.data.fields import Example
from llmpred.engine import boosted
from llmpred.errors import Problem, SpecError
from llmpred.spec.distributions import dotted
from llmpred.spec.problems import from_pydantic
from llmpred.spec.run import Frozen, RunSpec
from llmpred.tasks.base import Calibration, Task

if TYPE_CHECKING:
    from llmpred.engine.models import LoadedBase

Content = TypeVar("Content", bound=Frozen)

RUN, LABEL_SCORING, CALIBRATION = "run.json", "label_scoring_meta.json", "calibration.json"
SIZE_LIMIT, CALIBRATION_LIMIT = 10_000_000, 200_000_000  # bytes


class Kept(Frozen):
    """`run.json`: all that is needed to load the weights beside it again.

    Attributes:
        format: of this file.
        key, train_key: of the run that trained them.
        dataset, base: display names.
        spec: settled.
        hashes: of the rows and of the base's weights, as in the record.
        versions: semantics versions of task, method and engine.
        kind: of the base.
        packages: what they were trained with.
        files: SHA-256 of each file of weights.
    """

    format: Literal[1] = 1
    key: str
    train_key: str
    dataset: str
    base: str
    spec: RunSpec
    hashes: dict[str, str]
    versions: dict[str, int]
    kind: Literal["causal", "encoder"]
    packages: dict[str, str]
    files: dict[str, str]


class Calibrated(Frozen):
    """`calibration.json`: how the task reads the model's scores."""

    calibration: dict[str, Any]


class LabelScoring(Frozen):
    """`label_scoring_meta.json`: how to ask the model without llmpred.

    Attributes:
        task: its registered name.
        base: name of the base model.
        language, prompt, labels, chat_template, max_length, truncation: as in `TaskSpec`.
        candidates: the texts that are compared, as they follow the prompt, in the order of
            `labels`; None where each example brings its own.
        length_normalization: whether log-probabilities are divided by their tokens.
        calibration: as in `EvaluationSpec`.
        offsets: with `calibration`, what is subtracted from each label's score.
    """

    task: str
    base: str
    language: Literal["en", "zh"]
    prompt: str
    labels: dict[str, str] | None
    candidates: tuple[str, ...] | None
    chat_template: Literal["auto", "off"]
    max_length: int
    truncation: Literal["end", "start", "error"]
    length_normalization: bool
    calibration: Literal["contextual"] | None
    offsets: dict[str, float] | None


def write(
    folder: Path,
    resolved: ResolvedSpec,
    base: LoadedBase,
    task: Task,
    example: Example,
    offsets: Sequence[float] | None,
    calibration: Calibration | None,
) -> None:
    """Put beside weights that `adapters.save` wrote what else it takes to use them.

    Args:
        folder: with the weights.
        resolved: the run that trained them.
        base: that they were trained on.
        task: of the run.
        example: any of its examples, to tell candidates that are the same for all.
        offsets: `scores_without_content`, where the run calibrates.
        calibration: of the task, where it has one.
    """
    from llmpred.engine.provenance import packages

    base.tokenizer.save_pretrained(folder)
    if calibration is not None:
        (folder / CALIBRATION).write_text(json.dumps({"calibration": calibration}), "utf-8")
    kept = Kept(
        key=resolved.key,
        train_key=resolved.train_key,
        dataset=resolved.dataset,
        base=resolved.base,
        spec=resolved.spec,
        hashes=resolved.hashes,
        versions=resolved.versions,
        kind=base.located.kind,
        packages=packages(),
        files={path.name: _hash(path) for path in _weights(folder)},
    )
    _write(folder / RUN, kept)
    spec = resolved.spec
    if spec.method.head != "label_scoring":
        return
    labels, settings = task.classes(spec.task), spec.task.model_dump()
    how = LabelScoring(
        task=task.name,
        base=resolved.base,
        **{name: settings[name] for name in LabelScoring.model_fields.keys() & settings.keys()},
        candidates=task.candidates(example, spec.task) if labels else None,
        length_normalization=bool(spec.method.length_normalization),
        calibration=spec.evaluation.calibration,
        offsets=None if offsets is None else dict(zip(labels or (), offsets, strict=True)),
    )
    _write(folder / LABEL_SCORING, how)


def read(folder: Path) -> Kept:
    """Return what a folder of kept weights says of its run. Nothing in it is trusted.

    Raises:
        SpecError: when `run.json` is not what `write` wrote, or was changed afterwards.
    """
    kept = _read(folder / RUN, Kept)
    resolved = ResolvedSpec(
        kept.spec, kept.hashes, kept.versions, kept.dataset, kept.base, counts={}, parameters=0
    )
    whole = {"evaluation", "weights"} <= kept.hashes.keys()
    if not whole or (resolved.key, resolved.train_key) != (kept.key, kept.train_key):
        law = "the run must be the one that its key names, but it is another: the file was changed"
        raise SpecError(Problem(law, str(folder / RUN), "Copy the folder again."))
    return kept


def read_label_scoring(folder: Path) -> LabelScoring:
    """Return how a folder says that its model is asked.

    Raises:
        SpecError: when the file does not hold that.
    """
    return _read(folder / LABEL_SCORING, LabelScoring)


def read_calibration(folder: Path, task: Task, spec: RunSpec) -> Calibration | None:
    """Return the calibration of a folder's task, checked; None if it has none.

    Raises:
        SpecError: when the file does not hold one that fits the run.
    """
    path = folder / CALIBRATION
    found = _read(path, Calibrated, CALIBRATION_LIMIT).calibration if path.exists() else None
    try:
        task.check_calibration(spec.task, spec.method.loss, found)
    except ValueError as error:
        law = f"{CALIBRATION} must be one of this run, but: {error}"
        raise SpecError(Problem(law, str(folder), "Copy the folder again.")) from error
    return found


def check_files(folder: Path, kept: Kept) -> None:
    """Check that the files of weights are those that were kept.

    Raises:
        SpecError: naming every one that is not there or was changed.
    """
    problems = []
    weights = {path.name for path in _weights(folder)}
    for name in sorted(weights | kept.files.keys()):
        if name not in weights:
            law = f"the folder of trained weights must hold {name}, but does not"
        elif name not in kept.files:
            law = f"the folder must hold the weights that were kept alone, but {name} is none"
        elif _hash(folder / name) != kept.files[name]:
            law = f"the weights must be those that were kept, but {name} was damaged or changed"
        else:
            continue
        problems.append(Problem(law, str(folder), "Copy the folder again."))
    if problems:
        raise SpecError(problems)


def _weights(folder: Path) -> list[Path]:
    others = [folder / name for name in (boosted.FILE, CALIBRATION)]
    return sorted([*folder.glob("*.safetensors"), *(path for path in others if path.exists())])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: Frozen) -> None:
    text = json.dumps(content.model_dump(mode="json"), ensure_ascii=False, indent=2)
    path.write_text(text + "\n", "utf-8")


def _read(path: Path, model: type[Content], limit: int = SIZE_LIMIT) -> Content:
    """Return the content of a JSON file that a stranger may have written."""
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        return model.model_validate(json.loads(path.read_text("utf-8")))
    except ValidationError as error:
        problems = from_pydantic(error, model, lambda at: f"{path}, {dotted(at)}")
        raise SpecError(problems.values()) from error
    except (OSError, ValueError, RecursionError) as error:
        law = f"{path.name} must be JSON that llmpred wrote, but: {error}"
        raise SpecError(Problem(law, str(path.parent), "Copy the folder again.")) from error
