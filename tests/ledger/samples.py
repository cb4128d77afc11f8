from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from llmpred.ledger import RunRecord
from llmpred.spec.run import RunSpec


def key_of(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()[:32]


def make_spec(lr: float = 2e-4, **changes: Any) -> RunSpec:
    spec: dict[str, Any] = {
        "task": {"name": "sentiment", "labels": {"0": "negative", "1": "positive"}},
        "dataset": {"source": "reviews.jsonl", "recipe": [{"subsample": {"n": 300}}]},
        "base": {"name": "minilm"},
        "method": {"head": "classifier", "adapter": {"r": 8, "alpha": 16}},
        "optim": {"lr": lr, "max_steps": 20},
        "evaluation": {"holdout": 0.2},
    }
    return RunSpec.model_validate(spec | changes)


def make_record(name: object = "a", **changes: Any) -> RunRecord:
    key = key_of(name)
    fields: dict[str, Any] = {
        "key": key,
        "train_key": key_of(f"train {name}"),
        "dataset": "reviews",
        "base": "minilm",
        "spec": make_spec(),
        "hashes": {"train": "t" * 32, "evaluation": "e" * 32},
        "versions": {"task": 1, "engine": 1},
        "status": "ok",
        "accuracy_r": 0.875,
        "metrics": {"accuracy": 0.875, "macro_f1": 0.87},
        "wall_seconds": {"train": 12.5, "total": 15.0},
        "peak_memory_bytes": 1 << 30,
        "tokens": {"train": 1000, "target": 300},
        "counts": {"train": 300, "evaluation": 60},
        "provenance": {"git_commit": "abc", "created": "2026-01-01T00:00:00.000+00:00"},
    }
    return RunRecord(**(fields | changes))


def make_predictions(rows: int = 3) -> pa.Table:
    return pa.table(
        {
            "id": [str(i) for i in range(rows)],
            "target": ["positive"] * rows,
            "prediction": ["positive"] * rows,
            "score": [0.5 + i / 100 for i in range(rows)],
        }
    )
