"""Runs on generated data, for the tests of features that read a base."""

from typing import Any

from llmpred.bases.resolve import ResolvedSpec, resolve
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import Prepared, prepare

WORDS = {
    "en": {"negative": "bad", "positive": "good"},
    "zh": {"negative": "差", "positive": "好"},
}


def world(
    kind: str,
    *recipe: dict[str, Any],
    n: int = 60,
    base: object = "proxy",
    head: str = "auto",
    evaluation: dict[str, Any] | None = None,
    limit: int | None = None,
    source: object = None,
    **options: Any,
) -> RunSpec:
    """Return a run on `n` rows of `synthetic:kind`, or of the file `source`."""
    language = options.get("language", "en")
    asked = {"n": 40, "part": "test", "language": language, **(evaluation or {})}
    train = {"source": f"synthetic:{kind}", "options": {"n": n, "seed": 1, **options}}
    if source is not None:
        train = {"source": str(source)}
    return RunSpec.model_validate(
        {
            "task": {
                "name": kind,
                "max_length": 256,
                "labels": WORDS[language] if kind == "sentiment" else None,
            },
            "dataset": {**train, "recipe": list(recipe), "limit": limit},
            "base": {"name": str(base)},
            "method": {"head": head},
            "optim": {"max_steps": 5, "batch_size": 8, "precision": "fp32"},
            "evaluation": {"data": {"source": f"synthetic:{kind}", "options": asked}},
            "execution": {"device": "cpu"},
        }
    )


def settled(spec: RunSpec) -> tuple[ResolvedSpec, Prepared]:
    """Return a run resolved, and its data."""
    resolved = resolve(spec)
    return resolved, prepare(resolved.spec)
