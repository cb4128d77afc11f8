"""A run that was interrupted and continued is the run that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpred.bases.resolve import resolve
from llmpred.engine import reference
from llmpred.engine.models import Interrupted
from llmpred.engine.run import Outcome
from llmpred.errors import SpecError
from llmpred.spec.run import RunSpec
from tests.conftest import ROOT
from tests.runs import carry_out, lora, losses, run_spec, same

EVERY_TWO = {"checkpoints": {"every": 2}}


def causal(base: Path, **execution: Any) -> RunSpec:
    """A run with dropout, whose masks a resumed run has to draw as well."""
    return run_spec(
        base,
        method={"adapter": lora(dropout=0.1)},
        optim={"max_steps": 7, "schedule": "cosine", "warmup": 0.2, "lr": 5e-3},
        execution={**EVERY_TWO, **execution},
    )


def encoder(base: Path, **execution: Any) -> RunSpec:
    """A classifier; the base brings dropout of its own."""
    return run_spec(
        base,
        method={"head": "classifier", "adapter": lora(dropout=0.1)},
        optim={"max_steps": 7, "lr": 5e-3},
        execution={**EVERY_TWO, **execution},
    )


def after(steps: int) -> Callable[[], str | None]:
    """Return a `stop` that gives a reason after so many steps."""
    left = steps

    def stop() -> str | None:
        nonlocal left
        left -= 1
        return "enough for today" if left <= 0 else None

    return stop


def interrupted(spec: RunSpec, folder: Path, steps: int) -> None:
    with pytest.raises(Interrupted, match="enough for today"):
        carry_out(spec, folder, stop=after(steps))


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("checkpoint-*"))


@pytest.fixture(params=["causal", "encoder"])
def spec(request: pytest.FixtureRequest, tiny_causal: Path, tiny_encoder: Path) -> RunSpec:
    return causal(tiny_causal) if request.param == "causal" else encoder(tiny_encoder)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(spec: RunSpec, tmp_path: Path) -> None:
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    interrupted(spec, tmp_path / "parts", 3)
    assert checkpoints(tmp_path / "parts") == ["checkpoint-2", "checkpoint-3"]
    interrupted(spec, tmp_path / "parts", 2)
    resumed = carry_out(spec, tmp_path / "parts", keep_adapter=True)
    same(whole, resumed)
    assert len(set(losses(whole))) == 7
    assert resumed.record.wall_seconds["train"] > 0


@pytest.mark.parametrize(
    "spec", ["causal", pytest.param("encoder", marks=pytest.mark.slow)], indirect=True
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(spec: RunSpec, tmp_path: Path) -> None:
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    folder = tmp_path / "parts"
    folder.mkdir()
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    script = Path(__file__).with_name("killed.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "spec.json"), str(folder), "5"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert checkpoints(folder) == ["checkpoint-2", "checkpoint-4"]
    same(whole, carry_out(spec, folder, keep_adapter=True))


def test_a_run_that_died_in_its_evaluation_trains_no_step_again(
    tiny_causal: Path, tmp_path: Path
) -> None:
    spec = causal(tiny_causal)
    whole = carry_out(spec, tmp_path, keep_adapter=True)
    assert whole.adapter is not None
    whole.adapter.rename(tmp_path / "first")
    saves: list[int] = []
    again = carry_out(spec, tmp_path, keep_adapter=True, saved=lambda: saves.append(1))
    assert saves == []
    same(Outcome(whole.record, whole.predictions, tmp_path / "first"), again)


def test_a_stop_in_the_evaluation_costs_no_training(tiny_causal: Path, tmp_path: Path) -> None:
    spec = causal(tiny_causal)
    saves: list[int] = []

    def save() -> None:
        saves.append(1)

    whole = carry_out(spec, tmp_path / "whole", saved=save)
    all_saves = len(saves)
    saves.clear()

    def stop() -> str | None:
        return "enough for today" if len(saves) == all_saves else None

    with pytest.raises(Interrupted, match="enough for today"):
        carry_out(spec, tmp_path / "run", saved=save, stop=stop)
    again = carry_out(spec, tmp_path / "run", saved=save)
    assert len(saves) == all_saves
    assert again.predictions.equals(whole.predictions)


def damaged_bytes(checkpoint: Path) -> None:
    path = checkpoint / reference.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def torn(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.pt"
    path.write_bytes(path.read_bytes()[:100])


def unfinished(checkpoint: Path) -> None:
    (checkpoint / reference.MARKER).unlink()


def torn_marker(checkpoint: Path) -> None:
    (checkpoint / reference.MARKER).write_text('{"optimizer.pt": "ab')


def lost(checkpoint: Path) -> None:
    (checkpoint / "rng_state.pth").unlink()


@pytest.mark.parametrize("damage", [damaged_bytes, torn, unfinished, torn_marker, lost])
def test_a_damaged_checkpoint_is_passed_over(
    damage: Callable[[Path], None], tiny_causal: Path, tmp_path: Path
) -> None:
    spec = causal(tiny_causal)
    interrupted(spec, tmp_path, 5)
    assert reference.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    damage(tmp_path / "checkpoint-5")
    assert reference.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    if damage is damaged_bytes:
        whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
        same(whole, carry_out(spec, tmp_path, keep_adapter=True))
        assert not (tmp_path / "checkpoint-5").exists()
    damage(reference.newest_checkpoint(tmp_path) or tmp_path)
    for rest in reference._checkpoints(tmp_path):
        if reference._is_sound(rest):
            damage(rest)
    assert reference.newest_checkpoint(tmp_path) is None


def test_what_is_no_checkpoint_is_left_alone(tiny_causal: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-mine").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    carry_out(causal(tiny_causal), tmp_path)
    assert (tmp_path / "checkpoint-mine").is_dir()
    assert (tmp_path / "notes.txt").is_file()


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_checkpoints_are_kept(keep: int, tiny_causal: Path, tmp_path: Path) -> None:
    spec = causal(tiny_causal, checkpoints={"every": 1, "keep": keep})
    carry_out(spec, tmp_path)
    assert checkpoints(tmp_path) == [f"checkpoint-{i}" for i in range(8 - keep, 8)]


def test_a_training_is_kept_until_its_evaluation_is_done(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a run after its last step, it is not trained again."""
    spec = causal(tiny_causal, checkpoints={})
    whole = carry_out(spec, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("llmpred.engine.run.predict", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            carry_out(spec, tmp_path / "parts")
    assert checkpoints(tmp_path / "parts") == ["checkpoint-7"]
    saves: list[int] = []
    again = carry_out(spec, tmp_path / "parts", saved=lambda: saves.append(1))
    assert saves == []
    assert losses(again) == losses(whole)
    assert again.predictions.equals(whole.predictions)


def test_resume_none_starts_over(tiny_causal: Path, tmp_path: Path) -> None:
    interrupted(causal(tiny_causal), tmp_path, 5)
    saves: list[int] = []
    outcome = carry_out(causal(tiny_causal, resume="none"), tmp_path, saved=lambda: saves.append(1))
    assert len(saves) == 4  # after steps 2, 4, 6 and 7
    assert len(losses(outcome)) == 7
    assert checkpoints(tmp_path) == ["checkpoint-6", "checkpoint-7"]


def test_resume_from_a_named_checkpoint(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    spec = causal(tiny_causal)
    whole = carry_out(spec, tmp_path / "whole")
    folder = tmp_path / "parts"
    interrupted(spec, folder, 5)
    kept = tmp_path / "kept" / "checkpoint-4"
    shutil.copytree(folder / "checkpoint-4", kept)
    named = causal(tiny_causal, resume=str(kept))
    assert reference.where_it_stands(folder, resolve(named).spec) == "went on from step 4"
    assert losses(carry_out(named, folder)) == losses(whole)
    assert kept.is_dir()
    other = run_spec(tiny_causal, execution={**EVERY_TWO, "resume": str(kept)})
    with pytest.raises(SpecError, match=r"of the same run, but .* is of another"):
        carry_out(other, tmp_path / "other")
    nowhere = causal(tiny_causal, resume=str(tmp_path / "checkpoint-9"))
    with pytest.raises(SpecError, match="must name a whole checkpoint"):
        carry_out(nowhere, tmp_path / "nowhere")


def test_the_selected_weights_survive_an_interruption(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(
        tiny_causal,
        dataset={"validation": 0.5, "limit": 24},
        method={"adapter": {"kind": "full"}},
        optim={"lr": 0.1, "max_steps": 16, "batch_size": 4, "schedule": "constant"},
        evaluation={"select": "best_on_validation"},
        execution={"checkpoints": {"every": 3, "keep": 1}},
    )
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    for steps in (5, 15):  # before and after the lowest loss, which is at step 13
        folder = tmp_path / str(steps)
        interrupted(spec, folder, steps)
        resumed = carry_out(spec, folder, keep_adapter=True)
        assert resumed.record.loss_curve == whole.record.loss_curve
        assert resumed.predictions.equals(whole.predictions)
        assert whole.adapter is not None
        assert resumed.adapter is not None
        content = (whole.adapter / "model.safetensors").read_bytes()
        assert (resumed.adapter / "model.safetensors").read_bytes() == content


def test_seconds_and_micro_batch_survive_an_interruption(tiny_causal: Path, tmp_path: Path) -> None:
    spec = causal(tiny_causal)
    interrupted(spec, tmp_path, 3)
    for name in ("checkpoint-2", "checkpoint-3"):
        path = tmp_path / name / reference.PROGRESS
        progress = json.loads(path.read_text())
        assert progress["micro_batch"] == 4
        path.write_text(json.dumps({**progress, "seconds": 1000.0}))
        marker = tmp_path / name / reference.MARKER
        hashes = json.loads(marker.read_text())
        marker.write_text(json.dumps({**hashes, path.name: reference._sha256(path)}))
    assert carry_out(spec, tmp_path).record.wall_seconds["train"] > 1000
