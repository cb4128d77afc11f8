"""Search spaces: a YAML file that says which runs to try, and the runs it stands for.

    name: sentiment_lora
    mode: collect            # collect: every run counts | search: trials look for the best run
    sampler: random          # grid | random | sobol, in mode search random | optuna
    samples: 8               # draws (in mode search: trials) a combination
    seed: 0                  # of the draws
    seeds: [0, 1]            # of the runs; each draw runs with each
    zero_shot: true          # also score each untouched base, where the head needs no training
    task: {name: sentiment}
    datasets:                # DatasetSpec; what it says of the parts below is its own
      - {name: sst2, source: sst2_train.tsv, recipe: [{subsample: {n: 300}}]}
    bases: [smollm2-135m, {name: Qwen/Qwen2.5-7B-Instruct-1M, quantization: nf4}]
    methods: [{head: label_scoring, adapter: {kind: lora, r: {choice: [4, 8]}}}]  # likewise
    optim: {lr: {loguniform: [1e-5, 1e-3]}, max_steps: 20}
    evaluation: {data: {source: sst2_test.tsv}, limit: 300}
    execution: {}

A combination is a dataset, a base, a method and a seed. Distributions (see `distributions`) may
stand for any value in them, in `task`, `optim`, `evaluation` and `seeds`. Every `grid` multiplies
the runs; `sampler: grid` multiplies every `choice` too and takes no `samples`.

The same file gives the same runs on every machine. A random draw depends on the space's seed, the
sample's number, the place of the value in the run, and what the combination is called: the
dataset's name (or source), the base's name, the method's head and adapter kind. So a further
dataset, a further distribution or more samples change no other draw, and the points of a grid and
the seeds share their draws, which makes them paired. Sobol points are drawn jointly for all values
of a combination; a further distribution changes them.

Paths of local data are relative to the working directory. Nothing in the file is expanded or run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from llmpred.errors import Problem, SpecError, nearest
from llmpred.spec.canonical import canonical_json
from llmpred.spec.checks import Heads, impossible
from llmpred.spec.distributions import (
    ENUMERABLE,
    Choose,
    Leaf,
    Path,
    all_named,
    as_leaf,
    broken_law,
    count_options,
    dotted,
    fill,
    leaves,
    options_product,
    settle_times,
    written_path,
)
from llmpred.spec.overrides import LISTS, apply_overrides, named_bases
from llmpred.spec.problems import from_pydantic, shown
from llmpred.spec.run import AdapterSpec, Frozen, OptimSpec, Positive, RunSpec
from llmpred.spec.yaml import read_yaml

MAX_RUNS = 100_000
UNNAMED: dict[str, Any] = {"dataset": {"name"}, "method": {"name"}}  # what only people read
_SINGLE = ("task", "optim", "evaluation", "execution")
# What a dataset, or a method, may change for itself; of both, the method has the last word.
_OWN: Mapping[str, frozenset[str]] = {
    "datasets": frozenset({"task", "method", "optim", "evaluation"}),
    "methods": frozenset({"task", "optim", "evaluation", "execution"}),
}


class SearchSpec(Frozen):
    """How `mode: search` schedules its trials.

    Attributes:
        scheduler: `asha` stops the weakest trials early (Li et al., 2020), `none` stops none.
        grace_steps: optimizer steps that every trial gets; None leaves it to the sweep.
        reduction_factor: one trial in this many goes on at each of ASHA's rungs.
    """

    scheduler: Literal["asha", "none"] = "asha"
    grace_steps: Positive | None = None
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Published(Frozen):
    """What somebody else reported, to stand beside a space's own runs, marked as not rerun.

    Attributes:
        method: name of the space's method that it is a figure of.
        base: the base model it was measured with.
        data: the data it was measured on.
        metrics: values by name, as in a record.
        source: where it stands.
    """

    method: str
    base: str
    data: str
    metrics: dict[str, float]
    source: str


class SpaceHeader(Frozen):
    """What a space says beside its parts.

    Attributes:
        name: for people and for grouping.
        mode: `collect` runs everything it stands for; in `search`, trials look for the best run.
        sampler: how values are drawn; see Samplers.
        samples: draws a combination; in `mode: search`, trials a combination.
        seed: of the draws; another one draws other values.
        zero_shot: also score each untouched base, where the head needs no training.
        unfit: what becomes of a method that a base cannot be used with, such as label scoring on an
            encoder: an `error`, or `skip` leaves its runs out and says so.
        published: figures of others for `llmpred compare` to show beside the space's own.
        search: how `mode: search` schedules its trials.
    """

    name: str
    mode: Literal["collect", "search"] = "collect"
    sampler: Literal["grid", "random", "sobol", "optuna"] | None = None
    samples: Positive | None = None
    seed: int = 0
    zero_shot: bool = True
    unfit: Literal["error", "skip"] = "error"
    published: tuple[Published, ...] = ()
    search: SearchSpec | None = None


_KEYS = (*SpaceHeader.model_fields, "seeds", *_SINGLE, *LISTS.values())


@dataclass(frozen=True)
class Space:
    """A search space, checked; its parts are JSON in which distributions may stand for values.

    Attributes:
        path: the file.
        overrides: the `--set` texts that changed it.
        name, mode, sampler, samples, seed, zero_shot, unfit, published, search: see
            `SpaceHeader`.
        seeds: of the runs.
        parts: `task`, `optim`, `evaluation`, `execution`: mapping; `datasets`, `bases`, `methods`:
            list of mappings.
        origins: key paths set on the command line, and by which text.
        own: what those datasets are called that are the file's own: neither they nor their
            evaluation data were given another source, unless their name was given with it.
        heads: registered tasks and the heads they can be done with, if known.
    """

    path: FilePath
    overrides: tuple[str, ...]
    name: str
    mode: Literal["collect", "search"]
    sampler: Literal["grid", "random", "sobol", "optuna"]
    samples: int
    seed: int
    zero_shot: bool
    unfit: Literal["error", "skip"]
    published: tuple[Published, ...]
    search: SearchSpec
    seeds: tuple[Any, ...]
    parts: Mapping[str, Any] = field(repr=False)
    origins: Mapping[Path, str] = field(repr=False)
    own: frozenset[str] = field(repr=False)
    heads: Heads | None = field(repr=False)


@dataclass(frozen=True)
class Combination:
    """One dataset, base, method and seed of a space, by their places in its lists.

    Attributes:
        template: the RunSpec as JSON, distributions in place of values.
        leaves: those distributions, `grid` and nested ones too.
        identity: what the combination is called, for its draws; without the seed.
    """

    dataset: int
    base: int
    method: int
    seed: int
    template: Mapping[str, Any] = field(repr=False)
    leaves: tuple[Leaf, ...] = field(repr=False)
    identity: str = field(repr=False)

    def __str__(self) -> str:
        return f"datasets[{self.dataset}], bases[{self.base}], methods[{self.method}]"


@dataclass(frozen=True)
class PlannedRun:
    """A run of a space and where it came from.

    Attributes:
        run: what to do.
        combination: the first one that gave this run.
        sample: number of the draw; None for the zero-shot runs that `zero_shot` adds.
    """

    run: RunSpec
    combination: Combination
    sample: int | None

    @property
    def origin(self) -> str:
        """Where the run came from, for messages."""
        draw = "zero-shot" if self.sample is None else f"sample {self.sample}"
        return f"{self.combination}, {draw}"


# --- loading -----------------------------------------------------------------------------------


def load_space(
    path: str | FilePath, overrides: Sequence[str] = (), heads: Heads | None = None
) -> Space:
    """Read a search space and check every value that its distributions can reach by themselves.

    Args:
        path: the YAML file.
        overrides: changes as `--set` takes them, such as `optim.lr=1e-4` (see `overrides`).
        heads: registered tasks and the heads they can be done with, to check tasks and heads.

    Raises:
        SpecError: with all problems of the file and the overrides at once.
    """
    document = read_yaml(path)
    document["bases"] = named_bases(document.get("bases"))
    called = _called(document.get("datasets"))
    origins, problems = apply_overrides(document, overrides, _KEYS)

    def where(written: Path) -> str:
        return _where(str(path), origins, written)

    header, of_header = _header(document, FilePath(path).stem, where)
    parts, of_parts = _parts(document, where)
    found = of_header | of_parts | _distribution_problems(document, where)
    space = Space(
        path=FilePath(path),
        overrides=tuple(overrides),
        name=header.name,
        mode=header.mode,
        sampler=header.sampler or ("random" if header.mode == "collect" else "optuna"),
        samples=header.samples or 1,
        seed=header.seed,
        seeds=tuple(parts.pop("seeds")),
        zero_shot=header.zero_shot,
        unfit=header.unfit,
        published=header.published,
        search=header.search or SearchSpec(),
        parts=parts,
        origins=origins,
        own=_own_datasets(called, parts["datasets"], origins),
        heads=heads,
    )
    for written, problem in _value_problems(space, where).items():
        # A broken distribution, or a part that is no mapping, is wrong once, not twice.
        if not any(written[: len(p)] == p for p in found):
            found[written] = problem
    if not found:
        found = _sampling_problems(space, header, where)
    if problems or found:
        raise SpecError([*problems, *found.values()])
    return space


def _called(datasets: Any) -> list[str]:
    """Return what datasets are called: as `resolve` calls them, by name or else by file."""
    members = datasets if isinstance(datasets, list) else []
    known = [one for one in members if isinstance(one, dict)]
    return [str(one.get("name") or FilePath(str(one.get("source"))).name) for one in known]


def _own_datasets(
    before: Collection[str], datasets: Sequence[Mapping[str, Any]], origins: Mapping[Path, str]
) -> frozenset[str]:
    """Return what those datasets are called that are still what the file says; see `Space.own`."""

    def given(*path: str | int) -> bool:
        return any(path[:length] in origins for length in range(1, len(path) + 1))

    own = set()
    for i, name in enumerate(_called([*datasets])):
        place = ("datasets", i)
        others = (
            given(*place, "source")
            or given(*place, "evaluation", "data", "source")
            or given("evaluation", "data", "source")
            or given("evaluation", "holdout")
        )
        if name in before and (not others or given(*place, "name")):
            own.add(name)
    return frozenset(own)


def load_run(
    path: str | FilePath, overrides: Sequence[str] = (), heads: Heads | None = None
) -> RunSpec:
    """Read a single run: a YAML file with the fields of a RunSpec.

    Args:
        path: the file.
        overrides: changes as `--set` takes them.
        heads: registered tasks and the heads they can be done with, to check tasks and heads.

    Raises:
        SpecError: with all problems of the file and the overrides at once.
    """
    document = read_yaml(path)
    many = [key for key in document if key in LISTS.values()]
    if many:
        law = f"one run is wanted, but `{many[0]}` makes this a search space"
        singular = {plural: single for single, plural in LISTS.items()}[many[0]]
        raise SpecError(Problem(law, str(path), f"Write `{singular}` with a single value."))
    return changed_run(document, overrides, heads, str(path))


def changed_run(
    document: dict[str, Any],
    overrides: Sequence[str],
    heads: Heads | None = None,
    place: str = "the run",
) -> RunSpec:
    """Return the run that a document with the fields of a RunSpec says, changed by `--set` texts.

    Args:
        document: the fields; changed in place.
        overrides: changes as `--set` takes them.
        heads: registered tasks and the heads they can be done with.
        place: where the document stands, for error messages.

    Raises:
        SpecError: with all problems at once.
    """
    if "base" in document:
        document["base"] = named_bases(document["base"])
    origins, problems = apply_overrides(document, overrides, tuple(RunSpec.model_fields))
    run, found = _checked(document, heads, lambda written: _where(place, origins, written))
    if run is None or problems:
        raise SpecError([*problems, *found.values()])
    return run


def _where(file: str, origins: Mapping[Path, str], written: Path) -> str:
    for length in range(len(written), 0, -1):
        if written[:length] in origins:
            return origins[written[:length]]
    return f"{file}, {dotted(written)}" if written else file


def _distribution_problems(
    document: Mapping[str, Any], where: Callable[[Path], str]
) -> dict[Path, Problem]:
    found: dict[Path, Problem] = {}
    for key, part in document.items():
        for path, name, args in all_named(part, (key,)):
            law = broken_law(name, args)
            if not law and key in ("execution", *SpaceHeader.model_fields):
                law = f"`{key}` takes no distributions: it does not say what a run is"
            if law:
                got = shown({name: args})
                found[path] = Problem(f"{law}, but got {got}", where(path))
    return found


def _header(
    document: Mapping[str, Any], stem: str, where: Callable[[Path], str]
) -> tuple[SpaceHeader, dict[Path, Problem]]:
    own = {k: v for k, v in document.items() if k not in (*_SINGLE, *LISTS.values(), "seeds")}
    header, found = _validated(SpaceHeader, {"name": stem, **own}, where)
    for path, problem in found.items():
        if path[0] not in _KEYS:  # a misspelt `datasets` is not near any key of the header alone
            found[path] = replace(problem, fix=nearest(str(path[0]), _KEYS))
    return header or SpaceHeader(name=stem), found


def _parts(
    document: Mapping[str, Any], where: Callable[[Path], str]
) -> tuple[dict[str, Any], dict[Path, Problem]]:
    """Return the parts, empty ones in place of those that have the wrong shape, and what is wrong.

    The empty ones let the others be checked in the same go.
    """
    found: dict[Path, Problem] = {}

    def mapping(value: Any, path: Path) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        law = f"`{dotted(path)}` must be a mapping, but got {shown(value)}"
        found[path] = Problem(law, where(path))
        return {}

    parts: dict[str, Any] = {}
    for key in (*_SINGLE, *LISTS.values()):
        value, path = document.get(key), (key,)
        parts[key] = {} if key in _SINGLE else [{}]
        if value is None and key != "execution":
            found[path] = Problem(f"`{key}` is missing", where(path), "Add it.")
        elif value is not None and key in _SINGLE:
            parts[key] = mapping(value, path)
        elif isinstance(value, list) and value:
            parts[key] = [mapping(member, (key, i)) for i, member in enumerate(value)]
        elif value is not None:
            law = f"`{key}` must be a list with at least one entry, but got {shown(value)}"
            found[path] = Problem(law, where(path))
    members = [(key, i, member) for key in _OWN for i, member in enumerate(parts[key])]
    for owners, i, member in members:
        for own in sorted(_OWN[owners] & member.keys()):
            place: Path = (owners, i, own)
            member[own] = mapping(member[own], place)
            common = parts["methods"] if own == "method" else [parts[own]]
            if any(as_leaf(part, (own,)) for part in (*common, member[own])):
                law = f"{owners} change `{own}` by keys, but one of the two is a distribution"
                found[place] = Problem(law, where(place), "Put it below a key.")
                member[own] = {}
    seeds = document.get("seeds", [0])
    parts["seeds"] = seeds if isinstance(seeds, list) else [seeds]
    if not parts["seeds"]:
        found["seeds",] = Problem("`seeds` must have at least one seed", where(("seeds",)))
        parts["seeds"] = [0]
    return parts, found


def _sampling_problems(
    space: Space, header: SpaceHeader, where: Callable[[Path], str]
) -> dict[Path, Problem]:
    """Return what does not hold between mode, sampler, samples and the kinds of distributions."""
    found: dict[Path, Problem] = {}

    def add(path: Path, law: str, fix: str) -> None:
        found[path] = Problem(law, where(path), fix)

    allowed = ("grid", "random", "sobol") if space.mode == "collect" else ("random", "optuna")
    if space.sampler not in allowed:
        names = " or ".join(f"`{name}`" for name in allowed)
        law = f"in `mode: {space.mode}` the sampler must be {names}, but got `{space.sampler}`"
        add(("sampler",), law, f"Take `{allowed[-1]}`, or change the mode.")
    if space.mode == "collect" and header.search is not None:
        add(("search",), "`search` belongs to `mode: search`", "Remove it, or set `mode: search`.")
    if space.mode == "search" and header.unfit == "skip":
        law = "`unfit: skip` belongs to `mode: collect`: a search has no trials to leave out"
        add(("unfit",), law, "Remove it, or name bases that all methods can be used with.")
    if space.mode == "search" and len(space.seeds) > 1:
        law = f"in `mode: search` a trial is one run with one seed, but got {shown(space.seeds)}"
        add(("seeds",), law, "Give one seed.")
    if space.sampler == "grid" and header.samples is not None:
        law = f"`sampler: grid` runs every point once, but `samples` is {header.samples}"
        add(("samples",), law, "Remove `samples`, or take sampler `random`.")
    for combination in combinations(space):
        for leaf in combination.leaves:
            written = _written(space, combination, leaf.path)
            if space.mode == "search" and leaf.kind == "grid":
                law = f"in `mode: search` no value runs in full, but `{leaf.name}` is a `grid`"
                add(written, law, "Take `choice`.")
            if space.sampler == "grid" and leaf.kind not in ENUMERABLE:
                law = f"`sampler: grid` needs listed values, but `{leaf.name}` is a `{leaf.kind}`"
                add(written, law, "List its values in a `grid`, or take sampler `random`.")
    if not found and (runs := count_draws(space)) > MAX_RUNS:
        law = f"a space stands for at most {MAX_RUNS:,} runs, but this one for {runs:,}"
        found[()] = Problem(law, str(space.path), "Take fewer samples or options.")
    return found


# --- combinations ------------------------------------------------------------------------------


def combinations(space: Space) -> list[Combination]:
    """Return every dataset x base x method x seed of a space, in document order."""
    places = itertools.product(
        range(len(space.parts["datasets"])),
        range(len(space.parts["bases"])),
        range(len(space.parts["methods"])),
        range(len(space.seeds)),
    )
    return [_combination(space, *place) for place in places]


def _combination(space: Space, i: int, j: int, k: int, s: int) -> Combination:
    parts = space.parts
    dataset, base = parts["datasets"][i], parts["bases"][j]
    named = parts["methods"][k]

    def part(key: str) -> dict[str, Any]:
        return _own(_own(parts[key], dataset.get(key)), named.get(key))

    method = _own(_without(named, _OWN["methods"]), dataset.get("method"))
    template = {
        "task": part("task"),
        "dataset": _without(dataset, _OWN["datasets"]),
        "base": base,
        "method": method,
        "optim": part("optim"),
        "evaluation": part("evaluation"),
        "seed": space.seeds[s],
        "execution": _own(parts["execution"], named.get("execution")),
    }
    adapter = method.get("adapter")
    names = [
        dataset.get("name") or dataset.get("source"),
        base.get("name"),
        method.get("head"),
        adapter.get("kind", "lora") if isinstance(adapter, dict) else "lora",
    ]
    return Combination(i, j, k, s, template, tuple(leaves(template)), canonical_json(names))


def _without(part: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in keys}


def _own(common: Mapping[str, Any], own: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a part with a dataset's or method's own keys.

    One of an exclusive pair replaces the other.
    """
    merged = {**common, **(own or {})}
    for names in (("data", "holdout"), ("epochs", "max_steps", "stages")):
        if own and any(name in own for name in names):
            merged = _without(merged, {name for name in names if name not in own})
    return merged


def _written(space: Space, combination: Combination, path: Path) -> Path:
    """Return where in the document a path of the combination's template was written."""
    first, rest = path[0], path[1:]
    for key, i in (("methods", combination.method), ("datasets", combination.dataset)):
        own = space.parts[key][i].get(first) if first in _OWN[key] else None
        if own and rest and rest[0] in own:
            return (key, i, *path)
    places = {"dataset": combination.dataset, "base": combination.base}
    places["method"] = combination.method
    if first in places:
        return (LISTS[str(first)], places[str(first)], *rest)
    if first == "seed":
        return ("seeds", combination.seed, *rest) if len(space.seeds) > 1 else ("seeds", *rest)
    return path


# --- checking ----------------------------------------------------------------------------------


Model = TypeVar("Model", bound=BaseModel)


def _validated(
    model: type[Model], data: Any, where: Callable[[Path], str]
) -> tuple[Model | None, dict[Path, Problem]]:
    # Strict, so that `true` is no 1 and "16" no 16; as JSON, where strictness takes lists for
    # tuples and whole numbers for real ones.
    try:
        return model.model_validate_json(json.dumps(data), strict=True), {}
    except ValidationError as error:
        also: dict[Path, list[str]] = {
            (one,): sorted(_OWN[many]) for one, many in LISTS.items() if many in _OWN
        }
        return None, from_pydantic(error, model, where, also=also)


def _checked(
    filled: dict[str, Any], heads: Heads | None, where: Callable[[Path], str]
) -> tuple[RunSpec | None, dict[Path, Problem]]:
    """Return the run that filled JSON stands for, or what does not hold, by path in the run."""
    ties = {path: args for path, name, args in all_named(filled) if name == "times"}
    untied = {path: Problem(law, where(path)) for path, law in settle_times(filled)}
    run, found = _validated(RunSpec, filled, where)
    found |= untied
    wrong = [dotted(path) for path in found if path not in ties]
    for path, args in ties.items():
        if args and args[0] in wrong:  # what follows from another mistake is none of its own
            found.pop(path, None)
    if run is not None and not found:
        for path, law, fix in impossible(run, heads):
            found[path] = Problem(law, where(path), fix)
    return (None, found) if found else (run, {})


def _run(
    space: Space, combination: Combination, choose: Choose
) -> tuple[RunSpec | None, dict[Path, Problem]]:
    """Return the run that `choose` takes, or what does not hold, by path in the document."""

    def written(path: Path) -> Path:
        return _written(space, combination, written_path(combination.template, path, choose))

    def where(path: Path) -> str:
        return _where(str(space.path), space.origins, written(path))

    run, found = _checked(fill(combination.template, choose), space.heads, where)
    return run and _normal(run), {written(path): problem for path, problem in found.items()}


def _probes(space: Space, combination: Combination, probed: set[Path]) -> Iterator[Choose]:
    """Yield choices that together reach every option and both ends of every range.

    One leaf moves at a time, the others stay at their first option or low end; leaves whose place
    in the document is in `probed` stay too, and those that moved are added.
    """

    def chooser(taken: Mapping[Path, Any]) -> Choose:
        return lambda leaf: taken.get(leaf.path, leaf.extremes()[0])

    yield chooser({})
    for leaf in combination.leaves:
        written = _written(space, combination, leaf.path)
        if written not in probed:
            probed.add(written)
            yield from (chooser({**dict(leaf.within), leaf.path: end}) for end in leaf.extremes())


def _value_problems(space: Space, where: Callable[[Path], str]) -> dict[Path, Problem]:
    found: dict[Path, Problem] = {}
    probed: set[Path] = set()
    for combination in combinations(space):
        for choose in _probes(space, combination, probed):
            for written, problem in _run(space, combination, choose)[1].items():
                found.setdefault(written, problem)
    return found


# --- drawing -----------------------------------------------------------------------------------


def expand(space: Space) -> list[RunSpec]:
    """Return the runs of a space, each once, zero-shot runs first, then in document order.

    In `mode: search` the trials are drawn as the search goes (see `materialize`); the runs known
    before it starts are the zero-shot ones.

    What scores the base of a run with head `auto` is known once that is settled, by `resolve`.

    Raises:
        SpecError: if values drawn together do not go together, one problem a key path.
    """
    return [planned.run for planned in planned_runs(space)]


def planned_runs(space: Space) -> list[PlannedRun]:
    """Return what `expand` returns, each run with where it came from."""
    found: dict[Path, Problem] = {}
    trained: dict[str, PlannedRun] = {}
    untrained: dict[str, PlannedRun] = {}
    for combination, sample, choose in _draws(space):
        run, problems = _run(space, combination, choose)
        found = problems | found
        if run is None:
            continue
        if space.mode == "collect":
            runs = trained if run.trains else untrained
            known = runs.get(_identity(run))
            if known is None or known.sample is None:  # one of the space's own has its name
                runs[_identity(run)] = PlannedRun(run, combination, sample)
        if space.zero_shot and not run.method.has_head and run.method.head != "auto":
            run = _unnamed(_zero_shot(run))
            untrained.setdefault(_identity(run), PlannedRun(run, combination, None))
    if found:
        raise SpecError(found.values())
    return [*untrained.values(), *trained.values()]


def materialize(space: Space, combination: Combination, values: Mapping[str, Any]) -> RunSpec:
    """Return the run of a combination for values that a searcher chose.

    Args:
        space: the space.
        combination: one of `combinations(space)`.
        values: by `Leaf.name` of `combination.leaves`, of a choice one of `Leaf.choices`; leaves
            inside options that are not taken may be missing.

    Raises:
        SpecError: if the values do not go together.
    """
    run, found = _run(space, combination, lambda leaf: leaf.taken(values[leaf.name]))
    if run is None:
        raise SpecError(found.values())
    return run


def count_draws(space: Space) -> int:
    """Return how many runs are drawn, before equal ones and zero-shot runs are counted."""
    kinds = ENUMERABLE if space.sampler == "grid" else ("grid",)
    ways = sum(count_options(c.template, kinds) for c in combinations(space))
    return ways * space.samples


def _draws(space: Space) -> Iterator[tuple[Combination, int, Choose]]:
    for combination in combinations(space):
        if space.mode == "search":
            for choose in _probes(space, combination, set()):
                yield combination, 0, choose
            continue
        kinds = ENUMERABLE if space.sampler == "grid" else ("grid",)
        draw = (
            _sobol(space, combination) if space.sampler == "sobol" else _random(space, combination)
        )
        for ways in options_product(combination.template, kinds):
            for sample in range(space.samples):
                yield combination, sample, _chooser(ways, draw, sample)


def _chooser(ways: Mapping[Path, int], draw: Callable[[Leaf, int], float], sample: int) -> Choose:
    def choose(leaf: Leaf) -> Any:
        return ways[leaf.path] if leaf.path in ways else leaf.at(draw(leaf, sample))

    return choose


def _random(space: Space, combination: Combination) -> Callable[[Leaf, int], float]:
    """Return the function (leaf, sample) -> quantile, each of them independent of all others."""

    def draw(leaf: Leaf, sample: int) -> float:
        return _hashed(53, space.seed, combination.identity, sample, leaf.name) / 2**53

    return draw


def _sobol(space: Space, combination: Combination) -> Callable[[Leaf, int], float]:
    """Return the function (leaf, sample) -> quantile, spread evenly over all leaves together.

    The points are those of Sobol (Joe and Kuo, 2008) under a random digital shift. The shift keeps
    their evenness and, unlike a scramble by a random generator, is the same under every version of
    numpy and scipy.
    """
    names = sorted({leaf.name for leaf in combination.leaves if leaf.kind != "grid"})
    points = _sobol_points(len(names), space.samples)
    shifts = [_hashed(_BITS, space.seed, combination.identity, name) for name in names]
    dimensions = {name: d for d, name in enumerate(names)}

    def draw(leaf: Leaf, sample: int) -> float:
        d = dimensions[leaf.name]
        return float((points[sample][d] ^ shifts[d]) / 2**_BITS)

    return draw


_BITS = 30


@lru_cache(maxsize=8)
def _sobol_points(dimensions: int, count: int) -> tuple[tuple[int, ...], ...]:
    if dimensions == 0:
        return ((),) * count
    from scipy.stats import qmc

    points = qmc.Sobol(dimensions, scramble=False, bits=_BITS)
    unit = points.random_base2(math.ceil(math.log2(count)))[:count]
    return tuple(tuple(int(u * 2**_BITS) for u in point) for point in unit)


def _hashed(bits: int, *parts: Any) -> int:
    sha = hashlib.sha256(canonical_json(parts).encode()).digest()
    return int.from_bytes(sha[:8], "big") >> (64 - bits)


# --- runs that are the same --------------------------------------------------------------------


def _normal(run: RunSpec) -> RunSpec:
    """Reset what has no effect, so that runs which are the same are equal."""
    if not run.trains:
        return _zero_shot(run)
    if run.method.adapter.kind == "lora":
        return run
    kind = run.method.adapter.kind
    adapter = AdapterSpec(kind=kind, last_layers=run.method.adapter.last_layers)
    return run.model_copy(update={"method": run.method.model_copy(update={"adapter": adapter})})


def _zero_shot(run: RunSpec) -> RunSpec:
    """Return the run that scores the untouched base on the same evaluation."""
    untouched = {"recipe": (), "recipe_seed": 0, "limit": None, "validation": None}
    untrained = {"adapter": AdapterSpec(kind="none"), "loss": None, "class_weights": None}
    untrained["head_form"] = None
    return run.model_copy(
        update={
            "dataset": run.dataset.model_copy(update=untouched),
            "method": run.method.model_copy(update=untrained),
            "optim": OptimSpec(max_steps=1),
            "evaluation": run.evaluation.model_copy(update={"select": "last"}),
            "seed": 0,
        }
    )


def _unnamed(run: RunSpec) -> RunSpec:
    """Return the run without the name of the method that it was made of."""
    return run.model_copy(update={"method": run.method.model_copy(update={"name": None})})


def _identity(run: RunSpec) -> str:
    data = run.model_dump(mode="json", exclude={"execution": True, **UNNAMED})
    if not run.trains and run.evaluation.holdout is None:
        del data["dataset"]  # nothing of it is read
    return canonical_json(data)
