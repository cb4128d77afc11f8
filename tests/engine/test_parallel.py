"""Several processes carry out the run that one would have."""

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
STOPPED = 3
STRATEGIES = ["ddp", pytest.param("zero2", marks=slow), pytest.param("zero3", marks=slow)]
# A batch of 7 in micro-batches of 2: one process has four examples of it, the other three.
UNEVEN = {"lr": 1e-3, "max_steps": 6, "batch_size": 7}


def spec_of(base: Path, strategy: str | None, /, **changes: Any) -> RunSpec:
    distributed = strategy and {"workers": 2, "strategy": strategy}
    execution = {"micro_batch": 2, "eval_batch": 5, "device": "cpu", "distributed": distributed}
    changes["execution"] = execution | changes.get("execution", {})
    return run_spec(base, **{"optim": UNEVEN, **changes})


def together(spec: RunSpec, folder: Path, stop: int = 0, workers: int = 2) -> Outcome | None:
    """Carry out a run by several processes; None if it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".json")
    path.write_text(spec.model_dump_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("together.py")
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(workers)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(path), str(folder), str(stop)],
            cwd=ROOT,
            env={**os.environ, **common, "RANK": str(i), "LOCAL_RANK": str(i)}
            | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for i in range(workers)
    ]
    said = [process.communicate(timeout=300)[1].decode()[-3000:] for process in processes]
    codes = {process.returncode for process in processes}
    if codes == {STOPPED}:
        return None
    assert codes == {0}, "\n".join(said)
    outcome = pickle.loads((folder / "outcome.pickle").read_bytes())
    assert isinstance(outcome, Outcome)
    return outcome


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
    "candidates": {"method": {"loss": "candidates", "adapter": lora()}},
    "full": {"method": {"adapter": {"kind": "full"}}},
    "best": {
        "dataset": {"validation": 0.25},
        "evaluation": {"select": "best_on_validation"},
        "optim": {**UNEVEN, "lr": 0.05},  # so that the last weights are not the best
    },
    "checkpointed": {"execution": {"activation_checkpointing": True}},
    "one_pass": {"execution": {"micro_batch": 64}},
    "unclipped": {"optim": {**UNEVEN, "grad_clip": None}},
}


@slow
@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        *((kind, "ddp") for kind in ("classifier", "candidates", "best", "one_pass")),
        *((kind, "zero2") for kind in ("full", "best", "unclipped")),
        *((kind, "zero3") for kind in ("candidates", "full", "best", "checkpointed")),
    ],
)
def test_every_kind_of_run_can_be_shared(
    kind: str, strategy: str, tiny_causal: Path, tmp_path: Path
) -> None:
    alone = spec_of(tiny_causal, None, **KINDS[kind])
    shared = spec_of(tiny_causal, strategy, **KINDS[kind])
    outcome = carry_out(alone, tmp_path / "one", keep_adapter=True)
    agree(outcome, together(shared, tmp_path / "two"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stopped_run_goes_on_where_all_its_processes_were(
    strategy: str, tiny_causal: Path, tmp_path: Path
) -> None:
    spec = spec_of(tiny_causal, strategy, method={"adapter": lora(dropout=0.1)})
    whole = together(spec, tmp_path / "whole")
    assert whole is not None
    assert together(spec, tmp_path / "parts", stop=4) is None
    assert [p.name for p in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-4"]
    agree(whole, together(spec, tmp_path / "parts"))


@slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_a_quantised_base_can_be_shared(strategy: str, tiny_causal: Path, tmp_path: Path) -> None:
    """Products of 4-bit weights differ with the rows that share them, so losses do by more."""
    nf4 = {"base": {"quantization": "nf4"}}
    alone = carry_out(spec_of(tiny_causal, None, **nf4), tmp_path / "one", keep_adapter=True)
    outcome = together(spec_of(tiny_causal, strategy, **nf4), tmp_path / "two")
    assert outcome is not None
    assert losses(outcome) == pytest.approx(losses(alone), abs=0.02)
    assert losses(outcome)[0] != losses(outcome)[-1]
    again = carry_out(
        spec_of(tiny_causal, None, **nf4), tmp_path / "again", trained=outcome.adapter
    )
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
    runs = [resolve(spec_of(tiny_causal, strategy)) for strategy in (None, "ddp", "zero3")]
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
