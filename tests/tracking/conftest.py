from collections.abc import Callable
from typing import Any

import pytest

from llmpred.ledger.record import RunRecord
from llmpred.spec.run import RunSpec
from tests.sweep.conftest import sweep as sweep

SPEC = {
    "task": {"name": "sentiment", "labels": {"1": "好评", "0": "差评"}},
    "dataset": {"source": "reviews.jsonl", "recipe": [{"subsample": {"n": 100}}]},
    "base": {"name": "minilm"},
    "method": {"head": "classifier"},
    "optim": {"max_steps": 20},
    "evaluation": {"holdout": 0.2},
}


def make_record(number: int, **changes: Any) -> RunRecord:
    return RunRecord.model_validate(
        {
            "key": f"{number:032x}",
            "train_key": f"{number:032x}",
            "dataset": "评论 reviews",
            "base": "minilm",
            "spec": RunSpec.model_validate(SPEC),
            "status": "ok",
            "accuracy_r": 0.875,
            "metrics": {"accuracy": 0.875, "macro_f1": 0.87},
            "loss_curve": tuple(
                {"step": step, "loss": 1 / step, "lr": 2e-4, "grad_norm": 0.5}
                for step in range(1, 21)
            ),
            "wall_seconds": {"train": 10.0, "total": 12.5},
            "peak_memory_bytes": 3 << 30,
            "tokens": {"train": 12345},
            "provenance": {"finished": "2026-01-02T03:04:05+00:00"},
        }
        | changes
    )


@pytest.fixture
def a_record() -> Callable[..., RunRecord]:
    return make_record
