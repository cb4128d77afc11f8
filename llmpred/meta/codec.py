"""Fitted models as JSON, arrays and LightGBM's text: what is written, and what may be read.

A fitted model is frozen dataclasses that hold numbers, texts, arrays, LightGBM's trees and each
other. Reading makes nothing but those: the classes of `MODULES` by name, each with exactly its own
fields. No code is stored, so a folder from a stranger can lie about scores, and do no more.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULES = (
    *(
        "conformal",
        "cost",
        "gaussian",
        "model",
        "parts",
        "predictors",
        "schema",
        "table",
        "trained",
    ),
    "transforms",
)
KINDS = "bif"  # of arrays: booleans, integers, floats


@dataclass
class Pieces:
    """A model in pieces: `tree` is JSON that names the arrays and the LightGBM texts.

    Objects are numbered as they are finished, so that `{"again": 3}` is the fourth one.
    """

    tree: Any = None
    objects: int = 0
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    boosters: dict[str, str] = field(default_factory=dict)


def take_apart(value: Any) -> Pieces:
    """Return a fitted model, or anything else made of the same, in pieces."""
    pieces = Pieces()
    pieces.tree = _written(value, pieces, {})
    return pieces


def put_together(pieces: Pieces) -> Any:
    """Return what was taken apart.

    Raises:
        ValueError: if the pieces are not what `take_apart` makes.
    """
    return _read(pieces.tree, pieces, [])


def _written(value: Any, pieces: Pieces, seen: dict[int, Any]) -> Any:
    """Return the tree of a value; what is held twice is written once, then named."""
    import lightgbm
    import numpy as np

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return {"texts": [None if v is None else str(v) for v in value]}
        if id(value) not in seen:
            seen[id(value)] = {"array": f"a{len(pieces.arrays)}"}
            pieces.arrays[f"a{len(pieces.arrays)}"] = np.ascontiguousarray(value)
        return seen[id(value)]
    if isinstance(value, np.generic):
        return _written(value.item(), pieces, seen)
    if isinstance(value, lightgbm.Booster):
        name = f"lightgbm-{len(pieces.boosters)}.txt"
        pieces.boosters[name] = value.model_to_string(importance_type="gain")
        return {"booster": name}
    if isinstance(value, tuple | list):
        return [_written(item, pieces, seen) for item in value]
    if isinstance(value, frozenset):
        return {"set": sorted(value)}
    if isinstance(value, Mapping):
        return {"map": {key: _written(item, pieces, seen) for key, item in value.items()}}
    if _classes().get(type(value).__name__) is type(value):
        if id(value) in seen:
            return seen[id(value)]
        fields = {
            part.name: _written(getattr(value, part.name), pieces, seen)
            for part in dataclasses.fields(value)
        }
        seen[id(value)] = {"again": pieces.objects}
        pieces.objects += 1
        return {"is": type(value).__name__, "fields": fields}
    raise TypeError(f"no way to write a {type(value).__name__}")


def _read(tree: Any, pieces: Pieces, objects: list[Any]) -> Any:
    import numpy as np

    if not isinstance(tree, dict):
        if isinstance(tree, list):
            return tuple(_read(item, pieces, objects) for item in tree)
        return tree
    match tree:
        case {"array": str(name)} if pieces.arrays.get(name, np.empty(0, "U")).dtype.kind in KINDS:
            return pieces.arrays[name]
        case {"booster": str(name)} if name in pieces.boosters:
            return booster_of(pieces.boosters[name])
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
        case {"texts": list(texts)} if all(v is None or isinstance(v, str) for v in texts):
            made = np.empty(len(texts), dtype=object)
            made[:] = texts
            return made
        case {"set": list(items)} if all(isinstance(item, str) for item in items):
            return frozenset(items)
        case {"map": dict(items)}:
            return {key: _read(item, pieces, objects) for key, item in items.items()}
        case {"is": str(name), "fields": dict(given)} if name in _classes():
            kind = _classes()[name]
            expected = {part.name for part in dataclasses.fields(kind)}
            if set(given) != expected:
                raise ValueError(f"{name} has the fields {sorted(expected)}, not {sorted(given)}")
            objects.append(
                kind(**{key: _read(item, pieces, objects) for key, item in given.items()})
            )
            return objects[-1]
        case {"again": int(number)} if 0 <= number < len(objects):
            return objects[number]
    raise ValueError(f"nothing is written as {str(tree)[:80]}")


def booster_of(text: str) -> Any:
    """Return the booster of LightGBM's text, which a stranger may have written.

    Raises:
        ValueError: if it is not sound.
    """
    import lightgbm

    try:
        _check_trees(text)
    except (KeyError, OverflowError) as error:
        raise ValueError(f"it does not describe trees: {error}") from error
    text = re.sub(r"(?m)^tree_sizes=.*\n", "", text)  # LightGBM ends the process if they are wrong
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(f"LightGBM cannot read its trees: {error}") from error


def _check_trees(text: str) -> None:
    """See to it that LightGBM, which trusts what it reads, walks within its arrays and ends.

    A child is a later node, or -1 - its number where it is a leaf.

    Raises:
        ValueError: if a tree of the text is not sound.
    """
    import numpy as np

    head, *trees = re.split(r"(?m)^Tree=\d+$", text.partition("end of trees")[0])
    features = int(dict(_settings(head))["max_feature_idx"]) + 1
    for tree in trees:
        given = dict(_settings(tree))

        def numbers(name: str, kind: type = int, given: dict[str, str] = given) -> Any:
            return np.array(given.get(name, "").split(), dtype=kind)

        leaves, categories = int(given["num_leaves"]), int(given["num_cat"])
        nodes = np.arange(max(0, leaves - 1))
        sound = leaves >= 1 and given.get("is_linear", "0") == "0"
        sound &= len(numbers("leaf_value", float)) == leaves
        if leaves > 1:
            for name in ("left_child", "right_child"):
                child = numbers(name)
                sound &= len(child) == len(nodes)
                sound = sound and bool(np.all((child >= -leaves) & (child < leaves - 1)))
                sound = sound and bool(np.all((child < 0) | (child > nodes)))
            column, kind = numbers("split_feature"), numbers("decision_type")
            threshold = numbers("threshold", float)
            sound &= len(column) == len(kind) == len(threshold) == len(nodes)
            sound = sound and bool(np.all((column >= 0) & (column < features)))
            if sound:
                chosen = threshold[kind % 2 == 1]  # the first bit says that a split is by category
                sound = bool(np.all((chosen >= 0) & (chosen < max(categories, 0))))
            bounds, bits = numbers("cat_boundaries"), numbers("cat_threshold")
            if sound and categories:
                sound = len(bounds) == categories + 1 and bounds[0] == 0
                sound = sound and bool(np.all(np.diff(bounds) >= 0)) and bounds[-1] == len(bits)
        if not sound:
            raise ValueError("a tree of LightGBM's does not end, or leaves its arrays")


def _settings(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (row.partition("=") for row in text.split("\n"))]


@functools.cache
def _classes() -> dict[str, Any]:
    """Return the classes that models are made of, by name."""
    modules = [importlib.import_module(f"llmpred.meta.{name}") for name in MODULES]
    return {
        name: kind
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and kind.__module__ == module.__name__
    }
