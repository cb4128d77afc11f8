"""Every measurement and every feature, in one place: what a value depends on, and how it is taken.

A measurement is paid for once. Its key is a hash of what it reads, so runs that share a dataset
share what is measured on it, and a feature's new version is measured anew.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmpred.bases.locate import locate
from llmpred.bases.resolve import ResolvedSpec
from llmpred.errors import BaseError
from llmpred.features import base_model, embedding, hyper, likelihood, probe, text
from llmpred.features.base import Feature, Values, compute
from llmpred.spec.canonical import digest
from llmpred.spec.run import BaseSpec, RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import outputs_of
from llmpred.tasks.prepare import Examples, Prepared, prepare

if TYPE_CHECKING:
    from llmpred.engine.models import LoadedBases

TOKENS_SAMPLE = 1000  # training rows whose length in tokens is looked at


class Described(Protocol):
    """What a measurement's key is made of; a ResolvedSpec and a RunRecord both have it."""

    @property
    def spec(self) -> RunSpec | None: ...  # noqa: D102
    @property
    def hashes(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def versions(self) -> dict[str, int]: ...  # noqa: D102
    @property
    def train_key(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Tools:
    """What measuring needs of the process that does it.

    Attributes:
        bases: loaded bases.
        scratch: an existing folder for what is deleted again.
        checkpoints: folder that the run's own checkpoints are kept in; the probe leaves one there.
        cache: where prepared data is kept; None for the default.
        embedder: `minilm` or a sentence-transformers model; None takes the run's own base.
        workers: processes that read texts.
    """

    bases: LoadedBases
    scratch: Path
    checkpoints: Path
    cache: Path | None = None
    embedder: str | None = None
    workers: int = 1


@dataclass(frozen=True)
class Measurement:
    """A measurement: what it depends on, how it is taken, and the features that read it.

    Attributes:
        name: folder of its values in the storage.
        features: functions of it.
        identity: what its values depend on, as JSON; the embedder's hash is given.
        take: measure it for a run.
    """

    name: str
    features: tuple[Feature, ...]
    identity: Callable[[Described, str], dict[str, Any]]
    take: Callable[[ResolvedSpec, Tools], Values]

    def key(self, run: Described, embedder: str) -> str:
        """Return the hash under which its values for a run are kept."""
        versions = {feature.name: feature.version for feature in self.features}
        return digest({"versions": versions, **self.identity(run, embedder)})


def embedder_hash(run: Described, embedder: str | None) -> str:
    """Return the hash of what embeds a run's data: its own base, unless an embedder is named.

    A base in fewer bits, and a model whose states are pooled otherwise than by their mean, embed
    differently by the same weights.
    """
    if embedder is not None:
        return _hash_of(embedder)
    assert run.spec is not None
    spec, weights = run.spec, run.hashes["weights"]
    bf16 = spec.optim.precision == "bf16" and spec.method.adapter.kind != "full"
    if spec.base.quantization == "none" and not bf16:
        return weights
    return digest([weights, spec.base.quantization, bf16])


@functools.lru_cache(maxsize=8)
def _hash_of(embedder: str) -> str:
    located = locate(BaseSpec(name=embedder))
    pooling = embedding.pooling_of(located)
    return located.weights_hash if pooling == "mean" else digest([located.weights_hash, pooling])


# --- what values depend on -------------------------------------------------------------------


def _data(run: Described) -> dict[str, Any]:
    assert run.spec is not None  # imported rows have no measurements
    task = run.spec.task.model_dump(mode="json")
    version = run.versions.get("task", 1)
    bumped = {"task_version": version} if version > 1 else {}
    return {"task": task, **bumped, **{part: run.hashes[part] for part in ("train", "evaluation")}}


def _of_texts(run: Described, embedder: str) -> dict[str, Any]:
    return _data(run)


def _of_tokens(run: Described, embedder: str) -> dict[str, Any]:
    assert run.spec is not None
    head = run.spec.method.head
    room = run.spec.evaluation.max_new_tokens
    weights = run.hashes["weights"]
    return {**_data(run), "weights": weights, "head": head, "max_new_tokens": room}


def _of_embeddings(run: Described, embedder: str) -> dict[str, Any]:
    return {**_data(run), "embedder": embedder}


def _of_likelihoods(run: Described, embedder: str) -> dict[str, Any]:
    assert run.spec is not None
    return {
        **_of_tokens(run, embedder),
        "quantization": run.spec.base.quantization,
        "precision": run.spec.optim.precision,
    }


def _of_probe(run: Described, embedder: str) -> dict[str, Any]:
    assert run.spec is not None
    generates = run.spec.method.head == "causal_lm"  # other heads score candidates
    return {
        "train_key": run.train_key,
        "evaluation": run.hashes["evaluation"],
        "max_new_tokens": run.spec.evaluation.max_new_tokens if generates else None,
    }


# --- how they are taken ----------------------------------------------------------------------


def _prepared(run: ResolvedSpec, tools: Tools) -> Prepared:
    return prepare(run.spec, cache=tools.cache)


def _take_texts(run: ResolvedSpec, tools: Tools) -> Values:
    from llmpred.features.scan import text_stats

    prepared = _prepared(run, tools)
    stats = text_stats(
        prepared.train,
        prepared.task,
        run.spec.task,
        scratch=tools.scratch,
        evaluation=prepared.evaluation,
        workers=tools.workers,
    )
    return compute(text.FEATURES, stats, dict(stats.facts))


def _take_tokens(run: ResolvedSpec, tools: Tools) -> Values:
    from llmpred.bases.load import load_tokenizer
    from llmpred.data.content import sample
    from llmpred.engine.encoding import encode

    prepared = _prepared(run, tools)
    rows = Examples(sample(prepared.train, min(TOKENS_SAMPLE, prepared.train.num_rows), 0))
    numbers = run.spec.method.reads_numbers
    tokenizer = load_tokenizer(locate(run.spec.base), numbers=numbers)
    found = encode(rows, prepared.task, run.spec, tokenizer, training=True)
    each = sum(example.length for example in found) / len(found)
    return Values({}, {}, {"tokens_an_example": each, "tokens_rows": float(len(found))})


def _take_embeddings(run: ResolvedSpec, tools: Tools) -> Values:
    prepared = _prepared(run, tools)
    if tools.embedder is None:
        base = tools.bases.get(run, outputs_of(prepared.task, run.spec))
        found = embedding.embed(prepared, base)
    else:
        found = embedding.embed(prepared, embedding.load_embedder(tools.embedder))
    return compute(embedding.FEATURES, found, embedding.facts(found))


def _take_likelihoods(run: ResolvedSpec, tools: Tools) -> Values:
    prepared = _prepared(run, tools)
    located, spec = locate(run.spec.base), run.spec
    if spec.method.head in ("classifier", "numeric") and located.kind == "causal":
        # The base is asked as the language model that it is: it writes numbers in digits.
        task = registry.get(spec.task.name)
        head = "causal_lm" if spec.method.reads_numbers else task.heads[0]
        evaluation = spec.evaluation.model_copy(update={"max_new_tokens": task.max_new_tokens})
        method = spec.method.model_copy(update={"head": head})
        spec = spec.model_copy(update={"method": method, "evaluation": evaluation})
        run = dataclasses.replace(run, spec=spec)
    base = tools.bases.get(run, outputs_of(prepared.task, spec))
    found = likelihood.measure_likelihood(prepared, spec, base)
    return compute(likelihood.FEATURES, found, likelihood.facts(found))


def _take_probe(run: ResolvedSpec, tools: Tools) -> Values:
    trace = probe.probe(run, tools.bases, tools.checkpoints, cache=tools.cache)
    return compute(probe.FEATURES, trace, trace.facts)


# --- all of them -----------------------------------------------------------------------------

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("text", text.FEATURES, _of_texts, _take_texts),
    Measurement("tokens", (), _of_tokens, _take_tokens),
    Measurement("embedding", embedding.FEATURES, _of_embeddings, _take_embeddings),
    Measurement("likelihood", likelihood.FEATURES, _of_likelihoods, _take_likelihoods),
    Measurement("probe", probe.FEATURES, _of_probe, _take_probe),
)
BY_NAME: Mapping[str, Measurement] = {each.name: each for each in MEASUREMENTS}
FEATURES: tuple[Feature, ...] = (
    *hyper.FEATURES,
    *base_model.FEATURES,
    *(feature for each in MEASUREMENTS for feature in each.features),
)


def vector(
    run: Described, examples: int, found: Mapping[str, Values], zero_shot: float | None
) -> dict[str, float]:
    """Return the values of all features of a run; NaN where nothing was measured.

    Of a base that is not on this machine, what its config would tell is unknown.

    Args:
        run: the run.
        examples: its training rows.
        found: what was measured of it, by measurement.
        zero_shot: score of the untouched base on its evaluation set, if it was paid for.
    """
    assert run.spec is not None
    spec = run.spec
    try:
        located = locate(spec.base)
    except BaseError:
        located = None
    heads = outputs_of(registry.get(spec.task.name), spec)
    tokens = found.get("tokens")
    facts = hyper.RunFacts(
        spec=spec,
        examples=examples,
        parameters=located.parameters if located else math.nan,
        trainable=hyper.trainable_parameters(located, spec.method, heads) if located else math.nan,
        tokens_an_example=tokens.facts["tokens_an_example"] if tokens else None,
    )
    values = dict.fromkeys((feature.name for feature in FEATURES), math.nan)
    values |= compute(hyper.FEATURES, facts).values
    if located:
        values |= compute(base_model.FEATURES, base_model.base_facts(located, zero_shot)).values
    elif zero_shot is not None:
        values["zero_shot_score"] = zero_shot
    for measured in found.values():
        values |= measured.values
    return values
