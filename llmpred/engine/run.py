"""Carry out one run: load, train, evaluate, and say what came out as a RunRecord."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from llmpred.bases.resolve import ResolvedSpec
from llmpred.engine import boosted, kept, parallel, provenance, semantics
from llmpred.engine.encoding import Encoded, encode
from llmpred.engine.evaluate import calibration_of, predict, scores_without_content
from llmpred.engine.models import LoadedBase, LoadedBases
from llmpred.errors import DataError, Problem
from llmpred.ledger.record import RunRecord, Status
from llmpred.methods import adapters
from llmpred.spec.canonical import canonical_json
from llmpred.spec.run import RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Calibration, Prediction, outputs_of
from llmpred.tasks.prepare import Examples, Prepared, prepare


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        record: sealed by the ledger when it is put there.
        predictions: one row an evaluation example: id, target, prediction, scores, lengths.
        adapter: folder with the trained weights, if they were kept.
    """

    record: RunRecord
    predictions: pa.Table
    adapter: Path | None


def execute(
    resolved: ResolvedSpec,
    bases: LoadedBases,
    folder: Path,
    *,
    cache: Path | None = None,
    trained: Path | None = None,
    keep_adapter: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    saved: Callable[[], None] = lambda: None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_at: Collection[int] = (),
) -> Outcome:
    """Carry out a run in this process, or this process's part of one that several carry out.

    Of several all return the same outcome; the first one writes the files and is asked to stop.

    Args:
        resolved: what to run.
        bases: loaded bases of this process; the base of this run is left in it.
        folder: for checkpoints and the adapter; a sound checkpoint in it is continued.
        cache: where prepared data is kept.
        trained: a folder that `adapters.save` wrote for the same train_key: evaluate, do not train.
        keep_adapter: save the trained weights into `folder`/adapter, with all that `kept.write`
            adds, unless the run diverged.
        stop: asked after each optimizer step and each batch of the evaluation (not where several
            processes share it out); a reason interrupts the run, after a checkpoint.
        saved: called after each checkpoint in `folder`; the last step makes one too.
        report: told the validation loss after the optimizer steps in `report_at`; what it raises
            ends the run.
        report_at: steps, counted from 1.

    Raises:
        BaseError, DataError: when base or data are no longer those that were resolved.
        Interrupted: when `stop` gave a reason.
        OutOfMemory: when one example does not fit in memory.
    """
    started = time.time()
    seconds: dict[str, float] = {}
    spec = resolved.spec
    parallel.check(spec)
    reset_peak_memory()
    with timed(seconds, "load"):
        splits = spec.trains and trained is None and parallel.splits_weights(spec)
        prepared, base = load(resolved, bases, cache, split=splits)
    task, rows = prepared.task, Examples(prepared.evaluation)
    counts = dict(resolved.counts)
    tokens: dict[str, int] = {}
    curve: list[dict[str, float]] = []
    predictions: list[Prediction] = []
    adapter = without_content = None
    boosters: boosted.Boosted | None = None
    calibration: Calibration | None = None
    try:
        with adapters.attached(base.model, spec.method, spec.seed) as model:
            trainable = sum(weight.numel() for weight in adapters.trainable(model).values())
            if spec.method.head == "boosted":
                with timed(seconds, "train"):
                    boosters = (
                        boosted.read(trained)
                        if trained is not None
                        else boosted.train(
                            base,
                            task,
                            spec,
                            Examples(prepared.train),
                            lambda: parallel.by_first(stop),
                        )
                    )
            elif trained is not None:
                adapters.load(model, spec.method, trained)
            elif spec.trains:
                from llmpred.engine import reference

                train, validation = (
                    encode(Examples(table), task, spec, base.tokenizer, training=True)
                    for table in (prepared.train, prepared.validation)
                )
                counts["train_truncated"] = sum(e.truncated for e in train)
                came_out = reference.train(
                    model,
                    base,
                    spec,
                    train,
                    validation,
                    folder,
                    stop=lambda: parallel.by_first(stop),
                    saved=lambda: parallel.by_first(saved),
                    report=lambda step, loss: parallel.by_first(lambda: report(step, loss)),
                    report_at=report_at,
                )
                curve, seconds["train"] = came_out.curve, came_out.seconds
                tokens = _count_tokens(train, spec, len(curve))
            if all(map(semantics.finite, curve)):

                def asked_to_stop() -> str | None:
                    # Processes with other shares have other batches: none would wait for all.
                    together = splits or parallel.size() == 1
                    return parallel.by_first(stop) if together else None

                off = spec.evaluation.adapter_off
                scored = adapters.switched_off(model) if off else nullcontext()
                with timed(seconds, "evaluate"), scored:
                    if spec.evaluation.calibration is not None and rows:
                        without_content = scores_without_content(model, base, task, spec, rows[0])
                    calibration = calibration_of(
                        model,
                        base,
                        prepared,
                        spec,
                        asked_to_stop,
                        together=splits,
                        boosters=boosters,
                    )
                    predictions, truncated = predict(
                        model,
                        base,
                        task,
                        spec,
                        prepared.evaluation,
                        asked_to_stop,
                        together=splits,
                        without_content=without_content,
                        calibration=calibration,
                        boosters=boosters,
                    )
                counts["evaluation_truncated"] = truncated
            status: Status = "diverged" if semantics.diverged(curve) else "ok"
            if keep_adapter and spec.trains and status == "ok":
                adapter = folder / "adapter"
                with parallel.whole(model, spec):
                    if parallel.first():
                        if boosters is not None:
                            boosters.save(adapter)
                        else:
                            adapters.save(model, spec.method, adapter)
                        kept.write(
                            adapter, resolved, base, task, rows[0], without_content, calibration
                        )
                parallel.barrier()
            memory = max(parallel.gathered(peak_memory(base.device.type) or 0)) or None
    finally:
        if spec.method.adapter.kind == "full" or spec.execution.distributed:
            bases.drop()  # its weights are no longer those of the base, or no longer whole

    metrics: dict[str, float | None] = {}
    if predictions:
        metrics.update(registry.score(task, spec.task, predictions, spec.evaluation.metrics))
    seconds["total"] = time.time() - started
    record = RunRecord(
        key=resolved.key,
        train_key=resolved.train_key,
        dataset=resolved.dataset,
        base=resolved.base,
        spec=spec,
        hashes=resolved.hashes,
        versions=resolved.versions,
        status=status,
        accuracy_r=metrics.get(task.metric),
        metrics=metrics,
        zero_shot_key=resolved.zero_shot_key,
        loss_curve=tuple(curve),
        wall_seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_memory_bytes=memory,
        tokens=tokens,
        parameters={"total": resolved.parameters, "trainable": trainable},
        counts=counts,
        provenance=provenance.collect(spec, started, str(base.device)),
    )
    return Outcome(record, predictions_table(predictions), adapter)


def load(
    resolved: ResolvedSpec, bases: LoadedBases, cache: Path | None, *, split: bool = False
) -> tuple[Prepared, LoadedBase]:
    """Return the data and the base of a run; `split` as in `LoadedBases.get`.

    Raises:
        BaseError, DataError: when they are no longer those that were resolved.
    """
    spec = resolved.spec
    prepared = prepare(spec, cache=cache)
    changed = [n for n, value in prepared.hashes.items() if resolved.hashes.get(n) != value]
    if changed:
        what = " and ".join(changed)
        law = f"the rows for {what} are not those that the run was planned with"
        fix = "Collect again: other rows make another run."
        raise DataError(Problem(law, spec.dataset.source, fix))
    return prepared, bases.get(resolved, outputs_of(prepared.task, spec), split=split)


def predictions_table(predictions: list[Prediction]) -> pa.Table:
    """Return predictions as the table that is stored: targets and answers as JSON text."""
    return pa.table(
        {
            "id": pa.array([p.id for p in predictions], pa.string()),
            "target": pa.array([canonical_json(p.target) for p in predictions], pa.large_string()),
            "prediction": pa.array(
                [canonical_json(p.prediction) for p in predictions], pa.large_string()
            ),
            "scores": pa.array([p.scores for p in predictions], pa.list_(pa.float64())),
            "lengths": pa.array([p.lengths for p in predictions], pa.list_(pa.int64())),
        }
    )


def reset_peak_memory() -> None:
    """Start the peak memory anew, where the system lets us."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clear = Path("/proc/self/clear_refs")
    if os.access(clear, os.W_OK):
        clear.write_text("5")


def peak_memory(device: str) -> int | None:
    """Return the peak in bytes: allocated on the GPU, or resident in this process on the CPU."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _count_tokens(examples: Sequence[Encoded], spec: RunSpec, steps: int) -> dict[str, int]:
    """Count what training saw in its steps, repeats included."""
    lengths = [example.length for example in examples]
    order = semantics.batches(lengths, spec.optim.batch_size, spec.seed)
    seen = [examples[i] for batch in itertools.islice(order, steps) for i in batch]
    return {
        "train": sum(example.length for example in seen),
        "target": sum(len(example.target) for example in seen),
        "steps": steps,
        "examples_seen": len(seen),
    }


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Note how long the body took as `seconds[phase]`, whatever ends it."""
    start = time.time()
    try:
        yield
    finally:
        seconds[phase] = time.time() - start
