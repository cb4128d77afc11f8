"""What a sweep tells its workers and what they answer. Small, so that drivers load no torch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from llmpred.ledger import claims, safe_name
from llmpred.redaction import redact

State = Literal[
    "ok",
    "diverged",
    "failed",
    "out_of_memory",
    "paid",
    "elsewhere",
    "interrupted",
    "lost",
    "stopped",
]
SCORED: tuple[State, ...] = ("ok", "diverged")
FAILED: tuple[State, ...] = ("failed", "out_of_memory")
OPEN: tuple[State, ...] = ("elsewhere", "lost", "interrupted")  # somebody has to look again
POLL_SECONDS = 5.0  # between looks at runs that another collector works on
DEATHS = 2  # a run that took its worker down this often in one sweep is left alone


@dataclass(frozen=True)
class Done:
    """What became of a key.

    Attributes:
        key: of the run.
        state: an outcome, or why there is none: `paid` before, claimed `elsewhere`, `interrupted`,
            `lost` to another worker while it ran, or `stopped` by the scheduler of a search.
        accuracy_r: the score, if there is one.
        seconds: spent on it here.
        message: one line for people, where something went wrong.
    """

    key: str
    state: State
    accuracy_r: float | None = None
    seconds: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        """Hide credentials where they are still known: in the worker."""
        object.__setattr__(self, "message", redact(self.message))


@dataclass(frozen=True)
class Orders:
    """What every worker of a sweep is told.

    Attributes:
        storage: root of the ledger.
        sweep: id of the sweep, to group records, attempts and claims.
        folder: working directory of the driver, for relative paths of data.
        cache: where prepared data is kept on a machine; None for the default.
        deadline: seconds since the epoch after which no run goes on.
        supersede: keys to run although the ledger has them.
        lease_seconds: of claims.
        cpus: of each process of a run that several carry out.
        gpu: whether each of them has a GPU.
    """

    storage: str
    sweep: str
    folder: str
    cache: Path | None = None
    deadline: float | None = None
    supersede: frozenset[str] = frozenset()
    lease_seconds: float = claims.LEASE_SECONDS
    cpus: int = 1
    gpu: bool = False

    @property
    def stop_file(self) -> str:
        """Path in the storage whose existence asks all workers to stop."""
        return f"sweeps/{self.sweep}/stop"

    @property
    def driver_file(self) -> str:
        """Path in the storage that exists while the driver runs: how workers know its storage."""
        return f"sweeps/{self.sweep}/driver"


def sweep_id(name: str) -> str:
    """Return an id for one sweep: sorts by time, readable, unique, and one part of a path."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{safe_name(name)}"
