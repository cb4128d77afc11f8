"""The Tune side of a collect: the actor that works off packs, and the callback that hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.sweep.worker import Done, Orders


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

        def load_checkpoint(self, checkpoint: Any) -> None:
            return None

    return CollectRuns


def tell(take: Callable[[Done], None]) -> Any:
    """Return a Tune callback that passes on what became of each run."""
    from ray import tune

    class Tell(tune.Callback):  # type: ignore[misc]
        def __init__(self, take: Callable[[Done], None]) -> None:
            self.take = take

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks for a restore, which we never do

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            self.take(Done(**result["run"]))

    return Tell(take)
