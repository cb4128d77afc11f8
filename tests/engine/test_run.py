"""Whole runs: their records, that they leave no trace in each other, quantised and in bf16."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmpred.bases.resolve import resolve
from llmpred.engine import reference, semantics
from llmpred.engine.models import LoadedBases, pick_device
from llmpred.engine.run import execute
from llmpred.errors import BaseError, DataError, InputError, SpecError
from llmpred.spec.run import RunSpec
from tests.conftest import ROOT
from tests.runs import carry_out, encoded, fingerprint, loaded, lora, losses, run_spec

NONE = {"kind": "none"}


def kinds(causal: Path, encoder: Path) -> dict[str, RunSpec]:
    """One run of each kind, with dropout where there can be some."""
    dropout = lora(dropout=0.1)
    short = {"max_steps": 2, "lr": 5e-3}
    return {
        "scoring": run_spec(causal, method={"adapter": dropout}, optim=short),
        "generation": run_spec(
            causal,
            method={"head": "causal_lm", "adapter": dropout},
            optim=short,
            evaluation={"max_new_tokens": 5},
        ),
        "full": run_spec(causal, method={"adapter": {"kind": "full"}}, optim=short),
        "zero-shot": run_spec(causal, method={"adapter": NONE}),
        "causal classifier": run_spec(
            causal, method={"head": "classifier", "adapter": dropout}, optim=short
        ),
        "classifier": run_spec(
            encoder, method={"head": "classifier", "adapter": dropout}, optim=short
        ),
        "head": run_spec(encoder, method={"head": "classifier", "adapter": NONE}, optim=short),
    }


FRESH = """
import sys, json, torch
from pathlib import Path
from llmpred.engine.models import LoadedBases
from llmpred.spec.run import RunSpec
from tests.runs import carry_out, losses
torch.set_num_threads(1)
spec = RunSpec.model_validate_json(sys.stdin.read())
out = carry_out(spec, Path(sys.argv[1]))
print(json.dumps([losses(out), out.predictions.to_pydict()["scores"]]))
"""


def test_the_order_of_runs_does_not_matter(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Every run gives the same in one process, forwards and backwards, and alone."""
    specs = kinds(tiny_causal, tiny_encoder)
    bases = LoadedBases()
    forwards = {name: carry_out(spec, tmp_path / "f" / name, bases) for name, spec in specs.items()}
    for name in reversed(specs):
        again = carry_out(specs[name], tmp_path / "b" / name, bases)
        assert losses(again) == losses(forwards[name]), name
        assert again.predictions.equals(forwards[name].predictions), name
    alone = carry_out(specs["classifier"], tmp_path / "alone")
    assert losses(alone) == losses(forwards["classifier"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scoring", "classifier"])
def test_a_run_is_the_same_in_a_fresh_process(
    name: str, tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    specs = kinds(tiny_causal, tiny_encoder)
    bases = LoadedBases()
    carry_out(specs["head"], tmp_path / "other", bases)
    here = carry_out(specs[name], tmp_path / "here", bases)
    there = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "there")],
        input=specs[name].model_dump_json(),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    got = json.loads(there.stdout.splitlines()[-1])
    assert got == [losses(here), here.predictions.to_pydict()["scores"]]


def test_a_run_leaves_the_base_as_it_was(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    for name, spec in kinds(tiny_causal, tiny_encoder).items():
        if name == "full":
            continue
        bases = LoadedBases()
        classes = 2 if spec.method.head == "classifier" else None
        model = bases.get(resolve(spec), classes).model
        before = fingerprint(model)
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        saving = spec.model_copy(
            update={
                "execution": spec.execution.model_copy(update={"activation_checkpointing": True})
            }
        )
        carry_out(saving, tmp_path / name, bases)
        assert bases.get(resolve(spec), classes).model is model, name
        assert fingerprint(model) == before, name
        after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        assert after == hooks, name
        assert not model.is_activation_checkpointing


def test_one_base_is_kept(tiny_causal: Path, tiny_encoder: Path) -> None:
    import gc
    import weakref

    specs = kinds(tiny_causal, tiny_encoder)
    bases = LoadedBases()
    model = weakref.ref(bases.get(resolve(specs["scoring"]), None).model)
    assert bases.get(resolve(specs["generation"]), None).model is model()
    bases.get(resolve(specs["classifier"]), 2)
    gc.collect()
    assert model() is None


def test_full_fine_tuning_does_not_leave_its_weights(tiny_causal: Path, tmp_path: Path) -> None:
    specs = kinds(tiny_causal, tiny_causal)
    bases = LoadedBases()
    first = carry_out(specs["zero-shot"], tmp_path / "a", bases)
    carry_out(specs["full"], tmp_path / "b", bases)
    assert carry_out(specs["zero-shot"], tmp_path / "c", bases).predictions.equals(
        first.predictions
    )


def test_the_record_says_what_was_run(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(tiny_causal, dataset={"validation": 0.25, "name": "reviews"})
    outcome = carry_out(spec, tmp_path)
    record, resolved = outcome.record, resolve(spec)
    assert (record.key, record.train_key) == (resolved.key, resolved.train_key)
    assert record.spec == resolved.spec
    assert record.status == "ok"
    assert record.accuracy_r == record.metrics["accuracy"]
    assert record.counts["train"] + record.counts["validation"] == 48
    assert record.counts["evaluation"] == outcome.predictions.num_rows == 12
    assert [row["step"] for row in record.loss_curve] == [1, 2, 3, 4, 5, 6]
    assert record.tokens["steps"] == 6
    assert record.tokens["examples_seen"] == 2 * 36  # two epochs of 16, 16 and 4
    assert record.wall_seconds.keys() == {"load", "train", "evaluate", "total"}
    assert sum(record.wall_seconds[p] for p in ("load", "train", "evaluate")) <= (
        record.wall_seconds["total"] + 0.01
    )
    assert record.peak_memory_bytes is not None
    assert record.peak_memory_bytes > 10_000_000
    assert record.provenance["packages"]["torch"] == torch.__version__
    assert record.provenance["hardware"]["device"] == "cpu"
    zero_shot = carry_out(run_spec(tiny_causal, method={"adapter": NONE}), tmp_path / "z").record
    assert record.zero_shot_key == zero_shot.key
    assert zero_shot.loss_curve == ()
    assert zero_shot.tokens == {}


def test_tokens_are_those_of_the_steps(tiny_causal: Path, tmp_path: Path) -> None:
    """Three epochs see every token three times."""
    from tests.runs import encoded, loaded

    spec = run_spec(
        tiny_causal, optim={"max_steps": None, "epochs": 3}, method={"head": "causal_lm"}
    )
    examples = encoded(spec, loaded(spec), training=True)
    assert carry_out(spec, tmp_path).record.tokens == {
        "train": 3 * sum(e.length for e in examples),
        "target": 3 * sum(len(e.target) for e in examples),
        "steps": 9,
        "examples_seen": 144,
    }


@pytest.mark.parametrize(
    ("head", "adapter"),
    [
        ("label_scoring", lora()),
        ("label_scoring", {"kind": "full"}),
        ("classifier", lora()),
        ("classifier", NONE),
    ],
)
def test_kept_weights_score_the_same_without_training(
    head: str, adapter: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    spec = run_spec(tiny_causal, method={"head": head, "adapter": adapter}, optim={"lr": 1e-2})
    first = carry_out(spec, tmp_path / "a", keep_adapter=True)
    assert first.adapter == tmp_path / "a" / "adapter"
    second = carry_out(spec, tmp_path / "b", trained=first.adapter)
    assert second.predictions.equals(first.predictions)
    assert second.record.loss_curve == ()
    assert second.adapter is None


def test_bf16_is_near_fp32(tiny_causal: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    specs = (
        run_spec(tiny_causal, optim={"lr": 1e-2}),
        run_spec(tiny_encoder, method={"head": "classifier", "adapter": lora()}),
        run_spec(tiny_causal, method={"adapter": {"kind": "full"}}),
    )
    for i, spec in enumerate(specs):
        low = spec.model_copy(update={"optim": spec.optim.model_copy(update={"precision": "bf16"})})
        full, half = carry_out(spec, tmp_path / f"a{i}"), carry_out(low, tmp_path / f"b{i}")
        assert losses(half) == pytest.approx(losses(full), rel=2e-2)
        assert losses(half) != losses(full)


@pytest.fixture(scope="module")
def wide_causal(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose layers are wide enough for blocks of 64 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide-causal")
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(tiny_causal)
    config.hidden_size, config.intermediate_size, config.num_key_value_heads = 64, 128, 4
    config.head_dim = 16
    LlamaForCausalLM(config).save_pretrained(folder)
    for path in tiny_causal.glob("token*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("quantization", "precision", "head"),
    [
        ("nf4", "bf16", "label_scoring"),
        ("nf4", "fp32", "classifier"),
        ("int8", "bf16", "causal_lm"),
        pytest.param("nf4", "fp32", "causal_lm", marks=pytest.mark.slow),
        pytest.param("nf4", "bf16", "classifier", marks=pytest.mark.slow),
        pytest.param("int8", "fp32", "label_scoring", marks=pytest.mark.slow),
        pytest.param("int8", "bf16", "classifier", marks=pytest.mark.slow),
    ],
)
def test_quantised_bases_train_and_answer(
    quantization: str, precision: str, head: str, wide_causal: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    spec = run_spec(
        wide_causal,
        base={"quantization": quantization},
        method={"head": head, "adapter": lora(target_modules="all_linear")},
        optim={"precision": precision, "lr": 5e-3, "max_steps": 10},
        evaluation={"max_new_tokens": 4},
    )
    bases = LoadedBases()
    model = bases.get(resolve(spec), 2 if head == "classifier" else None).model
    layer: Any = model.model.layers[0].mlp.up_proj
    assert type(layer).__name__ == {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[quantization]
    before = fingerprint(model)
    outcome = carry_out(spec, tmp_path / "once", bases, keep_adapter=True)
    twice = carry_out(spec, tmp_path / "twice", bases)
    assert losses(twice) == losses(outcome)
    assert outcome.record.status == "ok"
    assert outcome.predictions.num_rows == 12
    curve = losses(outcome)
    assert all(loss < 20 for loss in curve)
    assert len(set(curve)) == 10
    if head != "classifier":
        assert sum(curve[-3:]) < sum(curve[:3])
    assert (
        fingerprint(bases.get(resolve(spec), 2 if head == "classifier" else None).model) == before
    )
    again = carry_out(spec, tmp_path / "again", bases, trained=outcome.adapter)
    assert again.predictions.equals(outcome.predictions)


def test_a_quantised_base_alone_is_not_trained(wide_causal: Path) -> None:
    quantised = {"quantization": "nf4"}
    full = run_spec(wide_causal, base=quantised, method={"adapter": {"kind": "full"}})
    with pytest.raises(InputError, match="quantised weights cannot be trained"):
        resolve(full)
    resolve(run_spec(wide_causal, base=quantised, method={"adapter": NONE}))


def test_a_head_is_trained_on_a_quantised_base(wide_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(
        wide_causal,
        base={"quantization": "nf4"},
        method={"head": "classifier", "adapter": NONE},
        optim={"lr": 0.05, "max_steps": 8},
    )
    bases = LoadedBases()
    before = fingerprint(bases.get(resolve(spec), 2).model)
    outcome = carry_out(spec, tmp_path, bases, keep_adapter=True)
    found = losses(outcome)
    assert found[-1] < found[0]
    assert fingerprint(bases.get(resolve(spec), 2).model) == before
    hidden = bases.get(resolve(spec), 2).model.config.hidden_size
    assert outcome.record.parameters["trainable"] == 2 * hidden


def test_a_head_without_its_adapter(tiny_causal: Path, tmp_path: Path) -> None:
    """What was trained together is scored apart: the head alone, on the states of the base."""
    changes: dict[str, Any] = {
        "method": {"head": "classifier", "adapter": lora()},
        "optim": {"lr": 0.05, "max_steps": 8},
    }
    spec = run_spec(tiny_causal, **changes)
    off = run_spec(tiny_causal, **changes, evaluation={"adapter_off": True})
    bases = LoadedBases()
    tuned = carry_out(spec, tmp_path / "on", bases, keep_adapter=True)
    assert tuned.adapter is not None
    alone = carry_out(off, tmp_path / "off", bases, trained=tuned.adapter)
    weights = load_file(tuned.adapter / "adapter_model.safetensors")
    head = next(value for name, value in weights.items() if "score" in name)
    base = bases.get(resolve(spec), 2)
    base.model.score.weight.data.copy_(head)
    encodings = encoded(spec, base, training=False)
    wanted = [
        base.model(input_ids=torch.tensor([e.prompt])).logits.log_softmax(-1)[0].tolist()
        for e in encodings
    ]
    found = alone.predictions["scores"].to_pylist()
    assert found == [pytest.approx(row, abs=1e-4) for row in wanted]
    assert not tuned.predictions["scores"].equals(alone.predictions["scores"])
    again = carry_out(spec, tmp_path / "again", trained=tuned.adapter)
    assert again.predictions.equals(tuned.predictions)


@pytest.mark.parametrize(
    "method",
    [
        {"head": "classifier"},
        {"head": "label_scoring"},
        {"head": "label_scoring", "loss": "candidates"},
    ],
)
def test_class_weights_weigh_the_loss(method: dict[str, Any], tiny_causal: Path) -> None:
    """A weighted loss is the mean over examples that are repeated as often as they weigh."""
    spec = run_spec(tiny_causal, method=method)
    base = loaded(spec)
    rows = encoded(spec, base, training=True)[:8]
    weights = [1.0, 3.0]
    repeated = [e for e in rows for _ in range(int(weights[e.label]))]
    weighted = run_spec(tiny_causal, method={**method, "class_weights": "balanced"})
    cut = [replace(e, weight=weights[e.label]) for e in rows]
    units = [reference._loss_units(e, weighted) for e in cut]
    plain = [reference._loss_units(e, spec) for e in repeated]
    assert sum(units) == sum(plain)
    with torch.no_grad():
        found = reference.micro_loss(base.model, base, weighted, cut, sum(units))
        wanted = reference.micro_loss(base.model, base, spec, repeated, sum(plain))
    assert float(found) == pytest.approx(float(wanted), abs=1e-5)


def test_balanced_weights_are_those_of_scikit_learn(tiny_causal: Path, tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [2] * 2 + [1]
    found = semantics.class_weights(labels, ["a", "b", "c"], "balanced")
    classes = np.array([0, 1, 2])
    assert found == pytest.approx(compute_class_weight("balanced", classes=classes, y=labels))
    assert semantics.class_weights([0, 0], ["a", "b"], "balanced") == [1.0, 1.0]
    assert semantics.class_weights(labels, ["a", "b"], {"b": 2.0}) == [1.0, 2.0]
    skewed = {"recipe": [{"subsample": {"n": 20}}]}
    plain = carry_out(run_spec(tiny_causal, dataset=skewed), tmp_path / "plain")
    given = run_spec(tiny_causal, dataset=skewed, method={"class_weights": {"positive": 5.0}})
    assert losses(carry_out(given, tmp_path / "given")) != losses(plain)


def test_nf4_is_double_quantised_normal_float(wide_causal: Path) -> None:
    spec = run_spec(
        wide_causal, base={"quantization": "nf4"}, optim={"precision": "auto", "max_steps": 1}
    )
    resolved = resolve(spec)
    assert resolved.spec.optim.precision == "bf16"
    model: Any = LoadedBases().get(resolved, None).model
    state = model.model.layers[0].self_attn.q_proj.weight.quant_state
    assert (state.quant_type, state.nested, state.dtype) == ("nf4", True, torch.bfloat16)
    assert not hasattr(model.lm_head.weight, "quant_state")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(SpecError, match="torch sees no CUDA device"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


def test_rows_that_changed_since_the_plan_are_not_run(tiny_causal: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    rows = [f"a {w} film number {i},{w}" for i, w in enumerate(["negative", "positive"] * 12)]
    data.write_text("\n".join(["text,label", *rows]))
    spec = run_spec(tiny_causal, dataset={"source": str(data), "options": None})
    resolved = resolve(spec)
    data.write_text("\n".join(["text,label", *rows[2:]]))
    with pytest.raises(DataError, match="rows for train are not those"):
        execute(resolved, LoadedBases(), tmp_path / "run")


def test_weights_that_changed_since_the_plan_are_not_run(tiny_causal: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_causal, base)
    resolved = resolve(run_spec(base))
    weights = base / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BaseError, match="are not those that the run was planned with"):
        execute(resolved, LoadedBases(), tmp_path / "run")
