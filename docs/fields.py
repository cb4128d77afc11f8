"""Write the tables of `docs/` that follow from the code: `python docs/fields.py`.

A table stands between `<!-- made: NAME -->` and `<!-- end -->`; `tests/test_field_docs.py` fails
where one differs from what is made here.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmpred.bases.registry import KNOWN
from llmpred.data.recipes import STEPS
from llmpred.data.synthetic import SOURCES
from llmpred.data.synthetic.options import OPTIONS
from llmpred.evaluation.perturbations import PERTURBATIONS
from llmpred.features.measurements import FEATURES
from llmpred.spec import run
from llmpred.spec.space import Published, SearchSpec, SpaceHeader
from llmpred.tasks.registry import BUILT_IN

PAGES = [
    Path(__file__).parent / f"{name}.md"
    for name in ("search_spaces", "meta_features", "robustness")
]
MADE = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    dict: "mapping",
}
BOUNDS: dict[type, tuple[str, str]] = {  # kind of bound -> its attribute, and its sign
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Le: ("le", "≤"),
    annotated_types.Lt: ("lt", "<"),
}


def refreshed(text: str) -> str:
    """Return the page with every table as the code has it now."""
    return MADE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


# --- tables ------------------------------------------------------------------------------------


def of_model(model: type[BaseModel], settled: Mapping[str, str] = {}) -> str:
    """Return the table of a model's own fields, inherited ones left out.

    Args:
        model: with an `Attributes:` section that says what each of them means.
        settled: defaults that are decided elsewhere than in the model.
    """
    inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", ())}
    meanings = entries((model.__doc__ or "").replace("None", "null"), "Attributes")
    rows = [
        (f"`{name}`", kind_of(field), settled.get(name) or default_of(field), meanings[name])
        for name, field in model.model_fields.items()
        if name not in inherited
    ]
    return table(("field", "type", "default", "meaning"), rows)


def of_recipes() -> str:
    """Return the table of recipe steps: their keys, and what the code says that they do."""
    rows = []
    for name, field in run.RecipeStep.model_fields.items():
        model = next(arg for arg in get_args(field.annotation) if arg is not types.NoneType)
        keys = [f"`{key}`: {kind_of(inner)}" for key, inner in model.model_fields.items()]
        doc = STEPS.get(name, model).__doc__
        rows.append((f"`{name}`", "; ".join(keys), joined(doc)))
    return table(("step", "keys", "effect"), rows)


def of_perturbations() -> str:
    """Return the table of perturbations of texts."""
    rows = [(f"`{p.name}`", ", ".join(p.languages), p.about) for p in PERTURBATIONS.values()]
    return table(("kind", "languages", "what it does"), rows)


def of_tasks() -> str:
    """Return the table of tasks: heads, primary metric, length of answers, prompts."""
    rows = []
    for task in BUILT_IN.values():
        heads = ", ".join(f"`{head}`" for head in task.heads)
        generates = "causal_lm" in task.heads
        prompts = "<br>".join(code(prompt) for prompt in task.prompts.values())
        length = str(task.max_new_tokens) if generates else "–"
        rows.append((f"`{task.name}`", heads, f"`{task.metric}`", length, prompts))
    names = ("task", "heads, the usual one first", "`accuracy_r`", "`max_new_tokens`", "prompts")
    return table(names, rows)


def of_task_fields() -> str:
    """Return the table of the fields that each task's rows have, and their other names."""
    kinds = {
        "text": "text",
        "texts": "one or more texts",
        "label": "word or number",
        "index": "index from 0, letter, or text of a choice",
        "number": "number",
    }
    rows = []
    for task in BUILT_IN.values():
        for field in (f for f in task.fields if f.role != "id"):
            others = ", ".join(f"`{alias}`" for alias in field.aliases if alias != field.name)
            name = f"`{field.name}`" + ("" if field.required else " (optional)")
            rows.append((f"`{task.name}`", name, kinds[field.kind], others))
    return table(("task", "field", "value", "columns taken for it"), rows)


def of_synthetic() -> str:
    """Return the table of the options of synthetic sources."""
    rows = [
        (f"`{name}`", f"`{option.default}`", option.law, option.meaning)
        for name, option in OPTIONS.items()
    ]
    return table(("option", "default", "value", "meaning"), rows)


def of_synthetic_sources() -> str:
    """Return the table of synthetic sources: what they hold, and which options they take."""
    rows = []
    for name, source in SOURCES.items():
        about = (inspect.getmodule(source.row).__doc__ or "").split("\n\n")[0]
        taken = "all" if set(source.options) == set(OPTIONS) else ", ".join(source.options)
        rows.append((f"`synthetic:{name}`", joined(about), taken))
    return table(("source", "what it holds", "options"), rows)


def of_bases() -> str:
    """Return the table of the bases that are known by name."""
    rows = [
        (f"`{base.name}`", base.about, f"{base.wheel.megabytes} MB" if base.wheel else "none")
        for base in KNOWN.values()
    ]
    return table(("name", "what it is", "download"), rows)


def of_features(group: str) -> str:
    """Return the table of the features of a group."""
    rows = []
    for feature in FEATURES:
        if feature.group == group:
            labels = " (reads evaluation labels)" if feature.reads_eval_labels else ""
            source = feature.source + labels
            rows.append((f"`{feature.name}`", feature.priority, feature.unit, source))
    return table(("feature", "tier", "unit", "definition or source"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "space": lambda: of_model(
        SpaceHeader,
        {"name": "the file's name", "sampler": "`random`; `optuna` in a search", "samples": "`1`"},
    ),
    "search": lambda: of_model(SearchSpec),
    "published": lambda: of_model(Published),
    "task": lambda: of_model(run.TaskSpec),
    "target": lambda: of_model(run.TargetSpec),
    "tasks": of_tasks,
    "perturbations": of_perturbations,
    "task-fields": of_task_fields,
    "source": lambda: of_model(run.SourceSpec),
    "dataset": lambda: of_model(run.DatasetSpec),
    "recipes": of_recipes,
    "synthetic-sources": of_synthetic_sources,
    "synthetic": of_synthetic,
    "base": lambda: of_model(run.BaseSpec),
    "bases": of_bases,
    "method": lambda: of_model(run.MethodSpec),
    "adapter": lambda: of_model(run.AdapterSpec),
    "optim": lambda: of_model(run.OptimSpec),
    "stages": lambda: of_model(run.Stage),
    "evaluation": lambda: of_model(run.EvaluationSpec),
    "execution": lambda: of_model(run.ExecutionSpec),
    "checkpoints": lambda: of_model(run.CheckpointSpec),
    "distributed": lambda: of_model(run.DistributedSpec),
    "features-hyper": lambda: of_features("hyper"),
    "features-base": lambda: of_features("base"),
    "features-static": lambda: of_features("static"),
    "features-probe": lambda: of_features("probe"),
}


# --- what the code says of itself --------------------------------------------------------------


def entries(doc: str | None, section: str) -> dict[str, str]:
    """Return name -> meaning of a section of a Google-style docstring."""
    found = re.search(rf"^{section}:\n((?: {{4}}.*\n?|\n)+)", inspect.cleandoc(doc or ""), re.M)
    parts = re.split(r"^ {4}(?=\S)", found[1], flags=re.M)[1:] if found else []
    pairs = (part.partition(":") for part in parts)
    return {name.strip(): joined(meaning) for name, _, meaning in pairs}


def joined(text: str | None) -> str:
    """Return a text on one line."""
    return " ".join((text or "").split())


def kind_of(field: FieldInfo) -> str:
    """Return the type of a field for people, its bounds included."""
    return described(field.annotation, field.metadata)


def described(annotation: Any, bounds: Iterable[Any] = ()) -> str:
    """Return a type for people; of a choice, its values."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return described(args[0], flat(args[1:]))
    if origin in (Union, types.UnionType):
        return ", or ".join(described(arg, bounds) for arg in args if arg is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"list of {described(args[0])}s"
        return f"[{', '.join(map(described, args))}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    limits = [
        f"{sign} {getattr(bound, attribute):g}"
        for bound in bounds
        for attribute, sign in [BOUNDS.get(type(bound), ("", ""))]
        if attribute
    ]
    return " ".join([NAMES[origin or annotation], " and ".join(limits)]).strip()


def flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield bounds, those inside pydantic's own annotations too."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def default_of(field: FieldInfo) -> str:
    """Return the default of a field as YAML has it; a dash where there is none."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ({}, ()) or isinstance(value, BaseModel):
        return "–"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


# --- Markdown ----------------------------------------------------------------------------------


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def code(text: str) -> str:
    """Return a text as inline code on one line."""
    return "`" + text.replace("\n", "\\n") + "`"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(refreshed(page.read_text("utf-8")), "utf-8")
