"""Files under one root, a local folder or an object store, with exclusive creation.

Everything the ledger keeps goes through `Storage`. Its one primitive for several writers is
`create`: of many processes creating the same path, exactly one succeeds, and whoever sees the path
sees its whole content.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from llmpred.errors import Problem, StorageError
from llmpred.ledger import DEFAULT_STORAGE

TEMPORARY = ".tmp"  # files being written; never listed
MANIFEST = "manifest.json"  # written last, so a folder that has it is whole
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
CONFLICT_RETRIES = 6
STALE_SECONDS = 24 * 3600.0
NAME_BYTES = 80  # of a name in a path, where file systems take 255 of the whole

_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]+")


def safe_name(name: str) -> str:
    """Return `name` as one path part: other characters than letters, digits, `._-` become `-`.

    A name that had to change ends in a hash of the original, so two names never share a part.
    """
    part = re.sub(r"[^\w.-]+", "-", name).encode()[:NAME_BYTES].decode(errors="ignore")
    part = part.strip("-.") or "unnamed"
    if part == name:
        return part
    return f"{part}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def checked(path: str) -> str:
    """Return `path` if it is a plain relative path that stays inside the root.

    Raises:
        StorageError: if it is absolute, empty, climbs with `..` or has unusual characters.
    """
    if all(_PART.fullmatch(part) and part not in (".", "..") for part in path.split("/")):
        return path
    raise StorageError(
        Problem(
            f"A path in the storage must be relative and stay inside it, but got {path!r}",
            fix="Use names joined by `/`, without `..`.",
        )
    )


class DamagedFolder(StorageError):  # noqa: N818 callers expect it and make the folder again
    """A kept folder is not what was put."""


class Storage:
    """A folder or bucket that runs are kept in.

    The object pickles as its root alone, so it can be sent to other processes.

    Args:
        root: a local folder (`~` is expanded; made when first written to) or a URL such as
            `s3://bucket/prefix`. Credentials come from the environment as usual; the endpoint of
            an S3-compatible server from `AWS_ENDPOINT_URL` or fsspec's configuration.

    Raises:
        StorageError: if the root is a file, or its kind of store needs a package that is absent.
    """

    def __init__(self, root: str | Path) -> None:
        text = str(root)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        self._store: _Store = _Bucket(text) if "://" in text else _Folder(text)
        self.root: str = self._store.root

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.root,)

    def __repr__(self) -> str:
        return f"Storage({self.root!r})"

    def __str__(self) -> str:
        return self.root

    def hint(self, command: str) -> str:
        """Return a command for people, with `--storage` where it would take another one."""
        usual = os.environ.get("LLMPRED_STORAGE") or DEFAULT_STORAGE
        if self.root in (usual, os.path.abspath(Path(usual).expanduser())):  # noqa: PTH100
            return command
        return f"{command} --storage {shlex.quote(self.root)}"

    def read_bytes(self, path: str) -> bytes:
        """Return the content of `path`.

        Raises:
            FileNotFoundError: if there is no such file.
            StorageError: if it cannot be read.
        """
        with self._errors("read", path):
            return self._store.read(checked(path))

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Return path -> content of those of `paths` that exist, read together where that helps."""
        paths = [checked(path) for path in paths]
        with self._errors("read", paths[0] if paths else ""):
            return self._store.read_many(paths)

    def open(self, path: str) -> BinaryIO:
        """Open `path` for reading at any offset.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        with self._errors("read", path):
            return self._store.open(checked(path))

    def exists(self, path: str) -> bool:
        """Return whether `path` is a file."""
        with self._errors("read", path):
            return self._store.exists(checked(path))

    def list(self, prefix: str = "") -> list[str]:
        """Return the paths of all files, at any depth, that begin with `prefix`, sorted."""
        checked((prefix.removesuffix("/") or "any") if prefix else "any")
        with self._errors("list", prefix):
            return sorted(
                path
                for path in self._store.list(prefix)
                if path.startswith(prefix) and not path.startswith(TEMPORARY + "/")
            )

    def write(self, path: str, data: bytes) -> None:
        """Write `data` to `path` at once, replacing what was there."""
        with self._errors("write", path):
            self._store.write(checked(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Write `data` to `path` unless it exists; return whether this call created it.

        Exactly one of any number of callers gets True, and nobody sees a part of the content.
        """
        with self._errors("write", path):
            return self._store.create(checked(path), data)

    def delete(self, path: str) -> None:
        """Delete `path`; it may be absent."""
        self.delete_many([path])

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete all of `paths`; any may be absent."""
        paths = [checked(path) for path in paths]
        if paths:
            with self._errors("delete", paths[0]):
                self._store.delete_many(paths)

    def local_path(self, path: str) -> Path | None:
        """Return where `path` lies on this machine, or None in an object store."""
        return self._store.local_path(checked(path))

    def put_folder(self, folder: Path, path: str) -> None:
        """Copy all files of a local folder to `path`, its manifest last.

        Readers take a folder without a manifest for unfinished.
        """
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        names = [name for name in names if name != MANIFEST]
        if not names:
            raise StorageError(
                Problem(f"The folder to keep must hold files, but {folder} holds none")
            )
        self.delete(f"{path}/{MANIFEST}")
        for name in names:
            with self._errors("write", f"{path}/{name}"):
                self._store.upload(folder / name, checked(f"{path}/{name}"))
        manifest = {name: _sha256(folder / name) for name in names}
        kept = {f"{path}/{name}" for name in names}
        self.delete_many(set(self.list(f"{path}/")) - kept)
        self.write(f"{path}/{MANIFEST}", json.dumps(manifest, ensure_ascii=False).encode())

    def get_folder(self, path: str, folder: Path) -> Path:
        """Copy the folder kept at `path` into the local `folder` and return it.

        Raises:
            FileNotFoundError: if there is no whole folder at `path`.
            DamagedFolder: if a file of it is not what was put.
            StorageError: if it cannot be read.
        """
        manifest: dict[str, str] = json.loads(self.read_bytes(f"{path}/{MANIFEST}"))
        for name, expected in manifest.items():
            target = folder / checked(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._errors("read", f"{path}/{name}"):
                self._store.download(f"{path}/{name}", target)
            if _sha256(target) != expected:
                raise DamagedFolder(
                    Problem(
                        f"A kept file must be what was put, but {name} has another hash",
                        f"{self.root}, {path}",
                        "It was changed or damaged afterwards; restore it or train again.",
                    )
                )
        return folder

    def delete_folder(self, path: str) -> None:
        """Delete everything under `path`, its manifest first."""
        self.delete(f"{path}/{MANIFEST}")
        self.delete_many(self.list(f"{path}/"))

    def check_writable(self) -> None:
        """Try out whether files can be written, and created exclusively; leave nothing behind.

        Raises:
            StorageError: if the storage is read-only, full, absent or lacks exclusive creation.
        """
        self._store.sweep()
        probe = f"{TEMPORARY}/probe-{secrets.token_hex(8)}"
        first = self.create(probe, b"probe")
        second = self.create(probe, b"probe")
        self.delete(probe)
        if not first or second:
            raise StorageError(
                Problem(
                    "A storage must refuse to create a file that exists, but this one does not",
                    self.root,
                    "Use a local folder, or an object store with conditional writes "
                    "(If-None-Match).",
                )
            )

    @contextmanager
    def _errors(self, action: str, path: str) -> Iterator[None]:
        """Turn what the store raises into a StorageError; FileNotFoundError of reads passes."""
        try:
            yield
        except self._store.errors() as error:
            if action == "read" and isinstance(error, FileNotFoundError):
                raise
            raise StorageError(_problem(error, action, self.root, path)) from error


def _problem(error: Exception, action: str, root: str, path: str) -> Problem:
    where = f"{root.removesuffix('/')}/{path}" if path else root
    code = error.errno if isinstance(error, OSError) else None
    status = _http_status(error)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Problem(
            f"The storage must have space left, but writing says: {os.strerror(code)}",
            where,
            "Free some space or choose another storage; nothing half-written was left, and the "
            "same command goes on from here.",
        )
    if code in (errno.EROFS, errno.EACCES, errno.EPERM) or isinstance(error, PermissionError):
        return Problem(
            f"The storage must let you {action} files, but says: {_text(error)}",
            where,
            "Check the permissions or credentials, or choose another storage.",
        )
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        return Problem(
            f"A storage must be a folder all the way, but says: {_text(error)}",
            where,
            "Move the file that is in the way, or choose another storage.",
        )
    if code in (errno.EXDEV, errno.ENOTSUP, errno.EMLINK):
        return Problem(
            f"The storage must be one file system with hard links, but says: {_text(error)}",
            where,
            "Use a folder on a local or NFS disk, or an object store.",
        )
    if isinstance(error, FileNotFoundError):
        return Problem(
            f"The folder or bucket must exist or be makeable, but says: {_text(error)}",
            where,
            "Create it, or fix its name.",
        )
    if status == 501 or code == errno.ENOSYS:
        return Problem(
            f"The object store must support conditional writes, but says: {_text(error)}",
            where,
            "Update the server, or use a local folder.",
        )
    return Problem(
        f"The storage must answer, but trying to {action} says: {_text(error)}",
        where,
        "Check the address, the network and the credentials, then run the same command again.",
    )


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error of s3fs or gcsfs."""
    for link in (error, error.__cause__):
        response = getattr(link, "response", None)
        status = (
            response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(response, dict)
            else getattr(link, "code", None)
        )
        if isinstance(status, int | str) and str(status).isdigit():
            return int(status)
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Store(Protocol):
    """What a kind of store does; paths are checked and errors translated by `Storage`."""

    root: str

    def errors(self) -> tuple[type[Exception], ...]: ...
    def read(self, path: str) -> bytes: ...
    def open(self, path: str) -> BinaryIO: ...
    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]: ...
    def exists(self, path: str) -> bool: ...
    def list(self, prefix: str) -> Iterable[str]: ...
    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def delete_many(self, paths: Sequence[str]) -> None: ...
    def upload(self, source: Path, path: str) -> None: ...
    def download(self, path: str, target: Path) -> None: ...
    def local_path(self, path: str) -> Path | None: ...
    def sweep(self) -> None: ...


class _Folder:
    """A local folder. Files are written under `.tmp`, synced, then linked or renamed in place."""

    def __init__(self, root: str) -> None:
        self._root = Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100 keeps symlinks
        self.root = str(self._root)
        if self._root.exists() and not self._root.is_dir():
            raise StorageError(
                Problem(
                    "A storage must be a folder, but got a file",
                    self.root,
                    "Name a folder; it is made if it does not exist.",
                )
            )

    def errors(self) -> tuple[type[Exception], ...]:
        return (OSError,)

    def local_path(self, path: str) -> Path:
        return self._root / path

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return (self._root / path).open("rb")

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        contents = {}
        for path in paths:
            try:
                contents[path] = (self._root / path).read_bytes()
            except FileNotFoundError:
                continue
        return contents

    def exists(self, path: str) -> bool:
        return (self._root / path).is_file()

    def list(self, prefix: str) -> Iterable[str]:
        folder, slash, _ = prefix.rpartition("/")
        return _files(self.root + slash + folder, folder + slash, prefix)

    def write(self, path: str, data: bytes) -> None:
        with self._staged(io.BytesIO(data)) as staged:
            self._place(staged, path)

    def create(self, path: str, data: bytes) -> bool:
        target = self._root / path
        if target.exists():
            return False
        with self._staged(io.BytesIO(data)) as staged:
            while True:
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(staged, target)
                except FileExistsError:
                    # NFS may repeat a link whose answer got lost: then the file has two names.
                    return staged.stat().st_nlink == 2
                except FileNotFoundError:
                    if not staged.exists():
                        raise
                    continue  # someone removed the emptied parent folder in between
                _sync_folder(target.parent)
                return True

    def delete_many(self, paths: Sequence[str]) -> None:
        for path in paths:
            target = self._root / path
            target.unlink(missing_ok=True)
        for parent in {(self._root / path).parent for path in paths}:
            self._prune(parent)

    def upload(self, source: Path, path: str) -> None:
        with source.open("rb") as stream, self._staged(stream) as staged:
            self._place(staged, path)

    def download(self, path: str, target: Path) -> None:
        shutil.copyfile(self._root / path, target)

    def sweep(self) -> None:
        """Delete what killed writers left under `.tmp` a day ago or earlier."""
        for left in (self._root / TEMPORARY).glob("*"):
            try:
                if left.stat().st_mtime < time.time() - STALE_SECONDS:
                    left.unlink()
            except FileNotFoundError:
                continue

    def _prune(self, folder: Path) -> None:
        while folder != self._root and folder.name != TEMPORARY:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already
                return
            folder = folder.parent

    @contextmanager
    def _staged(self, content: BinaryIO) -> Iterator[Path]:
        folder = self._root / TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / secrets.token_hex(12)
        try:
            with staged.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _place(self, staged: Path, path: str) -> None:
        target = self._root / path
        while True:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                staged.replace(target)
            except FileNotFoundError:
                if not staged.exists():
                    raise
                continue
            _sync_folder(target.parent)
            return


def _files(folder: str, shown: str, prefix: str) -> Iterator[str]:
    """Yield the files below `folder`, named from `shown`; skips names that miss `prefix`."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        name = shown + entry.name
        if not (name.startswith(prefix) or prefix.startswith(name + "/")):
            continue
        if entry.is_dir():
            if name != TEMPORARY:
                yield from _files(entry.path, name + "/", prefix)
        else:
            yield name


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut; Windows does so by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Bucket:
    """Anything fsspec knows; creation is exclusive by a conditional put."""

    def __init__(self, root: str) -> None:
        import fsspec

        self.root = root.rstrip("/")
        protocol = root.partition("://")[0]
        try:
            # Other writers must be seen at once, so nothing listed is remembered.
            self._fs, self._base = fsspec.url_to_fs(self.root, use_listings_cache=False)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            fix = f"Install it: pip install 'llmpred[{extra}]'" if extra else f"Install it: {error}"
            raise StorageError(
                Problem(f"`{protocol}://` needs a package that is not installed", self.root, fix)
            ) from error
        except ValueError as error:
            raise StorageError(
                Problem(
                    f"A storage must be a folder or a URL such as s3://bucket/prefix: {error}",
                    self.root,
                    "Use a local path, s3://… or gs://….",
                )
            ) from error
        self._base = self._base.rstrip("/")
        self._lists_by_prefix = protocol in EXTRAS

    def errors(self) -> tuple[type[Exception], ...]:
        botocore = sys.modules.get("botocore.exceptions")  # s3fs brings it
        return (OSError, botocore.BotoCoreError) if botocore else (OSError,)

    def local_path(self, path: str) -> None:
        return None

    def read(self, path: str) -> bytes:
        return cast("bytes", self._fs.cat_file(self._at(path)))

    def open(self, path: str) -> BinaryIO:
        return cast("BinaryIO", self._fs.open(self._at(path), "rb"))

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        if not paths:
            return {}
        found = self._fs.cat([self._at(path) for path in paths], on_error="return")
        contents: dict[str, bytes] = {}
        for path in paths:
            content = found.get(self._at(path), FileNotFoundError(path))
            if isinstance(content, bytes):
                contents[path] = content
            elif not isinstance(content, FileNotFoundError):
                raise content
        return contents

    def exists(self, path: str) -> bool:
        return bool(self._fs.isfile(self._at(path)))

    def list(self, prefix: str) -> Iterable[str]:
        folder, _, start = prefix.rpartition("/")
        options: dict[str, Any] = {"prefix": start} if start and self._lists_by_prefix else {}
        try:
            found = self._fs.find(self._at(folder) if folder else self._base, **options)
        except FileNotFoundError:
            return []
        return [path.removeprefix("/" * path.startswith("/")) for path in self._relative(found)]

    def write(self, path: str, data: bytes) -> None:
        self._make_parent(path)
        self._fs.pipe_file(self._at(path), data)

    def create(self, path: str, data: bytes) -> bool:
        self._make_parent(path)
        for attempt in range(CONFLICT_RETRIES):
            try:
                self._fs.pipe_file(self._at(path), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                status = _http_status(error)
                if status == 412:
                    return False
                if status != 409 or attempt + 1 == CONFLICT_RETRIES:
                    raise
                # Two conditional puts met: S3 refused both for the moment.
                time.sleep(0.05 * 2**attempt * (1 + secrets.randbelow(100) / 100))
            else:
                return True
        raise AssertionError("the last attempt returns or raises")

    def delete_many(self, paths: Sequence[str]) -> None:
        targets = [self._at(path) for path in paths]
        try:
            self._fs.rm(targets)
        except FileNotFoundError:
            for target in targets:
                try:
                    self._fs.rm_file(target)
                except FileNotFoundError:
                    continue

    def upload(self, source: Path, path: str) -> None:
        self._make_parent(path)
        self._fs.put_file(str(source), self._at(path))

    def download(self, path: str, target: Path) -> None:
        self._fs.get_file(self._at(path), str(target))

    def sweep(self) -> None:
        """Nothing is left behind by killed writers: objects appear whole or not at all."""

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}"

    def _relative(self, found: Iterable[str]) -> Iterator[str]:
        start = self._base + "/"
        for path in found:
            if path.startswith(start):
                yield path.removeprefix(start)

    def _make_parent(self, path: str) -> None:
        if not self._lists_by_prefix:  # object stores have no folders; other file systems do
            self._fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)
