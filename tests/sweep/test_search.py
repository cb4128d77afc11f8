from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmpred.cli.runs import _prune_adapters
from llmpred.errors import SpecError
from llmpred.ledger import Ledger, RunRecord
from llmpred.spec.distributions import leaves
from llmpred.spec.run import RunSpec
from llmpred.spec.space import SearchSpec, combinations, load_space
from llmpred.sweep.collect import stop_on_signal
from llmpred.sweep.orders import Done, Orders
from llmpred.sweep.progress import Progress
from llmpred.sweep.search import Searched, Trial, example, propose, rung_steps


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


def test_the_best_named_is_the_best_kept_where_scores_tie(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "storage")
    spec = RunSpec.model_validate(
        {
            "task": {"name": "sentiment"},
            "dataset": {"source": "train.tsv"},
            "base": {"name": "tiny"},
            "method": {"head": "label_scoring"},
            "optim": {"max_steps": 1},
            "evaluation": {"data": {"source": "test.tsv"}},
            "execution": {"keep": "best"},
        }
    )
    trials = []
    scores = {"ccc": ("999", 0.8), "aaa": ("111", 0.8), "bbb": ("555", 0.8), "ddd": ("777", 0.5)}
    for key, (train_key, score) in scores.items():
        folder = tmp_path / key
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        place = f"adapters/{train_key}"
        ledger.storage.put_folder(folder, place)
        told = {"key": key, "train_key": train_key, "accuracy_r": score, "adapter": place}
        ledger.put(RunRecord(**told, dataset="d", base="tiny", spec=spec, status="ok"))
        trials.append(Trial(0, {}, key, "ok", score, None, 0, ""))
    best = Searched("s", tuple(trials), {}, None, 1.0).best
    assert best is not None
    assert best.key == "aaa"
    planned: Any = SimpleNamespace(runs={"aaa": SimpleNamespace(spec=spec)})
    _prune_adapters(planned, [trial.key for trial in trials], ledger)
    assert {path.split("/")[1] for path in ledger.storage.list("adapters/")} == {"111"}
    progress = Progress(4, {}, quiet=True)
    for trial in trials:
        progress.add(Done(trial.key, "ok", trial.accuracy_r))
    assert progress.line().endswith("best 0.800 aaa")


def test_a_second_interrupt_says_what_resumes(tmp_path: Path) -> None:
    said: list[str] = []
    progress: Any = SimpleNamespace(say=said.append)
    orders = Orders(str(tmp_path), "s", str(tmp_path))
    with stop_on_signal(Ledger(tmp_path), orders, progress) as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked() == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert said[-1] == "stopped at once; the same command resumes"


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
