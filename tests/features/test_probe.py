"""The probe: a run's own first steps, and what is measured on them."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmpred.bases.resolve import resolve
from llmpred.engine import reference
from llmpred.engine.models import LoadedBases
from llmpred.errors import SpecError
from llmpred.features.base import Values, compute
from llmpred.features.probe import FEATURES, ProbeTrace, Unknown, loss_fit, probe, probe_steps
from llmpred.spec.run import RunSpec
from tests.conftest import ROOT
from tests.runs import LABELS, carry_out, fingerprint, lora, run_spec, same

NAMES = [feature.name for feature in FEATURES]
DROPOUT = lora(dropout=0.1)
CLASSIFIER = {"head": "classifier", "adapter": lora()}
HEAD_ALONE = {"head": "classifier", "adapter": {"kind": "none"}}


def trace_of(
    spec: RunSpec, folder: Path, bases: LoadedBases | None = None, **how: Any
) -> ProbeTrace:
    return probe(resolve(spec), bases or LoadedBases(), folder, **how)


def measured(spec: RunSpec, folder: Path, **how: Any) -> Values:
    trace = trace_of(spec, folder, **how)
    return compute(FEATURES, trace, trace.facts)


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def rows(path: Path, labels: list[str], texts: list[str]) -> dict[str, Any]:
    """Write reviews; return the section of the dataset."""
    lines = [json.dumps({"text": t, "label": x}) for t, x in zip(texts, labels, strict=True)]
    path.write_text("\n".join(lines))
    return {"source": str(path), "options": None}


def on_proxy(**changes: Any) -> RunSpec:
    """A run on the shipped base, whose label words are single tokens of it."""
    sections: dict[str, Any] = {
        "task": {"labels": {"negative": "bad", "positive": "good"}},
        "dataset": {"options": {"n": 240, "seed": 1, "part": "train"}},
        "method": {"head": "label_scoring", "adapter": lora(target_modules="all_linear")},
    }
    for name, change in changes.items():
        sections[name] = {**sections.get(name, {}), **change}
    return run_spec("proxy", **sections)


VARIANTS: dict[str, dict[str, Any]] = {
    "label_scoring": {"method": {"adapter": DROPOUT}},
    "candidates": {"method": {"adapter": DROPOUT, "loss": "candidates"}},
    "causal_lm": {"method": {"head": "causal_lm", "adapter": DROPOUT}},
    "classifier": {"method": {"head": "classifier", "adapter": DROPOUT}},
    "encoder": {"method": {"head": "classifier", "adapter": DROPOUT}},
    "head alone": {"method": HEAD_ALONE},
    "full": {"method": {"adapter": {"kind": "full"}}},
    "best on validation": {
        "method": {"adapter": DROPOUT},
        "dataset": {"validation": 0.2},
        "evaluation": {"select": "best_on_validation"},
    },
}


@pytest.fixture(params=VARIANTS)
def spec(request: pytest.FixtureRequest, tiny_causal: Path, tiny_encoder: Path) -> RunSpec:
    base = tiny_encoder if request.param == "encoder" else tiny_causal
    optim = {"max_steps": 7, "schedule": "cosine", "warmup": 0.2, "lr": 5e-3}
    options = {"n": 80, "seed": 1, "part": "train"}
    sections = {"optim": optim, "dataset": {}, **VARIANTS[request.param]}
    sections["dataset"] = {"options": options, **sections["dataset"]}
    return run_spec(base, **sections)


def test_a_run_bought_after_its_probe_is_the_run_never_probed(
    spec: RunSpec, tmp_path: Path
) -> None:
    bases, folder = LoadedBases(), tmp_path / "probed"
    trace = trace_of(spec, folder, bases, steps=3)
    every_feature_is_known_or_says_why(trace, spec)
    assert checkpoints(folder) == ["checkpoint-3"]
    asked: dict[str, int] = {"whole": 0, "bought": 0}

    def stop(name: str) -> None:
        asked[name] += 1

    bought = carry_out(spec, folder, bases, keep_adapter=True, stop=lambda: stop("bought"))
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True, stop=lambda: stop("whole"))
    same(whole, bought)
    assert trace.curve == whole.record.loss_curve[:3]
    assert asked["whole"] - asked["bought"] == 3  # asked once a step: three were not taken again


def every_feature_is_known_or_says_why(trace: ProbeTrace, spec: RunSpec) -> None:
    found = compute(FEATURES, trace, trace.facts)
    assert list(found.values) == NAMES
    unknown = {name for name, value in found.values.items() if math.isnan(value)}
    assert unknown == found.warnings.keys()
    assert unknown == ({"forgetting"} if spec.method.head == "classifier" else set())
    assert all("no language-model head" in reason for reason in found.warnings.values())


@pytest.mark.parametrize("when", ["after", pytest.param("within", marks=pytest.mark.slow)])
def test_a_death_after_or_within_a_probe_loses_nothing(
    when: str, tiny_causal: Path, tmp_path: Path
) -> None:
    spec = run_spec(tiny_causal, method={"adapter": DROPOUT}, optim={"lr": 5e-3})
    folder = tmp_path / "probed"
    folder.mkdir()
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    script = Path(__file__).with_name("killed.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "spec.json"), str(folder), when],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    left = reference.newest_checkpoint(folder)
    assert left == (folder / "checkpoint-3" if when == "after" else None)
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    same(whole, carry_out(spec, folder, keep_adapter=True))
    if when == "within":
        trace_of(spec, folder, steps=3)
        assert not (folder / "probe").exists()


@pytest.mark.parametrize("spec", ["label_scoring", "encoder"], indirect=True)
def test_a_probe_twice_measures_the_same(spec: RunSpec, tmp_path: Path) -> None:
    one = trace_of(spec, tmp_path / "one", steps=3)
    bases = LoadedBases()
    trace_of(spec, tmp_path / "other", bases, steps=3)
    other = trace_of(spec, tmp_path / "other", bases, steps=3)
    assert other.values == one.values
    assert (other.curve, other.cosines) == (one.curve, one.cosines)


def test_a_probe_leaves_base_and_random_states_alone(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(tiny_causal, method={"adapter": DROPOUT})
    bases, resolved = LoadedBases(), resolve(spec)
    model = bases.get(resolved, None).model
    before = fingerprint(model)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    probe(resolved, bases, tmp_path, steps=3)
    assert bases.get(resolved, None).model is model
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_that_is_further_keeps_its_checkpoint(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(tiny_causal, execution={"checkpoints": {"every": 5, "keep": 1}})
    whole = carry_out(spec, tmp_path / "run", keep_adapter=True)
    before = checkpoints(tmp_path / "run")
    trace = trace_of(spec, tmp_path / "run", steps=3)
    assert checkpoints(tmp_path / "run") == before
    assert trace.curve == whole.record.loss_curve[:3]


@pytest.mark.parametrize(
    ("total", "wanted", "taken"),
    [
        (5, None, 5),
        (40, None, 8),
        (200, None, 10),
        (201, None, 11),
        (1000, None, 50),
        (9000, None, 100),
        (40, 3, 3),
        (40, 60, 40),
    ],
)
def test_a_probe_is_a_twentieth_of_the_run(total: int, wanted: int | None, taken: int) -> None:
    assert probe_steps(total, wanted) == taken


def test_what_cannot_be_probed_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least 1 step, but got 0"):
        trace_of(run_spec(tiny_causal), tmp_path, steps=0)
    zero_shot = run_spec(tiny_causal, method={"adapter": {"kind": "none"}})
    with pytest.raises(SpecError, match="this run trains nothing"):
        trace_of(zero_shot, tmp_path)


# --- features, one by one --------------------------------------------------------------------


def test_only_the_early_score_reads_the_evaluations_answers() -> None:
    assert [f.name for f in FEATURES if f.reads_eval_labels] == ["early_score"]
    assert {(f.group, f.cost) for f in FEATURES} == {("probe", "train")}
    assert len(set(NAMES)) == len(NAMES)


def curve(losses: list[float], rates: list[float]) -> list[dict[str, float]]:
    return [
        {"step": i + 1.0, "loss": loss, "lr": lr, "grad_norm": 1.0}
        for i, (loss, lr) in enumerate(zip(losses, rates, strict=True))
    ]


def test_the_decay_is_the_slope_against_the_rates_spent_before_each_loss() -> None:
    rates = [0.1, 0.2, 0.3, 0.3]
    spent = [0.0, 0.1, 0.3, 0.6]
    fit = loss_fit(curve([2.0 - 1.5 * x for x in spent], rates))
    assert (fit.slope, fit.error, fit.residual) == pytest.approx((1.5, 0, 0), abs=1e-12)


def test_the_decays_error_is_that_of_least_squares() -> None:
    from scipy.stats import linregress

    rates = list(np.linspace(0.1, 1.0, 30))
    spent = np.concatenate([[0.0], np.cumsum(rates)[:-1]])
    losses = 3 - 0.1 * spent + np.random.default_rng(0).normal(0, 0.2, 30)
    fit, wanted = loss_fit(curve(list(losses), rates)), linregress(spent, losses)
    assert (-fit.slope, fit.error) == pytest.approx((wanted.slope, wanted.stderr))
    assert fit.residual == pytest.approx(0.2, rel=0.2)


def test_a_line_needs_three_finite_losses() -> None:
    with pytest.raises(Unknown, match="three steps"):
        loss_fit(curve([2.0, 1.0], [0.1, 0.1]))
    with pytest.raises(Unknown, match="diverged in step 3"):
        loss_fit(curve([2.0, 1.0, math.nan], [0.1] * 3))


def test_of_rows_that_are_all_the_same(tiny_causal: Path, tmp_path: Path) -> None:
    """One row many times: any slice has the loss of any batch, and gradients have no noise."""
    data = rows(tmp_path / "rows.jsonl", ["positive"] * 60, ["a fine film"] * 60)
    spec = run_spec(tiny_causal, dataset=data, optim={"max_steps": 60, "lr": 1e-4})
    trace = trace_of(spec, tmp_path / "same", steps=2)
    found = compute(FEATURES, trace).values
    assert found["initial_loss"] == pytest.approx(trace.curve[0]["loss"], rel=1e-5)
    assert found["grad_noise_scale"] == pytest.approx(0, abs=1e-6)
    assert found["grad_consistency"] > 0.99


def test_gradient_norms_are_those_before_clipping(tiny_causal: Path, tmp_path: Path) -> None:
    loose = run_spec(tiny_causal, optim={"grad_clip": None})
    tight = run_spec(tiny_causal, optim={"grad_clip": 1e-3})
    one, other = trace_of(loose, tmp_path / "a"), trace_of(tight, tmp_path / "b")
    assert other.curve[0]["grad_norm"] == pytest.approx(one.curve[0]["grad_norm"], rel=1e-5)
    norms = [row["grad_norm"] for row in one.curve]
    found = compute(FEATURES, one).values
    assert found["grad_norm"] == pytest.approx(np.mean(norms))
    assert found["grad_norm_sd"] == pytest.approx(np.std(norms, ddof=1))
    assert min(norms) > 1e-3


def test_the_relative_change_is_that_of_the_merged_weights(
    tiny_causal: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    spec = run_spec(tiny_causal, method={"adapter": lora(alpha=20, use_rslora=True)})
    found = measured(spec, tmp_path, steps=100).values["relative_change"]  # the whole run
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    before = AutoModelForCausalLM.from_pretrained(tiny_causal).state_dict()
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_causal), outcome.adapter
    )
    after = tuned.merge_and_unload().state_dict()
    names = [name for name in before if "self_attn" in name and name.endswith("weight")]
    change = sum(float((after[n] - before[n]).square().sum()) for n in names)
    whole = sum(float(before[n].square().sum()) for n in names)
    assert found == pytest.approx(math.sqrt(change / whole), rel=1e-3)


@pytest.mark.parametrize("method", [{"adapter": lora()}, {"adapter": {"kind": "full"}}, HEAD_ALONE])
def test_a_higher_rate_changes_more(
    method: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    def at(lr: float) -> dict[str, float]:
        spec = run_spec(tiny_causal, method=method, optim={"lr": lr})
        return measured(spec, tmp_path / f"{lr}", steps=2).values

    low, high = at(1e-4), at(1e-3)
    assert high["relative_change"] > 3 * low["relative_change"] > 0
    assert high["lr_integral"] == pytest.approx(10 * low["lr_integral"])
    assert high["heldout_loss_drop"] > low["heldout_loss_drop"] > 0


def test_constant_labels_are_learnt_on_rows_not_seen_and_random_ones_are_noise(
    tiny_causal: Path, tmp_path: Path
) -> None:
    texts = [f"film number {i}" for i in range(80)]

    def values(labels: list[str], name: str) -> dict[str, float]:
        data = rows(tmp_path / f"{name}.jsonl", labels, texts)
        spec = run_spec(tiny_causal, dataset=data, method=CLASSIFIER, optim={"lr": 5e-3})
        return measured(spec, tmp_path / name, steps=4).values

    constant = values(["positive"] * 80, "constant")
    random = values(np.random.default_rng(0).choice(list(LABELS), 80).tolist(), "random")
    assert constant["heldout_loss_drop"] > 3 * max(0.01, random["heldout_loss_drop"])
    assert constant["grad_consistency"] > random["grad_consistency"]
    assert random["grad_noise_scale"] > 10 * constant["grad_noise_scale"]


def test_nothing_is_held_out_of_what_is_seen_whole(tiny_causal: Path, tmp_path: Path) -> None:
    found = measured(run_spec(tiny_causal), tmp_path)  # 6 steps of 16 on 48 rows
    assert math.isnan(found.values["heldout_loss_drop"])
    assert "see almost all rows" in found.warnings["heldout_loss_drop"]
    assert math.isfinite(found.values["initial_loss"])
    assert found.facts["unseen"] == 0


def test_activations_of_relu_are_the_sparser_ones(tiny_causal: Path, tmp_path: Path) -> None:
    changed = tmp_path / "relu"
    shutil.copytree(tiny_causal, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    smooth = measured(run_spec(tiny_causal), tmp_path / "a", steps=1).values
    zeros = measured(run_spec(changed), tmp_path / "b", steps=1).values
    assert 0.4 < zeros["activation_sparsity"] < 0.7
    assert smooth["activation_sparsity"] < 0.2


def test_a_convex_loss_rises_around_every_point(tiny_causal: Path, tmp_path: Path) -> None:
    """Of a linear classifier on frozen features, the steeper the larger its weights."""

    def flatness(lr: float) -> float:
        spec = run_spec(tiny_causal, method=HEAD_ALONE, optim={"lr": lr})
        return measured(spec, tmp_path / f"{lr}").values["flatness"]

    assert flatness(0.3) > 2 * flatness(1e-3) > 0


def test_a_violent_training_forgets(tiny_causal: Path, tmp_path: Path) -> None:
    def forgetting(lr: float) -> float:
        method = {"adapter": {"kind": "full"}}
        spec = run_spec(tiny_causal, method=method, optim={"lr": lr})
        return measured(spec, tmp_path / f"{lr}").values["forgetting"]

    assert abs(forgetting(1e-6)) < 1e-3
    assert forgetting(0.1) > 0.1


def test_the_early_score_is_the_tasks_metric(tiny_causal: Path, tmp_path: Path) -> None:
    """A probe as long as the run scores what the run does: it has 12 evaluation rows."""
    spec = run_spec(tiny_causal, optim={"lr": 5e-3})
    found = measured(spec, tmp_path, steps=100)
    record = carry_out(spec, tmp_path).record
    assert found.values["early_score"] == record.accuracy_r
    assert found.facts["early_rows"] == 12


@pytest.mark.parametrize("steps", [3, 5])
def test_a_run_that_diverges_in_its_probe_says_so(
    steps: int, tiny_causal: Path, tmp_path: Path
) -> None:
    """Its third loss is no number: no checkpoint is left, and the run is still the same."""
    spec = run_spec(tiny_causal)

    def spoilt() -> LoadedBases:
        bases, passes = LoadedBases(), []

        def spoil(module: Any, args: Any, output: Any) -> Any:
            passes.extend([1] * module.training)
            return output * math.nan if len(passes) > 8 else output  # four a step

        bases.get(resolve(spec), None).model.lm_head.register_forward_hook(spoil)
        return bases

    trace = trace_of(spec, tmp_path / "probed", spoilt(), steps=steps)
    found = compute(FEATURES, trace, trace.facts)
    assert (found.facts["steps"], found.facts["diverged"]) == (3, 1)
    known = {name for name, value in found.values.items() if not math.isnan(value)}
    assert known == {"initial_loss", "lr_integral"}
    reasons = {found.warnings[n] for n in NAMES if n not in known | {"heldout_loss_drop"}}
    assert reasons == {"Unknown: the run diverged in step 3"}
    assert checkpoints(tmp_path / "probed") == []
    whole = carry_out(spec, tmp_path / "whole", spoilt()).record
    bought = carry_out(spec, tmp_path / "probed", spoilt()).record
    assert bought.status == "diverged"
    assert bought.loss_curve == whole.loss_curve
    assert len(bought.loss_curve) == 3


def test_a_run_that_explodes_is_noted(tiny_causal: Path, tmp_path: Path) -> None:
    method = {"adapter": {"kind": "full"}}
    spec = run_spec(tiny_causal, method=method, optim={"lr": 10.0, "grad_clip": None})
    found = measured(spec, tmp_path)
    assert found.facts["diverged"] == 1
    assert math.isfinite(found.values["grad_norm"])
    assert found.values["loss_decay"] < 0


def test_memory_that_does_not_suffice_costs_a_feature_and_no_run(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.autograd, "grad", full)
    found = measured(run_spec(tiny_causal), tmp_path, steps=3)  # which see all rows
    assert "memory does not suffice" in found.warnings["grad_noise_scale"]
    unknown = {"grad_noise_scale", "heldout_loss_drop"}
    assert {n for n, v in found.values.items() if math.isnan(v)} == unknown
    assert checkpoints(tmp_path) == ["checkpoint-3"]


@pytest.mark.parametrize("head", ["label_scoring", "causal_lm"])
def test_on_the_shipped_proxy(head: str, tmp_path: Path) -> None:
    spec = on_proxy(method={"head": head}, optim={"max_steps": 3})
    found = measured(spec, tmp_path, steps=2)
    unknown = {"loss_decay", "loss_stability"}  # a line through two steps has no error
    assert {n for n, v in found.values.items() if math.isnan(v)} == unknown
