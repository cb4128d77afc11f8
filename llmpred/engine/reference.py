"""The reference engine: transformers' Trainer for steps, checkpoints and resuming.

One "batch" of the Trainer's dataloader is the whole global batch of one optimizer step, which
`training_step` cuts into micro-batches. So the Trainer's step count is ours, a resumed run skips
exactly the steps it has done, and running out of memory only changes how a step is cut. Where
several processes carry out a run, each gets all global batches and takes its share of each.

A checkpoint is used only if all its files have the hashes that its marker, written last, names.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from llmpred.engine import numbers, parallel, semantics, sharded
from llmpred.engine.encoding import Encoded
from llmpred.engine.models import (
    Interrupted,
    LoadedBase,
    OutOfMemory,
    autocast,
    candidate_scores,
    forward,
    free_memory,
    in_batches,
    is_out_of_memory,
    pad,
)
from llmpred.errors import Problem, SpecError
from llmpred.methods.adapters import head_name, load_trainable, trainable
from llmpred.spec.canonical import digest
from llmpred.spec.run import RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import LEVELS

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
MARKER = "complete.json"  # written last: names and hashes of a checkpoint's files
WEIGHTS = "trainable.safetensors"
BEST = "best.safetensors"  # the weights of the lowest validation loss so far
OPTIMIZER, SCHEDULE = "optimizer", "scheduler.pt"  # of a model that FSDP2 splits
PROGRESS = "progress.json"  # what the Trainer does not keep: that loss, seconds, micro-batch
LOOKS = 10  # how often a run looks at its validation loss


@dataclass(frozen=True)
class Trained:
    """What training gave, besides the weights.

    Attributes:
        curve: one row an optimizer step, those before a resumed checkpoint included: step, loss,
            lr, grad_norm. The loss is the mean per target token (per example for classifiers), the
            gradient norm is the one before clipping.
        seconds: of wall time, those before a resumed checkpoint included.
    """

    curve: list[dict[str, float]]
    seconds: float


def train(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    examples: Sequence[Encoded],
    validation: Sequence[Encoded],
    folder: Path,
    *,
    stop: Callable[[], str | None] = lambda: None,
    saved: Callable[[], None] = lambda: None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_at: Collection[int] = (),
    gradients: Callable[[], None] = lambda: None,
    until: int | None = None,
) -> Trained:
    """Train `model` in place; its weights are then those that `evaluation.select` asks for.

    With `until` they are those after that step, and `folder` holds a checkpoint that a later call
    goes on from, to the same end as if there had been one call only.

    Training ends early at a step whose loss or gradient norm is not finite.

    Args:
        model: with exactly the weights to train requiring gradients.
        base: for its tokenizer and device.
        spec: the settled run.
        examples: encoded training examples.
        validation: encoded validation examples; needed for `select: best_on_validation` and for
            reports.
        folder: for checkpoints; a sound one in it is continued from if `execution.resume` says so,
            all others in it are removed.
        stop: asked after each step; a reason stops the run after a checkpoint.
        saved: called after each checkpoint; the last step makes one too.
        report: told the validation loss after the steps in `report_at`; what it raises ends the
            run at once. Reports never change the run.
        report_at: steps, counted from 1.
        gradients: called after each step's backward pass, before clipping; may read the gradients
            and changes nothing.
        until: the last step to take, counted from 1.

    Raises:
        Interrupted: when `stop` gave a reason.
        OutOfMemory: when one example does not fit.
    """
    if spec.method.class_weights is not None:
        examples, validation = _weighted(examples, spec, examples, validation)
    steps = semantics.total_steps(spec.optim, len(examples))
    lengths = [example.length for example in examples]
    order = itertools.islice(semantics.batches(lengths, spec.optim.batch_size, spec.seed), steps)
    batches = [[examples[i] for i in batch] for batch in order]

    every = spec.execution.checkpoints.every
    parallel.prepare_deepspeed(spec)
    zero = parallel.deepspeed_config(spec)
    parallel.split(model, base, spec)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        max_steps=steps,
        max_grad_norm=spec.optim.grad_clip or (0.0 if zero else math.inf),
        deepspeed=zero,
        ddp_find_unused_parameters=False,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if every else "no",
        save_steps=every or steps + 1,
        use_cpu=base.device.type == "cpu",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        activation_checkpointing=spec.execution.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
    )
    watch = _Watch(stop, saved, until)
    trainer = _StepTrainer(
        model=model,
        args=arguments,
        train_dataset=batches,
        callbacks=[watch],
    )
    # As if transformers had split it itself: to be wrapped by nothing.
    trainer.is_distributed_loading_by_transformers = parallel.by_fsdp(spec)
    trainer.remove_callback(PrinterCallback)
    trainer.prepare(base, spec, len(examples), validation, steps, report, report_at, gradients)
    resume = parallel.agreed(_resumed(folder, spec))
    if parallel.first():
        _clear(folder, keep=resume)
    parallel.barrier()
    if resume:
        trainer.go_on_from(resume)
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        if spec.execution.activation_checkpointing:
            base.model.activation_checkpointing_disable()
            base.model.disable_input_require_grads()  # a hook that PEFT sets beside it
    if watch.reason and trainer.state.global_step < steps:
        raise Interrupted(watch.reason)
    if until is None:
        trainer.use_selected()
    curve = [
        {
            "step": float(row["step"]),
            "loss": float(row["loss"]),
            "lr": float(row["learning_rate"]),
            "grad_norm": float(row["grad_norm"]),
        }
        for row in trainer.state.log_history
        if "loss" in row
    ]
    return Trained(curve, trainer.seconds())


def validation_loss(
    model: nn.Module, base: LoadedBase, spec: RunSpec, examples: Sequence[Encoded], size: int
) -> float:
    """Return the mean loss per target token (per example for classifiers), without dropout."""
    model.eval()
    ordered = sorted(examples, key=lambda example: example.length)
    count = sum(_loss_units(e, spec) for e in ordered)
    together = parallel.splits_weights(spec)
    mine = ordered if together else parallel.share(ordered)

    def run(batch: Sequence[Encoded]) -> Sequence[float]:
        return [float(micro_loss(model, base, spec, batch, count))]

    with parallel.without_gradients():
        total = sum(in_batches(mine, size, run, together=together))
    return total if together else sum(parallel.gathered(total))


def micro_loss(
    model: nn.Module, base: LoadedBase, spec: RunSpec, batch: Sequence[Encoded], count: float
) -> torch.Tensor:
    """Return a micro-batch's share of the global batch's mean loss; `count` as in semantics."""
    weights = None
    if spec.method.class_weights is not None:
        weights = torch.tensor([e.weight for e in batch], device=base.device)
    with autocast(spec.optim.precision, base.device):
        if spec.method.reads_numbers:
            return numbers.loss(model, base, spec, batch, count)
        if spec.method.loss == "number_token":
            return numbers.digits_loss(model, base, batch, count)
        if spec.method.head == "classifier":
            logits = forward(model, base, [e.prompt for e in batch], None)
            return _head_loss(logits, spec.method.loss, batch, count, weights)
        if spec.method.loss == "candidates":
            scores = candidate_scores(
                model,
                base,
                [e.prompt for e in batch],
                [e.candidates for e in batch],
                length_normalization=spec.method.length_normalization,
            )
            return semantics.candidate_loss(scores, [e.label for e in batch], count, weights)
        longest = max(len(e.target) for e in batch)
        # The last token of a target predicts nothing that is taught.
        logits = forward(model, base, [[*e.prompt, *e.target[:-1]] for e in batch], longest)
        labels = pad([e.target for e in batch], semantics.IGNORED, "left", logits.device)
        return semantics.token_loss(logits, labels, count, weights)


def _head_loss(
    outputs: torch.Tensor,
    loss: str | None,
    batch: Sequence[Encoded],
    count: float,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return a micro-batch's share of the loss of a head of its own."""
    if loss in ("mse", "pinball"):
        values = torch.tensor([e.value for e in batch], device=outputs.device)
        if loss == "mse":
            return semantics.value_loss(outputs, values, count)
        return semantics.quantile_loss(outputs, values, LEVELS, count)
    labels = torch.tensor([e.label for e in batch], device=outputs.device)
    by_class = semantics.ordinal_loss if loss == "ordinal" else semantics.class_loss
    return by_class(outputs, labels, count, weights)


def _resumed(folder: Path, spec: RunSpec) -> Path | None:
    """Return the checkpoint to continue from: sound, and split among processes as this run is."""
    if spec.execution.resume not in ("auto", "none"):
        return _named_checkpoint(Path(spec.execution.resume), spec)
    newest = newest_checkpoint(folder) if spec.execution.resume == "auto" else None
    if newest is None:
        return None
    split = json.loads((newest / PROGRESS).read_text()).get("split", parallel.name(None))
    return newest if split == parallel.name(spec.execution.distributed) else None


def _named_checkpoint(checkpoint: Path, spec: RunSpec) -> Path:
    """Return the checkpoint that `execution.resume` names.

    Raises:
        SpecError: if it is no sound checkpoint of this very run.
    """
    where, fix = "execution.resume", "Set it to auto to go on from this run's newest checkpoint."
    if not _is_sound(checkpoint):
        law = f"`resume` must name a whole checkpoint, but {checkpoint} is none"
        raise SpecError(Problem(law, where, fix))
    progress = json.loads((checkpoint / PROGRESS).read_text())
    if progress.get("run") != _what_trains(spec):
        law = f"`resume` must name a checkpoint of the same run, but {checkpoint} is of another"
        raise SpecError(Problem(law, where, fix))
    if progress.get("split") != parallel.name(spec.execution.distributed):
        law = f"{checkpoint} is of a run by other processes, or another strategy of sharing it"
        raise SpecError(Problem(law, where, "Take as many processes and the same strategy."))
    return checkpoint


def _what_trains(spec: RunSpec) -> str:
    """Return a hash of what a run trains, so far as its spec says."""
    return digest(spec.model_dump(mode="json", exclude={"execution": True, "evaluation": True}))


def where_it_stands(folder: Path, spec: RunSpec) -> str:
    """Say where a run in `folder` will go on, and why not later; nothing if it only begins."""
    there, resumed = _checkpoints(folder), _resumed(folder, spec)
    steps = [_step(path) for path in there]
    begin = _step(resumed) if resumed else 0
    said = f"went on from step {begin}" if resumed else "began anew" if there else ""
    lost = [step for step in steps if step > begin]
    if lost and not _is_sound(there[-1]):
        said += f", as the checkpoint of step {lost[-1]} is damaged"
    return said


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files all have the hashes that its marker names."""
    return next((path for path in reversed(_checkpoints(folder)) if _is_sound(path)), None)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, oldest first."""
    found = [p for p in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(p.name)]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _is_sound(checkpoint: Path) -> bool:
    if not CHECKPOINT.fullmatch(checkpoint.name):
        return False
    try:
        files = json.loads((checkpoint / MARKER).read_text())
        return bool(files) and all(_sha256(checkpoint / n) == h for n, h in files.items())
    except (OSError, ValueError, AttributeError):
        return False  # torn or unfinished: the next older one is tried


def _clear(folder: Path, keep: Path | None) -> None:
    """Remove checkpoints newer than the one a run continues, and the best weights after it."""
    done = -1 if keep is None else _step(keep)
    for path in _checkpoints(folder):
        if _step(path) > done:
            shutil.rmtree(path)
    (folder / BEST).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weighted(
    trained: Sequence[Encoded], spec: RunSpec, *parts: Sequence[Encoded]
) -> list[list[Encoded]]:
    """Return examples with the weights of their classes, by how often those are trained on."""
    assert spec.method.class_weights is not None
    names = registry.get(spec.task.name).class_names(spec.task)
    assert names is not None  # settled, and checked by `resolve`
    weights = semantics.class_weights([e.label for e in trained], names, spec.method.class_weights)
    return [[replace(e, weight=weights[e.label]) for e in part] for part in parts]


def _loss_units(example: Encoded, spec: RunSpec) -> float:
    counted = spec.method.head == "classifier" or spec.method.loss == "candidates"
    units = 1 if counted else len(example.target)
    return units if spec.method.class_weights is None else units * example.weight


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Stops a run that was asked to stop, or whose loss is no longer a number."""

    def __init__(
        self, stop: Callable[[], str | None], saved: Callable[[], None], until: int | None
    ) -> None:
        self.stop = stop
        self.saved = saved
        self.until = until
        self.reason: str | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.reason = self.stop()
        if self.reason and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        if state.global_step == self.until:
            control.should_save = True
            control.should_training_stop = True
        if state.global_step == state.max_steps:
            control.should_save = True  # should the evaluation fail, the training is not lost

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self.saved()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        if "loss" in logs and not semantics.finite(logs):
            control.should_training_stop = True
            control.should_save = False  # or a resumed run would take one step more


class _StepTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose every batch is one whole optimizer step."""

    optimizer: Any
    lr_scheduler: Any

    def prepare(
        self,
        base: LoadedBase,
        spec: RunSpec,
        examples: int,
        validation: Sequence[Encoded],
        steps: int,
        report: Callable[[int, float], None],
        report_at: Collection[int],
        gradients: Callable[[], None],
    ) -> None:
        """Take what the Trainer does not know of; to be called before `train`."""
        self.base = base
        self.spec = spec
        self.examples = examples
        self.validation = validation
        self.micro_batch = spec.execution.micro_batch
        self.report = report
        self.report_at = set(report_at)
        self.gradients = gradients
        self.best_loss = math.inf
        self.started = time.time()
        self.looks: set[int] = set()
        if spec.evaluation.select == "best_on_validation":
            # Spread over the run, the last one at its end.
            self.looks = {max(1, round(steps * k / LOOKS)) for k in range(1, LOOKS + 1)}

    def seconds(self) -> float:
        """Return how long the run has trained, in earlier processes too."""
        return time.time() - self.started

    # DeepSpeed asks for both anew, so they cannot be handed in.

    def create_optimizer(self, model: nn.Module | None = None) -> Any:
        self.optimizer = self.optimizer or semantics.optimizer(self.model, self.spec.optim)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        self.lr_scheduler = self.lr_scheduler or semantics.scheduler(
            self.optimizer if optimizer is None else optimizer, self.spec.optim, self.examples
        )
        return self.lr_scheduler

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Leave it where it was loaded to, or split."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        model.train()
        while True:
            semantics.seed_step(self.spec.seed, self.state.global_step, parallel.rank())
            try:
                loss = self._accumulate(model, inputs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.micro_batch == 1 or parallel.size() > 1:  # the others are within this pass
                    raise OutOfMemory("memory does not hold one training example") from error
            else:
                self._hold_back(model)
                self.gradients()
                return loss
            # Here the exception no longer holds the tensors of the failed pass.
            self.micro_batch = min(self.micro_batch, len(inputs)) // 2 or 1
            model.zero_grad()
            free_memory()

    def _hold_back(self, model: nn.Module) -> None:
        """Leave all but the head as it is, where the stage of this step says so.

        Without a gradient the optimizer passes a weight by, and clipping does not count it.
        """
        step = self.state.global_step
        if semantics.trains_head_alone(self.spec.optim, self.examples, step):
            head = getattr(self.base.model, head_name(self.base.model))
            own = {id(weight) for weight in head.parameters()}
            for weight in model.parameters():
                if id(weight) not in own:
                    weight.grad = None

    def _accumulate(self, model: nn.Module, batch: Sequence[Encoded]) -> torch.Tensor:
        count = sum(_loss_units(e, self.spec) for e in batch)
        total = torch.zeros((), device=self.base.device)
        cut = list(parallel.micro_batches(batch, self.micro_batch))
        for k, (micro, counts) in enumerate(cut, start=1):
            with self._step_ends(model, k == len(cut)):
                loss = micro_loss(model, self.base, self.spec, micro, count)
                # Gradients, and the losses that are logged, are averaged over the processes.
                loss = loss * (parallel.size() if counts else 0.0)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _step_ends(self, model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Say whether processes exchange gradients after this micro-batch.

        FSDP2 always does: to wait for the last one, each would have to hold the whole of them.
        """
        if self.is_deepspeed_enabled:
            self.accelerator.gradient_state._set_sync_gradients(last)
        elif parallel.size() > 1 and not last and not parallel.by_fsdp(self.spec):
            held: contextlib.AbstractContextManager[Any] = self.accelerator.no_sync(model)
            return held
        return contextlib.nullcontext()

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the Trainer would read tensors that our batches do not have

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        step = self.state.global_step
        if step in self.looks | self.report_at:
            loss = validation_loss(
                self.model, self.base, self.spec, self.validation, self.micro_batch
            )
            loss = parallel.agreed(loss)  # all must save, or none; GPUs of two kinds may differ
            if step in self.looks and loss < self.best_loss:
                self.best_loss = loss
                self._write_weights(Path(self.args.output_dir) / BEST)
            if step in self.report_at:
                self.report(step, loss)
            self.looks.discard(step)  # the Trainer comes here once more at the end of its epoch
            self.report_at.discard(step)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def use_selected(self) -> None:
        """Put the weights of the lowest validation loss back, if they were asked for."""
        if self.best_loss < math.inf:
            self._read_weights(Path(self.args.output_dir) / BEST)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        assert output_dir is not None
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_weights(folder / WEIGHTS)
        if not parallel.first():
            return
        progress = {
            "seconds": self.seconds(),
            "micro_batch": self.micro_batch,
            "split": parallel.name(self.spec.execution.distributed),
            "run": _what_trains(self.spec),
        }
        if self.best_loss < math.inf:
            shutil.copyfile(Path(self.args.output_dir) / BEST, folder / BEST)
            progress["best_loss"] = self.best_loss
        (folder / PROGRESS).write_text(json.dumps(progress))

    def _write_weights(self, path: Path) -> None:
        with parallel.whole(self.model, self.spec):
            if parallel.first():
                save_file({n: w.cpu().contiguous() for n, w in trainable(self.model).items()}, path)

    def _read_weights(self, path: Path) -> None:
        weights = parallel.agreed(load_file(path) if parallel.first() else {})
        with parallel.whole(self.model, self.spec, write=True):
            load_trainable(self.model, weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not parallel.by_fsdp(self.spec):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        sharded.save_optimizer(self.model, self._own_optimizer(), Path(output_dir) / OPTIMIZER)
        if parallel.first():
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not parallel.by_fsdp(self.spec):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        sharded.load_optimizer(self.model, self._own_optimizer(), Path(checkpoint) / OPTIMIZER)
        schedule = torch.load(Path(checkpoint) / SCHEDULE, weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)

    def _own_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer without what accelerate put around it."""
        own: torch.optim.Optimizer = self.optimizer.optimizer
        return own

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        parallel.barrier()
        if parallel.first():
            self._seal()
        parallel.barrier()

    def _seal(self) -> None:
        """Write the marker of the newest checkpoint, and remove the oldest."""
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        files = {
            str(p.relative_to(newest)): _sha256(p)
            for p in newest.rglob("*")
            if p.is_file() and p.name != MARKER
        }
        scratch = newest / f"{MARKER}.part"
        scratch.write_text(json.dumps(files))
        scratch.replace(newest / MARKER)
        for old in _checkpoints(folder)[: -self.spec.execution.checkpoints.keep]:
            shutil.rmtree(old)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        self._read_weights(Path(resume_from_checkpoint) / WEIGHTS)

    def go_on_from(self, checkpoint: Path) -> None:
        """Take what a checkpoint keeps besides what the Trainer reads from it."""
        progress = json.loads((checkpoint / PROGRESS).read_text())
        self.started -= progress["seconds"]
        self.micro_batch = min(self.micro_batch, progress["micro_batch"])
        if "best_loss" in progress:
            self.best_loss = progress["best_loss"]
            if parallel.first():
                shutil.copyfile(checkpoint / BEST, Path(self.args.output_dir) / BEST)


def _only(batch: list[Any]) -> Any:
    return batch[0]
