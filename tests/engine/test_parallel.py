"""Several processes carry out the run that one would have."""

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmpred.bases.resolve import resolve
from llmpred.engine import parallel
from llmpred.engine.run import Outcome
from llmpred.errors import SpecError
from llmpred.spec.run import RunSpec
from tests.conftest import ROOT
from tests.runs import carry_out, lora, losses, run_spec

slow = pytest.mark.slow
STRATEGIES = ["ddp", *(pytest.param(name, marks=slow) for name in ("zero2", "zero3", "fsdp2"))]
# A batch of 7 in micro-batches of 2: one process has four examples of it, the other three.
UNEVEN = {"lr": 1e-3, "max_steps": 6, "batch_size": 7}


def spec_of(base: Path, strategy: str | None, /, offload: str = "none", **changes: Any) -> RunSpec:
    distributed = strategy and {"workers": 2, "strategy": strategy, "offload": offload}
    execution = {"micro_batch": 2, "eval_batch": 5, "device": "cpu", "distributed": distributed}
    changes["execution"] = execution | changes.get("execution", {})
    return run_spec(base, **{"optim": UNEVEN, **changes})


def together(spec: RunSpec, folder: Path, stop: int = 0) -> Outcome | None:
    """Carry out a run by two processes; None if it was stopped."""
    (outcome,) = all_together([(spec, folder, stop)])
    return outcome


def all_together(runs: Sequence[tuple[RunSpec, Path, int]]) -> list[Outcome | None]:
    """Carry out runs by two processes, one after the other; None for each that was stopped.

    A run is its spec, its folder, and the step after which it is asked to stop, or 0.
    """
    for spec, folder, _ in runs:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.json").write_text(spec.model_dump_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("together.py")
    asked = [str(each) for _, folder, stop in runs for each in (folder, stop)]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *asked],
            cwd=ROOT,
            env={**os.environ, **common, "RANK": str(i), "LOCAL_RANK": str(i)}
            | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=300)[1].decode()[-3000:] for process in processes]
    assert {process.returncode for process in processes} == {0}, "\n".join(said)
    outcomes = [pickle.loads((folder / "outcome.pickle").read_bytes()) for _, folder, _ in runs]
    assert all(isinstance(outcome, Outcome | None) for outcome in outcomes)
    return outcomes


def agree(one: Outcome, other: Outcome | None) -> None:
    """Assert that two outcomes agree but for the order in which numbers were added."""
    assert other is not None
    assert one.record.key == other.record.key
    assert one.record.tokens == other.record.tokens
    assert losses(other) == pytest.approx(losses(one), abs=1e-5)
    for row, others in zip(one.record.loss_curve, other.record.loss_curve, strict=True):
        assert others["lr"] == pytest.approx(row["lr"])
        assert others["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)
    assert one.predictions["id"].equals(other.predictions["id"])
    assert one.predictions["prediction"].equals(other.predictions["prediction"])
    assert one.record.metrics == pytest.approx(other.record.metrics)
    assert one.adapter is not None
    assert other.adapter is not None
    names = [sorted(p.name for p in each.adapter.iterdir()) for each in (one, other)]  # type: ignore[union-attr]
    assert names[0] == names[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_do_what_one_does(strategy: str, tiny_causal: Path, tmp_path: Path) -> None:
    alone = carry_out(spec_of(tiny_causal, None), tmp_path / "one", keep_adapter=True)
    spec = spec_of(tiny_causal, strategy)
    outcome = together(spec, tmp_path / "two")
    agree(alone, outcome)
    # What they saved is what they had: evaluated alone, the weights answer the same.
    assert outcome is not None
    again = carry_out(spec_of(tiny_causal, None), tmp_path / "again", trained=outcome.adapter)
    assert again.predictions["prediction"].equals(outcome.predictions["prediction"])


KINDS: dict[str, dict[str, Any]] = {
    "classifier": {"method": {"head": "classifier", "adapter": lora()}},
    "frozen": {"method": {"head": "classifier", "adapter": {"kind": "none"}}},
    "candidates": {"method": {"loss": "candidates", "adapter": lora()}},
    "mixed": {"method": {"loss": "candidates", "adapter": lora()}},  # see `mixed_choices`
    "weighted": {"method": {"head": "classifier", "class_weights": {"positive": 3.0}}},
    "generated": {"method": {"head": "causal_lm", "adapter": lora()}},
    "full": {
        "method": {"adapter": {"kind": "full"}},
        "optim": {**UNEVEN, "weight_decay": 0.1},
    },
    "best": {
        "dataset": {"validation": 0.25},
        "evaluation": {"select": "best_on_validation"},
        "optim": {**UNEVEN, "lr": 0.05},  # so that the last weights are not the best
    },
    "checkpointed": {"execution": {"activation_checkpointing": True}},
    "one_pass": {"execution": {"micro_batch": 64}},
    "unclipped": {"optim": {**UNEVEN, "grad_clip": None}},
    "bf16": {"optim": {**UNEVEN, "precision": "bf16"}},
    "optimizer": {"offload": "optimizer"},
    "all": {"offload": "all"},
}
SHARED = {  # the kinds that a strategy treats differently
    "ddp": [
        "classifier",
        "candidates",
        "mixed",
        "weighted",
        "best",
        "checkpointed",
        "one_pass",
        "bf16",
    ],
    "zero2": ["full", "best", "checkpointed", "unclipped", "bf16", "optimizer"],
    "zero3": [
        *("classifier", "frozen", "candidates", "mixed", "full", "best", "checkpointed"),
        *("bf16", "optimizer", "all"),
    ],
    "fsdp2": [
        *("classifier", "frozen", "candidates", "mixed", "generated", "full", "best"),
        *("checkpointed", "unclipped", "bf16", "all"),
    ],
}


def mixed_choices(path: Path) -> dict[str, Any]:
    """Write questions whose choices are one token each, or several, and return what names them.

    A process whose questions are all of the first sort must take as many passes as the others.
    """
    rows = [
        {
            "question": f"Which is it, number {i}?",
            "choices": ["a", "b"] if i % 2 else ["a long answer", "another one"],
            "answer": i % 3 % 2,
        }
        for i in range(24)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    source = {"source": str(path), "options": None}
    return {
        "task": {"name": "multiple_choice", "labels": None, "max_length": 64},
        "dataset": source,
        "evaluation": {"data": source},
        "execution": {"micro_batch": 1},
    }


@slow
@pytest.mark.parametrize("strategy", SHARED)
def test_every_kind_of_run_can_be_shared(strategy: str, tiny_causal: Path, tmp_path: Path) -> None:
    kinds = SHARED[strategy]
    choices = mixed_choices(tmp_path / "choices.jsonl")
    changes = {kind: KINDS[kind] | (choices if kind == "mixed" else {}) for kind in kinds}
    shared = [(spec_of(tiny_causal, strategy, **changes[k]), tmp_path / k, 0) for k in kinds]
    for kind, outcome in zip(kinds, all_together(shared), strict=True):
        alone = spec_of(tiny_causal, None, **changes[kind])
        one = carry_out(alone, tmp_path / f"{kind}-alone", keep_adapter=True)
        if kind == "bf16":  # products of other rows are rounded otherwise
            assert outcome is not None
            assert losses(outcome) == pytest.approx(losses(one), abs=2e-3)
        else:
            agree(one, outcome)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stopped_run_goes_on_where_all_its_processes_were(
    strategy: str, tiny_causal: Path, tmp_path: Path
) -> None:
    spec = spec_of(tiny_causal, strategy, method={"adapter": lora(dropout=0.1)})
    whole, none = all_together([(spec, tmp_path / "whole", 0), (spec, tmp_path / "parts", 4)])
    assert whole is not None
    assert none is None
    assert [p.name for p in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-4"]
    agree(whole, together(spec, tmp_path / "parts"))


@slow
@pytest.mark.parametrize(
    ("strategy", "quantizations"),
    [("zero2", ["nf4"]), ("zero3", ["nf4", "int8"]), ("fsdp2", ["nf4"])],
)
def test_a_quantised_base_can_be_shared(
    strategy: str, quantizations: list[str], tiny_causal: Path, tmp_path: Path
) -> None:
    """In int8 the activations are rounded too, by rows that share a product: losses do differ."""
    bases = [{"base": {"quantization": name}} for name in quantizations]
    folders = [tmp_path / name for name in quantizations]
    runs = [
        (spec_of(tiny_causal, strategy, **base), folder, 0)
        for base, folder in zip(bases, folders, strict=True)
    ]
    for base, folder, outcome in zip(bases, folders, all_together(runs), strict=True):
        spec = spec_of(tiny_causal, None, **base)
        alone = carry_out(spec, folder / "alone", keep_adapter=True)
        assert outcome is not None
        tolerance = 1e-3 if base["base"]["quantization"] == "nf4" else 0.02
        assert losses(outcome) == pytest.approx(losses(alone), abs=tolerance)
        assert losses(outcome)[0] != losses(outcome)[-1]
        again = carry_out(spec, folder / "again", trained=outcome.adapter)
        assert again.predictions["prediction"].equals(outcome.predictions["prediction"])


@slow
def test_a_checkpoint_of_other_processes_is_not_continued(
    tiny_causal: Path, tmp_path: Path
) -> None:
    assert together(spec_of(tiny_causal, "zero2"), tmp_path / "run", stop=4) is None
    alone = spec_of(tiny_causal, None)
    outcome = carry_out(alone, tmp_path / "run", keep_adapter=True)
    agree(outcome, carry_out(alone, tmp_path / "other", keep_adapter=True))


def test_how_many_processes_does_not_change_the_key(tiny_causal: Path) -> None:
    runs = [resolve(spec_of(tiny_causal, strategy)) for strategy in (None, "ddp", "fsdp2")]
    assert len({run.key for run in runs}) == 1


def test_a_run_for_two_is_not_carried_out_by_one(tiny_causal: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="asks for 2 processes, but 1"):
        carry_out(spec_of(tiny_causal, "ddp"), tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_micro_batches_hold_every_example_once(
    size: int, count: int, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(rank: int) -> list[tuple[Sequence[int], bool]]:
        monkeypatch.setattr(parallel, "rank", lambda: rank)
        monkeypatch.setattr(parallel, "size", lambda: size)
        return list(parallel.micro_batches(range(count), micro_batch))

    found = [of(rank) for rank in range(size)]
    assert len({len(each) for each in found}) == 1
    held = sorted(i for each in found for micro, counts in each if counts for i in micro)
    assert held == list(range(count))
    assert all(len(micro) <= micro_batch for each in found for micro, _ in each)


def test_one_process_needs_no_deepspeed(tiny_causal: Path) -> None:
    """Importing DeepSpeed takes seconds, in each worker of a sweep."""
    code = (
        "import sys, tempfile; from pathlib import Path\n"
        "from tests.runs import carry_out, run_spec\n"
        f"carry_out(run_spec(Path({str(tiny_causal)!r})), Path(tempfile.mkdtemp()))\n"
        "print('deepspeed' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.decode().split()[-1] == "False"
