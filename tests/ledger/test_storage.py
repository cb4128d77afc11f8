from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmpred.errors import StorageError
from llmpred.ledger import Storage, safe_name
from llmpred.ledger.storage import TEMPORARY
from tests.ledger.workers import create_all, together


def test_files_come_back(storage: Storage) -> None:
    storage.write("a/b.json", b"one")
    storage.write("a/b.json", b"two")
    assert storage.read_bytes("a/b.json") == b"two"
    assert storage.exists("a/b.json")
    assert not storage.exists("a")
    assert storage.create("a/c.json", b"three")
    assert not storage.create("a/c.json", b"four")
    assert storage.read_many(["a/b.json", "a/none", "a/c.json"]) == {
        "a/b.json": b"two",
        "a/c.json": b"three",
    }
    with storage.open("a/c.json") as file:
        assert file.seek(2) == 2
        assert file.read() == b"ree"


def test_hints_name_the_storage_unless_it_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMPRED_STORAGE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage("~/llmpred").hint("llmpred ledger ls") == "llmpred ledger ls"
    other = Storage(tmp_path / "my runs")
    assert other.hint("llmpred ledger ls") == f"llmpred ledger ls --storage '{other.root}'"
    monkeypatch.setenv("LLMPRED_STORAGE", other.root)
    assert other.hint("llmpred ledger ls") == "llmpred ledger ls"


def test_list_takes_any_prefix(storage: Storage) -> None:
    for path in ("r/ab/abc.json", "r/ab/abc.1.json", "r/ab/abd.json", "r/x", "s"):
        storage.write(path, b"")
    assert storage.list("r/ab/abc.") == ["r/ab/abc.1.json", "r/ab/abc.json"]
    assert storage.list("r/") == ["r/ab/abc.1.json", "r/ab/abc.json", "r/ab/abd.json", "r/x"]
    assert storage.list() == sorted([*storage.list("r/"), "s"])
    assert storage.list("none/") == []


def test_delete_takes_absent_files(storage: Storage) -> None:
    storage.write("a/b", b"1")
    storage.write("a/c", b"1")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete_many(["a/c", "a/d"])
    assert storage.list() == []


def test_other_writers_are_seen(storage: Storage) -> None:
    assert storage.list("a/") == []
    other = [
        sys.executable,
        "-c",
        "import sys; from llmpred.ledger import Storage; Storage(sys.argv[1]).write('a/b', b'1')",
        storage.root,
    ]
    subprocess.run(other, check=True)
    assert storage.list("a/") == ["a/b"]
    assert pickle.loads(pickle.dumps(storage)).read_bytes("a/b") == b"1"


def test_folders_come_back_whole(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    (source / "deep").mkdir(parents=True)
    (source / "adapter.safetensors").write_bytes(b"weights")
    (source / "deep" / "config.json").write_text("{}")
    storage.put_folder(source, "adapters/ab")
    got = storage.get_folder("adapters/ab", tmp_path / "got")
    assert (got / "adapter.safetensors").read_bytes() == b"weights"
    assert (got / "deep" / "config.json").read_text() == "{}"

    (source / "deep" / "config.json").unlink()
    storage.put_folder(source, "adapters/ab")
    assert storage.list("adapters/") == [
        "adapters/ab/adapter.safetensors",
        "adapters/ab/manifest.json",
    ]

    storage.write("adapters/ab/adapter.safetensors", b"other")
    with pytest.raises(StorageError, match="another hash"):
        storage.get_folder("adapters/ab", tmp_path / "again")
    storage.delete("adapters/ab/manifest.json")
    with pytest.raises(FileNotFoundError):
        storage.get_folder("adapters/ab", tmp_path / "again")
    storage.delete_folder("adapters/ab")
    assert storage.list() == []


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "", "a//b", "a/./b", "a\\b", "a\0b", "C:/x", "a\nb"],
)
def test_no_path_leaves_the_root(storage: Storage, path: str) -> None:
    for use in (storage.read_bytes, storage.exists, storage.delete, storage.local_path):
        with pytest.raises(StorageError, match="relative and stay inside"):
            use(path)
    with pytest.raises(StorageError, match="relative and stay inside"):
        storage.create(path, b"")


def test_a_manifest_cannot_lead_out_of_the_target(storage: Storage, tmp_path: Path) -> None:
    storage.write("kept/manifest.json", b'{"../../evil": "0"}')
    with pytest.raises(StorageError, match="relative and stay inside"):
        storage.get_folder("kept", tmp_path / "got")


def test_safe_names_are_one_part_and_differ() -> None:
    assert safe_name("qa_h1.yaml") == "qa_h1.yaml"
    assert safe_name("情感") == "情感"
    parts = {safe_name(name) for name in ("a/b", "a b", "a-b", "../a-b", "..", "", "x" * 300)}
    assert len(parts) == 7
    assert all("/" not in part and part.strip(".") for part in parts)


def test_check_writable_leaves_nothing(storage: Storage) -> None:
    storage.check_writable()
    storage.check_writable()
    assert storage.list() == []


def test_a_file_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="must be a folder, but got a file"):
        Storage(tmp_path / "file")
    with pytest.raises(StorageError, match="must be a folder all the way"):
        Storage(tmp_path / "file" / "below").check_writable()


def test_a_missing_bucket_is_said(s3_server: str) -> None:
    with pytest.raises(StorageError, match="folder or bucket must exist"):
        Storage("s3://nowhere-at-all/x").check_writable()


def test_an_unknown_kind_of_store_is_said() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        Storage("nosuch://x/y")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    registry = importlib.import_module("fsspec.registry")  # the package shows a read-only view

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    with pytest.raises(StorageError, match=r"pip install 'llmpred\[s3\]'"):
        Storage("s3://bucket/x")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "must have space left"),
        (errno.EROFS, "must let you write"),
        (errno.EACCES, "must let you write"),
        (errno.ENOTSUP, "hard links"),
        (errno.EIO, "must answer"),
    ],
)
def test_a_disk_that_refuses_is_said_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    storage = Storage(tmp_path / "s")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match=said) as caught:
        storage.create("a/b", b"1")
    assert str(tmp_path) in str(caught.value)
    assert storage.list() == []
    assert not list((tmp_path / "s" / TEMPORARY).iterdir())


SHORT_OF_SPACE = """
import resource, signal, sys
from llmpred.errors import StorageError
from llmpred.ledger import Storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
storage = Storage(sys.argv[1])
for write in (storage.create, storage.write):
    try:
        write("a/b", b"x" * 1_000_000)
    except StorageError as error:
        assert "must have space left" in str(error), error
    else:
        sys.exit("written")
assert storage.list() == []
storage.check_writable()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs file size limits")
def test_a_file_cut_off_by_the_system_is_said_and_not_left(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SHORT_OF_SPACE, str(tmp_path)], check=True)
    assert not list((tmp_path / TEMPORARY).iterdir())


@pytest.mark.parametrize(
    ("root", "said"), [("/sys/kernel/runs", "must let you write"), ("/proc/runs", "must exist")]
)
def test_a_place_that_takes_no_files_is_said(root: str, said: str) -> None:
    if not Path(root).parent.is_dir():
        pytest.skip(f"needs {Path(root).parent}")
    with pytest.raises(StorageError, match=said):
        Storage(root).check_writable()


def test_of_many_processes_one_creates(storage: Storage) -> None:
    created = together(4, create_all, storage.root, 60)
    assert sorted(i for mine in created for i in mine) == list(range(60))
    contents = storage.read_many(storage.list("c/")).values()
    assert sorted(map(len, created)) == sorted(
        sum(content == str(number).encode() * 2000 for content in contents) for number in range(4)
    )


WRITE_FOREVER = """
import itertools, sys
from llmpred.ledger import Storage
storage = Storage(sys.argv[1])
print("started", flush=True)
for i in itertools.count():
    storage.create(f"c/{i}", b"x" * 300_000)
"""


def test_a_killed_writer_leaves_no_torn_file(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "s")
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, storage.root], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            writer.wait(0.15)
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.wait()
        writer.stdout.close()
        for path in storage.list():
            assert len(storage.read_bytes(path)) == 300_000
        storage.delete_many(storage.list())
    for left in (tmp_path / "s" / TEMPORARY).iterdir():
        os.utime(left, (0, 0))
    storage.check_writable()
    assert not list((tmp_path / "s" / TEMPORARY).iterdir())
