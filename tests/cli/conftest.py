from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmpred.ledger import Ledger, RunRecord
from llmpred.spec.run import RunSpec

WORDS = ("fine", "dull", "warm", "slow", "funny", "loud", "clever", "long")


def reviews(count: int) -> str:
    """Return `count` distinct reviews as TSV, half of them positive."""
    rows = [
        f"a {WORDS[i % 8]} and {WORDS[(i // 8) % 8]} film number {i}\t{i % 2}" for i in range(count)
    ]
    return "sentence\tlabel\n" + "\n".join(rows) + "\n"


@pytest.fixture
def write_reviews(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, count: int = 40) -> Path:
        path = tmp_path / name
        path.write_text(reviews(count))
        return path

    return write


def make_record(name: str, **changes: Any) -> RunRecord:
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    spec = RunSpec.model_validate(
        {
            "task": {"name": "sentiment", "labels": {"0": "negative", "1": "positive"}},
            "dataset": {"source": "reviews.tsv"},
            "base": {"name": "minilm"},
            "method": {"head": "classifier"},
            "optim": {"lr": changes.pop("lr", 2e-4), "max_steps": 20},
            "evaluation": {"holdout": 0.2},
        }
    )
    fields: dict[str, Any] = {
        "key": key,
        "train_key": key,
        "dataset": "reviews",
        "base": "minilm",
        "spec": spec,
        "status": "ok",
        "accuracy_r": 0.8,
        "metrics": {"accuracy": 0.8},
        "loss_curve": tuple({"step": float(i), "loss": 1.0 / (i + 1)} for i in range(20)),
        "wall_seconds": {"total": 3.0},
    }
    return RunRecord(**(fields | changes))


def predictions() -> pa.Table:
    return pa.table(
        {
            "id": ["0", "1", "2"],
            "target": ['"1"', '"0"', '["x","y"]'],
            "prediction": ['"1"', '"1"', '"y"'],
        }
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with three runs and a failed attempt."""
    made = Ledger(tmp_path / "store")
    made.put(make_record("a", accuracy_r=0.7, lr=1e-4), predictions())
    made.put(make_record("b", accuracy_r=0.9, dataset="other"))
    made.put(make_record("c", accuracy_r=None, status="diverged", metrics={}))
    made.put_attempt(make_record("a", status="failed", accuracy_r=None, error="the node died"))
    return made
