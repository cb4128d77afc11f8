"""Runs of task complexity: each kind of target and loss, stages, last layers, LightGBM."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmpred import Predictor
from llmpred.bases.resolve import resolve
from llmpred.data.synthetic import SOURCES
from llmpred.engine import boosted
from llmpred.engine.models import Interrupted
from llmpred.errors import SpecError
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import Examples, prepare
from tests.runs import carry_out, losses, run_spec, same

THOUGHTS = "synthetic:complexity"
FULL = {"kind": "full"}


def counts_spec(base: Path, method: dict[str, Any], target: dict[str, Any], **more: Any) -> RunSpec:
    """Return a small run of task complexity."""
    data = {"source": THOUGHTS, "options": {"n": 60, "seed": 1, "part": "train"}}
    return run_spec(
        base,
        task={"name": "complexity", "labels": None, "max_length": 64, "target": target},
        dataset={**data, "validation": 0.2},
        method={"head": "classifier", "adapter": FULL, **method},
        evaluation={"data": {"source": THOUGHTS, "options": {"n": 16, "seed": 2, "part": "test"}}},
        **more,
    )


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "classes": ({}, {"kind": "quantile", "bins": 4}),
    "weighted": ({"class_weights": "balanced"}, {"kind": "equal_width", "bins": 4}),
    "ordinal": ({"loss": "ordinal"}, {"kind": "quantile", "bins": 4}),
    "lora": ({"adapter": {"kind": "lora", "r": 2}, "loss": "ordinal"}, {"kind": "quantile"}),
    "regression": ({}, {"kind": "counts"}),
    "bin index": ({}, {"kind": "bin_index", "edges": [0, 2, 4, 90]}),
    "quantiles": ({"loss": "pinball"}, {"kind": "log1p"}),
    "custom head": (
        {"head_form": "mlp", "adapter": {"kind": "full", "last_layers": 1}},
        {"kind": "quantile", "bins": 4, "tags": True},
    ),
    "clusters": ({"adapter": {"kind": "none"}}, {"kind": "clusters", "k": 3, "outliers": "remove"}),
    "boosted": (
        {"head": "boosted", "adapter": {"kind": "none"}, "loss": "pinball"},
        {"kind": "log1p"},
    ),
    "boosted classes": ({"head": "boosted", "adapter": {"kind": "none"}}, {"kind": "quantile"}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder"])
def test_it_runs_is_kept_and_answers_as_it_was_evaluated(
    way: str, encoder: bool, tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    method, target = WAYS[way]
    spec = counts_spec(tiny_encoder if encoder else tiny_causal, method, target)
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    record = outcome.record
    assert record.status == "ok"
    assert record.accuracy_r == pytest.approx(1 / (1 + record.metrics["mae"]))
    assert outcome.adapter is not None
    predictor = Predictor.load(outcome.adapter, spec.base.name)
    again, _ = predictor.evaluate(prepare(record.spec).evaluation)
    assert [p.prediction for p in again] == _answers(outcome)
    answer = predictor.predict("Why is the sky blue?")
    assert answer.counts is not None
    assert answer.counts["quantiles"] == sorted(answer.counts["quantiles"])
    trained = carry_out(spec, tmp_path / "again", trained=outcome.adapter)
    assert _answers(trained) == _answers(outcome)


def _answers(outcome: Any) -> list[Any]:
    return [json.loads(text) for text in outcome.predictions["prediction"].to_pylist()]


def test_labels_do_not_depend_on_evaluation_rows(tiny_causal: Path) -> None:
    spec = counts_spec(tiny_causal, {}, {"kind": "quantile", "bins": 4})
    other = spec.evaluation.model_copy(
        update={"data": spec.evaluation.data.model_copy(update={"options": {"n": 9, "seed": 7}})}
    )
    one, two = resolve(spec), resolve(spec.model_copy(update={"evaluation": other}))
    assert one.spec.task == two.spec.task
    assert one.train_key == two.train_key
    assert one.key != two.key


def test_the_first_stage_trains_the_head_alone(tiny_causal: Path, tmp_path: Path) -> None:
    head, both = (
        {"trains": "head", "lr": 1e-3, "max_steps": 2},
        {"trains": "all", "lr": 1e-3, "max_steps": 2},
    )
    own = load_file(tiny_causal / "model.safetensors")
    moved = {}
    for name, stages in {"head": [head], "both": [head, both]}.items():
        spec = counts_spec(tiny_causal, {}, {"kind": "quantile"}, optim=_staged(stages))
        outcome = carry_out(spec, tmp_path / name, keep_adapter=True)
        assert outcome.adapter is not None
        weights = load_file(outcome.adapter / "model.safetensors")
        moved[name] = {
            n for n in weights.keys() & own.keys() if not torch.equal(weights[n], own[n])
        }
        assert len(losses(outcome)) == 2 * len(stages)
    assert not moved["head"]
    assert len(moved["both"]) > 5


def test_an_interrupted_stage_goes_on_as_if_nothing_had_been(
    tiny_causal: Path, tmp_path: Path
) -> None:
    stages = [
        {"trains": "head", "lr": 1e-2, "max_steps": 3},
        {"trains": "all", "lr": 1e-3, "max_steps": 3},
    ]
    spec = counts_spec(
        tiny_causal, {"loss": "ordinal"}, {"kind": "quantile", "bins": 4}, optim=_staged(stages)
    )
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        carry_out(spec, tmp_path / "cut", stop=lambda: "enough" if next(steps) == 1 else None)
    same(whole, carry_out(spec, tmp_path / "cut", keep_adapter=True))


def _staged(stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"max_steps": None, "stages": stages, "batch_size": 16}


def test_the_last_layers_alone_are_trained(tiny_causal: Path, tmp_path: Path) -> None:
    spec = counts_spec(tiny_causal, *WAYS["custom head"])
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    own = load_file(tiny_causal / "model.safetensors")
    weights = load_file(outcome.adapter / "model.safetensors")
    moved = {n for n in weights.keys() & own.keys() if not torch.equal(weights[n], own[n])}
    assert moved
    assert all(".layers.1." in name for name in moved)  # of two


@pytest.mark.parametrize(
    ("method", "target", "optim", "said"),
    [
        ({"loss": "ordinal"}, {"kind": "counts"}, {}, "`loss: ordinal` teaches classes"),
        ({"loss": "mse"}, {"kind": "quantile"}, {}, "`loss: mse` teaches a number"),
        ({"head": "boosted", "adapter": FULL}, {}, {}, "trains nothing of the base"),
        (
            {"head": "boosted", "adapter": {"kind": "none"}},
            {},
            {"max_steps": None, "epochs": 1},
            "its number of trees",
        ),
        ({"adapter": {"kind": "lora", "last_layers": 1}}, {}, {}, "belongs to adapter.kind `full`"),
        ({"loss": "pinball"}, {"kind": "bin_index", "edges": [0, 1, 9]}, {}, "teaches quantiles"),
    ],
)
def test_what_does_not_go_together_is_refused(
    method: dict[str, Any],
    target: dict[str, Any],
    optim: dict[str, Any],
    said: str,
    tiny_causal: Path,
) -> None:
    with pytest.raises(SpecError, match=said):
        resolve(counts_spec(tiny_causal, method, target, optim=optim))


@pytest.mark.parametrize(
    ("method", "target", "said"),
    [
        ({"head": "classifier", "loss": "ordinal"}, None, "belongs to task `complexity`"),
        ({"head": "label_scoring"}, {"kind": "log1p"}, "`target` belongs to task `complexity`"),
    ],
)
def test_other_tasks_have_no_counts(
    method: dict[str, Any], target: dict[str, Any] | None, said: str, tiny_causal: Path
) -> None:
    with pytest.raises(SpecError, match=said):
        resolve(run_spec(tiny_causal, method=method, task={"target": target}))


@pytest.mark.parametrize(
    "target", [{"kind": "quantile", "bins": 10, "tags": False}, {"kind": "quantile"}, {}]
)
def test_a_run_has_one_key_however_it_is_written(target: dict[str, Any], tiny_causal: Path) -> None:
    plain = counts_spec(tiny_causal, {}, {"kind": "quantile"})
    found = resolve(counts_spec(tiny_causal, {}, target))
    assert found.key == resolve(plain).key
    assert resolve(found.spec).key == found.key


def test_the_lr_that_stages_replace_says_nothing(tiny_causal: Path) -> None:
    stages = _staged([{"lr": 1e-3, "max_steps": 2}])
    keys = {
        resolve(counts_spec(tiny_causal, {}, {}, optim={**stages, "lr": lr})).key
        for lr in (1e-2, 1e-5)
    }
    assert len(keys) == 1


def test_counts_that_are_all_the_same_are_refused(tiny_causal: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text("".join(f'{{"prompt": "p {i}", "counts": 0}}\n' for i in range(30)))
    spec = counts_spec(tiny_causal, {}, {"kind": "quantile"})
    source = {"source": str(path), "options": None}
    spec = spec.model_copy(update={"dataset": spec.dataset.model_copy(update=source)})
    with pytest.raises(SpecError, match="labels of kind `quantile` must be two or more"):
        resolve(spec)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("calibration.json", '{"calibration": {}}', "calibration.json"),
        ("calibration.json", None, "calibration.json"),
        ("boosters.json", "[]", "boosters.json"),
        ("boosters.json", '["tree\nmax_feature_idx=0\n"]', "boosters.json"),
    ],
)
def test_a_folder_that_was_changed_is_refused(
    file: str, content: str | None, said: str, tiny_causal: Path, tmp_path: Path
) -> None:
    outcome = carry_out(counts_spec(tiny_causal, *WAYS["boosted"]), tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    path = outcome.adapter / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(SpecError, match=said):
        Predictor.load(outcome.adapter, str(tiny_causal))
    run = json.loads((outcome.adapter / "run.json").read_text())  # as a stranger would write it
    there = [outcome.adapter / name for name in ("boosters.json", "calibration.json")]
    run["files"] = {p.name: _sha256(p) for p in there if p.exists()}
    (outcome.adapter / "run.json").write_text(json.dumps(run))
    with pytest.raises(SpecError, match=said):
        Predictor.load(outcome.adapter, str(tiny_causal))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("broken", ["left_child=7", "left_child=0", "tree_sizes=9"])
def test_trees_that_do_not_end_are_refused(broken: str, tiny_causal: Path, tmp_path: Path) -> None:
    """Where only sizes are wrong, which nobody needs, the trees are read as they are."""
    outcome = carry_out(counts_spec(tiny_causal, *WAYS["boosted"]), tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    texts = json.loads((outcome.adapter / boosted.FILE).read_text())
    name = broken.partition("=")[0]
    texts[0] = re.sub(rf"(?m)^{name}=[-\d]+", broken, texts[0], count=1)
    (outcome.adapter / boosted.FILE).write_text(json.dumps(texts))
    if name == "tree_sizes":
        boosted.read(outcome.adapter)
        return
    with pytest.raises(SpecError, match="does not end, or leaves its arrays"):
        boosted.read(outcome.adapter)


def test_rows_are_one_a_prompt(tiny_causal: Path) -> None:
    assert "complexity" in SOURCES
    rows = Examples(prepare(counts_spec(tiny_causal, {}, {})).train)
    assert len({row["prompt"] for row in rows}) == len(rows)
