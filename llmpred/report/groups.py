"""From the runs of a plan and what the ledger has of them to schemes that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.errors import InputError, Problem, nearest
from llmpred.ledger import Ledger
from llmpred.ledger.difference import told_apart
from llmpred.ledger.record import RunRecord
from llmpred.report.comparison import Group, Scheme, Scored, reference_of
from llmpred.report.stored import examples_of, predictions_of
from llmpred.spec.canonical import canonical_json
from llmpred.spec.run import RunSpec

# What a scheme is, of a settled run: all but its seed, names, data and how it is carried out.
_SCHEME = {"task", "method", "optim", "evaluation", "dataset"}


LOSSES = {
    "candidates": "trained to tell the label words apart",
    "mse": "trained by squared errors",
    "pinball": "trained to give quantiles (pinball loss)",
    "ordinal": "trained as a cumulative link model of ordered labels",
    "cauchy": "its value by location and scale (Cauchy, on a logarithmic scale)",
    "log1p": "its value by squared errors on a logarithmic scale",
    "number_token": "the number-token loss beside the usual one",
}


def groups_of(
    runs: Iterable[ResolvedSpec], ledger: Ledger, reference: str | None = None
) -> list[Group]:
    """Return the schemes of a plan, by dataset and base, in the plan's order.

    A run that trains nothing belongs to every dataset that is evaluated on the same rows.

    Args:
        runs: of the plan.
        ledger: has the records of those that have an outcome.
        reference: name of the scheme to compare with; where a group has none of that name, and
            if None, it is the first that trains.

    Raises:
        InputError: if no group has a scheme of the reference's name.
    """
    recorded = ledger.keys()
    found = [
        _group(dataset, base, members, ledger, recorded, reference)
        for (dataset, base), members in _grouped(list(runs)).items()
    ]
    names = list(dict.fromkeys(scheme.name for group in found for scheme in group.schemes))
    if reference is not None and reference not in names:
        law = f"--reference must name a method of the space, but got {reference!r}"
        raise InputError(Problem(law, fix=nearest(reference, names)))
    return found


def _grouped(runs: Sequence[ResolvedSpec]) -> dict[tuple[str, str], list[ResolvedSpec]]:
    """Return the runs by the names of their dataset and base, untrained ones in each they fit."""

    def asked(run: ResolvedSpec) -> tuple[str, str, str]:
        return run.spec.task.name, base_name(run), run.hashes["evaluation"]

    places: dict[tuple[str, str, tuple[str, str, str]], list[ResolvedSpec]] = {}
    for run in runs:
        if run.spec.trains:
            places.setdefault((run.dataset, base_name(run), asked(run)), []).append(run)
    for run in runs:
        if run.spec.trains:
            continue
        fits = [members for place, members in places.items() if place[2] == asked(run)]
        for members in fits or [places.setdefault((run.dataset, base_name(run), asked(run)), [])]:
            members.append(run)
    order = {run.key: i for i, run in enumerate(runs)}
    found: dict[tuple[str, str], list[ResolvedSpec]] = {}
    for (dataset, base, (task, _, _)), members in places.items():
        target = members[0].spec.task.target
        name = f"{dataset}, {target.counts}" if target is not None else dataset
        while (name, base) in found:  # the same names with other evaluation rows, or another task
            name = f"{name}, {task}"
        found[name, base] = sorted(members, key=lambda run: order[run.key])
    return found


def base_name(run: ResolvedSpec) -> str:
    """Return what a base is called, with its quantisation."""
    quantization = run.spec.base.quantization
    return run.base if quantization == "none" else f"{run.base}, {quantization}"


def _group(
    dataset: str,
    base: str,
    runs: Sequence[ResolvedSpec],
    ledger: Ledger,
    recorded: set[str],
    reference: str | None,
) -> Group:
    alike: dict[str, list[ResolvedSpec]] = {}
    for run in runs:
        alike.setdefault(canonical_json(_identity(run.spec)), []).append(run)
    members = [sorted(found, key=lambda run: run.spec.seed) for found in alike.values()]
    names = _names([found[0].spec for found in members])
    schemes = tuple(
        Scheme(
            name,
            describe(found[0].spec),
            found[0].spec,
            tuple(scored(ledger, ledger.get(run.key)) for run in found if run.key in recorded),
        )
        for name, found in zip(names, members, strict=True)
    )
    known = [run.record for scheme in schemes for run in scheme.runs]
    examples = examples_of(known[0])[0] if known else None
    return Group(dataset, base, schemes, reference_of(schemes, reference), examples)


def _identity(spec: RunSpec) -> dict[str, Any]:
    exclude: Mapping[str, Any] = {"method": {"name"}, "dataset": {"name"}}
    return spec.model_dump(mode="json", include=_SCHEME, exclude=exclude)


def _names(specs: Sequence[RunSpec]) -> list[str]:
    """Return a name for each scheme: the method's, and where several share it where they differ."""
    shared: dict[str, list[int]] = {}
    for i, spec in enumerate(specs):
        shared.setdefault(spec.method.name or short_name(spec), []).append(i)
    names = [""] * len(specs)
    for name, places in shared.items():
        apart = told_apart([_identity(specs[i]) for i in places])
        for i, parts in zip(places, apart, strict=True):
            names[i] = ", ".join([name, *parts])
    return names


def short_name(spec: RunSpec) -> str:
    """Return what a method is called that has no name of its own."""
    adapter, head = spec.method.adapter.kind, spec.method.head
    if not spec.trains:
        return "zero-shot"
    if head == "boosted":
        return "LightGBM"
    if adapter == "none":
        return "frozen base, trained head"
    kind = "LoRA" if adapter == "lora" else "full fine-tune"
    heads = {"label_scoring": "label scoring", "causal_lm": "generation", "numeric": "numeric head"}
    off = ", adapter off" if spec.evaluation.adapter_off else ""
    return f"{kind}, {heads.get(head, 'classifier head')}{off}"


def describe(spec: RunSpec) -> str:
    """Return in a sentence what is trained how, and how the model answers."""
    method, optim = spec.method, spec.optim
    heads = {
        "label_scoring": "Answers by the most probable label word",
        "causal_lm": "Answers by generating text",
        "classifier": "Answers by a linear head on the pooled states",
        "boosted": "Answers by LightGBM on the base's mean states and features of the text",
        "numeric": "Answers by the token <NUM> and a head for its value",
    }
    if method.head_form == "mlp" and method.head == "classifier":
        heads["classifier"] = "Answers by a head of two layers on the pooled states"
    if method.head == "numeric" and not spec.trains:
        return f"{heads['numeric']}, which nothing was taught. Nothing is trained."
    if method.head == "numeric" and method.head_form == "mlp":
        heads["numeric"] = "Answers by the token <NUM> and a head of two layers for its value"
    adapter = method.adapter
    targets = adapter.target_modules
    layers = targets if isinstance(targets, str) else ", ".join(targets)
    trained = {
        "lora": f"LoRA of rank {adapter.r} (alpha {adapter.alpha:g}) on {layers}",
        "full": "all weights",
        "none": "the head alone, on a frozen base",
    }
    if adapter.last_layers:
        trained["full"] = f"the last {adapter.last_layers} layers and the head"
    said = [heads[method.head]]
    if method.loss is not None:
        said.append(LOSSES[method.loss])
    if method.head_form == "pointer":
        said.append("a mixture of copies of the text's numbers, shifted ones and a new one")
    if spec.task.target is not None:
        said.append(f"taught {spec.task.target.described}")
    if spec.evaluation.calibration:
        said.append(f"{spec.evaluation.calibration} calibration")
    if not spec.trains:
        return f"{'; '.join(said)}. Nothing is trained."
    if method.head == "boosted":
        return f"{'; '.join(said)}. {optim.max_steps} trees a booster, shrinkage {optim.lr:g}."
    weights = ", labels weighted" if method.class_weights else ""
    off = " Scored with the adapter switched off." if spec.evaluation.adapter_off else ""
    return (
        f"{'; '.join(said)}. Trains {trained[adapter.kind]}: {optim.how_long} of "
        f"{optim.batch_size} examples, learning rate {optim.top_lr:g}{weights}.{off}"
    )


def scored(ledger: Ledger, record: RunRecord) -> Scored:
    """Return a record with its predictions, and what its training took."""
    seconds = record.wall_seconds.get("train")
    trainer = record.provenance.get("trained_by")
    if seconds is None and trainer:  # its weights were those of another run
        try:
            seconds = ledger.get(trainer).wall_seconds.get("train")
        except InputError:  # the other record is gone; what it took is not known
            seconds = None
    return Scored(record, predictions_of(ledger, record), seconds)
