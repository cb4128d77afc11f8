"""What holds for every feature: finite or unknown, deterministic, not constant, no alias."""

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.features.measurements import (
    BY_NAME,
    FEATURES,
    MEASUREMENTS,
    Tools,
    embedder_hash,
    vector,
)
from llmpred.spec.run import RunSpec
from tests.features.worlds import world
from tests.runs import run_spec

ALIAS = 0.995
KNOWN = 15  # datasets of which a feature must be known
RATES = (1e-3, 3e-3, 1e-2, 3e-4)


def worlds() -> Iterator[RunSpec]:
    """Yield runs on datasets of every kind, at learning rates of their own."""
    for kind in ("sentiment", "qa", "summarization", "multiple_choice"):
        yield world(kind)
        yield world(kind, language="zh")
        yield world(kind, phrasings=1)
        yield world(kind, entities=8)
        yield world(kind, length="long")
        yield world(kind, {"truncate": {"words": 10}})
        yield world(kind, {"duplicate": {"share": 0.5}})
        yield world(kind, {"duplicate": {"share": 0.5}}, {"shuffle_answers": {"share": 0.5}})
        yield world(kind, {"subsample": {"n": 20}}, {"near_duplicate": {"share": 1.0}})
        # The evaluation rows themselves, and what is left of them when they are cut.
        yield world(kind, n=40, part="test", seed=0)
        yield world(kind, {"truncate": {"words": 25}}, n=40, part="test", seed=0)
        yield world(kind, shift=1.0)
        yield world(kind, {"shuffle_answers": {"share": 1.0}})
        yield world(kind, format_drift=0.7)
        yield world(kind, foreign=0.5)
    for share in (0.1, 0.3):
        yield world("sentiment", {"label_noise": {"share": share}}, n=120)


def measured(spec: RunSpec, bases: LoadedBases, folder: Path) -> dict[str, float]:
    """Return all features of a run."""
    run = resolve(spec)
    folder.mkdir()
    tools = Tools(bases, folder, folder / "run")
    found = {each.name: each.take(run, tools) for each in MEASUREMENTS}
    for name, values in found.items():
        unknown = {f for f, value in values.values.items() if math.isnan(value)}
        assert set(values.warnings) <= unknown, name
        assert set(values.values) == {feature.name for feature in BY_NAME[name].features}
    return vector(run, run.counts["train"], found, None)


def test_names_are_unique_and_described() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    assert all(feature.unit and feature.source and feature.version > 0 for feature in FEATURES)
    core = {f.name for f in FEATURES if f.priority == "core" and f.group != "hyper"}
    assert core == {"size_di", "initial_loss", "out_sem_div", "io_sim"}
    strong = {f.name for f in FEATURES if f.priority == "strong"}
    assert strong >= {"output_perplexity", "loss_decay", "grad_norm"}
    assert {f.name for f in FEATURES if f.reads_eval_labels} == {"zero_shot_score", "early_score"}


def test_the_same_run_has_the_same_features(tmp_path: Path) -> None:
    spec, bases = world("sentiment"), LoadedBases()
    first = measured(spec, bases, tmp_path / "a")
    bases.drop()
    assert measured(spec, bases, tmp_path / "b") == pytest.approx(first, rel=1e-6, nan_ok=True)


def test_keys_follow_what_is_read() -> None:
    run, noisy = resolve(world("sentiment")), resolve(world("sentiment", n=50))
    faster = resolve(world("sentiment").model_copy(update={"seed": 3}))
    for name, shared in (("text", True), ("embedding", True), ("probe", False)):
        each = BY_NAME[name]
        assert each.key(run, "e") != each.key(noisy, "e")
        assert (each.key(run, "e") == each.key(faster, "e")) == shared
    embedding = BY_NAME["embedding"]
    assert embedding.key(run, "one") != embedding.key(run, "another")


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"base": {"quantization": "nf4"}}, {"embedding", "likelihood", "probe"}),
        ({"optim": {"precision": "bf16"}}, {"embedding", "likelihood", "probe"}),
        ({"evaluation": {"max_new_tokens": 3}}, {"tokens", "likelihood", "probe"}),
    ],
)
def test_what_changes_a_value_changes_its_key(
    changes: dict[str, dict[str, Any]], differ: set[str], tiny_causal: Path
) -> None:
    def keys(**more: dict[str, Any]) -> dict[str, str]:
        run = resolve(run_spec(tiny_causal, method={"head": "causal_lm"}, **more))
        return {each.name: each.key(run, embedder_hash(run, None)) for each in MEASUREMENTS}

    one, other = keys(), keys(**changes)
    assert {name for name in one if one[name] != other[name]} == differ


def test_pooling_is_part_of_an_embedder(tiny_causal: Path, tmp_path: Path) -> None:
    """The same weights pooled by their mean, and by their first state."""
    run = resolve(run_spec(tiny_causal))
    mean, first = (shutil.copytree(tiny_causal, tmp_path / name) for name in ("mean", "first"))
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (first / "modules.json").write_text(json.dumps(modules))
    (first / "1_Pooling").mkdir()
    (first / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert embedder_hash(run, str(mean)) == embedder_hash(run, None)
    assert embedder_hash(run, str(first)) != embedder_hash(run, None)


@pytest.mark.slow
def test_features_differ_between_datasets_and_from_each_other(tmp_path: Path) -> None:
    bases = LoadedBases()
    rows = []
    for i, spec in enumerate(worlds()):
        optim = spec.optim.model_copy(update={"lr": RATES[i % len(RATES)]})
        run = spec.model_copy(update={"optim": optim})
        rows.append(measured(run, bases, tmp_path / str(i)))
    assert len(rows) >= 40
    checked = [feature.name for feature in FEATURES if feature.group in ("static", "probe")]
    columns = {name: np.array([row[name] for row in rows]) for name in checked}
    known = {name: column[np.isfinite(column)] for name, column in columns.items()}
    assert [name for name, column in known.items() if len(column) < KNOWN] == []
    assert [name for name, column in known.items() if len(set(column.round(9))) < 2] == []
    aliases = []
    for one, two in itertools.combinations(columns, 2):
        both = np.isfinite(columns[one]) & np.isfinite(columns[two])
        first, second = columns[one][both], columns[two][both]
        if len(set(first)) < 2 or len(set(second)) < 2:
            continue  # one is only known where the other is the same: they cannot be aliases
        rank = spearmanr(first, second).statistic
        if abs(rank) >= ALIAS:
            aliases.append((one, two, rank))
    assert aliases == []
