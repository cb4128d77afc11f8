"""Datasets kept by the `datasets` library: saved folders, folders of data files, the hub."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.cache import remembered
from llmpred.data.rows import Row
from llmpred.errors import DataError, Problem, nearest
from llmpred.spec.run import SourceSpec

if TYPE_CHECKING:
    from datasets import Dataset

Found = tuple[tuple[Path, ...], Callable[[], tuple[Iterator[Row], list[str]]]]

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill", ".ckpt", ".npy", ".npz"}
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def open_folder(source: SourceSpec, folder: Path) -> Found:
    """Open a folder: one saved by `save_to_disk`, or data files such as `train.parquet`.

    Raises:
        DataError: if it holds a pickle, no data, or several splits of which none was named.
    """
    import datasets

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    _refuse_pickles(files, source.source)
    saved = {"dataset_dict.json", "state.json"} & {path.name for path in files}

    def read() -> tuple[Iterator[Row], list[str]]:
        if saved:
            _check_saved(source, files)
            found = _called(source, datasets.load_from_disk, str(folder))
        else:
            _check_inside(source, folder)
            found = _called(source, datasets.load_dataset, str(folder), source.subset)
        return _rows(_split(source, found), source.source)

    if not files:
        law = "the folder must hold data files, or be saved by `datasets`, but it is empty"
        raise DataError(Problem(law, source.source))
    return tuple(files), read


def open_hub(source: SourceSpec) -> Found:
    """Open a dataset of the hub, from the network or from its local cache.

    `datasets` honours HF_ENDPOINT (mirrors), HF_HUB_OFFLINE and its own cache. No code from the
    hub runs. The rows come whole, since limits draw from all of them.

    Raises:
        DataError: if the dataset, its subset, revision or split cannot be had.
    """
    split = _split(source, _from_hub(source.source, source.subset, source.revision))
    files = tuple(Path(file["filename"]) for file in split.cache_files)
    return files, lambda: _rows(split, source.source)


@remembered
def _from_hub(name: str, subset: str | None, revision: str | None) -> Any:
    import datasets

    source = SourceSpec(source=name, subset=subset, revision=revision)
    return _called(source, datasets.load_dataset, name, subset, revision=revision)


def _called(source: SourceSpec, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call into `datasets`; what it cannot find, read or will not run is the user's to know."""
    try:
        return call(*args, **options)
    except ConnectionError as error:
        raise DataError(
            Problem(
                "the source must be a file, a folder or a dataset of the hub; there is no such "
                f"file, and the hub cannot be reached: {_line(error)}",
                source.source,
                "Check the path; or go online, set HF_ENDPOINT to a mirror, or give the path of a "
                "local copy.",
            )
        ) from error
    except Exception as error:  # metadata of strangers can make it raise anything
        cause = error.__cause__ or error  # `datasets` wraps the telling error
        law = f"the source must be a dataset that `datasets` can load, but: {_line(cause)}"
        raise DataError(Problem(law, source.source)) from error


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _split(source: SourceSpec, found: Any) -> Dataset:
    """Return the split that was named, or the only one."""
    if not isinstance(found, dict):
        if source.split is None or source.split == str(found.split):
            return found
        law = f"the folder holds a single split, but got `split: {source.split}`"
        raise DataError(Problem(law, source.source, "Leave `split` out."))
    names = [str(name) for name in found]
    if source.split is None and len(names) == 1:
        return found[names[0]]
    if source.split is None:
        law = f"a dataset with several splits needs `split`; it has {', '.join(names)}"
        raise DataError(Problem(law, source.source, f"Set `split: {names[0]}`."))
    if source.split not in names:
        law = f"`split` must be one of {', '.join(names)}, but got {source.split!r}"
        raise DataError(Problem(law, source.source, nearest(source.split, names)))
    return found[source.split]


def _rows(split: Dataset, shown: str) -> tuple[Iterator[Row], list[str]]:
    from datasets import ClassLabel

    notes = [
        f"labels of `{name}` are numbers: "
        + ", ".join(f"{i} = {label}" for i, label in enumerate(feature.names[:20]))
        for name, feature in split.features.items()
        if isinstance(feature, ClassLabel)
    ]

    def rows() -> Iterator[Row]:
        number = 0
        for batch in split.with_format("arrow").iter(batch_size=1000):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{shown}, row {number}", values)

    return rows(), notes


def _check_saved(source: SourceSpec, files: list[Path]) -> None:
    """Refuse a saved folder whose own lists name files or folders outside of it."""
    problems = []
    for path in files:
        if path.name not in ("state.json", "dataset_dict.json"):
            continue
        try:
            listed = json.loads(path.read_text("utf-8"))
            if path.name == "state.json":
                names = [file["filename"] for file in listed["_data_files"]]
            else:
                names = listed["splits"]
        except (ValueError, TypeError, KeyError) as error:
            law = f"{path.name} must be as `datasets` saves it, but: {type(error).__name__} {error}"
            problems.append(Problem(law, str(path), "Save the dataset again."))
            continue
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                law = f"a saved dataset must name files of its own folder, but got {name!r}"
                problems.append(Problem(law, str(path), "Save the dataset again."))
    if problems:
        raise DataError(problems)


def _check_inside(source: SourceSpec, folder: Path) -> None:
    """Refuse a folder whose README names data elsewhere: on this machine or in the network."""
    import datasets

    builder = _called(source, datasets.load_dataset_builder, str(folder), source.subset)
    named = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
    outside = [name for name in named if not Path(os.path.normpath(name)).is_relative_to(folder)]
    if outside:
        law = f"a data folder must name files of its own, but its README names {outside[0]}"
        fix = "Move the file into the folder, or mend `data_files` in its README."
        raise DataError(Problem(law, source.source, fix))


def _refuse_pickles(files: list[Path], shown: str) -> None:
    """Refuse folders with files that run code when they are loaded."""
    problems = []
    for path in files:
        try:
            found = is_pickle(path)
        except PermissionError:
            law = "the file must be readable, but permission is denied"
            problems.append(Problem(law, str(path), "Give yourself read permission (chmod u+r)."))
            continue
        if found:
            law = f"a data folder must hold no pickles, which can run code, but has {path.name}"
            problems.append(Problem(law, shown, "Save the data as Parquet or JSONL instead."))
    if problems:
        raise DataError(problems)


def is_pickle(path: Path) -> bool:
    """Whether a file is known, by its name or content, to run code when it is loaded."""
    with path.open("rb") as stream:
        start = stream.read(2)
    return path.suffix.lower() in PICKLES or start.startswith(PICKLE_STARTS) or _archived(path)


def _archived(path: Path) -> bool:
    """Whether a file is an archive with a pickle inside, as `torch.save` writes them."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in PICKLES for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return True  # it says that it is one, and does not show what is inside
