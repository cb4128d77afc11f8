"""The ledger: every run that was paid for, in a folder or a bucket.

    records/<ab>/<key>.json              what came out; final, created exclusively
    records/<ab>/<key>.<revision>.json   a record that supersedes the one before it
    predictions/<ab>/<key>.<revision>.<sha256>.parquet
    attempts/<key>/<id>.json             failures of the machine
    retractions/<ab>/<key>.<revision>.json
    segments/<time>-<sha256>.parquet     many records folded into one file
    claims/<key>/<number>.json           who is at work (see `claims`)

Nothing is ever changed in place, so any number of writers, readers and compactions may run at once.
A record is loose, in a segment, or for a while both. Compaction deletes a loose record only when a
segment holds it; readers list loose records *before* segments, so whatever vanishes between the two
is found in a segment, and they start over if a file they listed is gone when they open it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from pydantic import ValidationError

from llmpred.errors import Problem, StorageError
from llmpred.ledger import DEFAULT_STORAGE, claims
from llmpred.ledger.columns import flatten, in_order, stack, to_table
from llmpred.ledger.record import FINAL, SCHEMA, RunRecord, checksum_of
from llmpred.ledger.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

FLAT_VERSION = 1  # of the columns that `flatten` makes; segments with another are flattened anew
SEGMENT_ROWS = 20_000  # at most, so compaction needs bounded memory
MANY_SEGMENTS = 16  # this many small segments are folded into larger ones
READ_TOGETHER = 512
GRACE_SECONDS = 3600.0
RECORDS_AT_ONCE = 10_000  # kept in memory by `records`

_KEY = re.compile(r"[0-9A-Za-z_-]{3,128}")
_SEGMENT_TIME = "%Y%m%dT%H%M%S%f"


class AlreadyRecorded(StorageError):  # noqa: N818 an outcome that callers expect, not a fault
    """The key has a record already; nothing was written."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of the ledger.

    Attributes:
        kind: `torn` cannot be parsed; `tampered` differs from its checksum; `misnamed` holds
            another key or revision than its name says; `unknown_schema` was written by a newer
            version; `duplicate` is one of two different records with the same key and revision;
            `missing` is a predictions file that is gone.
        path: the file.
        message: what is wrong with it and what to do.
        key: the run, as far as known.
    """

    kind: Literal["torn", "tampered", "misnamed", "unknown_schema", "duplicate", "missing"]
    path: str
    message: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.message}"


@dataclass(frozen=True)
class Compaction:
    """What one compaction did: records folded, segments written, files deleted."""

    folded: int
    segments: tuple[str, ...]
    deleted: int


Revisions = dict[int, str]  # revision -> checksum


@dataclass
class _Index:
    """What the ledger holds at one moment.

    Attributes:
        segments: segment -> key -> revision -> checksum; earlier segments win.
        loose: (key, revision) -> path, of sound loose records that no segment holds.
        highest: key -> highest revision, by file names.
        unpaid: (key, revision) that do not count: damaged or retracted.
        retracted: (key, revision) that were retracted.
        damaged: what is wrong with single files.
    """

    segments: dict[str, dict[str, Revisions]]
    loose: dict[tuple[str, int], str] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    unpaid: set[tuple[str, int]] = field(default_factory=set)
    retracted: set[tuple[str, int]] = field(default_factory=set)
    damaged: list[Finding] = field(default_factory=list)

    def stands(self, key: str) -> bool:
        return key in self.highest and (key, self.highest[key]) not in self.unpaid


def opened(storage: str | Path | None = None) -> Ledger:
    """Return the ledger at a root; None takes LLMPRED_STORAGE, or else `DEFAULT_STORAGE`."""
    root = str(storage or os.environ.get("LLMPRED_STORAGE") or DEFAULT_STORAGE)
    return Ledger(root if "://" in root else Path(root).expanduser())


class Ledger:
    """The runs kept in a storage.

    Args:
        storage: the storage, or its root.

    Attributes:
        damaged: files that the last reading found damaged; they count as absent.
    """

    def __init__(self, storage: Storage | str | Path) -> None:
        self.storage = storage if isinstance(storage, Storage) else Storage(storage)
        self.damaged: tuple[Finding, ...] = ()
        self._segments: dict[str, dict[str, Revisions] | Finding] = {}
        self._sound: set[str] = set()  # loose records examined before; they never change

    def __reduce__(self) -> tuple[type[Ledger], tuple[Storage]]:
        return Ledger, (self.storage,)

    # --- reading -----------------------------------------------------------------------------

    def keys(self) -> set[str]:
        """Return the keys that are paid for: their highest revision is sound and not retracted."""
        index = self._index()
        return {key for key in index.highest if index.stands(key)}

    def has(self, key: str) -> bool:
        """Return whether `key` is paid for, without reading the whole ledger."""
        return self._index(_checked_key(key)).stands(key)

    def get(self, key: str, revision: int | None = None) -> RunRecord:
        """Return the record of a key or of a prefix that only one key has.

        Args:
            key: a key or the beginning of one.
            revision: a certain one; None takes the highest that can be read.

        Raises:
            StorageError: if no run or several runs fit, or the record is damaged.
        """
        index, key = self._found(key)
        known = {rev for held in index.segments.values() for rev in held.get(key, ())}
        known |= {rev for name, rev in index.loose if name == key}
        wanted = max(known, default=-1) if revision is None else revision
        if wanted not in known:
            said = "; ".join(str(finding) for finding in index.damaged if finding.key == key)
            raise StorageError(
                Problem(
                    f"Revision {wanted} of run {key} must be readable"
                    if known or revision is not None
                    else f"The record of run {key} must be readable",
                    f"{self.storage}" + (f"; {said}" if said else ""),
                    f"See `{self.storage.hint('llmpred ledger verify')}`.",
                )
            )
        return _parsed(self._payload(index, key, wanted), str(self.storage))

    def records(self) -> Iterator[RunRecord]:
        """Yield the record of every run that is paid for, in the order of their keys.

        Raises:
            StorageError: if one was written by a version that this one does not know.
        """
        index = self._index()
        keys = sorted(key for key in index.highest if index.stands(key))
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            pairs = [(key, index.highest[key]) for key in keys[start : start + RECORDS_AT_ONCE]]
            for (key, _), payload in zip(pairs, self._payloads(index, pairs), strict=True):
                # One that was folded into a segment meanwhile is found there.
                yield _parsed(payload, str(self.storage)) if payload else self.get(key)

    def attempts(self, key: str) -> list[RunRecord]:
        """Return the failed attempts at `key`, oldest first; damaged ones go to `damaged`."""
        rows, damaged = self._read_attempts(f"attempts/{_checked_key(key)}/")
        self.damaged = tuple(damaged)
        return [RunRecord.model_validate(payload) for payload in rows]

    def predictions(self, key: str, revision: int | None = None) -> pa.Table:
        """Return the predictions of a run: one row an evaluation example.

        Raises:
            StorageError: if the run has none, or they are gone or damaged.
        """
        import pyarrow.parquet as pq

        record = self.get(key, revision)
        if record.predictions_sha256 is None:
            raise StorageError(
                Problem(
                    f"Run {record.key} must have predictions, but it was recorded without any",
                    str(self.storage),
                )
            )
        path = _predictions_path(record.key, record.revision, record.predictions_sha256)
        finding, data = self._check_predictions(path, record.predictions_sha256, record.key)
        if finding is not None:
            raise StorageError(
                Problem(f"Predictions must be what was written: {finding}", str(self.storage))
            )
        return pq.read_table(io.BytesIO(data))

    def table(self, attempts: bool = False, history: bool = False) -> pa.Table:
        """Return one row a run, with flat columns (see `columns.flatten`); unknown cells are null.

        `state` is `current`, and with more rows asked for also `superseded`, `retracted` or
        `attempt`. `zero_shot_accuracy_r` is the score of the untouched base on the same evaluation.

        Args:
            attempts: also the failed attempts.
            history: also superseded and retracted records.
        """
        while True:
            index = self._index()
            try:
                parts = [self._rows(name, index.damaged) for name in index.segments]
                parts.append(to_table([flatten(row) for row in self._read_loose(index.loose)]))
                break
            except FileNotFoundError:  # something was folded meanwhile
                continue
        damaged = list(index.damaged)
        table = _with_state(parts, index, history)
        if attempts:
            rows, torn = self._read_attempts("attempts/")
            failed = to_table([flatten(payload) | {"state": "attempt"} for payload in rows])
            table = stack([table, failed])
            damaged += torn
        self.damaged = tuple(damaged)
        return in_order(_with_zero_shot(table))

    # --- writing -----------------------------------------------------------------------------

    def put(
        self, record: RunRecord, predictions: pa.Table | None = None, *, supersede: bool = False
    ) -> RunRecord:
        """Record the outcome of a run, its predictions first; return it as it was written.

        Args:
            record: with status `ok` or `diverged`; revision, checksum and the hash of the
                predictions are set here.
            predictions: one row an evaluation example.
            supersede: write a further revision although the key is paid for.

        Raises:
            AlreadyRecorded: if the key is paid for, or another writer was faster.
            StorageError: if the storage cannot be written.
        """
        if record.status not in FINAL:
            raise StorageError(
                Problem(
                    f"A record's status must be ok or diverged, but got {record.status}",
                    fix="Keep it with `put_attempt`.",
                )
            )
        key = _checked_key(record.key)
        index = self._index(key)
        if index.stands(key) and not supersede:
            raise _already(key)
        revision = index.highest.get(key, -1) + 1
        data = b"" if predictions is None else _parquet(predictions)
        sha256 = hashlib.sha256(data).hexdigest() if predictions is not None else None
        if sha256 is not None:
            self.storage.write(_predictions_path(key, revision, sha256), data)
        record = _stamped(record).model_copy(
            update={"revision": revision, "predictions_sha256": sha256}
        )
        record = record.sealed()
        if self._created(record):
            return record
        if sha256 is not None and self.get(key, revision).predictions_sha256 != sha256:
            self.storage.delete(_predictions_path(key, revision, sha256))
        raise _already(key)

    def _created(self, record: RunRecord) -> bool:
        path, content = _record_path(record.key, record.revision), _to_json(record)
        # A put may be repeated by the client when its answer got lost: then the file is ours.
        created = self.storage.create(path, content) or (
            self.storage.read_many([path]).get(path) == content
        )
        if not created:
            return False
        # The path may have been free because a compaction just folded another writer's record.
        folded = _folded(self._read_segments(), record.key, record.revision)
        if folded is not None and folded != record.checksum:
            self.storage.delete(path)
            return False
        return True

    def put_attempt(self, record: RunRecord) -> str:
        """Keep an attempt that failed for reasons of the machine; return its path."""
        if record.status in FINAL:
            raise StorageError(
                Problem(
                    f"An attempt's status must be failed or out_of_memory, but got {record.status}",
                    fix="Record it with `put`.",
                )
            )
        name = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"
        path = f"attempts/{_checked_key(record.key)}/{name}.json"
        self.storage.create(path, _to_json(_stamped(record).sealed()))
        return path

    def retract(self, key: str, why: str) -> RunRecord:
        """Mark the highest revision of a run as not to be trusted; return its record.

        The record stays, but the key is no longer paid for: the next collection runs it again.

        Args:
            key: a key or a unique beginning of one.
            why: the reason, for people.
        """
        if not why.strip():
            raise StorageError(Problem("A retraction must say why", fix="Give a reason."))
        index, key = self._found(key)
        revision = index.highest[key]
        record = self.get(key, revision)
        note = {"key": key, "revision": revision, "why": why, "time": _now()}
        path = _retraction_path(key, revision)
        if not self.storage.create(path, json.dumps(note, ensure_ascii=False).encode()):
            raise StorageError(
                Problem(f"A run is retracted once, and {key} already is", f"{self.storage}, {path}")
            )
        return record

    # --- compaction --------------------------------------------------------------------------

    def compact(self, grace_seconds: float = GRACE_SECONDS) -> Compaction:
        """Fold loose records into segments and delete what was folded long enough ago.

        Safe at any time, beside writers, readers and other compactions, and when killed.

        Args:
            grace_seconds: a file is deleted once the segment that holds it is that old, so readers
                of older listings are not made to start over; 0 deletes at once.
        """
        index = self._index()
        small = _mergeable(index.segments)
        pairs: list[tuple[str, int]] = sorted(
            {*index.loose}
            | {
                (key, revision)
                for name in small
                for key, held in index.segments[name].items()
                for revision in held
            }
        )
        written = []
        for start in range(0, len(pairs), SEGMENT_ROWS):
            payloads = [
                payload
                for payload in self._payloads(index, pairs[start : start + SEGMENT_ROWS])
                if payload is not None
            ]
            if payloads:
                written.append(self._write_segment(payloads))
        deleted = self._delete_folded(grace_seconds)
        claims.sweep(self.storage, self.keys())
        return Compaction(len(index.loose), tuple(written), deleted)

    def _write_segment(self, payloads: Sequence[dict[str, Any]]) -> str:
        table = to_table([flatten(payload) for payload in payloads])
        extra = {
            "checksum": [payload["checksum"] for payload in payloads],
            "json": [_dumps(payload) for payload in payloads],
        }
        for name, column in extra.items():
            table = table.append_column(name, [column])
        table = table.replace_schema_metadata({"llmpred.flat": str(FLAT_VERSION)})
        data = _parquet(table, row_group_size=1024)
        when = datetime.now(UTC).strftime(_SEGMENT_TIME)
        name = f"segments/{when}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
        self.storage.create(name, data)
        return name

    def _delete_folded(self, grace_seconds: float) -> int:
        """Delete loose records and older segments whose every record is in a lasting segment."""
        paths = self.storage.list("records/")
        segments = self._read_segments()
        now = datetime.now(UTC)
        lasting = {
            name: held
            for name, held in segments.items()
            if (now - _segment_time(name)).total_seconds() >= grace_seconds
        }
        folded = {
            path: checksum
            for path in paths
            if (pair := _parse_record_path(path)) is not None
            and (checksum := _folded(lasting, *pair)) is not None
        }
        gone = [name for name in segments if _repeated(segments[name], name, lasting)]
        for some in _chunks(list(folded)):
            for path, data in self.storage.read_many(some).items():
                if _examine(path, data).checksum == folded[path]:
                    gone.append(path)
        self.storage.delete_many(gone)
        return len(gone)

    # --- verification ------------------------------------------------------------------------

    def verify(self) -> list[Finding]:
        """Read every file and return what is wrong: torn, tampered, misnamed, duplicate, missing.

        Predictions are read whole, so this takes as long as reading the storage once.
        """
        findings: list[Finding] = []
        seen: dict[tuple[str, int], tuple[str, str]] = {}
        for path, data in self._every_file(findings):
            examined = _examine(path, data)
            if examined.finding is not None:
                findings.append(examined.finding)
                continue
            payload = examined.payload
            pair, checksum = (payload["key"], payload["revision"]), payload["checksum"]
            if pair in seen:
                if seen[pair][0] != checksum:
                    message = f"differs from {seen[pair][1]}, which counts, on the same run"
                    findings.append(Finding("duplicate", path, message, pair[0]))
                continue
            seen[pair] = checksum, path
            if (sha256 := payload["predictions_sha256"]) is not None:
                where = _predictions_path(*pair, sha256)
                finding, _ = self._check_predictions(where, sha256, pair[0])
                findings += [finding] if finding else []
        findings += self._read_attempts("attempts/")[1]
        return findings

    def _every_file(self, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
        """Yield path and JSON of every record: those in segments first, then the loose ones."""
        paths = self.storage.list("records/")
        segments = self._read_segments()
        findings += [found for found in self._segments.values() if isinstance(found, Finding)]
        for name in segments:
            data = self.storage.read_many([name]).get(name)
            if data is None:
                continue  # folded into a later segment meanwhile
            if not Path(name).stem.endswith(hashlib.sha256(data).hexdigest()[:16]):
                message = "is not what was written; restore it from a backup"
                findings.append(Finding("tampered", name, message))
            try:
                texts = _read_parquet(io.BytesIO(data), ["json"])["json"]
            except _Torn as torn:
                findings.append(torn.finding(name))
                continue
            for text in texts:
                yield name, text.as_py().encode()
        for some in _chunks(paths):
            yield from self.storage.read_many(some).items()

    def _check_predictions(self, path: str, sha256: str, key: str) -> tuple[Finding | None, bytes]:
        data = self.storage.read_many([path]).get(path)
        if data is None:
            return Finding("missing", path, "the predictions are gone", key), b""
        if hashlib.sha256(data).hexdigest() != sha256:
            return Finding("tampered", path, "the predictions are not what was written", key), data
        return None, data

    # --- the index ---------------------------------------------------------------------------

    def _index(self, key: str | None = None) -> _Index:
        """Return what the ledger holds, or what it holds of one key."""
        part = "" if key is None else f"{key[:2]}/{key}."
        while True:
            paths = self.storage.list(f"records/{part}")
            index = _Index(self._read_segments())
            if key is not None:
                index.segments = {n: {key: h[key]} for n, h in index.segments.items() if key in h}
            if self._add_loose(index, paths):
                break
        for held in index.segments.values():
            for name, revisions in held.items():
                index.highest[name] = max(index.highest.get(name, -1), *revisions)
        for path in self.storage.list(f"retractions/{part}"):
            if (pair := _parse_record_path(path)) is not None:
                index.retracted.add(pair)
                index.unpaid.add(pair)
        index.damaged += [found for found in self._segments.values() if isinstance(found, Finding)]
        self.damaged = tuple(index.damaged)
        return index

    def _add_loose(self, index: _Index, paths: Sequence[str]) -> bool:
        """Examine the loose records that no segment holds; False if one vanished meanwhile."""
        pending: dict[str, tuple[str, int]] = {}
        for path in paths:
            pair = _parse_record_path(path)
            if pair is None:
                index.damaged.append(
                    Finding("misnamed", path, "has no key and revision in its name")
                )
                continue
            if _folded(index.segments, *pair) is None:
                index.highest[pair[0]] = max(index.highest.get(pair[0], -1), pair[1])
                index.loose[pair] = path
                if path not in self._sound:
                    pending[path] = pair
        for paths_together in _chunks(list(pending)):
            contents = self.storage.read_many(paths_together)
            if len(contents) < len(paths_together):
                return False
            for path, data in contents.items():
                finding = _examine(path, data).finding
                if finding is None:
                    self._sound.add(path)
                    continue
                index.damaged.append(finding)
                del index.loose[pending[path]]
                if finding.kind != "unknown_schema":  # a newer version's record is paid for
                    index.unpaid.add(pending[path])
        return True

    def _read_segments(self) -> dict[str, dict[str, Revisions]]:
        """Return segment -> key -> revision -> checksum, earliest first; damaged ones left out."""
        names = self.storage.list("segments/")
        for name in set(self._segments) - set(names):
            del self._segments[name]
        for name in names:
            if not isinstance(self._segments.get(name), dict):
                try:
                    self._segments[name] = self._read_segment_index(name)
                except FileNotFoundError:  # folded into a later one since it was listed
                    return self._read_segments()
        return {name: held for name, held in self._segments_in_order() if isinstance(held, dict)}

    def _segments_in_order(self) -> list[tuple[str, dict[str, Revisions] | Finding]]:
        return sorted(self._segments.items(), key=lambda item: item[0])

    def _read_segment_index(self, name: str) -> dict[str, Revisions] | Finding:
        try:
            _segment_time(name)
            table = self._read_segment(name, ["key", "revision", "checksum"])
        except _Torn as torn:
            return torn.finding(name)
        except ValueError:
            return Finding("misnamed", name, "has no time in its name")
        columns = (table[column].to_pylist() for column in ("key", "revision", "checksum"))
        held: dict[str, Revisions] = {}
        for key, revision, checksum in zip(*columns, strict=True):
            held.setdefault(key, {})[revision] = checksum
        return held

    def _read_segment(
        self, name: str, columns: list[str] | None = None, keys: set[str] | None = None
    ) -> pa.Table:
        """Return columns (None: the flat ones) of the rows of `keys` in a segment.

        Raises:
            FileNotFoundError: if the segment is gone.
            _Torn: if it is damaged.
        """
        try:
            with self.storage.open(name) as file:
                return _read_parquet(file, columns, keys)
        except (_Torn, OSError):
            # Damaged, or a connection broke: only what fails when read at once is damaged.
            return _read_parquet(io.BytesIO(self.storage.read_bytes(name)), columns, keys)

    def _rows(self, name: str, damaged: list[Finding]) -> pa.Table:
        """Return the flat columns of a segment; none, and a finding, if they are damaged."""
        try:
            return self._read_segment(name)
        except _Torn as torn:
            damaged.append(torn.finding(name))
            return to_table([])

    def _found(self, prefix: str) -> tuple[_Index, str]:
        """Return the one key that begins with `prefix`."""
        if len(prefix) < 3:
            raise StorageError(
                Problem(f"A run is named by at least 3 letters of its key, but got {prefix!r}")
            )
        index = self._index(prefix) if _KEY.fullmatch(prefix) else self._index()
        if prefix in index.highest:
            return index, prefix
        index = self._index()
        found = sorted(key for key in index.highest if key.startswith(prefix))
        if len(found) == 1:
            return index, found[0]
        if found:
            law = f"{prefix} must be the beginning of one key, but {len(found)} begin with it"
            fix = "Give more letters: " + ", ".join(found[:5]) + (" …" if len(found) > 5 else "")
        else:
            law = f"{prefix} must be the key of a run, but no key begins with it"
            fix = f"`{self.storage.hint('llmpred ledger ls')}` shows the keys."
        raise StorageError(Problem(law, str(self.storage), fix))

    def _payload(self, index: _Index, key: str, revision: int) -> dict[str, Any]:
        payload = self._payloads(index, [(key, revision)])[0]
        if payload is not None:
            return payload
        fresh = self._index(key)  # a compaction moved it since the index was made
        payload = self._payloads(fresh, [(key, revision)])[0]
        if payload is None:
            raise StorageError(Problem(f"The record of {key} must be there, but it is gone"))
        return payload

    def _payloads(
        self, index: _Index, pairs: Sequence[tuple[str, int]]
    ) -> list[dict[str, Any] | None]:
        """Return the JSON of each (key, revision), None for what vanished meanwhile."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        loose = {index.loose[pair]: pair for pair in pairs if pair in index.loose}
        for paths in _chunks(list(loose)):
            for path, data in self.storage.read_many(paths).items():
                found[loose[path]] = json.loads(data)
        for name, held in index.segments.items():
            wanted = {
                pair for pair in pairs if pair not in found and pair[1] in held.get(pair[0], ())
            }
            if wanted:
                found |= self._read_from_segment(name, wanted)
        return [found.get(pair) for pair in pairs]

    def _read_from_segment(
        self, name: str, wanted: set[tuple[str, int]]
    ) -> dict[tuple[str, int], dict[str, Any]]:
        columns = ["key", "revision", "json"]
        try:
            table = self._read_segment(name, columns, {key for key, _ in wanted})
        except FileNotFoundError:
            return {}
        except _Torn as torn:
            raise StorageError(Problem(f"A segment must be readable, but {torn}", name)) from torn
        rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
        return {(k, r): json.loads(text) for k, r, text in rows if (k, r) in wanted}

    def _read_loose(self, loose: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
        rows = []
        for paths in _chunks(list(loose.values())):
            contents = self.storage.read_many(paths)
            if len(contents) < len(paths):
                raise FileNotFoundError(f"{len(paths) - len(contents)} records were folded")
            rows += [json.loads(data) for data in contents.values()]
        return rows

    def _read_attempts(self, prefix: str) -> tuple[list[dict[str, Any]], list[Finding]]:
        rows, findings = [], []
        for paths in _chunks(self.storage.list(prefix)):
            for path, data in self.storage.read_many(paths).items():
                examined = _examine(path, data, attempt=True)
                if examined.finding is None:
                    rows.append(examined.payload)
                else:
                    findings.append(examined.finding)
        return rows, findings


class _Torn(Exception):  # noqa: N818 turned into a finding
    """A segment cannot be parsed."""

    def finding(self, name: str) -> Finding:
        return Finding("torn", name, f"cannot be parsed ({self}); restore it from a backup")


def _read_parquet(
    file: BinaryIO, columns: list[str] | None, keys: set[str] | None = None
) -> pa.Table:
    """Return columns (None: the flat ones, flattened anew if an older version made them)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        file.seek(0)
        if columns is None:
            metadata = schema.metadata or {}
            if metadata.get(b"llmpred.flat") != str(FLAT_VERSION).encode():
                texts = _read_parquet(file, ["json"])["json"].to_pylist()
                return to_table([flatten(json.loads(text)) for text in texts])
            columns = [name for name in schema.names if name not in ("json", "checksum")]
        filters = [("key", "in", keys)] if keys else None
        return pq.read_table(file, columns=columns, filters=filters).select(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _Torn(str(error)) from error


@dataclass(frozen=True)
class _Examined:
    payload: dict[str, Any]
    finding: Finding | None = None

    @property
    def checksum(self) -> str | None:
        return None if self.finding else self.payload["checksum"]


def _examine(path: str, data: bytes, attempt: bool = False) -> _Examined:
    """Parse a record file and check it against its checksum and its name."""
    folded = path.startswith("segments/")
    named: tuple[str, int] | None = None
    if attempt:
        named = path.split("/")[1], 0
    elif not folded:
        named = _parse_record_path(path)
        if named is None:
            return _Examined({}, Finding("misnamed", path, "has no key and revision in its name"))
    key = named[0] if named else ""
    again = "delete it, and the run counts as not paid for"
    try:
        payload = json.loads(data)
        if not isinstance(payload, dict):
            raise ValueError("not a JSON object")
        schema, sealed = payload["schema_version"], payload["checksum"]
        holds = payload["key"], payload["revision"]
        if sealed != checksum_of(payload):
            message = f"differs from its checksum: it was changed after writing; {again}"
            return _Examined({}, Finding("tampered", path, message, key))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return _Examined({}, Finding("torn", path, f"cannot be parsed ({error!r}); {again}", key))
    if schema > SCHEMA:
        message = f"has schema {schema}, this version knows {SCHEMA}; update llmpred"
        return _Examined({}, Finding("unknown_schema", path, message, key))
    if named is not None and (holds[0] != named[0] or (not attempt and holds != named)):
        message = f"holds revision {holds[1]} of {holds[0]}; {again}"
        return _Examined({}, Finding("misnamed", path, message, key))
    return _Examined(payload)


def _with_state(parts: Sequence[pa.Table], index: _Index, history: bool) -> pa.Table:
    """Return the parts as one table with `state`, each (key, revision) once, the first wins."""
    import pyarrow as pa

    table = stack(parts)
    seen: set[tuple[str, int]] = set()
    states: list[str | None] = []
    for pair in zip(table["key"].to_pylist(), table["revision"].to_pylist(), strict=True):
        if pair in seen:
            states.append(None)
            continue
        seen.add(pair)
        if pair in index.retracted:
            states.append("retracted")
        else:
            states.append("current" if pair[1] == index.highest[pair[0]] else "superseded")
    wanted = [s == "current" or (history and s is not None) for s in states]
    return table.append_column("state", pa.array(states, pa.string())).filter(
        pa.array(wanted, pa.bool_())
    )


def _with_zero_shot(table: pa.Table) -> pa.Table:
    """Add the score of the run named by `zero_shot_key`, where it is in the table."""
    import pyarrow as pa

    names = ("key", "state", "accuracy_r", "zero_shot_key")
    rows = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    scores = {key: score for key, state, score, _ in rows if state == "current"}
    column = pa.array([scores.get(zero_shot) for *_, zero_shot in rows], pa.float64())
    return table.append_column("zero_shot_accuracy_r", column)


def _repeated(
    held: dict[str, Revisions], name: str, others: dict[str, dict[str, Revisions]]
) -> bool:
    """Return whether later segments among `others` hold all that segment `name` holds.

    Only a later segment can replace one, so two compactions never delete each other's.
    """
    later = [other for other_name, other in others.items() if other_name > name]
    return bool(later) and all(
        any(other.get(key, {}).get(revision) == checksum for other in later)
        for key, revisions in held.items()
        for revision, checksum in revisions.items()
    )


def _mergeable(segments: dict[str, dict[str, Revisions]]) -> list[str]:
    """Return the small segments if there are many, leaving out those that contradict another.

    Of two records of one run the earlier segment's counts, and merging would change which is first.
    """
    small = [
        name
        for name, held in segments.items()
        if len(held) < SEGMENT_ROWS // 2 and not _repeated(held, name, segments)
    ]
    if len(small) < MANY_SEGMENTS:
        return []
    checksums: dict[tuple[str, int], set[str]] = {}
    for held in segments.values():
        for key, revisions in held.items():
            for revision, checksum in revisions.items():
                checksums.setdefault((key, revision), set()).add(checksum)
    contested = {pair[0] for pair, several in checksums.items() if len(several) > 1}
    return [name for name in small if contested.isdisjoint(segments[name])]


def _folded(segments: dict[str, dict[str, Revisions]], key: str, revision: int) -> str | None:
    """Return the checksum of the record in the earliest segment that holds it."""
    for held in segments.values():
        checksum = held.get(key, {}).get(revision)
        if checksum is not None:
            return checksum
    return None


def _parsed(payload: dict[str, Any], where: str) -> RunRecord:
    try:
        return RunRecord.model_validate(payload)
    except ValidationError as error:
        law = f"A record must fit this version of llmpred, but {payload.get('key')} does not"
        fix = "It was written by another version; use that one."
        raise StorageError(Problem(f"{law}: {error}", where, fix)) from error


def _already(key: str) -> AlreadyRecorded:
    return AlreadyRecorded(
        Problem(
            f"A run is paid for once, and {key} is recorded already",
            fix="Use --force to run it again and supersede the record, or retract it.",
        )
    )


def _checked_key(key: str) -> str:
    if _KEY.fullmatch(key):
        return key
    raise StorageError(
        Problem(f"A key must be 3 to 128 letters, digits, `-` or `_`, but got {key!r}")
    )


def _record_path(key: str, revision: int) -> str:
    return (
        f"records/{key[:2]}/{key}.json"
        if revision == 0
        else _revision_path("records", key, revision)
    )


def _retraction_path(key: str, revision: int) -> str:
    return _revision_path("retractions", key, revision)


def _revision_path(folder: str, key: str, revision: int) -> str:
    return f"{folder}/{key[:2]}/{key}.{revision}.json"


def _predictions_path(key: str, revision: int, sha256: str) -> str:
    """Two writers of one key never share a file: the name holds the content's hash."""
    return f"predictions/{key[:2]}/{key}.{revision}.{sha256[:16]}.parquet"


def _parse_record_path(path: str) -> tuple[str, int] | None:
    """Return key and revision of a record or retraction, None if the name has neither form."""
    match path.rpartition("/")[2].split("."):
        case [key, "json"]:
            return key, 0
        case [key, revision, "json"] if revision.isdecimal():
            return key, int(revision)
    return None


def _segment_time(name: str) -> datetime:
    stamp = Path(name).name.partition("-")[0]
    return datetime.strptime(stamp, _SEGMENT_TIME).replace(tzinfo=UTC)


def _parquet(table: pa.Table, row_group_size: int | None = None) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()


def _stamped(record: RunRecord) -> RunRecord:
    provenance = {"created": _now()} | record.provenance
    return record.model_copy(update={"provenance": provenance})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _to_json(record: RunRecord) -> bytes:
    return _dumps(record.model_dump(mode="json")).encode()


def _dumps(payload: dict[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _chunks(paths: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(paths), READ_TOGETHER):
        yield paths[start : start + READ_TOGETHER]
