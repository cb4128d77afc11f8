"""What MLflow is told about a run: names and values within MLflow's limits, no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from llmpred.ledger.record import FINAL, RunRecord
from llmpred.redaction import redact

PARAM_LENGTH = 6000  # characters of a value, MLflow's MAX_PARAM_VAL_LENGTH
TAG_LENGTH = 5000
KEY_LENGTH = 250

# Provenance says much about the machine; these alone are told to a server that others may read.
PROVENANCE = ("git_commit", "hardware", "packages")


def record_id(record: RunRecord) -> str:
    """Return what a record is logged once by: outcomes by key and revision, attempts one by one."""
    outcome = f"{record.key}.{record.revision}"
    if record.status in FINAL:
        return outcome
    return f"{outcome}.{record.content_checksum()[:12]}"


def params(record: RunRecord) -> dict[str, str]:
    """Return the spec as `optim.lr`-like names, the user's own columns, and provenance."""
    named: dict[str, Any] = dict(_flatten(record.spec)) if record.spec else {}
    named |= {f"fields.{name}": value for name, value in record.fields.items()}
    named |= {f"hash.{name}": value for name, value in record.hashes.items()}
    named |= {f"version.{name}": value for name, value in record.versions.items()}
    named |= {f"provenance.{k}": v for k, v in record.provenance.items() if k in PROVENANCE}
    return {
        _key(name): _cut(_text(value), PARAM_LENGTH)
        for name, value in named.items()
        if value is not None
    }


def metrics(record: RunRecord) -> dict[str, float]:
    """Return what came out of the run, and what it cost."""
    named: dict[str, float | None] = {"accuracy_r": record.accuracy_r}
    named |= {f"eval/{name}": value for name, value in record.metrics.items()}
    named |= {f"wall_seconds/{phase}": value for phase, value in record.wall_seconds.items()}
    named |= {f"tokens/{kind}": value for kind, value in record.tokens.items()}
    named |= {f"rows/{kind}": value for kind, value in record.counts.items()}
    named["peak_memory_bytes"] = record.peak_memory_bytes
    return {_key(name): float(value) for name, value in named.items() if value is not None}


def steps(record: RunRecord) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, step) of the loss curve: loss, lr, grad_norm."""
    for place, row in enumerate(record.loss_curve):
        step = row.get("step")
        for name, value in row.items():
            if name != "step" and value is not None:
                yield _key(name), float(value), place if step is None else int(step)


def tags(record: RunRecord) -> dict[str, str]:
    """Return what runs are searched and grouped by."""
    named = {
        "mlflow.runName": f"{record.dataset} · {record.base} · {record.key[:8]}",
        "mlflow.source.name": "llmpred",
        "llmpred.record": record_id(record),
        "llmpred.key": record.key,
        "llmpred.train_key": record.train_key,
        "llmpred.revision": str(record.revision),
        "dataset": record.dataset,
        "base": record.base,
        "task": record.spec.task.name if record.spec else None,
        "status": record.status,
        "origin": record.origin,
        "error": record.error,
    }
    return {name: _cut(redact(value), TAG_LENGTH) for name, value in named.items() if value}


def ended(record: RunRecord) -> int | None:
    """Return when the run ended, in milliseconds since 1970; None if the record does not say."""
    said = record.provenance.get("finished") or record.provenance.get("created")
    try:
        return int(datetime.fromisoformat(str(said)).timestamp() * 1000)
    except ValueError:  # rows imported from elsewhere say what they like
        return None


def _flatten(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a spec model; mappings whose keys are the user's stay whole, as JSON."""
    plain = model.model_dump(mode="json")
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain[name]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return redact(text)


def _key(name: str) -> str:
    """Return `name` with what MLflow refuses in a name replaced."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:KEY_LENGTH]


def _cut(text: str, length: int) -> str:
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # which PostgreSQL does not take
    return text if len(text) <= length else text[: length - 1] + "…"
