"""A trained meta-model in a folder: written whole or not at all, checked before it is used.

    model.json          what it is made of, what it was trained on, how well it does
    arrays.safetensors  its numbers
    lightgbm-….txt      its trees, as LightGBM writes them
    manifest.json       SHA-256 of the other files, written last

Nothing in it is run. Reading checks the hashes, that only known classes with their own fields are
made, that trees end, and that a few training rows are predicted as they were when it was written.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred import __version__
from llmpred.errors import Problem, StorageError
from llmpred.meta.codec import Pieces, put_together, take_apart
from llmpred.meta.conformal import MIN_GROUPS
from llmpred.meta.predictors import Forest
from llmpred.meta.table import Table
from llmpred.meta.trained import Trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 2  # of the folder; another one is refused
# A storage keeps a `manifest.json` of its own for every folder, so this one has another name.
MODEL, ARRAYS, MANIFEST = "model.json", "arrays.safetensors", "hashes.json"
CHECKED = 8  # training rows that are predicted on reading
BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
AGREE = 1e-6  # relative; other processors sum in another order


# --- writing -----------------------------------------------------------------------------------


def save(made: Trained, folder: Path) -> None:
    """Write a trained model; one that is there is replaced, anything else is left alone.

    Raises:
        StorageError: if the folder holds something else, or cannot be written.
    """
    from safetensors.numpy import save_file

    if folder.exists() and not is_model(folder) and (folder.is_file() or any(folder.iterdir())):
        law = "a model is written to a new folder or over another model, but this is neither"
        raise StorageError(Problem(law, str(folder), "Name another folder."))
    first = made.sample.take(_first(made.sample))
    expected = made.model.predict(first)
    pieces = take_apart({"trained": _lean(made), "expected": expected.mean})
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        save_file(pieces.arrays, partial / ARRAYS)
        for name, text in pieces.boosters.items():
            (partial / name).write_text(text, "utf-8")
        content = {"format": FORMAT, "llmpred": __version__, "content": pieces.tree}
        (partial / MODEL).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        hashes = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        (partial / MANIFEST).write_text(json.dumps(hashes, indent=1), "utf-8")
        _put_in_place(partial, folder)
    except OSError as error:
        law = f"the model must be writable, but says: {error.strerror or error}"
        raise StorageError(Problem(law, str(folder))) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _lean(made: Trained) -> Trained:
    """Leave out the models of calibration folds where intervals do not ask them."""
    import numpy as np

    calibration = made.model.calibration
    if len(np.unique(calibration.groups)) < MIN_GROUPS:
        return made
    calibration = replace(calibration, blends=())
    return replace(made, model=replace(made.model, calibration=calibration))


def _first(sample: Table) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(min(CHECKED, len(sample)))


def _put_in_place(partial: Path, folder: Path) -> None:
    if folder.exists():
        old = partial.with_name(f"{partial.name}.old")
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- reading -----------------------------------------------------------------------------------


def is_model(folder: Path) -> bool:
    """Return whether a folder looks like one that `save` wrote."""
    return (folder / MODEL).is_file() and (folder / MANIFEST).is_file()


def load(folder: Path) -> Trained:
    """Return the trained model of a folder.

    Raises:
        StorageError: if there is none, a file of it is torn, or it was written by a version that is
            not understood.
    """
    if not is_model(folder):
        law = f"a trained model's folder must hold {MODEL} and {MANIFEST}, but lacks them"
        raise StorageError(Problem(law, str(folder), "Name such a folder as --model."))
    try:
        pieces = _pieces(folder)
    except (OSError, ValueError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise _damaged(folder, str(error)) from error
    try:
        content = put_together(pieces)
        made, expected = content["trained"], content["expected"]
        for forest in _forests(made):
            _check(forest)
        found = made.model.predict(made.sample.take(_first(made.sample))).mean
        close = _close(found, expected)
    except (*BROKEN, RecursionError) as error:
        raise _damaged(folder, str(error)) from error
    if not close:
        law = "the model must predict as it did when it was written, but predicts otherwise"
        fix = "A library of another version reads it differently; train it again."
        raise StorageError(Problem(law, str(folder), fix))
    return _as_trained(made, folder)


def _pieces(folder: Path) -> Pieces:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    hashes = json.loads((folder / MANIFEST).read_text("utf-8"))
    if not isinstance(hashes, dict) or not {MODEL, ARRAYS} <= hashes.keys():
        raise ValueError(f"{MANIFEST} does not list its files")
    for name, expected in hashes.items():
        if Path(name).name != name:
            raise ValueError(f"{MANIFEST} names {name!r}, which is not a file of the folder")
        if _sha256(folder / name) != expected:
            raise ValueError(f"{name} was changed, or is not whole")
    written = json.loads((folder / MODEL).read_text("utf-8"))
    if not isinstance(written, dict) or written.get("format") != FORMAT:
        version = written.get("llmpred") if isinstance(written, dict) else None
        raise ValueError(f"its format is not {FORMAT} but that of llmpred {version}")
    try:
        arrays = load_file(folder / ARRAYS)
    except SafetensorError as error:
        raise ValueError(f"{ARRAYS}: {error}") from error
    boosters = {
        name: (folder / name).read_text("utf-8") for name in hashes if name.endswith(".txt")
    }
    return Pieces(written.get("content"), arrays=arrays, boosters=boosters)


def _damaged(folder: Path, why: str) -> StorageError:
    law = f"a model's folder must be as it was written, but {why.rstrip('.') or 'is not'}"
    return StorageError(Problem(law, str(folder), "Train it again, or take a sound copy."))


def _as_trained(made: Any, folder: Path) -> Trained:
    if not isinstance(made, Trained):
        raise _damaged(folder, "it holds something else")
    return made


def _close(found: Any, expected: Any) -> bool:
    import numpy as np

    return bool(np.allclose(found, expected, rtol=AGREE, atol=AGREE, equal_nan=True))


def _forests(made: Any) -> Iterator[Forest]:
    blends = (made.model.blend, *made.model.calibration.blends)
    for blend in blends:
        for predictor in blend.parts.predictors:
            if isinstance(predictor, Forest):
                yield predictor


def _check(forest: Forest) -> None:
    """See to it that a walk down the trees ends: children come after their parents.

    Raises:
        ValueError: if it does not.
    """
    import numpy as np

    nodes = len(forest.column)
    inner = np.flatnonzero(forest.column >= 0)
    sound = bool(np.all((forest.roots >= 0) & (forest.roots < nodes)))
    for children in (forest.left, forest.right):
        sound &= bool(np.all((children[inner] > inner) & (children[inner] < nodes)))
    if not sound:
        raise ValueError("a tree does not end")
