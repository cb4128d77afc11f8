"""RunRecord: what came out of one run. Written once, never changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmpred.spec.canonical import digest
from llmpred.spec.run import RunSpec

SCHEMA = 1
Status = Literal["ok", "diverged", "failed", "out_of_memory"]
FINAL: tuple[Status, ...] = ("ok", "diverged")


class RunRecord(BaseModel):
    """One run: what it was, what it scored, what it cost and where it ran.

    Attributes:
        schema_version: of this record's layout.
        key: train_key and evaluation; what a run is paid for by.
        train_key: everything that shapes the trained weights.
        revision: 0, or one more than the record that this one supersedes.
        origin: `run`, or `imported` from an adapter or a table made elsewhere.
        dataset, base: display names.
        spec: the settled RunSpec; None for rows imported without one.
        fields: further columns of an imported row.
        hashes: train, validation, evaluation, weights.
        versions: semantics versions of task, method and engine.
        status: `ok` and `diverged` are outcomes of the spec; the others belong to the machine.
        accuracy_r: the primary metric in [0, 1]; None if the run has no score.
        metrics: all metrics by name; NaN and infinity become None, as in `loss_curve`.
        zero_shot_key: the run that scores the untouched base on the same evaluation.
        loss_curve: one row a logged step: step, loss, lr, grad_norm.
        wall_seconds: by phase: load, train, evaluate, total.
        peak_memory_bytes: of the process on the CPU, of the device on a GPU.
        tokens: by kind: train (all tokens seen), target (those in the loss).
        parameters: weights: total (of the base), trainable.
        counts: rows: train, validation, evaluation, truncated, skipped.
        predictions_sha256: of the Parquet file beside the record; None if there is none.
        adapter: path of the kept adapter inside the storage; None if not kept.
        provenance: execution, packages, hardware, git_commit, host, created (ISO 8601, UTC; set
            by the ledger if absent).
        error: for attempts, what went wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    key: str
    train_key: str
    revision: Annotated[int, Field(ge=0)] = 0
    origin: Literal["run", "imported"] = "run"
    dataset: str
    base: str
    spec: RunSpec | None
    fields: dict[str, Any] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, int] = Field(default_factory=dict)
    status: Status
    accuracy_r: Annotated[float, Field(ge=0.0, le=1.0)] | None
    metrics: dict[str, float | None] = Field(default_factory=dict)
    zero_shot_key: str | None = None
    loss_curve: tuple[dict[str, float | None], ...] = ()
    wall_seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_bytes: int | None = None
    tokens: dict[str, int] = Field(default_factory=dict)
    parameters: dict[str, int] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    predictions_sha256: str | None = None
    adapter: str | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    checksum: str = ""

    @field_validator("accuracy_r", "metrics", "loss_curve", mode="before")
    @classmethod
    def _unknown(cls, value: Any) -> Any:
        """JSON has no NaN or infinity: what a diverged run shows is kept as unknown."""
        return _finite(value)

    def sealed(self) -> RunRecord:
        """Return the record with the checksum of all its other fields."""
        return self.model_copy(update={"checksum": self.content_checksum()})

    def content_checksum(self) -> str:
        """Return the hash of the canonical JSON of everything but `checksum`."""
        return checksum_of(self.model_dump(mode="json"))


def checksum_of(payload: Mapping[str, Any]) -> str:
    """Return the checksum of a record's JSON as it is stored.

    It is taken of the JSON rather than of the model, so fields added later break no old record.
    """
    return digest({name: value for name, value in payload.items() if name != "checksum"})


def best_first(score: float | None, key: str) -> tuple[float, str]:
    """Return what sorts runs best first: the higher score, of equal ones the smaller key.

    All that names or keeps a best run sorts by this, so that they mean the same one, in whatever
    order runs ended and whether or not they were paid for before.
    """
    return math.inf if score is None else -score, key


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_finite(item) for item in value)
    return value
