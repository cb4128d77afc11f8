from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmpred.bases.resolve import resolve
from llmpred.errors import SpecError
from llmpred.ledger import Ledger
from llmpred.spec.run import RunSpec
from llmpred.sweep.plan import estimate, examples_seen, make_plan, packs
from tests.runs import run_spec


def spec(base: Path, **optim: Any) -> RunSpec:
    rows = {"source": "synthetic:sentiment", "options": {"n": 20, "seed": 2, "part": "test"}}
    return RunSpec.model_validate(
        {
            "task": {"name": "sentiment", "max_length": 32},
            "dataset": {
                "source": "synthetic:sentiment",
                "options": {"n": 60, "seed": 1, "part": "train"},
                "validation": 0.2,
            },
            "base": {"name": str(base)},
            "method": {"head": "label_scoring"},
            "optim": {"max_steps": 10, "batch_size": 8, **optim},
            "evaluation": {"data": rows},
        }
    )


def test_zero_shot_runs_come_first_and_once(tiny_causal: Path, tmp_path: Path) -> None:
    runs = [(spec(tiny_causal, lr=lr), "here") for lr in (1e-3, 1e-2)]
    plan = make_plan(runs, Ledger(tmp_path), zero_shot=True)
    assert [run.spec.trains for run in plan.runs.values()] == [False, True, True]
    assert [run.zero_shot_key for run in plan.todo][1:] == [next(iter(plan.runs))] * 2
    assert len(make_plan(runs, Ledger(tmp_path), zero_shot=False).runs) == 2


def test_what_does_not_fit_a_base_is_left_out(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    scoring = [(spec(base), str(base)) for base in (tiny_causal, tiny_encoder)]
    plan = make_plan(scoring, Ledger(tmp_path), zero_shot=False, unfit="skip")
    assert [run.base for run in plan.runs.values()] == [str(tiny_causal)]
    assert any("1 run left out" in note and "encoder" in note for note in plan.notes)
    with pytest.raises(SpecError, match="needs a causal language model"):
        make_plan(scoring, Ledger(tmp_path), zero_shot=False)
    with pytest.raises(SpecError, match="needs a causal language model"):
        make_plan(scoring[1:], Ledger(tmp_path), zero_shot=False, unfit="skip")


def test_packs_keep_evaluations_of_one_training_together(tiny_causal: Path) -> None:
    runs = []
    for seed in range(6):
        one = spec(tiny_causal).model_copy(update={"seed": seed})
        runs.append(resolve(one))
        fewer = one.evaluation.model_copy(update={"limit": 5})
        runs.append(resolve(one.model_copy(update={"evaluation": fewer})))
    runs = runs[::2] + runs[1::2]
    cut = packs(runs, 1)
    assert sorted(len(pack) for pack in cut) == [4, 4, 4]
    assert {run.key for pack in cut for run in pack} == {run.key for run in runs}
    for pack in cut:
        assert len({run.train_key for run in pack}) == len(pack) // 2


def test_a_pack_loads_its_base_once(tiny_causal: Path) -> None:
    """Runs that read numbers as one token load a base with that token, and others without."""
    quantities = {"source": "synthetic:quantities", "options": {"n": 30, "seed": 1}}
    runs = [
        resolve(
            run_spec(
                tiny_causal,
                task={"name": "numeric", "labels": None, "max_length": 128},
                dataset=quantities,
                method={"head": head},
                evaluation={"data": quantities},
                seed=seed,
            )
        )
        for seed in range(3)
        for head in ("numeric", "causal_lm")
    ]
    heads = [{run.spec.method.head for run in pack} for pack in packs(runs, 1)]
    assert all(len(pack) == 1 for pack in heads)


@pytest.mark.parametrize(("length", "seen"), [({"max_steps": 10}, 80), ({"epochs": 2.0}, 96)])
def test_examples_seen(tiny_causal: Path, length: dict[str, Any], seen: int) -> None:
    run = resolve(spec(tiny_causal, **({"max_steps": None} | length)))
    assert run.counts["train"] == 48
    assert examples_seen(run) == seen


def test_seconds_follow_the_work_of_finished_runs(tiny_causal: Path, tmp_path: Path) -> None:
    runs = [(spec(tiny_causal, max_steps=steps), "here") for steps in (10, 20)]
    plan = make_plan(runs, Ledger(tmp_path), zero_shot=False)
    assert estimate(plan, []).seconds == {}
    row = {
        "origin": "run",
        "wall.total": 26.0,
        "hash.weights": plan.todo[0].hashes["weights"],
        "base.quantization": "none",
        "method.head": "label_scoring",
        "tokens.examples_seen": 80,
        "count.evaluation": 20,
    }
    guess = estimate(plan, [row])
    assert [guess.seconds[run.key] for run in plan.todo] == pytest.approx([26.0, 50.0])
    assert guess.basis == "from 1 finished run"


def test_the_columns_that_an_estimate_reads_exist(sweep: Any) -> None:
    from llmpred.ledger.columns import flatten
    from llmpred.ledger.record import RunRecord

    record = RunRecord(
        key="k" * 8,
        train_key="t",
        dataset="d",
        base="b",
        spec=spec(Path(sweep.space["bases"][0])),
        hashes={"weights": "w"},
        status="ok",
        accuracy_r=0.5,
        wall_seconds={"total": 1.0},
        tokens={"examples_seen": 1},
        counts={"evaluation": 1},
    )
    wanted = {"origin", "wall.total", "hash.weights", "base.quantization", "method.head"}
    wanted |= {"tokens.examples_seen", "count.evaluation"}
    assert wanted <= flatten(record.model_dump(mode="json")).keys()
