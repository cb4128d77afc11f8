"""The reference engine: one process, transformers' Trainer for steps, checkpoints and resuming.

One "batch" of the Trainer's dataloader is the whole global batch of one optimizer step, which
`training_step` cuts into micro-batches. So the Trainer's step count is ours, a resumed run skips
exactly the steps it has done, and running out of memory only changes how a step is cut.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from llmpred.engine import semantics
from llmpred.engine.encoding import Encoded
from llmpred.engine.models import (
    LoadedBase,
    OutOfMemory,
    autocast,
    forward,
    free_memory,
    is_out_of_memory,
)
from llmpred.errors import LlmpredError
from llmpred.methods.adapters import load_trainable, trainable
from llmpred.spec.run import RunSpec

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

MARKER = "complete.json"  # written last: names and hashes of a checkpoint's files
WEIGHTS = "trainable.safetensors"
BEST = "best.safetensors"


class Interrupted(LlmpredError):
    """A run was asked to stop; its state is in a checkpoint."""


def train(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    examples: Sequence[Encoded],
    validation: Sequence[Encoded],
    folder: Path,
    *,
    stop: Callable[[], str | None] = lambda: None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_at: Collection[int] = (),
) -> list[dict[str, float]]:
    """Train `model` in place and return its loss curve: step, loss, lr, grad_norm.

    The curve holds every optimizer step, those before a resumed checkpoint included; the loss is
    per target token (per example for classifiers), the gradient norm is the one before clipping.

    Args:
        model: with exactly the weights to train requiring gradients.
        base: for its tokenizer and device.
        spec: the settled run.
        examples: encoded training examples.
        validation: encoded validation examples; needed for `select: best_on_validation`.
        folder: for checkpoints; a sound one in it is continued from if `execution.resume` says so.
        stop: asked after each step; a reason stops the run after a checkpoint.
        report: told the validation loss after the steps in `report_at`; what it raises ends the
            run at once. Reports never change the run.

    Raises:
        Interrupted: when `stop` gave a reason.
        OutOfMemory: when one example does not fit.
    """
    steps = semantics.total_steps(spec.optim, len(examples))
    lengths = [len(e.prompt) + len(e.target) for e in examples]
    order = itertools.islice(semantics.batches(lengths, spec.optim.batch_size, spec.seed), steps)
    batches = [[examples[i] for i in batch] for batch in order]

    optimizer = semantics.optimizer(model, spec.optim)
    checkpoints = spec.execution.checkpoints
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        max_steps=steps,
        max_grad_norm=spec.optim.grad_clip or math.inf,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if checkpoints.every else "no",
        save_steps=checkpoints.every or steps + 1,
        seed=spec.seed,
        use_cpu=base.device.type == "cpu",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        activation_checkpointing=spec.execution.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
    )
    if spec.execution.activation_checkpointing:
        model.enable_input_require_grads()  # type: ignore[operator]
    watch = _Watch(stop)
    trainer = _StepTrainer(
        model=model,
        args=arguments,
        train_dataset=batches,
        optimizers=(optimizer, semantics.scheduler(optimizer, spec.optim, steps)),
        callbacks=[watch],
    )
    trainer.remove_callback(_printer())
    trainer.prepare(base, spec, validation, steps, report, report_at)
    resume = newest_checkpoint(folder) if spec.execution.resume == "auto" else None
    semantics.seed_everything(spec.seed)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if watch.reason and trainer.state.global_step < steps:
        raise Interrupted(watch.reason)
    trainer.use_best()
    return [
        {
            "step": float(row["step"]),
            "loss": float(row["loss"]),
            "lr": float(row["learning_rate"]),
            "grad_norm": float(row.get("grad_norm", math.nan)),
        }
        for row in trainer.state.log_history
        if "loss" in row
    ]


def validation_loss(
    model: nn.Module, base: LoadedBase, spec: RunSpec, examples: Sequence[Encoded], size: int
) -> float:
    """Return the mean loss per target token (per example for classifiers), without dropout."""
    model.eval()
    ordered = sorted(examples, key=lambda e: len(e.prompt) + len(e.target))
    count = sum(_loss_units(e, spec) for e in ordered)
    with torch.inference_mode():
        total = sum(
            float(micro_loss(model, base, spec, ordered[i : i + size], count))
            for i in range(0, len(ordered), size)
        )
    return total


def micro_loss(
    model: nn.Module, base: LoadedBase, spec: RunSpec, batch: Sequence[Encoded], count: int
) -> torch.Tensor:
    """Return a micro-batch's share of the global batch's mean loss; `count` as in semantics."""
    with autocast(spec.optim.precision, base.device):
        if spec.method.head == "classifier":
            logits = forward(model, base, [e.prompt for e in batch], None)
            labels = torch.tensor([e.label for e in batch], device=logits.device)
            return semantics.class_loss(logits, labels, count)
        longest = max(len(e.target) for e in batch)
        logits = forward(model, base, [[*e.prompt, *e.target] for e in batch], longest + 1)
        labels = torch.tensor(
            [[semantics.IGNORED] * (longest + 1 - len(e.target)) + e.target for e in batch],
            device=logits.device,
        )
        return semantics.token_loss(logits, labels, count)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files all have the hashes that its marker names."""
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True
    )
    return next((path for path in found if _is_sound(path)), None)


def _is_sound(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / MARKER).read_text())
        return bool(files) and all(_sha256(checkpoint / n) == h for n, h in files.items())
    except (OSError, ValueError):
        return False  # torn or unfinished: the next older one is tried


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _loss_units(example: Encoded, spec: RunSpec) -> int:
    return 1 if spec.method.head == "classifier" else len(example.target)


def _printer() -> type[TrainerCallback]:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Stops a run that was asked to stop, or whose loss is no longer a number."""

    def __init__(self, stop: Callable[[], str | None]) -> None:
        self.stop = stop
        self.reason: str | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.reason = self.stop()
        if self.reason and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs and not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm")):
            control.should_training_stop = True


class _StepTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose every batch is one whole optimizer step."""

    def prepare(
        self,
        base: LoadedBase,
        spec: RunSpec,
        validation: Sequence[Encoded],
        steps: int,
        report: Callable[[int, float], None],
        report_at: Collection[int],
    ) -> None:
        self.base = base
        self.spec = spec
        self.validation = validation
        self.micro_batch = spec.execution.micro_batch
        self.best_loss = math.inf
        self.report = report
        self.report_at = set(report_at)
        self.looks: set[int] = set()
        if spec.evaluation.select == "best_on_validation":
            # Ten looks over the run, the last one at its end.
            self.looks = {max(1, round(steps * k / 10)) for k in range(1, 11)}

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        model.train()
        while True:
            try:
                return self._accumulate(model, inputs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.micro_batch == 1:
                    raise OutOfMemory("memory does not hold one training example") from error
            self.micro_batch = max(1, self.micro_batch // 2)
            model.zero_grad()
            free_memory()

    def _accumulate(self, model: nn.Module, batch: Sequence[Encoded]) -> torch.Tensor:
        count = sum(_loss_units(e, self.spec) for e in batch)
        total = torch.zeros((), device=self.base.device)
        for start in range(0, len(batch), self.micro_batch):
            micro = batch[start : start + self.micro_batch]
            loss = micro_loss(model, self.base, self.spec, micro, count)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the Trainer would read tensors that our batches do not have

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        step = self.state.global_step
        if step in self.looks | self.report_at:
            loss = validation_loss(
                self.model, self.base, self.spec, self.validation, self.micro_batch
            )
            if step in self.looks and loss < self.best_loss:
                self.best_loss = loss
                self._write_weights(Path(self.args.output_dir) / BEST)
            if step in self.report_at:
                self.report(step, loss)
            self.looks.discard(step)
            self.report_at.discard(step)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def use_best(self) -> None:
        """Put the weights of the lowest validation loss back, if they were asked for."""
        best = Path(self.args.output_dir) / BEST
        if self.spec.evaluation.select == "best_on_validation" and best.exists():
            load_trainable(self.model, load_file(best))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        self._write_weights(Path(output_dir) / WEIGHTS)
        best = Path(self.args.output_dir) / BEST
        if best.exists():
            shutil.copyfile(best, Path(output_dir) / BEST)
            (Path(output_dir) / "best.json").write_text(json.dumps(self.best_loss))

    def _write_weights(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({n: w.cpu().contiguous() for n, w in trainable(self.model).items()}, path)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        files = {p.name: _sha256(p) for p in newest.iterdir() if p.is_file() and p.name != MARKER}
        scratch = newest / f"{MARKER}.part"
        scratch.write_text(json.dumps(files))
        scratch.replace(newest / MARKER)
        kept = self.spec.execution.checkpoints.keep
        found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        for old in found[:-kept]:
            shutil.rmtree(old)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        folder = Path(resume_from_checkpoint)
        load_trainable(self.model, load_file(folder / WEIGHTS))
        if (folder / BEST).exists():
            shutil.copyfile(folder / BEST, Path(self.args.output_dir) / BEST)
            self.best_loss = json.loads((folder / "best.json").read_text())


def _only(batch: list[Any]) -> Any:
    return batch[0]
