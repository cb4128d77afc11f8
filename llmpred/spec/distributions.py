"""Distributions in a search space: what may stand where a value stands, and how it is drawn.

A distribution is a mapping with one key, a name of Ray Tune's, and a list:

    choice: [a, b, …]            one of the options, which may be values, lists or mappings
    grid: [a, b, …]              every option (Ray Tune's `grid_search`)
    uniform: [low, high]         a real number
    loguniform: [low, high]      a real number, uniform in its logarithm
    randint: [low, high]         an integer from low to high - 1
    quniform: [low, high, q]     a multiple of q from low to high
    times: [path, factor]        the value at another path of the run times a factor, which may
                                 itself be a distribution: `alpha: {times: [method.adapter.r, 2]}`

Real draws are rounded to 6 significant digits, so that no difference between mathematical libraries
reaches a key. A quantised draw or a product that is whole is an integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

ENUMERABLE = ("choice", "grid")
DISTRIBUTIONS = (*ENUMERABLE, "uniform", "loguniform", "randint", "quniform", "times")
_ARGUMENTS = {"uniform": 2, "loguniform": 2, "randint": 2, "quniform": 3}


def dotted(path: Path) -> str:
    """Return a key path as people write it: `datasets[0].recipe[1].label_noise.share`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@dataclass(frozen=True)
class Leaf:
    """A distribution and where it stands.

    Attributes:
        path: of the place in the run; one inside an option goes through it:
            `("optim", "choice", 1, "lr")`.
        kind: name of the distribution; never `times`.
        args: its arguments.
        within: the options that must be taken for this leaf to be drawn at all, as pairs of
            (path of the leaf that offers them, index).
    """

    path: Path
    kind: str
    args: tuple[Any, ...]
    within: tuple[tuple[Path, int], ...] = ()

    @property
    def name(self) -> str:
        """The path as text, as `materialize` takes it."""
        return dotted(self.path)

    @property
    def choices(self) -> tuple[Any, ...]:
        """What a searcher chooses among: the options, or their indexes if some are not scalars."""
        scalar = all(isinstance(a, str | int | float | bool) or a is None for a in self.args)
        return self.args if scalar else tuple(range(len(self.args)))

    def at(self, u: float) -> Any:
        """Return the value at quantile `u` in [0, 1); of a choice, the option's index."""
        if self.kind in ENUMERABLE:
            return min(int(u * len(self.args)), len(self.args) - 1)
        low, high = self.args[:2]
        if self.kind == "randint":
            return min(low + int(u * (high - low)), high - 1)
        if self.kind == "quniform":
            q = self.args[2]
            first, last = round(low / q), round(high / q)
            return self.taken(min(first + int(u * (last - first + 1)), last) * q)
        if self.kind == "uniform":
            return self.taken(low + u * (high - low))
        return self.taken(math.exp(math.log(low) + u * (math.log(high) - math.log(low))))

    def taken(self, value: Any) -> Any:
        """Return what stands for a value that a searcher took: of a choice, the option's index."""
        if self.kind in ENUMERABLE:
            return self.choices.index(value)
        if self.kind == "randint":
            return int(value)
        rounded = min(max(_rounded(value), float(self.args[0])), float(self.args[1]))
        return whole(rounded) if self.kind == "quniform" else rounded

    def extremes(self) -> tuple[Any, ...]:
        """Return every option's index, or the two ends: where a law would break first."""
        if self.kind in ENUMERABLE:
            return tuple(range(len(self.args)))
        low, high = self.args[:2]
        if self.kind == "randint":
            return (low, high - 1)
        return (low, high)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def whole(value: Any) -> Any:
    """Return an integer for a whole float: a batch size of 32.0 is 32."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def named(node: Any) -> tuple[str, list[Any]] | None:
    """Return name and arguments if `node` is written as a distribution."""
    if isinstance(node, dict) and len(node) == 1:
        [(name, args)] = node.items()
        if name in DISTRIBUTIONS and isinstance(args, list):
            return name, args
    return None


def broken_law(name: str, args: list[Any]) -> str:
    """Return which law the arguments break, or nothing."""
    if name == "times":
        if len(args) != 2 or not isinstance(args[0], str):
            return "`times` takes the path of another value and a factor"
        factor = named(args[1])
        if not (_is_number(args[1]) or (factor and factor[0] != "times")):
            return "the factor of `times` must be a number or a distribution of numbers"
        return ""
    if name in ENUMERABLE:
        return "" if args else f"`{name}` must have at least one option"
    if len(args) != _ARGUMENTS[name] or not all(map(_is_number, args)):
        names = "low, high, q" if name == "quniform" else "low, high"
        return f"`{name}` takes the numbers [{names}]"
    low, high = args[:2]
    if low >= high:
        return f"`{name}` must have low < high"
    if name == "loguniform" and low <= 0:
        return "`loguniform` must have low > 0"
    if name == "randint" and not (isinstance(low, int) and isinstance(high, int)):
        return "`randint` takes whole numbers"
    if name == "quniform" and args[2] <= 0:
        return "`quniform` must have q > 0"
    if name == "quniform" and not (_divides(args[2], low) and _divides(args[2], high)):
        return "`quniform` must have low and high that are multiples of q"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _divides(q: float, value: float) -> bool:
    return abs(value / q - round(value / q)) < 1e-9


def all_named(node: Any, path: Path = ()) -> Iterator[tuple[Path, str, list[Any]]]:
    """Yield every distribution written below `node`, valid or not: path, name, arguments."""
    if found := named(node):
        yield path, *found
        node = {found[0]: found[1]}
    if isinstance(node, dict):
        for key, value in node.items():
            yield from all_named(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from all_named(value, (*path, index))


def as_leaf(node: Any, path: Path, within: tuple[tuple[Path, int], ...] = ()) -> Leaf | None:
    """Return the valid distribution that `node` is, if it is one."""
    found = named(node)
    if found is None or found[0] == "times" or broken_law(*found):
        return None
    return Leaf(path, found[0], tuple(found[1]), within)


def leaves(node: Any, path: Path = (), within: tuple[tuple[Path, int], ...] = ()) -> Iterator[Leaf]:
    """Yield every valid distribution below `node`, those inside options too, in document order."""
    if leaf := as_leaf(node, path, within):
        yield leaf
        if leaf.kind in ENUMERABLE:
            for i, option in enumerate(leaf.args):
                yield from leaves(option, (*path, leaf.kind, i), (*within, (path, i)))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key), within)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, (*path, index), within)


Choose = Callable[[Leaf], Any]


def fill(node: Any, choose: Choose, path: Path = ()) -> Any:
    """Replace every distribution below `node` by what `choose` takes; `times` stay for later.

    `choose` returns a value, or for a choice or a grid the index of an option.
    """
    if leaf := as_leaf(node, path):
        taken = choose(leaf)
        if leaf.kind not in ENUMERABLE:
            return taken
        return fill(leaf.args[taken], choose, (*path, leaf.kind, taken))
    if isinstance(node, dict):
        return {key: fill(value, choose, (*path, key)) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value, choose, (*path, i)) for i, value in enumerate(node)]
    return node


def written_path(node: Any, path: Path, choose: Choose) -> Path:
    """Return where the value that `fill` puts at `path` was written: through which options."""
    written: Path = ()
    for step in (*path, None):
        while leaf := as_leaf(node, written):
            if leaf.kind not in ENUMERABLE:
                break
            taken = choose(leaf)
            node, written = leaf.args[taken], (*written, leaf.kind, taken)
        if step is not None:
            node, written = _below(node, step), (*written, step)
    return written


def _below(node: Any, step: str | int) -> Any:
    if isinstance(node, dict):
        return node.get(str(step))
    if isinstance(node, list) and isinstance(step, int) and step < len(node):
        return node[step]
    return None


def options_product(node: Any, kinds: tuple[str, ...], path: Path = ()) -> list[dict[Path, int]]:
    """Return every way to take the options of the leaves of these kinds below `node`.

    An option's own leaves multiply only the ways that take it.
    """
    leaf = as_leaf(node, path)
    if leaf and leaf.kind in ENUMERABLE:
        inner = [
            options_product(option, kinds, (*path, leaf.kind, i))
            for i, option in enumerate(leaf.args)
        ]
        if leaf.kind in kinds:
            return [{path: i, **way} for i, ways in enumerate(inner) for way in ways]
        return _product(inner)
    if isinstance(node, dict):
        return _product([options_product(v, kinds, (*path, k)) for k, v in node.items()])
    if isinstance(node, list):
        return _product([options_product(v, kinds, (*path, i)) for i, v in enumerate(node)])
    return [{}]


def count_options(node: Any, kinds: tuple[str, ...], path: Path = ()) -> int:
    """Return the length of `options_product` without making it."""
    leaf = as_leaf(node, path)
    if leaf and leaf.kind in kinds:
        return sum(count_options(option, kinds, path) for option in leaf.args)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return math.prod(count_options(child, kinds, path) for child in children)


def _product(parts: list[list[dict[Path, int]]]) -> list[dict[Path, int]]:
    ways: list[dict[Path, int]] = [{}]
    for part in parts:
        if part != [{}]:
            ways = [{**way, **more} for way in ways for more in part]
    return ways


def settle_times(run: dict[str, Any]) -> list[tuple[Path, str]]:
    """Replace every `times` in a filled run by its product, in place.

    Returns:
        What does not hold, as (path of the `times`, law): a path that names no number, or values
        that are tied in a circle.
    """
    broken: list[tuple[Path, str]] = []
    for path, name, _ in list(all_named(run)):
        if name == "times":
            try:
                _settle(run, path, ())
            except ValueError as error:
                broken.append((path, str(error)))
    return broken


def _settle(run: dict[str, Any], path: Path, waiting: tuple[Path, ...]) -> Any:
    parent: Any = run
    for step in path[:-1]:
        parent = parent[step]
    node = parent[path[-1]]
    found = named(node)
    if not found or found[0] != "times":
        return node
    if law := broken_law(*found):
        raise ValueError(law)
    if path in waiting:
        raise ValueError(f"`times` ties {' to '.join(map(dotted, (*waiting, path)))}: a circle")
    reference, factor = found[1]
    other = _find(run, reference)
    if other is None:
        raise ValueError(f"`times` names `{reference}`, which the run does not set")
    value = _settle(run, other, (*waiting, path))
    if not _is_number(value):
        raise ValueError(f"`times` names `{reference}`, which is no number: {value!r}")
    if not _is_number(factor):
        raise ValueError(f"the factor of `times` is no number: {factor!r}")
    product = value * factor
    parent[path[-1]] = whole(_rounded(product)) if isinstance(product, float) else product
    return parent[path[-1]]


def _find(run: Mapping[str, Any], reference: str) -> Path | None:
    node: Any = run
    path: list[str | int] = []
    for word in reference.replace("[", ".").replace("]", "").split("."):
        step: str | int = int(word) if isinstance(node, list) and word.isdecimal() else word
        if not (isinstance(node, dict) and step in node) and not (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        ):
            return None
        node = node[step]  # type: ignore[index]
        path.append(step)
    return tuple(path)
