from __future__ import annotations

import json
import math
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmpred.errors import StorageError
from llmpred.ledger import AlreadyRecorded, Ledger, claim, release, this_process
from llmpred.ledger import ledger as implementation
from llmpred.ledger.columns import stack, to_table
from llmpred.ledger.record import SCHEMA, RunRecord
from tests.ledger.samples import key_of, make_predictions, make_record, make_spec
from tests.ledger.workers import put_all, together


def loose(ledger: Ledger) -> list[str]:
    return ledger.storage.list("records/")


def segments(ledger: Ledger) -> list[str]:
    return ledger.storage.list("segments/")


def test_a_record_comes_back(ledger: Ledger) -> None:
    written = ledger.put(make_record("a"), make_predictions())
    assert ledger.keys() == {key_of("a")}
    assert ledger.has(key_of("a"))
    assert not ledger.has(key_of("b"))
    assert ledger.get(key_of("a")) == ledger.get(key_of("a")[:5]) == written
    assert written.checksum == written.content_checksum()
    assert ledger.predictions(key_of("a")).equals(make_predictions())
    assert ledger.verify() == []
    assert pickle.loads(pickle.dumps(ledger)).keys() == {key_of("a")}


def test_put_twice_keeps_the_first(ledger: Ledger) -> None:
    first = ledger.put(make_record("a", accuracy_r=0.5), make_predictions(2))
    for _ in range(2):
        with pytest.raises(AlreadyRecorded, match="--force"):
            ledger.put(make_record("a", accuracy_r=0.9), make_predictions(3))
        assert ledger.get(key_of("a")) == first
        assert ledger.predictions(key_of("a")).num_rows == 2
        ledger.compact(0)


def test_supersede_and_retract(ledger: Ledger) -> None:
    key = key_of("a")
    ledger.put(make_record("a", accuracy_r=0.5), make_predictions(2))
    ledger.compact(0)
    second = ledger.put(make_record("a", accuracy_r=0.6), make_predictions(3), supersede=True)
    assert second.revision == 1
    assert ledger.get(key).accuracy_r == 0.6
    assert ledger.get(key, 0).accuracy_r == 0.5
    assert ledger.predictions(key, 0).num_rows == 2
    assert ledger.table()["accuracy_r"].to_pylist() == [0.6]
    history = ledger.table(history=True)
    assert history["state"].to_pylist() == ["superseded", "current"]

    with pytest.raises(StorageError, match="must say why"):
        ledger.retract(key, " ")
    assert ledger.retract(key[:6], "wrong labels") == second
    with pytest.raises(StorageError, match="retracted once"):
        ledger.retract(key, "again")
    assert ledger.keys() == set()
    assert not ledger.has(key)
    assert ledger.table().num_rows == 0
    assert ledger.table(history=True)["state"].to_pylist() == ["superseded", "retracted"]

    assert ledger.put(make_record("a", accuracy_r=0.7)).revision == 2
    ledger.compact(0)
    assert ledger.table()["accuracy_r"].to_pylist() == [0.7]
    assert ledger.verify() == []


@pytest.mark.parametrize("at_once", [1, 10_000])
def test_records_are_those_paid_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(implementation, "RECORDS_AT_ONCE", at_once)
    ledger.put(make_record("a", accuracy_r=0.5), make_predictions(2))
    ledger.put(make_record("b"), make_predictions())
    ledger.compact(0)
    second = ledger.put(make_record("a", accuracy_r=0.6), make_predictions(3), supersede=True)
    third = ledger.put(make_record("c"), make_predictions())
    ledger.retract(key_of("b"), "a mistake")
    found = list(ledger.records())
    assert sorted(found, key=lambda r: r.key) == sorted([second, third], key=lambda r: r.key)


def test_attempts_are_kept_beside(ledger: Ledger) -> None:
    for text in ("first", "second"):
        failed = make_record("a", status="out_of_memory", accuracy_r=None, error=text)
        ledger.put_attempt(failed)
        time.sleep(0.002)
    assert [attempt.error for attempt in ledger.attempts(key_of("a"))] == ["first", "second"]
    assert ledger.keys() == set()
    assert ledger.table().num_rows == 0
    assert ledger.table(attempts=True)["state"].to_pylist() == ["attempt", "attempt"]
    with pytest.raises(StorageError, match="put_attempt"):
        ledger.put(failed)
    with pytest.raises(StorageError, match="with `put`"):
        ledger.put_attempt(make_record("a"))


def test_the_table_is_flat_and_joined(ledger: Ledger) -> None:
    zero_shot = make_record("zero", accuracy_r=0.5)
    tuned = make_record("tuned", zero_shot_key=zero_shot.key, metrics={"accuracy": math.nan})
    unknown = make_record("unknown", zero_shot_key=key_of("never run"), spec=None)
    for record in (zero_shot, tuned):
        ledger.put(record)
    ledger.compact(0)
    ledger.put(unknown)
    rows = {row["key"]: row for row in ledger.table().to_pylist()}
    row = rows[tuned.key]
    assert row["zero_shot_accuracy_r"] == 0.5
    assert rows[zero_shot.key]["zero_shot_accuracy_r"] is None
    assert rows[unknown.key]["zero_shot_accuracy_r"] is None
    assert rows[unknown.key]["optim.lr"] is None
    assert row["metric.accuracy"] is None
    expected = {
        "state": "current",
        "task": "sentiment",
        "optim.lr": 2e-4,
        "optim.betas.1": 0.999,
        "method.head": "classifier",
        "method.adapter.r": 8,
        "method.adapter.alpha": 16.0,
        "dataset.recipe": '[{"subsample":{"n":300}}]',
        "task.labels": '{"0":"negative","1":"positive"}',
        "seed": 0,
        "hash.train": "t" * 32,
        "version.task": 1,
        "wall.train": 12.5,
        "tokens.target": 300,
        "count.train": 300,
        "peak_memory_bytes": 1 << 30,
        "git_commit": "abc",
        "engine": "reference",
    }
    assert row.items() >= expected.items()


def test_columns_of_mixed_kinds_become_text(tmp_path: Path) -> None:
    table = stack(
        [
            to_table([{"x": 1, "y": 1, "z": True}, {"x": None, "y": 2, "z": None}]),
            to_table([{"x": 1.5, "y": "two"}]),
        ]
    )
    assert table["x"].to_pylist() == [1.0, None, 1.5]
    assert table["y"].to_pylist() == ["1", "2", "two"]
    assert table["z"].to_pylist() == [True, None, None]


def test_an_empty_ledger_has_the_columns(ledger: Ledger) -> None:
    table = ledger.table()
    assert table.num_rows == 0
    assert {"key", "accuracy_r", "zero_shot_accuracy_r", "state"} <= {*table.schema.names}
    assert ledger.keys() == set()
    assert ledger.verify() == []
    assert ledger.compact(0).segments == ()
    with pytest.raises(StorageError, match="no key begins with it"):
        ledger.get("abc")


def test_a_prefix_must_be_unique(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for name in ("abcd1", "abcd2"):
        ledger.put(make_record("a", key=name))
    with pytest.raises(StorageError, match=r"2 begin with it.*abcd1, abcd2"):
        ledger.get("abcd")
    with pytest.raises(StorageError, match="at least 3"):
        ledger.get("a")
    assert ledger.get("abcd1").key == "abcd1"


def test_keys_with_odd_characters_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for key in ("../../evil", "a.b.c", "", "ab"):
        with pytest.raises(StorageError, match="A key must be"):
            ledger.put(make_record("a", key=key))
        with pytest.raises(StorageError, match="A key must be"):
            ledger.has(key)


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture
def one_of_each(ledger: Ledger) -> Ledger:
    for name in ("sound", "torn", "tampered", "misnamed", "newer"):
        ledger.put(make_record(name), make_predictions())
    for name in ("gone", "changed"):
        ledger.put(make_record(name, hashes={"train": name}), make_predictions())

    def path(name: str) -> str:
        return f"records/{key_of(name)[:2]}/{key_of(name)}.json"

    storage = ledger.storage
    storage.write(path("torn"), storage.read_bytes(path("torn"))[:100])
    better = json.loads(storage.read_bytes(path("tampered"))) | {"accuracy_r": 0.99}
    storage.write(path("tampered"), json.dumps(better).encode())
    storage.write(path("misnamed"), storage.read_bytes(path("sound")))
    newer = RunRecord.model_validate(json.loads(storage.read_bytes(path("newer"))))
    newer = newer.model_copy(update={"schema_version": SCHEMA + 1}).sealed()
    storage.write(path("newer"), newer.model_dump_json().encode())
    for prediction in storage.list("predictions/"):
        if key_of("gone") in prediction:
            storage.delete(prediction)
        if key_of("changed") in prediction:
            storage.write(prediction, b"changed")
    return Ledger(storage)


KINDS = {"torn": "torn", "tampered": "tampered", "misnamed": "misnamed", "newer": "unknown_schema"}


def test_damage_is_found_and_breaks_nothing_else(one_of_each: Ledger) -> None:
    ledger = one_of_each
    sound = {key_of(name) for name in ("sound", "gone", "changed")}
    assert ledger.keys() == sound | {key_of("newer")}, "what a newer version ran is paid for"
    assert {f.key: f.kind for f in ledger.damaged} == {key_of(n): k for n, k in KINDS.items()}
    assert {*ledger.table()["key"].to_pylist()} == sound
    assert len(ledger.damaged) == 4
    findings = {finding.key: finding.kind for finding in ledger.verify()}
    expected = {key_of(name): kind for name, kind in KINDS.items()}
    assert findings == expected | {key_of("gone"): "missing", key_of("changed"): "tampered"}
    with pytest.raises(StorageError, match="torn"):
        ledger.get(key_of("torn"))
    with pytest.raises(StorageError, match="predictions are gone"):
        ledger.predictions(key_of("gone"))

    ledger.compact(0)
    assert len(loose(ledger)) == 4, "what is damaged is neither folded nor deleted"
    assert ledger.keys() == sound | {key_of("newer")}
    assert len(ledger.verify()) == 6

    assert not ledger.has(key_of("torn"))
    assert ledger.put(make_record("torn")).revision == 1
    assert ledger.has(key_of("torn"))


def test_a_damaged_segment_is_found_and_breaks_nothing_else(ledger: Ledger) -> None:
    ledger.put(make_record("a"))
    ledger.compact(0)
    ledger.put(make_record("b"))
    ledger.compact(0)
    first, second = segments(ledger)
    data = ledger.storage.read_bytes(first)
    ledger.storage.write(first, data[: len(data) // 2])
    for reader in (Ledger(ledger.storage), ledger):
        assert reader.table()["key"].to_pylist() == [key_of("b")]
        assert [finding.path for finding in reader.verify()][:1] == [first]
    assert Ledger(ledger.storage).keys() == {key_of("b")}
    ledger.storage.write(second, ledger.storage.read_bytes(second) + b" ")
    assert {f.path for f in Ledger(ledger.storage).verify()} == {first, second}


def test_different_records_of_one_run_are_found(ledger: Ledger) -> None:
    path = f"records/{key_of('a')[:2]}/{key_of('a')}.json"
    ledger.put(make_record("a", accuracy_r=0.5))
    ledger.compact(0)
    first = segments(ledger)
    other = make_record("a", accuracy_r=0.9).sealed()
    ledger.storage.write(path, other.model_dump_json().encode())
    fresh = Ledger(ledger.storage)
    assert fresh.get(key_of("a")).accuracy_r == 0.5
    assert fresh.table()["accuracy_r"].to_pylist() == [0.5]
    assert [(f.kind, f.path) for f in fresh.verify()] == [("duplicate", path)]
    fresh.compact(0)
    assert loose(fresh) == [path], "nothing that differs is deleted"
    assert segments(fresh) == first


# --- compaction ----------------------------------------------------------------------------------


def test_compaction_waits_for_its_grace(ledger: Ledger) -> None:
    for name in "abc":
        ledger.put(make_record(name), make_predictions())
    before = ledger.table()
    done = ledger.compact()
    assert (done.folded, len(done.segments), done.deleted) == (3, 1, 0)
    assert len(loose(ledger)) == 3
    assert ledger.table().equals(before)
    assert ledger.compact() == implementation.Compaction(0, (), 0)
    assert ledger.compact(0).deleted == 3
    assert loose(ledger) == []
    for reader in (ledger, Ledger(ledger.storage)):
        assert reader.table().equals(before)
        assert reader.get(key_of("b")).key == key_of("b")
        assert reader.predictions(key_of("b")).num_rows == 3
        assert reader.verify() == []


def test_compaction_sweeps_claims_of_recorded_runs(ledger: Ledger) -> None:
    for name in "ab":
        mine = claim(ledger.storage, key_of(name), this_process())
        assert mine is not None
        ledger.put(make_record(name))
        if name == "a":
            release(mine)
    ledger.compact()
    assert [path.split("/")[1] for path in ledger.storage.list("claims/")] == [key_of("b")]


def test_many_small_segments_become_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for name in range(implementation.MANY_SEGMENTS):
        ledger.put(make_record(name, provenance={"created": str(name)}))
        ledger.compact(0)
    ledger.put(make_record("last"))
    before = ledger.table()
    assert ledger.compact(3600).deleted == 0
    assert len(segments(ledger)) == implementation.MANY_SEGMENTS + 1
    assert ledger.compact(3600).segments == (), "what was merged is not merged again"
    assert ledger.table().equals(before)
    ledger.compact(0)
    assert len(segments(ledger)) == 1
    for reader in (ledger, Ledger(tmp_path)):
        assert reader.table().equals(before)
        assert reader.verify() == []


def test_columns_of_an_older_version_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(make_record("a"))
    before = ledger.table()
    monkeypatch.setattr(implementation, "FLAT_VERSION", 0)
    monkeypatch.setattr(
        implementation,
        "flatten",
        lambda payload: {
            name: payload[name] for name in ("key", "revision", "created") if name in payload
        },
    )
    ledger.compact(0)
    monkeypatch.undo()
    assert ledger.table().equals(before)


def test_a_put_beside_a_hasty_compaction_keeps_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer's record is folded and its file deleted between our look and our put."""
    slow, fast = Ledger(tmp_path), Ledger(tmp_path)
    create = slow.storage.create

    def create_late(path: str, data: bytes) -> bool:
        fast.put(make_record("a", accuracy_r=0.5), make_predictions(2))
        fast.compact(0)
        return create(path, data)

    monkeypatch.setattr(slow.storage, "create", create_late)
    with pytest.raises(AlreadyRecorded):
        slow.put(make_record("a", accuracy_r=0.9), make_predictions(3))
    fresh = Ledger(tmp_path)
    assert fresh.get(key_of("a")).accuracy_r == 0.5
    assert fresh.predictions(key_of("a")).num_rows == 2
    assert fresh.verify() == []
    assert len(fresh.storage.list("predictions/")) == 1


def test_many_writers_record_each_run_once(storage: object, ledger: Ledger) -> None:
    records = [make_record(i) for i in range(8)]
    done = together(4, put_all, ledger.storage.root, records, make_predictions())
    assert sum(done) == 8
    assert ledger.keys() == {key_of(i) for i in range(8)}
    assert ledger.verify() == []
    assert len(ledger.storage.list("predictions/")) == 8
    for record in records:
        by = ledger.predictions(record.key)["by"][0].as_py()
        assert ledger.get(record.key).wall_seconds == {"total": float(by)}


CHURN = """
import sys
from llmpred.ledger import Ledger
ledger = Ledger(sys.argv[1])
print("started", flush=True)
while True:
    ledger.compact(0)
"""


def test_killed_compactions_lose_nothing(tmp_path: Path) -> None:
    """Two compactions at once, killed at random, beside a writer and a reader."""
    ledger = Ledger(tmp_path)
    expected = set()
    for round_ in range(6):
        churners = [
            subprocess.Popen([sys.executable, "-c", CHURN, str(tmp_path)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for churner in churners:
            assert churner.stdout is not None
            churner.stdout.readline()
        deadline = time.monotonic() + random.uniform(0.05, 0.4)
        number = 0
        while time.monotonic() < deadline:
            ledger.put(make_record((round_, number)), make_predictions())
            expected.add(key_of((round_, number)))
            assert ledger.keys() == expected
            number += 1
        for churner in churners:
            churner.kill()
            churner.wait()
            assert churner.stdout is not None
            churner.stdout.close()
        fresh = Ledger(tmp_path)
        assert {*fresh.table()["key"].to_pylist()} == expected
        assert fresh.verify() == []
    ledger.compact(0)
    assert loose(ledger) == []
    assert {*Ledger(tmp_path).table()["key"].to_pylist()} == expected


def test_a_diverged_run_is_recorded_without_a_score(ledger: Ledger) -> None:
    record = make_record(
        "a",
        status="diverged",
        accuracy_r=math.nan,
        loss_curve=({"step": 1, "loss": math.inf},),
        spec=make_spec(lr=10.0),
    )
    ledger.put(record)
    ledger.compact(0)
    got = ledger.get(key_of("a"))
    assert got.accuracy_r is None
    assert got.loss_curve == ({"step": 1, "loss": None},)
    assert ledger.table()["accuracy_r"].to_pylist() == [None]
