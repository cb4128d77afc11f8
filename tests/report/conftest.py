"""Hand-made runs: records and predictions of a two-label task, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmpred.engine.run import predictions_table
from llmpred.ledger import Ledger, RunRecord
from llmpred.report.comparison import Group, Scheme, Scored
from llmpred.spec.run import RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Prediction

LABELS = {"bad": "bad", "good": "good"}


def spec_of(labels: dict[str, str] | None = None, /, **changes: Any) -> RunSpec:
    """Return a settled run that trains a LoRA by label scoring; `changes` are merged sections."""
    sections: dict[str, Any] = {
        "task": {
            "name": "sentiment",
            "labels": labels or LABELS,
            "language": "en",
            "prompt": "{text}",
        },
        "dataset": {"source": "train.tsv"},
        "base": {"name": "tiny"},
        "method": {"name": "tuned", "head": "label_scoring", "adapter": {"kind": "lora", "r": 2}},
        "optim": {"lr": 1e-3, "max_steps": 5, "precision": "fp32"},
        "evaluation": {"data": {"source": "test.tsv"}},
    }
    for name, change in changes.items():
        sections[name] = {**sections[name], **change} if isinstance(change, dict) else change
    return RunSpec.model_validate(sections)


ZERO_SHOT = {"name": "zero-shot", "head": "label_scoring", "adapter": {"kind": "none"}}


def answers(right: Sequence[bool], labels: Sequence[str] = tuple(LABELS)) -> list[Prediction]:
    """Return answers to examples whose targets alternate, right or wrong as given."""
    found = []
    for i, is_right in enumerate(right):
        target = i % 2
        chosen = target if is_right else 1 - target
        scores = [-2.0, -2.0]
        scores[chosen] = -0.1 - 0.01 * i
        found.append(Prediction(f"r{i}", labels[target], labels[chosen], scores=tuple(scores)))
    return found


def record_of(
    name: str, spec: RunSpec, predictions: Sequence[Prediction], **changes: Any
) -> RunRecord:
    metrics = registry.score(registry.get(spec.task.name), spec.task, predictions)
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    fields: dict[str, Any] = {
        "key": key,
        "train_key": key,
        "dataset": "reviews",
        "base": "tiny",
        "spec": spec,
        "hashes": {"evaluation": "e", "weights": "w"},
        "status": "ok",
        "accuracy_r": metrics["accuracy"],
        "metrics": metrics,
        "loss_curve": tuple({"step": float(i), "loss": 2.0 - i / 10} for i in range(5)),
        "wall_seconds": {"train": 8.0, "evaluate": 2.0, "total": 11.0},
        "peak_memory_bytes": 1_000_000,
        "tokens": {"train": 500, "target": 40, "steps": 5, "examples_seen": 40},
        "parameters": {"total": 1000, "trainable": 20 if spec.trains else 0},
        "counts": {"train": 40, "evaluation": len(predictions), "evaluation_truncated": 0},
    }
    return RunRecord(**(fields | changes))


def scheme_of(
    name: str, *runs: Sequence[bool], spec: RunSpec | None = None, **changes: Any
) -> Scheme:
    """Return a scheme of one run for each list of right and wrong answers."""
    spec = spec or spec_of()
    scored = []
    for seed, right in enumerate(runs):
        own = spec.model_copy(update={"seed": seed})
        labels = tuple(own.task.labels or ())
        predictions = answers(right, labels)
        record = record_of(f"{name} {seed}", own, predictions, **changes)
        scored.append(Scored(record, tuple(predictions), record.wall_seconds.get("train")))
    return Scheme(name, f"what {name} is", spec, tuple(scored))


def group_of(*schemes: Scheme, reference: str | None = None) -> Group:
    return Group("reviews", "tiny", schemes, reference or schemes[0].name)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Ledger]:
    """Record the runs of schemes, with weights for those that train, and return the ledger."""

    def kept(*schemes: Scheme) -> Ledger:
        ledger = Ledger(tmp_path / "storage")
        for scheme in schemes:
            for run in scheme.runs:
                record = run.record
                if scheme.spec.trains:
                    folder = tmp_path / record.key
                    folder.mkdir()
                    (folder / "adapter_model.safetensors").write_bytes(b"x" * 64)
                    (folder / "adapter_config.json").write_text("{}")
                    place = f"adapters/{record.train_key}"
                    ledger.storage.put_folder(folder, place)
                    record = record.model_copy(update={"adapter": place})
                ledger.put(record, predictions_table(list(run.predictions)))
        return ledger

    return kept


def with_records_of(ledger: Ledger, group: Group) -> Group:
    """Return the group with its records as the ledger has them."""
    schemes = tuple(
        Scheme(
            s.name,
            s.description,
            s.spec,
            tuple(Scored(ledger.get(r.record.key), r.predictions, r.train_seconds) for r in s.runs),
        )
        for s in group.schemes
    )
    return Group(group.dataset, group.base, schemes, group.reference, group.examples)
