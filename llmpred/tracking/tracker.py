"""The one writer to MLflow: a parent run a sweep, a child run a record, each logged once."""

from __future__ import annotations

import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llmpred.errors import InputError, LlmpredError, Problem
from llmpred.ledger.record import FINAL, RunRecord
from llmpred.redaction import redact
from llmpred.tracking import entries
from llmpred.tracking.locations import (
    artifact_folder,
    default_uri,
    local_folder,
    quieten,
    settle_environment,
)

Outcome = Literal["logged", "already", "failed"]
COMPLETE = ("FINISHED", "FAILED")  # a run in any other state was cut off while being logged
METRICS_PER_CALL = 1000  # MLflow's limits
PARAMS_PER_CALL = 100


class Tracker:
    """Logs runs to MLflow, and never stops a sweep: what cannot be logged is kept in `unlogged`.

    Safe to call from several threads. Connects at the first call, not when made.

    Attributes:
        uri: where MLflow listens or keeps its database.
        unlogged: key of each run that could not be logged -> why.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "llmpred",
        storage_root: str | Path = "~/.local/share/llmpred",
    ) -> None:
        """Prepare to log into `experiment` at `uri`, by default `default_uri(storage_root)`."""
        self.uri = uri or default_uri(storage_root)
        self.unlogged: dict[str, str] = {}
        self._experiment = experiment
        self._storage_root = storage_root
        self._client: Any = None
        self._experiment_id: str | None = None
        self._sweep: tuple[str, Path | None] | None = None
        self._sweep_trouble: str | None = None
        self._files_trouble: str | None = None
        self._parent: str | None = None
        self._asked: set[str] = set()
        self._done: set[str] = set()
        self._breaker = _Breaker()
        self._lock = threading.RLock()

    def start_sweep(self, sweep: str, space: Path | None = None) -> None:
        """Make the runs logged from here on children of the sweep's parent run.

        Args:
            sweep: id of the sweep; the same id continues the same parent.
            space: file to keep with the parent.
        """
        with self._lock:
            self._sweep, self._parent = (sweep, space), None
            self._for_the_sweep(self._parent_run)

    def end_sweep(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Close the parent run; `KILLED` for a sweep that was interrupted."""
        with self._lock:
            if self._sweep is not None:
                self._for_the_sweep(
                    lambda: self._client.set_terminated(self._parent_run(), status=status)
                )
                self._sweep = self._parent = None

    def log_run(self, record: RunRecord, adapter: Path | None = None) -> Outcome:
        """Log a record, with the adapter's folder if given; one that is there already stays as is.

        Returns:
            `logged`, `already` or `failed`; never raises for what MLflow does.
        """
        with self._lock:
            name = entries.record_id(record)
            self._asked.add(record.key)
            if name in self._done:
                return "already"
            try:
                with self._watched():
                    outcome = self._log(name, record, adapter)
            except _UnloggedError as why:
                self.unlogged[record.key] = str(why)
                return "failed"
            self._done.add(name)
            self.unlogged.pop(record.key, None)
            return outcome

    def log_files(self, files: Sequence[Path]) -> None:
        """Keep files and folders with the sweep's parent run; `summary` says if it failed."""
        with self._lock:
            try:
                with self._watched():
                    parent = self._parent_run()
                    for file in files if parent else ():
                        if file.is_dir():
                            self._client.log_artifacts(parent, str(file), file.name)
                        else:
                            self._client.log_artifact(parent, str(file))
            except _UnloggedError as why:
                self._files_trouble = str(why)

    def logged_keys(self) -> set[str]:
        """Return the keys of the runs known to be logged; `load_logged` asks for all of them."""
        return {name.partition(".")[0] for name in self._done}

    def load_logged(self) -> None:
        """Read the names of all logged runs at once, which pays when there are many to compare."""
        with self._lock:
            try:
                with self._watched():
                    self._done |= {
                        run.data.tags["llmpred.record"]
                        for run in self._search("tags.`llmpred.record` LIKE '%'")
                        if run.info.status in COMPLETE
                    }
            except _UnloggedError:
                return  # each run says so itself when it is asked for

    def summary(self) -> str | None:
        """Return one line on what was not logged, why, and what to do; None if all was."""
        if self.unlogged:
            what = f"{len(self.unlogged)} of {len(self._asked)} runs were"
            reason = Counter(self.unlogged.values()).most_common(1)[0][0]
        elif self._sweep_trouble:
            what, reason = "the sweep's own entry was", self._sweep_trouble
        elif self._files_trouble:
            return f"MLflow: the files were not logged ({self._files_trouble}). They are written."
        else:
            return None
        return (
            f"MLflow: {what} not logged ({reason}). The ledger has every run; "
            "`llmpred ledger sync-mlflow` logs them later."
        )

    def adapter_of(self, record: RunRecord) -> Path | None:
        """Return the folder of the record's kept adapter, if it is in a local storage."""
        folder = local_folder(self._storage_root).resolve()
        adapter = (folder / (record.adapter or "")).resolve()
        inside = record.adapter is not None and adapter.is_relative_to(folder)
        return adapter if inside and adapter.is_dir() else None

    # --- what may fail -----------------------------------------------------------------------

    def _log(self, name: str, record: RunRecord, adapter: Path | None) -> Outcome:
        from mlflow.entities import Metric, Param

        self._connect()
        found = self._search(f"tags.`llmpred.record` = '{name}'")
        if any(run.info.status in COMPLETE for run in found):
            return "already"
        parent = self._parent_run()
        lasted = int(record.wall_seconds.get("total", 0.0) * 1000)
        run = (
            found[0]
            if found
            else self._client.create_run(
                self._experiment_id,
                start_time=(entries.ended(record) or int(time.time() * 1000)) - lasted,
                tags=entries.tags(record) | ({"mlflow.parentRunId": parent} if parent else {}),
            )
        )
        # The run's own start is the time of its metrics, so that logging a cut-off run again
        # writes the same rows.
        start = run.info.start_time
        metrics = [Metric(k, v, start, step) for k, v, step in entries.steps(record)]
        metrics += [Metric(k, v, start, 0) for k, v in entries.metrics(record).items()]
        params = [Param(k, v) for k, v in entries.params(record).items()]
        for place in range(0, len(metrics), METRICS_PER_CALL):
            self._client.log_batch(
                run.info.run_id, metrics=metrics[place : place + METRICS_PER_CALL]
            )
        for place in range(0, len(params), PARAMS_PER_CALL):
            self._client.log_batch(run.info.run_id, params=params[place : place + PARAMS_PER_CALL])
        if adapter is not None:
            if not adapter.is_dir():  # which MLflow would pass over in silence
                raise InputError(
                    Problem(f"The adapter's folder must exist, but {adapter} does not")
                )
            self._client.log_artifacts(run.info.run_id, str(adapter), "adapter")
        self._client.set_terminated(
            run.info.run_id,
            status="FINISHED" if record.status in FINAL else "FAILED",
            end_time=start + lasted,
        )
        return "logged"

    def _parent_run(self) -> str | None:
        """Return the id of the sweep's run, found or made; None outside a sweep."""
        if self._sweep is None or self._parent is not None:
            return self._parent
        sweep, space = self._sweep
        self._connect()
        mine = f"tags.`llmpred.sweep` = '{sweep}'"
        found = self._search(mine)
        if not found:
            tags = {
                "mlflow.runName": sweep,
                "mlflow.source.name": "llmpred",
                "llmpred.sweep": sweep,
            }
            made = self._client.create_run(self._experiment_id, tags=tags)
            # Two collectors may start the same sweep at once: the older parent stays.
            found = self._search(mine)
            if found[0].info.run_id != made.info.run_id:
                self._client.delete_run(made.info.run_id)
        parent: str = found[0].info.run_id
        self._client.update_run(parent, status="RUNNING")
        if space is not None:
            self._client.log_artifact(parent, str(space))
        self._parent = parent
        return parent

    def _search(self, where: str) -> list[Any]:
        """Return all runs of the experiment that match, oldest first."""
        self._connect()
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                filter_string=where,
                max_results=1000,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _connect(self) -> None:
        if self._experiment_id is not None:
            return
        settle_environment()
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        quieten()
        self._client = MlflowClient(self.uri)
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is not None:
            self._experiment_id = experiment.experiment_id
            return
        served = self.uri.startswith(("http://", "https://"))
        try:
            self._experiment_id = self._client.create_experiment(
                self._experiment,
                artifact_location=None if served else str(artifact_folder(self._storage_root)),
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = self._client.get_experiment_by_name(self._experiment)
            self._experiment_id = experiment.experiment_id

    # --- and how failing is borne --------------------------------------------------------------

    def _for_the_sweep(self, action: Callable[[], object]) -> None:
        try:
            with self._watched():
                action()
            self._sweep_trouble = None
        except _UnloggedError as why:
            self._sweep_trouble = str(why)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn whatever MLflow raises into `_UnloggedError`, and ask no more while it is down."""
        if self._breaker.is_open():
            raise _UnloggedError(self._breaker.reason)
        try:
            yield
        except Exception as error:  # MLflow lets through whatever its drivers and plugins raise
            reason = self._reason(error)
            if self._experiment_id is None:
                self._breaker.trip(reason)
            elif _is_outage(error):
                self._breaker.count(reason)
            raise _UnloggedError(reason) from error
        self._breaker.reset()

    def _reason(self, error: BaseException) -> str:
        link: BaseException | None = error
        while link is not None:
            if type(link).__module__.startswith("requests."):
                if type(link).__name__ == "RetryError":  # it answered, with a 5xx
                    server = redact(self.uri)
                    return f"{server} answers with errors; its database may be down"
                return f"no answer from {redact(self.uri)}"
            link = link.__cause__ or link.__context__
        text = redact(f"{error}".strip() or type(error).__name__)
        return textwrap.shorten(text.splitlines()[0], 200, placeholder=" …")


class _UnloggedError(Exception):
    """Why something could not be logged."""


@dataclass
class _Breaker:
    """Leaves a server that is down alone: after three failures for a minute, then ever longer."""

    failures: int = 0
    pause: float = 60.0
    until: float = 0.0
    reason: str = ""

    def is_open(self) -> bool:
        return time.monotonic() < self.until

    def count(self, reason: str) -> None:
        self.failures += 1
        if self.failures >= 3:
            self.trip(reason)

    def trip(self, reason: str) -> None:
        self.failures = 3  # one more failure after the pause and the next pause begins
        self.until = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, 900.0)
        self.reason = reason

    def reset(self) -> None:
        self.failures, self.pause = 0, 60.0


def _is_outage(error: Exception) -> bool:
    """Whether the server is at fault; with a 4xx answer it is the run's data."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)
    return not isinstance(error, LlmpredError)


class Synced(NamedTuple):
    """How many runs `sync` logged, found logged already, and could not log."""

    logged: int
    already: int
    failed: int


def sync(records: Iterable[RunRecord], tracker: Tracker) -> Synced:
    """Log every record that MLflow does not have; a second call logs nothing."""
    tracker.load_logged()
    counts = Counter(tracker.log_run(record, tracker.adapter_of(record)) for record in records)
    return Synced(counts["logged"], counts["already"], counts["failed"])
