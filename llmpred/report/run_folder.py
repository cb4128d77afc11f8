"""One run as a folder of its own: its weights, how they were trained and how they score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import InputError, Problem, StorageError
from llmpred.spec.run import MethodSpec

if TYPE_CHECKING:
    from llmpred.ledger import Ledger, RunRecord

TRAINED, TESTED, PREDICTIONS = "train_results.json", "test_results.json", "predictions.parquet"
POINTS = 200  # of a loss curve that is told
WEIGHTS = (".safetensors", ".bin", ".pt")


def write(ledger: Ledger, record: RunRecord, folder: Path) -> dict[str, dict[str, Any]]:
    """Write a run into a folder that is new or empty.

    It gets the weights as they are kept (`lora_adapter/`, `model/` of a full fine-tune, `head/` of
    a frozen base; none where nothing was trained or kept), `train_results.json` where something was
    trained, `test_results.json`, and `predictions.parquet` where there are any.

    Args:
        ledger: that has the record.
        record: of a run, not of an imported row.
        folder: made if it is not there.

    Returns:
        The content of the two files of results, by name.

    Raises:
        InputError: if the folder holds something.
        StorageError: if kept weights are gone or damaged.
    """
    check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = _weights(ledger, record, folder)
    results: dict[str, dict[str, Any]] = {}
    if record.spec is not None and record.spec.trains:
        results[TRAINED] = train_results(ledger, record, weights)
    results[TESTED] = test_results(ledger, record)
    for name, content in results.items():
        dump(folder / name, content)
    if record.predictions_sha256 is not None:
        import pyarrow.parquet as pq

        pq.write_table(ledger.predictions(record.key, record.revision), folder / PREDICTIONS)
    return results


def check_empty(folder: Path) -> None:
    """Raise InputError if a folder to write holds something, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        law = f"--out must name a new or empty folder, but {folder} is there"
        raise InputError(Problem(law, fix="Name another one, or remove it."))


def dump(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that people can read and every program can parse: no NaN."""
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(text + "\n", "utf-8")


def weights_name(method: MethodSpec) -> str:
    """Return the folder that a method's weights are put in."""
    return {"lora": "lora_adapter", "full": "model", "none": "head"}[method.adapter.kind]


def _weights(ledger: Ledger, record: RunRecord, folder: Path) -> Path | None:
    """Copy the kept weights, and return where they are."""
    if record.adapter is None or record.spec is None:
        return None
    target = folder / weights_name(record.spec.method)
    try:
        return ledger.storage.get_folder(record.adapter, target)
    except FileNotFoundError as error:
        law = f"the weights of run {record.key[:10]} were kept, but are gone"
        again = ledger.storage.hint(f"llmpred finetune {record.key[:10]}")
        fix = f"`{again}` trains them once more."
        raise StorageError(Problem(law, f"{ledger.storage.root}, {record.adapter}", fix)) from error


def train_results(ledger: Ledger, record: RunRecord, weights: Path | None) -> dict[str, Any]:
    """Return how a run was trained.

    Args:
        ledger: that has the run which trained the weights, where that is another one.
        record: of a run that trains.
        weights: folder of its kept weights, if any.
    """
    assert record.spec is not None  # a run of this project
    spec = record.spec
    trained_by = record.provenance.get("trained_by")
    trainer = ledger.get(trained_by) if trained_by and ledger.has(trained_by) else record
    losses = [row["loss"] for row in record.loss_curve if row.get("loss") is not None]
    return {
        "key": record.key,
        "train_key": record.train_key,
        "status": record.status,
        "dataset": record.dataset,
        "base": record.base,
        "method": spec.method.name,
        "seed": spec.seed,
        "examples": record.counts.get("train"),
        "validation_examples": record.counts.get("validation"),
        "truncated_examples": trainer.counts.get("train_truncated"),
        "steps": record.tokens.get("steps"),
        "examples_seen": record.tokens.get("examples_seen"),
        "tokens": {name: record.tokens.get(name) for name in ("train", "target")},
        "loss": {
            "first": losses[0] if losses else None,
            "last": losses[-1] if losses else None,
            "lowest": min(losses, default=None),  # type: ignore[type-var]
            "mean_of_last_tenth": _tail_mean(losses),
        },
        "loss_curve": _thinned(record.loss_curve),
        "seconds": trainer.wall_seconds.get("train"),
        "trained_by": trainer.key,
        "peak_memory_bytes": trainer.peak_memory_bytes,
        **parameters(record),
        "weights_bytes": None if weights is None else weights_bytes(weights),
        "hyperparameters": {
            "head": spec.method.head,
            "adapter": spec.method.adapter.model_dump(mode="json", exclude_none=True),
            "loss": spec.method.loss,
            "class_weights": spec.method.class_weights,
            "quantization": spec.base.quantization,
            "max_length": spec.task.max_length,
            "select": spec.evaluation.select,
            **spec.optim.model_dump(mode="json", exclude_none=True),
        },
        "hardware": record.provenance.get("hardware"),
        "packages": record.provenance.get("packages"),
    }


def test_results(ledger: Ledger, record: RunRecord) -> dict[str, Any]:
    """Return how a run scores."""
    base = None
    if record.zero_shot_key and ledger.has(record.zero_shot_key):
        base = ledger.get(record.zero_shot_key).accuracy_r
    return {
        "key": record.key,
        "status": record.status,
        "task": record.spec.task.name if record.spec else None,
        "accuracy_r": record.accuracy_r,
        "metrics": record.metrics,
        "zero_shot_accuracy_r": base,
        "examples": record.counts.get("evaluation"),
        "truncated_examples": record.counts.get("evaluation_truncated"),
        "counts": record.counts,
        "seconds": record.wall_seconds.get("evaluate"),
        "milliseconds_an_example": evaluation_milliseconds(record),
        "evaluation_sha256": record.hashes.get("evaluation"),
    }


def evaluation_milliseconds(record: RunRecord) -> float | None:
    """Return the wall milliseconds an example that evaluation in batches took."""
    seconds, rows = record.wall_seconds.get("evaluate"), record.counts.get("evaluation")
    return None if seconds is None or not rows else 1000 * seconds / rows


def parameters(record: RunRecord) -> dict[str, int | float | None]:
    """Return how many weights are trained, and their share of the base's weights."""
    total, trained = (record.parameters.get(name) for name in ("total", "trainable"))
    share = None if trained is None or not total else trained / total
    return {"parameters": total, "trainable_parameters": trained, "trainable_share": share}


def weights_bytes(folder: Path) -> int:
    """Return the bytes of the weights' files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.suffix in WEIGHTS)


def _tail_mean(losses: list[Any]) -> float | None:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail) if tail else None


def _thinned(curve: Any) -> list[dict[str, float | None]]:
    """Return at most `POINTS` rows, evenly spread, the first and the last among them."""
    last = len(curve) - 1
    if last < POINTS:
        return [*curve]
    return [curve[round(i * last / (POINTS - 1))] for i in range(POINTS)]
