"""Read once, mapped ever after: parsed rows as Arrow files, keyed by what they were read from."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import Problem, StorageError

if TYPE_CHECKING:
    import pyarrow as pa


def cached(folder: Path, name: str) -> tuple[pa.Table, dict[str, Any]] | None:
    """Return the memory-mapped table and the facts stored under `name`, if they are there."""
    import pyarrow as pa

    path = folder / f"{name}.arrow"
    try:
        return _mapped(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, ValueError):  # damaged on disk; it is only a copy
        with suppress(OSError):
            path.unlink()
        return None


def store(
    folder: Path, name: str, batches: Iterator[pa.RecordBatch], facts: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """Write batches to the cache, one in memory at a time, and return the table mapped.

    The file appears under its name at once and complete, so processes may race. Files of the same
    source in an earlier state (equal up to the last dash in the name) are removed.

    Args:
        folder: of the cache; made if absent.
        name: `source-state`.
        batches: at least one; all of one schema.
        facts: JSON values to keep with the table; read after the last batch, so a generator may
            still fill them.

    Raises:
        StorageError: if the folder cannot be written.
    """
    import pyarrow as pa

    part = folder / f"{name}.{uuid.uuid4().hex}.part"
    try:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            sink = pa.OSFile(str(part), "wb")
        with sink:
            first = next(batches)
            writer = pa.ipc.new_file(sink, first.schema)
            for batch in chain([first], batches):
                with _writing(folder):
                    writer.write_batch(batch)
            with _writing(folder):
                note = {b"facts": json.dumps(facts).encode()}
                writer.write_batch(first.slice(0, 0), custom_metadata=note)
                writer.close()
        loaded = _mapped(part)  # mapped before it has its name: no one can remove it in between
        with _writing(folder):
            part.replace(folder / f"{name}.arrow")
    finally:
        with suppress(OSError):
            part.unlink()
    source = name.rpartition("-")[0]
    for old in folder.glob(f"{source}-*.arrow"):
        if old.stem != name:
            with suppress(OSError):  # another process did it, or (Windows) still maps it
                old.unlink()
    return loaded


def _mapped(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
    facts = json.loads(last.custom_metadata[b"facts"])
    return reader.read_all(), facts


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say what the disk refuses; it is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            Problem(
                f"the cache folder must be writable and have room, but: {error.strerror or error}",
                str(folder),
                "Free some space, or set LLMPRED_CACHE to another folder.",
            )
        ) from error
