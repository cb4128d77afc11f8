"""What Tune runs: the actor of a collect, that of a search, and the callback that hears of them."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.spec.space import Space, combinations, materialize
from llmpred.sweep.orders import POLL_SECONDS, Done, Orders


def pack_trainable() -> type[Any]:
    """Return the Trainable class; made here so that importing this module needs no Ray."""
    from ray import tune

    class CollectRuns(tune.Trainable):  # type: ignore[misc]
        """A pack of runs. One step is one run; the loaded base lives as long as the actor."""

        def setup(
            self, config: dict[str, Any], packs: list[list[ResolvedSpec]], orders: Orders
        ) -> None:
            from llmpred.engine.models import LoadedBases
            from llmpred.ledger import Ledger, Storage

            enter(orders.folder)
            self.packs = packs
            self.orders = orders
            self.ledger = Ledger(Storage(orders.storage))
            self.bases = LoadedBases()
            self.left = list(packs[config["pack"]])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.left = list(self.packs[new_config["pack"]])
            return True

        def step(self) -> dict[str, Any]:
            from llmpred.sweep.worker import work

            run = self.left.pop(0)
            done = work(run, self.ledger, self.bases, self.orders)
            return {"run": vars(done), "done": not self.left}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None  # the ledger is the only state

    return CollectRuns


def trial_trainable() -> type[Any]:
    """Return the Trainable class of a search, whose trial is a run."""
    from ray import tune

    class SearchRun(tune.Trainable):  # type: ignore[misc]
        """One run. A step goes to the run's next report, or to its end.

        The run has a thread of its own, which waits at each report until Tune wants the next step.
        """

        def setup(
            self,
            config: dict[str, Any],
            space: Space,
            place: int,
            rungs: tuple[int, ...],
            orders: Orders,
        ) -> None:
            from llmpred.engine.models import LoadedBases
            from llmpred.ledger import Ledger, Storage

            enter(orders.folder)
            self.space = space
            self.combination = combinations(space)[place]
            self.rungs = frozenset(rungs)
            self.orders = orders
            self.ledger = Ledger(Storage(orders.storage))
            self.bases = LoadedBases()
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            self.values = new_config
            self.latest = {"steps": 0, "validation_loss": math.nan, "objective": 0.0, "key": ""}
            self.results: Queue[dict[str, Any]] = Queue()
            self.go_on: Queue[bool] = Queue()
            self.thread = threading.Thread(target=self._run, name="run", daemon=True)
            self.thread.start()
            return True

        def step(self) -> dict[str, Any]:
            self.go_on.put(True)
            return self.results.get()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None  # the ledger is the only state

        def cleanup(self) -> None:
            """End the run that Tune stopped, if there is one."""
            if hasattr(self, "thread"):
                self.go_on.put(False)
                self.thread.join()

        def _run(self) -> None:
            """Give results: a report at each rung, then what became of the run."""
            if not self.go_on.get():
                return
            try:
                done = self._work()
            except Exception as error:  # goes to people through the trial's result
                line = next(iter(str(error).strip().splitlines()), "")
                done = Done("", "failed", message=f"{type(error).__name__}: {line}")
            self.latest["objective"] = done.accuracy_r or 0.0
            self.results.put({**self.latest, "run": vars(done), "done": True})

        def _work(self) -> Done:
            from llmpred.bases.resolve import resolve
            from llmpred.sweep.worker import Reports, Stopped, work

            def tell(step: int, loss: float) -> None:
                self.latest |= {"steps": step, "validation_loss": loss}
                self.results.put({**self.latest, "run": None})
                if not self.go_on.get():
                    raise Stopped("stopped by the scheduler")

            run = resolve(
                materialize(self.space, self.combination, self.values), cache=self.orders.cache
            )
            self.latest["key"] = run.key
            while True:
                done = work(run, self.ledger, self.bases, self.orders, Reports(self.rungs, tell))
                if done.state == "paid":
                    score = self.ledger.get(run.key).accuracy_r
                    return dataclasses.replace(done, accuracy_r=score)
                if done.state not in ("elsewhere", "lost"):
                    return done
                time.sleep(POLL_SECONDS)  # another trial or collector is at it

    return SearchRun


def enter(folder: str) -> None:
    """Work in the driver's directory where it exists: relative paths of data start there."""
    if Path(folder).is_dir():
        os.chdir(folder)


def tell(take: Callable[[dict[str, Any]], None]) -> Any:
    """Return a Tune callback that passes on every result."""
    from ray import tune

    class Tell(tune.Callback):  # type: ignore[misc]
        def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
            self.take = take

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks for a restore, which we never do

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            self.take({**result, "trial": trial.trial_id})

    return Tell(take)
