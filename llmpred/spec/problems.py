"""From pydantic's errors to ours: the law, the value got, the place the user wrote, the fix."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from llmpred.errors import Problem, nearest
from llmpred.spec.distributions import DISTRIBUTIONS, Path, dotted

_WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "dict": "a mapping",
    "model": "a mapping",
    "tuple": "a list",
    "list": "a list",
}
_MEANT = {  # what others call it
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "steps": "max_steps",
    "optimizer": "name",
    "lr_scheduler_type": "schedule",
    "max_grad_norm": "grad_clip",
    "warmup_steps": "warmup",
    "warmup_ratio": "warmup",
    "rank": "r",
    "lora_r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "path": "source",
    "file": "source",
    "model": "base",
    "max_samples": "limit",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}


def shown(value: Any) -> str:
    """Return a value as JSON, cut to what fits a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def from_pydantic(
    error: ValidationError,
    model: type[BaseModel],
    where: Callable[[Path], str],
    also: Mapping[Path, Sequence[str]] | None = None,
) -> dict[Path, Problem]:
    """Translate a validation error of `model` into one problem a key path.

    Args:
        error: what pydantic raised.
        model: what was validated, to know which names are valid.
        where: from a key path of the model to the place in the user's words.
        also: further valid names a key path.
    """
    problems: dict[Path, Problem] = {}
    for item in error.errors(include_url=False):
        path = _real(item["loc"], model)
        among_others = item["type"] == "literal_error" and _is_union(model, path)
        if among_others and isinstance(item["input"], list):
            continue  # a list is meant as the list that may stand here too; its entries are wrong
        if path not in problems:
            law, fix = _law(item, path, model, also or {})
            problems[path] = Problem(law, where(path), fix)
    return problems


def _law(
    item: Any, path: Path, model: type[BaseModel], also: Mapping[Path, Sequence[str]]
) -> tuple[str, str]:
    name, kind, got = f"`{dotted(path)}`", item["type"], item["input"]
    context = item.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing", "Add it."
    if kind == "extra_forbidden":
        names = (*_names(model, path[:-1]), *also.get(path[:-1], ()))
        homes = _homes(model, str(path[-1]))
        fix = f"Did you mean `{homes[0]}`?" if len(homes) == 1 else ""
        return f"unknown key {name}", fix or _nearest_key(str(path[-1]), names)
    if kind == "literal_error":
        choices = [str(c) for c in _literals(model, path)]
        allowed = [f"`{c}`" for c in choices] + ["a list"] * _is_union(model, path)
        return f"{name} must be {' or '.join(allowed)}, but got {shown(got)}", _near(got, choices)
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"{name} must be {word} {_number(context[bound])}, but got {shown(got)}", ""
    if kind == "value_error":
        return str(context["error"]), ""
    if kind == "too_short":
        least = context["min_length"]
        return f"{name} must have at least {least} entries, but got {shown(got)}", ""
    if kind == "finite_number":
        return f"{name} must be a finite number, but got {shown(got)}", ""
    wanted = _WANTED.get(kind.split("_")[0])
    if wanted is None:
        return f"{name}: {item['msg']}, but got {shown(got)}", ""
    return f"{name} must be {wanted}, but got {shown(got)}", _type_fix(got, wanted)


def _type_fix(got: Any, wanted: str) -> str:
    if isinstance(got, dict) and len(got) == 1:
        [(name, args)] = got.items()
        if name in DISTRIBUTIONS and not isinstance(args, list):
            return f"`{name}` takes a list."
        if name in DISTRIBUTIONS:
            return "Only a search space has distributions; give one value."
        if isinstance(args, list):
            return f"`{name}` is no distribution. {nearest(name, DISTRIBUTIONS)}"
    if isinstance(got, str) and "number" in wanted:
        return "Write the number without quotes or units."
    if wanted == "text" and isinstance(got, int | float):
        return "Put it in quotes."
    return ""


def _nearest_key(name: str, names: Sequence[str]) -> str:
    words = [word for word, meant in _MEANT.items() if meant in names]
    close = difflib.get_close_matches(name, (*names, *words, *DISTRIBUTIONS), n=1, cutoff=0.6)
    if close and close[0] in words:
        return f"Did you mean `{_MEANT[close[0]]}`?"
    if close and close[0] in DISTRIBUTIONS:
        return f"The distribution is called `{close[0]}`; it stands alone in its mapping."
    return nearest(name, names) if names else ""


def _near(got: Any, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(got), choices, n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else ""


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _real(loc: Sequence[str | int], model: type[BaseModel]) -> Path:
    """Drop the steps pydantic adds for the members of a union: they are no keys."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(step, str) and _is_union(model, tuple(path)):
            continue
        path.append(step)
    return tuple(path)


# --- walking the types of a model --------------------------------------------------------------


def _members(annotation: Any) -> list[Any]:
    """Return what an annotation may be, `Annotated`, unions and `None` unwrapped."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) for m in _members(a) if m is not type(None)]
    return [annotation]


def _at(model: type[BaseModel], path: Path) -> list[Any]:
    """Return the types that may stand at a key path."""
    found: list[Any] = [model]
    for step in path:
        below: list[Any] = []
        for kind in found:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                field = kind.model_fields.get(str(step))
                below += _members(field.annotation) if field else []
            elif get_origin(kind) in (tuple, list) and isinstance(step, int):
                below += _members(get_args(kind)[0])
            elif get_origin(kind) is dict:
                below += _members(get_args(kind)[1])
        found = below
    return found


def _is_union(model: type[BaseModel], path: Path) -> bool:
    return len(_at(model, path)) > 1


def _names(model: type[BaseModel], path: Path) -> tuple[str, ...]:
    kinds = _at(model, path)
    return tuple(
        name
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name in kind.model_fields
    )


def _homes(model: type[BaseModel], key: str) -> list[str]:
    """Return the keys of this name in the parts of a model, such as `method.class_weights`."""
    return [f"{part}.{key}" for part in model.model_fields if key in _names(model, (part,))]


def _literals(model: type[BaseModel], path: Path) -> list[Any]:
    return [c for kind in _at(model, path) if get_origin(kind) is Literal for c in get_args(kind)]
