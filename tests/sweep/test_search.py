from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmpred.errors import SpecError
from llmpred.spec.distributions import leaves
from llmpred.spec.space import SearchSpec, combinations, load_space
from llmpred.sweep.search import example, propose, rung_steps


class Asked:
    """An Optuna trial that takes the last option or the low end, and remembers the questions."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.names.append(name)
        return choices[-1]

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        self.names.append(f"{name} {how}")
        return low

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.names.append(f"{name} {low}..{high}")
        return low


def test_only_leaves_of_taken_options_are_proposed() -> None:
    node = {
        "a": {"choice": [{"x": {"uniform": [0, 1]}}, {"y": {"randint": [1, 4]}}]},
        "lr": {"loguniform": [1e-5, 1e-2]},
        "r": {"quniform": [4, 16, 4]},
    }
    asked = Asked()
    propose(tuple(leaves(node)), asked)
    assert asked.names == [
        "a",
        "a.choice[1].y 1..3",
        "lr {'step': None, 'log': True}",
        "r {'step': 4, 'log': False}",
    ]


@pytest.mark.parametrize(
    ("search", "steps", "rungs"),
    [
        (SearchSpec(), 90, (10, 30)),
        (SearchSpec(), 12, (1, 3)),
        (SearchSpec(), 2, ()),
        (SearchSpec(grace_steps=4, reduction_factor=2), 20, (4, 8)),
        (SearchSpec(scheduler="none"), 90, ()),
    ],
)
def test_rungs_grow_and_leave_no_trial_nearly_done(
    search: SearchSpec, steps: int, rungs: tuple[int, ...]
) -> None:
    assert rung_steps(search, steps) == rungs


def searching(sweep: Any, **changes: Any) -> None:
    """Make the sweep a search of eight trials over learning rates that are far apart."""
    del sweep.space["sampler"], sweep.space["seeds"]
    sweep.space |= {"mode": "search", "samples": 8} | changes
    sweep.space["datasets"][0]["validation"] = 0.25
    sweep.space["optim"] |= {"lr": {"loguniform": [1e-7, 3e-2]}, "max_steps": 60}


def test_asha_without_validation_data_is_refused(sweep: Any, monkeypatch: Any) -> None:
    searching(sweep)
    del sweep.space["datasets"][0]["validation"]
    monkeypatch.chdir(sweep.folder)
    Path("space.yaml").write_text(json.dumps(sweep.space))
    space = load_space("space.yaml")
    with pytest.raises(SpecError, match=r"dataset\.validation.*datasets\[0\]"):
        example(space, combinations(space)[0])


@pytest.mark.slow
def test_a_search_stops_weak_trials_and_pays_for_a_run_once(sweep: Any) -> None:
    searching(sweep)
    first = sweep.run("--json")
    assert first.returncode == 0, first.stderr
    trials = [SimpleNamespace(**trial) for trial in json.loads(first.stdout)["trials"]]
    assert len(trials) == 8
    finished = [trial for trial in trials if trial.state == "ok"]
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert len(finished) + len(stopped) == 8
    assert stopped
    assert {trial.steps for trial in stopped} <= {6, 18}
    assert {trial.key for trial in finished} == sweep.ledger.keys()
    assert json.loads(first.stdout)["best"] == max(finished, key=lambda t: t.accuracy_r).key
    assert sweep.ledger.verify() == []
    assert sweep.ledger.storage.list("checkpoints/") == []
    assert all(sweep.ledger.attempts(trial.key) == [] for trial in trials)

    before = sweep.records()
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert "stopped early" in again.stdout
    assert "paid" in again.stdout
    assert all(sweep.records()[path] == content for path, content in before.items())
    # A search ends a run at its rungs alone: in full it is the run that a collect makes.
    key = finished[0].key
    [record] = [sweep.ledger.get(key)]
    assert len(record.loss_curve) == 60


@pytest.mark.slow
def test_a_search_without_a_scheduler_finishes_every_trial_of_each_combination(sweep: Any) -> None:
    searching(sweep, samples=2, sampler="random", search={"scheduler": "none"})
    sweep.space["methods"].append({"head": "classifier", "adapter": {"kind": "none"}})
    done = sweep.run("--json")
    assert done.returncode == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert sorted(trial["combination"] for trial in trials) == [0, 0, 1, 1]
    assert all(trial["state"] == "ok" for trial in trials)
    assert len(sweep.ledger.keys()) == 4
