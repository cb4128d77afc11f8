"""Small runs on generated reviews, for the tests of bases, methods and engine."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from llmpred.bases.resolve import resolve
from llmpred.engine.encoding import Encoded, encode
from llmpred.engine.models import LoadedBase, LoadedBases
from llmpred.engine.run import Outcome, execute
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import Examples, prepare

REVIEWS = "synthetic:sentiment"
LABELS = {"negative": "negative", "positive": "positive"}


def run_spec(base: Path | str, /, **changes: Any) -> RunSpec:
    """Return a LoRA run by label scoring; `changes` are sections, merged into its own."""
    sections: dict[str, Any] = {
        "task": {"name": "sentiment", "labels": LABELS, "max_length": 64},
        "dataset": {"source": REVIEWS, "options": {"n": 48, "seed": 1, "part": "train"}},
        "base": {"name": str(base)},
        "method": {"head": "label_scoring", "adapter": {"kind": "lora", "r": 4, "alpha": 8}},
        "optim": {"lr": 1e-3, "max_steps": 6, "batch_size": 16, "precision": "fp32"},
        "evaluation": {
            "data": {"source": REVIEWS, "options": {"n": 12, "seed": 2, "part": "test"}}
        },
        "execution": {"micro_batch": 4, "eval_batch": 5, "device": "cpu"},
    }
    for name, change in changes.items():
        sections[name] = {**sections[name], **change} if isinstance(change, dict) else change
    return RunSpec.model_validate(sections)


def lora(**fields: Any) -> dict[str, Any]:
    return {"kind": "lora", "r": 4, "alpha": 8, **fields}


def carry_out(spec: RunSpec, folder: Path, bases: LoadedBases | None = None, **how: Any) -> Outcome:
    """Resolve and execute a run."""
    folder.mkdir(parents=True, exist_ok=True)
    return execute(resolve(spec), bases or LoadedBases(), folder, **how)


def losses(outcome: Outcome) -> list[float]:
    return [row["loss"] for row in outcome.record.loss_curve]  # type: ignore[misc]


def same(one: Outcome, other: Outcome) -> None:
    """Assert that two outcomes agree in every step, every weight and every prediction."""
    assert one.record.loss_curve == other.record.loss_curve
    assert one.record.tokens == other.record.tokens
    assert one.record.metrics == other.record.metrics
    assert one.record.accuracy_r == other.record.accuracy_r
    assert one.predictions.equals(other.predictions)
    assert one.adapter is not None
    assert other.adapter is not None
    (path,) = one.adapter.glob("*.safetensors")
    weights, others = load_file(path), load_file(other.adapter / path.name)
    assert weights.keys() == others.keys()
    assert all((weights[name] == others[name]).all() for name in weights)


def loaded(spec: RunSpec) -> LoadedBase:
    """Return the base of a run, loaded."""
    resolved = resolve(spec)
    classes = len(LABELS) if spec.method.head == "classifier" else None
    return LoadedBases().get(resolved, classes)


def encoded(spec: RunSpec, base: LoadedBase, *, training: bool) -> list[Encoded]:
    """Return the training (or evaluation) examples of a run as token ids."""
    settled = resolve(spec).spec
    data = prepare(settled)
    table = data.train if training else data.evaluation
    return encode(Examples(table), data.task, settled, base.tokenizer, training=training)


def fingerprint(model: torch.nn.Module) -> str:
    """Return a hash of the names and bytes of all weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
