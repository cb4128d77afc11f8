"""`Predictor`: a run's model, loaded to answer new inputs exactly as its evaluation did."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmpred.bases.locate import Located, locate
from llmpred.data.columns import CHECKS, sound
from llmpred.data.fields import Example, Field
from llmpred.data.rows import show
from llmpred.engine import boosted, imported, kept
from llmpred.errors import BaseError, DataError, Problem, SpecError, StorageError
from llmpred.methods import adapters
from llmpred.spec.run import BaseSpec, RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import LEVELS, Calibration, Prediction, Task, outputs_of
from llmpred.tasks.numeric.numbers import written
from llmpred.tasks.prompts import prompt_problems

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from llmpred.engine.boosted import Boosted
    from llmpred.engine.evaluate import Answered
    from llmpred.engine.models import LoadedBase
    from llmpred.ledger import Ledger

Device = Literal["auto", "cpu", "cuda"]
Input = str | Mapping[str, Any]

KEY = re.compile(r"[0-9a-f]{3,64}")
INSIDE = ("lora_adapter", "model", "head")  # where a run's folder has its weights


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one input.

    Attributes:
        label: the label; of multiple choice the text (or the letter) of the choice; the text itself
            where it was generated.
        confidence: probability of `label` among all that could have been answered; None where it
            was generated.
        scores: probability of each label, which sum to 1; empty where the answer was generated.
        log_scores: what evaluation stores of each: for label scoring the log-probability of its
            words, divided by their length or calibrated as the run says; for a classifier its
            log-probability.
        truncated: whether the input was too long, and lost tokens as the run says.
        counts: of task complexity: `mean` and `quantiles` at 10, 25, 50, 75 and 90 %, a `route`
            (direct, standard, deep) and the `type` of task. The label of a regression is the
            median.
        number: of task numeric: whether one is `due`, the `rank` and `probability` of `<NUM>`,
            `value` and `quantiles`. The label is the value where a number is due, else empty.
    """

    label: str
    confidence: float | None
    scores: dict[str, float]
    log_scores: dict[str, float]
    truncated: bool
    counts: dict[str, Any] | None = None
    number: dict[str, Any] | None = None


class Predictor:
    """A run's model, ready to answer.

    Attributes:
        spec: the settled run, carried out here.
        key: of the run; None for an adapter made elsewhere.
        notes: what a person should know about how it was loaded.
        task: of the run.
        fields: what an input consists of.
    """

    def __init__(
        self,
        model: nn.Module,
        base: LoadedBase,
        spec: RunSpec,
        *,
        key: str | None,
        notes: tuple[str, ...] = (),
        calibration: Calibration | None = None,
        boosters: Boosted | None = None,
    ) -> None:
        """Wrap a model that is loaded already; see `Predictor.load`.

        Args:
            model: the base with all that the run trained.
            base: that it was made of.
            spec: the settled run.
            key: of the run.
            notes: for people.
            calibration: of the task, where the run has one.
            boosters: what answers in place of a head, where the run trained them.
        """
        from llmpred.engine.evaluate import scores_without_content

        self.spec, self.key, self.notes = spec, key, notes
        self.task: Task = registry.get(spec.task.name)
        self.fields: tuple[Field, ...] = tuple(f for f in self.task.fields if f.role == "input")
        self._model, self._base = model, base
        self._how: dict[str, Any] = {"calibration": calibration, "boosters": boosters}
        self._without_content: tuple[float, ...] | None = None
        if spec.evaluation.calibration is not None:
            nothing: Example = {field.name: [] for field in self.fields if field.kind == "texts"}
            self._without_content = scores_without_content(model, base, self.task, spec, nothing)

    @classmethod
    def load(
        cls,
        path: str | Path,
        base: str | Path | None = None,
        device: Device = "auto",
        storage: str | Path | None = None,
        *,
        batch: int | None = None,
    ) -> Predictor:
        """Load a run's model.

        Args:
            path: a folder of kept weights, a run's folder that holds one, a PEFT
                adapter with a `label_scoring_meta.json`, or the key of a run (its first letters do)
                in a ledger; one that trained nothing needs no weights.
            base: where the base model lies, a folder or a hub id; default: where the run has it.
                A run that trained every weight needs none.
            device: where to run: `auto`, `cpu` or `cuda`.
            storage: root of the ledger; default LLMPRED_STORAGE, or ~/llmpred.
            batch: examples a forward pass; default: as in the run's evaluation.

        Raises:
            SpecError: when the folder, or the run in it, is not sound, or its weights do not fit.
            BaseError: when the base is not found, or is another model than the run had.
            StorageError: when there is no such run, or its weights were not kept.
        """
        from llmpred.engine.models import load_base

        with _opened(path, storage) as found:
            task = _checked(found)
            located = _located(found, base)
            changes = {
                "device": device,
                "eval_batch": batch or found.spec.execution.eval_batch,
                "distributed": None,
            }
            execution = found.spec.execution.model_copy(update=changes)
            spec = found.spec.model_copy(update={"execution": execution})
            loaded = load_base(located, spec, outputs_of(task, spec))
            # What is trained still requires gradients, as in evaluation: other kernels would run,
            # and sum in another order, if it did not.
            model = adapters.attach(loaded.model, spec.method, spec.seed)
            boosters = None
            if found.folder is None:  # nothing was trained, so there is nothing to calibrate on
                calibration = task.calibrate(spec.task, spec.method.loss, (), lambda: ((), ()))
            else:
                calibration = kept.read_calibration(found.folder, task, spec)
                if spec.method.head == "boosted":
                    boosters = boosted.read(found.folder)
                else:
                    adapters.load(model, spec.method, found.folder)
            if spec.evaluation.adapter_off:
                adapters.switch(model, on=False)
        return cls(
            model,
            loaded,
            spec,
            key=found.key,
            notes=_notes(found, task),
            calibration=calibration,
            boosters=boosters,
        )

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels, in their order; None where there are none, or each input brings its own."""
        if self.spec.method.head == "causal_lm":
            return None
        return self.task.class_names(self.spec.task)

    @property
    def measures(self) -> Literal["counts", "number"] | None:
        """What its answers have beside a label: counts (task complexity), or a number (numeric)."""
        return self.task.measures

    def predict(self, text: Input) -> Answer:
        """Answer one input: a text, or a mapping of the task's input fields.

        Raises:
            DataError: when it is not that, or does not fit (`task.truncation: error`).
            OutOfMemory: when memory does not hold it.
        """
        return self.answer([self.example(text)])[0]

    def predict_batch(self, texts: Sequence[Input]) -> list[Answer]:
        """Answer inputs, in their order. They pass the model sorted by length.

        Raises:
            DataError: with every input that is not a text, or a mapping of the fields.
        """
        if isinstance(texts, str | Mapping):
            law = "`predict_batch` takes a list of inputs, but got one"
            raise DataError(Problem(law, fix="Give it to `predict`, or put it in a list."))
        examples, problems = [], []
        for number, text in enumerate(texts):
            try:
                examples.append(self.example(text))
            except DataError as error:
                problems += [replace(p, where=f"input {number}") for p in error.problems]
        if problems:
            raise DataError(problems)
        return self.answer(examples)

    def example(self, given: Input) -> Example:
        """Return an input as an example of the task, checked.

        Raises:
            DataError: when it is none.
        """
        required = [field for field in self.fields if field.required]
        if isinstance(given, str) and len(required) == 1 and required[0].kind == "text":
            given = {required[0].name: given}
        names = [field.name for field in self.fields]
        if not isinstance(given, Mapping):
            wanted = "a text" if len(names) == 1 else f"a mapping of {', '.join(names)}"
            got = f"{show(given)} ({type(given).__name__})"
            law = f"an input of the task {self.task.name} must be {wanted}, but got {got}"
            raise DataError(Problem(law))
        problems = [
            Problem(f"an input has the fields {', '.join(names)}, but got {show(name)}")
            for name in given
            if name not in names
        ]
        row: Example = {}
        for field in self.fields:
            value = given.get(field.name)
            if value is None and not field.required:
                continue
            try:
                row[field.name] = _checked_value(field, value)
            except ValueError as error:
                got = f"{show(value)} ({type(value).__name__})"
                problems.append(Problem(f"`{field.name}` must be {error}, but got {got}"))
        if problems:
            raise DataError(problems)
        try:
            return self.task.parse(row)
        except ValueError as error:
            raise DataError(Problem(str(error))) from error
        except KeyError as error:
            law = f"the task {self.task.name} cannot read inputs without {error}"
            raise SpecError(Problem(law, fix="Its `parse` must do without targets.")) from error

    def answer(self, examples: Sequence[Example]) -> list[Answer]:
        """Answer what `example` made, in its order."""
        from llmpred.engine.evaluate import answer

        found = answer(
            self._model,
            self._base,
            self.task,
            self.spec,
            examples,
            without_content=self._without_content,
            **self._how,
        )
        return [
            _numbered(each)
            if self.measures == "number"
            else Answer(str(each.answer), None, {}, {}, each.truncated)
            if each.scores is None
            else self._counted(example, each)
            if self.measures == "counts"
            else _chosen(self._names(example), each.scores, each.truncated)
            for example, each in zip(examples, found, strict=True)
        ]

    def evaluate(self, table: pa.Table) -> tuple[list[Prediction], int]:
        """Answer labelled rows as an evaluation does.

        Args:
            table: examples of the task with their targets, as `llmpred.data.load` gives them.

        Returns:
            The predictions in the table's order, and how many inputs were truncated.
        """
        from llmpred.engine.evaluate import predict

        return predict(
            self._model,
            self._base,
            self.task,
            self.spec,
            table,
            without_content=self._without_content,
            **self._how,
        )

    def _counted(self, example: Example, each: Answered) -> Answer:
        """Return an answer in counts, with the shares of its labels where it has them."""
        assert each.scores is not None
        told = self.task.told(example, each.answer, self._how["calibration"])
        counts = {**each.answer, **told}
        names = self.task.class_names(self.spec.task)
        if names is None:
            median = counts["quantiles"][LEVELS.index(0.5)]
            return Answer(f"{median:.3g}", None, {}, {}, each.truncated, counts)
        return replace(_chosen(names, each.scores, each.truncated), counts=counts)

    def _names(self, example: Example) -> Sequence[str]:
        if self.labels is not None:
            return self.labels
        names = [text.strip() for text in self.task.candidates(example, self.spec.task) or ()]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            law = f"choices must differ, or an answer names none, but {show(twice)} comes twice"
            raise DataError(Problem(law))
        return names


def _numbered(each: Answered) -> Answer:
    """Return an answer of task numeric."""
    number: dict[str, Any] = each.answer
    due, sure = number["due"], number.get("probability")
    said = written(number["value"]) if due else ""
    confidence = None if sure is None else sure if due else 1 - sure
    return Answer(said, confidence, {}, {}, each.truncated, number=number)


def _chosen(names: Sequence[str], scores: Sequence[float], truncated: bool) -> Answer:
    """Return the answer with the highest score, the first of equals."""
    import numpy as np
    from scipy.special import softmax

    shares: list[float] = softmax(np.array(scores)).tolist()
    best = max(range(len(scores)), key=scores.__getitem__)
    return Answer(
        names[best],
        shares[best],
        dict(zip(names, shares, strict=True)),
        dict(zip(names, scores, strict=True)),
        truncated,
    )


def _checked_value(field: Field, value: Any) -> Any:
    """Return a value as readers of data do, but that a text may be empty."""
    if field.kind != "text" or isinstance(value, list):
        return CHECKS[field.kind](value)
    if not isinstance(value, str):
        raise ValueError("text")
    return sound(value)


# --- finding what to load ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A run whose model can be loaded.

    Attributes:
        spec: settled.
        where: for messages.
        key: of the run; None if it has none.
        weights_hash: of its base; None if it is not known.
        versions: semantics versions; none if they are not known.
        folder: of the trained weights; None for a run that trains nothing.
        kind: of the base; None if it is not known.
    """

    spec: RunSpec
    where: str
    key: str | None
    weights_hash: str | None
    versions: Mapping[str, int]
    folder: Path | None
    kind: Literal["causal", "encoder"] | None


@contextmanager
def _opened(path: str | Path, storage: str | Path | None) -> Iterator[_Found]:
    """Give the run that `path` names; what had to be copied for it goes when the body ends."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        yield _of_folder(folder)
    elif isinstance(path, str) and KEY.fullmatch(path):
        from llmpred.ledger import opened

        with tempfile.TemporaryDirectory(prefix="llmpred-") as scratch:
            yield _of_run(opened(storage), path, Path(scratch))
    else:
        law = f"a model is named by a folder of kept weights or by a run's key, but got {path}"
        fix = "There is no such folder. `llmpred ledger ls` shows the keys."
        raise SpecError(Problem(law, fix=fix))


def _of_folder(folder: Path) -> _Found:
    names = {path.name for path in folder.iterdir()}
    inside = [name for name in INSIDE if name in names]
    if kept.RUN not in names and imported.CONFIG not in names and inside:
        return _of_folder(folder / inside[0])
    _refuse_pickles(folder)
    if kept.RUN in names:
        run = kept.read(folder)
        kept.check_files(folder, run)
        weights = run.hashes["weights"]
        return _Found(run.spec, str(folder), run.key, weights, run.versions, folder, run.kind)
    if imported.CONFIG in names and kept.LABEL_SCORING in names:
        return _of_adapter(folder)
    law = f"the folder must hold {kept.RUN}, which says how its model is to be asked, but does not"
    fix = "Give a folder that llmpred kept (`llmpred finetune … --out`), or the key of a run."
    if imported.CONFIG in names:
        fix = (
            f"For an adapter made elsewhere write {kept.LABEL_SCORING}, or take it into a ledger "
            "(`llmpred ledger import --adapter`, with execution.keep: all) and give its key."
        )
    raise SpecError(Problem(law, str(folder), fix))


def _refuse_pickles(folder: Path) -> None:
    found = imported.pickles(folder)
    if found:
        law = f"a folder of weights must hold no pickles, but it holds {', '.join(found)}"
        fix = "Pickles can run code when loaded. Weights are read as safetensors alone."
        raise SpecError(Problem(law, str(folder), fix))


def _of_adapter(folder: Path) -> _Found:
    """Return the run that a PEFT adapter made elsewhere amounts to, asked as its folder says."""
    from llmpred.spec.run import DatasetSpec, EvaluationSpec, MethodSpec, OptimSpec, TaskSpec

    how = kept.read_label_scoring(folder)
    try:
        config = json.loads((folder / imported.CONFIG).read_text("utf-8"))
        targets = config["target_modules"]
        adapter = {
            "kind": "lora",
            "r": config["r"],
            "alpha": config["lora_alpha"],
            "use_rslora": config.get("use_rslora"),
            "target_modules": targets if isinstance(targets, str) else tuple(targets),
        }
        method = MethodSpec.model_validate(
            {
                "head": "label_scoring",
                "adapter": adapter,
                "length_normalization": how.length_normalization,
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        law = f"{imported.CONFIG} must describe a LoRA adapter by the names of its layers: {error}"
        raise SpecError(Problem(law, str(folder), "Save it again with PEFT.")) from error
    asked = {name: getattr(how, name) for name in TaskSpec.model_fields if hasattr(how, name)}
    # Of training and evaluation nothing is known, and nothing is asked.
    spec = RunSpec(
        task=TaskSpec(name=how.task, **asked),
        dataset=DatasetSpec(source="unknown"),
        base=BaseSpec(name=how.base),
        method=method,
        optim=OptimSpec(max_steps=1, precision="fp32"),
        evaluation=EvaluationSpec(holdout=0.5, calibration=how.calibration),
    )
    problems = imported.adapter_problems(folder, spec)
    if problems:
        raise SpecError(problems)
    return _Found(spec, str(folder), None, None, {}, folder, None)


def _of_run(ledger: Ledger, prefix: str, scratch: Path) -> _Found:
    from llmpred.ledger import DamagedFolder

    record = ledger.get(prefix)
    where = f"run {record.key[:10]} in {ledger.storage}"
    if record.spec is None:
        law = "only a run with a spec can be asked, but this one came from a table"
        raise StorageError(Problem(law, where))
    found = _Found(
        record.spec, where, record.key, record.hashes.get("weights"), record.versions, None, None
    )
    if not record.spec.trains:
        return found
    command = ledger.storage.hint(f"llmpred finetune {record.key[:10]}")
    again = f"`{command}` trains it once more and keeps them."
    if record.adapter is None:
        law = "a run must have kept its weights to be asked (execution.keep), but this one did not"
        raise StorageError(Problem(law, where, again))
    try:
        folder = ledger.storage.get_folder(record.adapter, scratch)
    except FileNotFoundError as error:
        law = f"the weights that the run kept must be in the storage, but {record.adapter} is gone"
        raise StorageError(Problem(law, where, again)) from error
    except DamagedFolder as error:
        raise StorageError([replace(p, fix=again) for p in error.problems]) from error
    _refuse_pickles(folder)
    kind = kept.read(folder).kind if (folder / kept.RUN).is_file() else None
    return replace(found, folder=folder, kind=kind)


def _checked(found: _Found) -> Task:
    """Return the task of a run that must be settled.

    Raises:
        SpecError: with all that is not, or does not fit the task.
    """
    spec = found.spec
    task = registry.get(spec.task.name)
    unsettled = {
        "task.language": spec.task.language == "auto",
        "task.prompt": spec.task.prompt is None,
        "method.head": spec.method.head not in task.heads,
        "optim.precision": spec.optim.precision == "auto",
        "evaluation.max_new_tokens": spec.method.head == "causal_lm"
        and spec.evaluation.max_new_tokens is None,
    }
    problems = [
        Problem(f"`{path}` of a run that is to be asked must be settled, but is not", found.where)
        for path, wrong in unsettled.items()
        if wrong
    ]
    problems += prompt_problems(spec.task.prompt or "", task.slot_names())
    problems += task.problems(spec.task, [])
    if problems:
        raise SpecError(problems)
    return task


def _located(found: _Found, given: str | Path | None) -> Located:
    """Return the base to load the weights on.

    Raises:
        BaseError: when it is not there, or another model than the run's.
    """
    if found.spec.method.adapter.kind == "full" and given is None and found.kind and found.folder:
        # It is whole in itself; of what kind a model with a classification head is, it cannot say.
        return replace(locate(BaseSpec(name=str(found.folder))), kind=found.kind)
    wanted = found.spec.base if given is None else BaseSpec(name=str(given))
    try:
        located = locate(wanted)
    except BaseError as error:
        where = "Say where the base lies with --base (in Python: `base`), or restore it."
        raise BaseError(
            [*error.problems, Problem(_trained_on(found), found.where, where)]
        ) from error
    if found.weights_hash not in (None, located.weights_hash):
        law = f"{_trained_on(found)}, but {wanted.name} is another model, or other weights of it"
        fix = "Give its folder or hub id with --base (in Python: `base`)."
        raise BaseError(Problem(law, found.where, fix))
    return located


def _trained_on(found: _Found) -> str:
    revision = f" ({found.spec.base.revision})" if found.spec.base.revision else ""
    verb = "was trained on" if found.spec.trains else "asks"
    return f"the run {verb} the base {found.spec.base.name}{revision}"


def _notes(found: _Found, task: Task) -> tuple[str, ...]:
    from llmpred.spec.versions import ENGINE_VERSION, METHOD_VERSIONS

    kind = found.spec.method.adapter.kind
    now = {"task": task.version, "method": METHOD_VERSIONS[kind], "engine": ENGINE_VERSION}
    return tuple(
        f"the run was made by version {found.versions[part]} of its {part}, and this is version "
        f"{version}: scores may differ from its evaluation's"
        for part, version in now.items()
        if found.versions.get(part, version) != version
    )
