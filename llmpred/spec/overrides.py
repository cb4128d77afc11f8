"""`--set path=value`: changes to a search space, or to a single run, from the command line.

    base=X                    the one base is X          base.F=V      F of every base
    dataset.F=V  method.F=V   F of every dataset, of every method
    datasets[1].F=V           F of one of them           datasets=[…]  the list whole
    task.F  optim.F  evaluation.F  execution.F  search.F
    seed  seeds  samples  sampler  mode  zero_shot  name

A single run has one dataset, base and method, so there is nothing to number.
Values are YAML, and may be distributions. `null` unsets what may be unset. Where exactly one of
several keys holds, setting one drops the others: `optim.max_steps`, `optim.epochs` and
`optim.stages`; `evaluation.data` and `evaluation.holdout`. `sampler=grid` drops `samples`. A
source that is a single file, or synthetic, drops the `split`, `subset` and `revision` of the hub
dataset it stands in for; a file also drops the `options` of a synthetic source. Another source
drops the dataset's `name`, unless that is set too, or several datasets have this source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmpred.errors import Problem, SpecError, nearest
from llmpred.spec.distributions import Path, dotted, named
from llmpred.spec.yaml import parse_yaml

LISTS = {"dataset": "datasets", "base": "bases", "method": "methods"}
_SIBLINGS: dict[Path, tuple[str, ...]] = {
    ("optim", "max_steps"): ("epochs", "stages"),
    ("optim", "epochs"): ("max_steps", "stages"),
    ("optim", "stages"): ("epochs", "max_steps"),
    ("evaluation", "data"): ("holdout",),
    ("evaluation", "holdout"): ("data",),
}
_OWNERS = {
    "datasets": ("task", "evaluation"),
    "methods": ("task", "optim", "evaluation", "execution"),
}
_ONE_FILE = re.compile(r"synthetic:|.*\.(jsonl?|ndjson|csv|tsv|tab|parquet)(\.gz)?$", re.IGNORECASE)


class _MisplacedError(Exception):
    """A path that leads nowhere: law and fix."""


def apply_overrides(
    document: dict[str, Any], overrides: Sequence[str], keys: Sequence[str]
) -> tuple[dict[Path, str], list[Problem]]:
    """Apply `path=value` texts to a document, in place and in order.

    Args:
        document: a space or a run, its bases as mappings.
        overrides: the texts, without `--set`.
        keys: the top-level keys it may have beside `LISTS`.

    Returns:
        Which key paths of the document were set by which text, and what does not hold.
    """
    origins: dict[Path, str] = {}
    problems: list[Problem] = []
    for text in overrides:
        where = f"--set {text}"
        try:
            name, path, value = _parsed(text, where)
            if name not in (*keys, *LISTS):
                raise _MisplacedError(f"unknown key `{name}`", nearest(name, (*keys, *LISTS)))
            for target in _targets(document, path):
                _set(document, target, value)
                for old in [p for p in origins if p[: len(target)] == target]:
                    del origins[old]
                origins[target] = where
        except _MisplacedError as error:
            law, fix = error.args
            problems.append(Problem(law, where, fix))
        except SpecError as error:
            problems += error.problems
    _drop_names(document, origins)
    return origins, problems


def _drop_names(document: dict[str, Any], origins: Mapping[Path, str]) -> None:
    """Drop the names of datasets that got another source: they are called after that.

    Not where several have that source, whose names say what else they differ in.
    """
    members: dict[Path, Any] = {("dataset",): document.get("dataset")}
    members |= {("datasets", i): one for i, one in enumerate(_list(document.get("datasets")))}
    sources = Counter(str(one.get("source")) for one in members.values() if isinstance(one, dict))
    for path, one in members.items():
        moved = (*path, "source") in origins and (*path, "name") not in origins
        if moved and sources[str(one["source"])] == 1:
            one.pop("name", None)


def _parsed(text: str, where: str) -> tuple[str, Path, Any]:
    written, equals, value = text.partition("=")
    steps = re.findall(r"[^.\[\]]+|\[\d+\]", written.strip())
    path: Path = tuple(int(s[1:-1]) if s[0] == "[" else s for s in steps)
    if not equals or not path or dotted(path) != written.strip():
        raise _MisplacedError(
            f"a change is written `path=value`, but got {text!r}", "Write `optim.lr=1e-4`."
        )
    return str(path[0]), path, parse_yaml(value, where)


def _targets(document: dict[str, Any], path: Path) -> Iterator[Path]:
    """Yield the document's paths that a path of the command line means."""
    first, rest = path[0], path[1:]
    if first in LISTS and first not in document:
        plural = LISTS[str(first)]
        if not rest:
            yield (plural,)
            return
        members = document.get(plural)
        if not isinstance(members, list) or not members:
            raise _MisplacedError(f"the space has no `{plural}`", f"Set `{plural}` whole.")
        yield from ((plural, i, *rest) for i in range(len(members)))
        return
    yield path
    # The command line wins over what a dataset says of its own task or evaluation, and over all
    # that a method says of its own.
    for key, parts in _OWNERS.items():
        for i, owner in enumerate(_list(document.get(key)) if first in parts and rest else ()):
            if isinstance(owner, dict) and isinstance(owner.get(first), dict):
                own = owner[first]
                if rest[0] in own or any(s in own for s in _SIBLINGS.get((first, rest[0]), ())):
                    yield (key, i, *path)


def _set(document: dict[str, Any], path: Path, value: Any) -> None:
    if len(path) == 1 and path[0] in LISTS.values() and not isinstance(value, list):
        value = [value]
    if path == ("base",) or (path[0] == "bases" and len(path) <= 2):
        value = named_bases(value)
    node: Any = document
    for depth, step in enumerate(path[:-1]):
        _check_step(node, step, path[:depth])
        if isinstance(node, dict) and node.get(step) is None:
            node[step] = {}
        node = node[step]
    _check_step(node, path[-1], path[:-1])
    node[path[-1]] = value
    if value is not None:
        _drop_excluded(document, path, value)


def _check_step(node: Any, step: str | int, path: Path) -> None:
    here = dotted(path)
    if found := named(node):
        raise _MisplacedError(
            f"`{here}` is a `{found[0]}`, which has no parts", f"Set `{here}` whole."
        )
    if isinstance(node, list):
        if not isinstance(step, int):
            raise _MisplacedError(
                f"`{here}` is a list, which has no `{step}`", f"Write `{here}[0]`."
            )
        if step >= len(node):
            raise _MisplacedError(f"`{here}` has {len(node)} entries, so there is no [{step}]", "")
    elif not isinstance(node, dict) or isinstance(step, int):
        raise _MisplacedError(f"`{here}` has no `{step}`", f"Set `{here}` whole.")


def _drop_excluded(document: dict[str, Any], path: Path, value: Any) -> None:
    """Drop what cannot hold beside the value just set."""
    start = 2 if path[0] in _OWNERS and path[2:3] in (("evaluation",), ("optim",)) else 0
    for sibling in _SIBLINGS.get(path[start : start + 2], ()):
        _reach(document, path[: start + 1]).pop(sibling, None)
    if path == ("sampler",) and value == "grid":
        document.pop("samples", None)
    if path[-1] == "source" and isinstance(value, str) and _ONE_FILE.match(value):
        for key in ("split", "subset", "revision", "options"):
            if key != "options" or not value.startswith("synthetic:"):
                _reach(document, path[:-1]).pop(key, None)


def _reach(node: Any, path: Path) -> Any:
    for step in path:
        node = node[step]
    return node


def named_bases(value: Any) -> Any:
    """Return a base, or a list of bases, with names alone turned into mappings."""
    if isinstance(value, list):
        return [named_bases(item) for item in value]
    return {"name": value} if isinstance(value, str) else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
