"""Schemes side by side on the same examples: how good, at what cost, and which to take.

A scheme is a method of a space on one dataset and base, whose runs differ in nothing but the seed.
Everything here is a function of records and stored predictions; no model is asked.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmpred.data.fields import Example
from llmpred.evaluation.significance import holm, mcnemar, paired_bootstrap, wilson
from llmpred.ledger.record import RunRecord
from llmpred.report.run_folder import evaluation_milliseconds, parameters
from llmpred.spec.run import RunSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Prediction, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
SLOW_RESAMPLES = 1_000  # of a metric that is no mean over examples
FEW = 100  # evaluation rows
NEAR = 0.02  # accuracy this near to the majority's share says little
TRUNCATED = 0.01


@dataclass(frozen=True)
class Scored:
    """A run with an outcome.

    Attributes:
        record: of the run.
        predictions: in the order of the evaluation rows; none of a run that diverged.
        train_seconds: of the training that gave its weights, which another run may have paid for.
    """

    record: RunRecord
    predictions: tuple[Prediction, ...]
    train_seconds: float | None = None


@dataclass(frozen=True)
class Scheme:
    """A method on one dataset and base.

    Attributes:
        name: of the method; no other scheme of the group has it.
        description: what is trained how, and how it answers.
        spec: settled, of the first seed.
        runs: one a seed.
    """

    name: str
    description: str
    spec: RunSpec
    runs: tuple[Scored, ...]

    @property
    def task(self) -> Task:
        """The task that it does."""
        return registry.get(self.spec.task.name)

    @property
    def scored(self) -> tuple[Scored, ...]:
        """Its runs that have a score."""
        return tuple(run for run in self.runs if run.record.accuracy_r is not None)

    @property
    def score(self) -> float | None:
        """Mean of the primary metric over seeds."""
        scores = [run.record.accuracy_r for run in self.scored]
        return statistics.fmean(s for s in scores if s is not None) if scores else None

    @property
    def is_diagnosis(self) -> bool:
        """Whether it tells something of another scheme, and is none to use."""
        return bool(self.spec.evaluation.adapter_off)

    @cached_property
    def values(self) -> Floats | None:
        """Primary metric of each example, mean over seeds; None where it is no mean of examples."""
        import numpy as np

        kept = [self._values_of(run) for run in self.scored]
        if not kept or any(values is None for values in kept):
            return None
        return np.asarray(np.mean(np.array(kept, float), axis=0))

    def _values_of(self, run: Scored) -> Floats | None:
        """Return what each example scores alone, if that averages to the score of all."""
        import numpy as np

        task, spec = self.task, self.spec.task
        values = [task.primary([one], spec) for one in run.predictions]
        mean = float(np.mean(values)) if values else float("nan")
        assert run.record.accuracy_r is not None  # it is scored
        return np.array(values) if abs(mean - run.record.accuracy_r) < 1e-9 else None


@dataclass(frozen=True)
class Group:
    """The schemes of one dataset and base.

    Attributes:
        dataset, base: display names.
        schemes: in the space's order.
        reference: name of the scheme that others are compared with.
        examples: the evaluation rows, where their data are still there.
    """

    dataset: str
    base: str
    schemes: tuple[Scheme, ...]
    reference: str
    examples: tuple[Example, ...] | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """What it is a comparison on."""
        return f"{self.dataset} on {self.base}"

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return self.schemes[0].task.metric

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The long input text of each evaluation row, where the data are still there."""
        return None if self.examples is None else long_texts(self.examples, self.schemes[0].task)


@dataclass(frozen=True)
class Apart:
    """The difference of the primary metric between two schemes on the same examples.

    Attributes:
        value: of the first less the second.
        lower, upper: 95 % interval, by resampling examples.
        p: two-sided, of `test`.
        test: McNemar's (exact) for right and wrong answers of one run each, else paired bootstrap.
        adjusted: p, corrected for all schemes of the group (Holm); None of a single test.
    """

    value: float
    lower: float
    upper: float
    p: float
    test: str
    adjusted: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether it is more than chance at 95 %."""
        return (self.p if self.adjusted is None else self.adjusted) < 1 - LEVEL


@dataclass(frozen=True)
class Latency:
    """Wall seconds of answering one text at a time: median and 90th percentile of `texts`."""

    median: float
    p90: float
    texts: int


@dataclass(frozen=True)
class Row:
    """A scheme in a comparison.

    Attributes:
        scheme: its name.
        description: what it is.
        trains: whether anything is trained.
        status: `ok`, `diverged` or `missing`.
        seeds: how many runs have a score.
        score, sd: primary metric: mean, and standard deviation over seeds (None of one).
        interval: 95 %, over examples.
        metrics: mean over seeds of all metrics.
        apart: from the reference; None of the reference itself, or without the same examples.
        train_seconds: mean over seeds.
        evaluation_seconds: an example, in batches.
        latency: one text at a time, if measured.
        peak_memory_bytes: largest of its runs.
        trainable, share: trained weights, and their share of the base's.
        weights_bytes: of what is kept.
        published: primary metric that somebody else reported.
    """

    scheme: str
    description: str
    trains: bool
    status: str
    seeds: int
    score: float | None
    sd: float | None
    interval: tuple[float, float] | None
    metrics: dict[str, float | None]
    apart: Apart | None
    train_seconds: float | None
    evaluation_seconds: float | None
    latency: Latency | None
    peak_memory_bytes: int | None
    trainable: int | None
    share: float | None
    weights_bytes: int | None
    published: float | None


@dataclass(frozen=True)
class Comparison:
    """What a comparison of a group came to.

    Attributes:
        group: the schemes.
        rows: one a scheme, in the group's order.
        majority: the commonest answer and the score of always giving it, where that means anything.
        warnings: what to know before believing it.
        advice: what to take, in a line.
    """

    group: Group
    rows: tuple[Row, ...]
    majority: tuple[str, float] | None
    warnings: tuple[str, ...] = field(default=())
    advice: str = ""


def compare(
    group: Group,
    *,
    latency: Mapping[str, Latency] | None = None,
    weights: Mapping[str, int] | None = None,
    published: Mapping[str, float] | None = None,
    majority: tuple[str, float] | None = None,
) -> Comparison:
    """Compare the schemes of a group.

    Args:
        group: the schemes.
        latency: by scheme, where measured.
        weights: bytes of the kept weights, by scheme.
        published: primary metric that others reported, by scheme.
        majority: the commonest answer and the score of always giving it.
    """
    reference = {scheme.name: scheme for scheme in group.schemes}[group.reference]
    apart = corrected(
        {s.name: difference(s, reference) for s in group.schemes if s.name != group.reference}
    )
    rows = tuple(
        _row(
            scheme,
            apart.get(scheme.name),
            (latency or {}).get(scheme.name),
            (weights or {}).get(scheme.name),
            (published or {}).get(scheme.name),
        )
        for scheme in group.schemes
    )
    made = Comparison(group, rows, majority)
    return replace(made, warnings=tuple(warnings(made)), advice=advice(made))


def long_texts(examples: Sequence[Example], task: Task) -> tuple[str, ...]:
    """Return the field of each example that is its text."""
    return tuple(str(example.get(task.long_field, "")) for example in examples)


def reference_of(schemes: Sequence[Scheme], wanted: str | None = None) -> str:
    """Return the name of the scheme to compare with: the wanted one, else the first that trains."""
    names = [scheme.name for scheme in schemes]
    if wanted in names:
        return str(wanted)
    usable = [s.name for s in schemes if s.spec.trains and not s.is_diagnosis]
    return next(iter(usable), names[0])


def difference(one: Scheme, other: Scheme) -> Apart | None:
    """Return how far two schemes are apart; None if they have no score on the same examples."""
    import numpy as np

    if not one.scored or not other.scored or not _same_examples(one, other):
        return None
    first, second = one.values, other.values
    if first is None or second is None:
        return _by_statistic(one, other)
    drawn = paired_bootstrap(first, second, n=RESAMPLES, level=LEVEL)
    p, test = drawn.p, "paired bootstrap"
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        p, test = mcnemar(first, second).p, "McNemar"
    return Apart(drawn.difference, drawn.lower, drawn.upper, p, test)


def corrected(found: Mapping[str, Apart | None]) -> dict[str, Apart]:
    """Return the differences that there are, their p-values adjusted for being several (Holm)."""
    there = {name: apart for name, apart in found.items() if apart is not None}
    adjusted = holm([apart.p for apart in there.values()]).tolist() if there else []
    return {
        name: replace(apart, adjusted=p)
        for (name, apart), p in zip(there.items(), adjusted, strict=True)
    }


def _same_examples(one: Scheme, other: Scheme) -> bool:
    """Whether all runs of both answered the same rows in the same order."""
    runs = [*one.scored, *other.scored]
    hashes = {run.record.hashes.get("evaluation") for run in runs}
    return len(hashes) == 1 and len({tuple(p.id for p in run.predictions) for run in runs}) == 1


def _by_statistic(one: Scheme, other: Scheme) -> Apart | None:
    """Return the difference where the metric is no mean over examples, of the first seeds."""
    import numpy as np

    task, spec = one.task, one.spec.task

    def statistic(predictions: Any, rows: Any) -> float:
        return task.primary([predictions[i] for i in rows], spec)

    first, second = (np.array(s.scored[0].predictions, object) for s in (one, other))
    drawn = paired_bootstrap(first, second, statistic, n=SLOW_RESAMPLES, level=LEVEL)
    return Apart(drawn.difference, drawn.lower, drawn.upper, drawn.p, "paired bootstrap")


def interval(scheme: Scheme) -> tuple[float, float] | None:
    """Return the 95 % interval of a scheme's score over examples.

    Wilson's where one run has right and wrong answers, else percentiles of resampled examples.
    """
    import numpy as np

    values = scheme.values
    if values is not None and np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values), LEVEL)
    if not scheme.scored or not scheme.scored[0].predictions:
        return None
    if values is not None:
        drawn = paired_bootstrap(values, np.zeros(len(values)), n=RESAMPLES, level=LEVEL)
        return drawn.lower, drawn.upper
    task, spec = scheme.task, scheme.spec.task
    predictions = scheme.scored[0].predictions
    draw = np.random.default_rng(0)
    scores = [
        task.primary([predictions[i] for i in rows], spec)
        for rows in draw.integers(0, len(predictions), (SLOW_RESAMPLES, len(predictions)))
    ]
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _row(
    scheme: Scheme,
    apart: Apart | None,
    latency: Latency | None,
    weights: int | None,
    published: float | None,
) -> Row:
    records = [run.record for run in scheme.runs]
    scores = [run.record.accuracy_r for run in scheme.scored if run.record.accuracy_r is not None]
    told = parameters(records[0]) if records else {}
    each = [ms / 1000 for r in records if (ms := evaluation_milliseconds(r)) is not None]
    trained = [run.train_seconds for run in scheme.runs if run.train_seconds is not None]
    trainable, share = told.get("trainable_parameters"), told.get("trainable_share")
    return Row(
        scheme=scheme.name,
        description=scheme.description,
        trains=scheme.spec.trains,
        status=_status(scheme),
        seeds=len(scores),
        score=scheme.score,
        sd=statistics.stdev(scores) if len(scores) > 1 else None,
        interval=interval(scheme),
        metrics=mean_metrics(scheme),
        apart=apart,
        train_seconds=statistics.fmean(trained) if trained else None,
        evaluation_seconds=statistics.fmean(each) if each else None,
        latency=latency,
        peak_memory_bytes=max((r.peak_memory_bytes or 0 for r in records), default=0) or None,
        trainable=None if trainable is None else int(trainable),
        share=share,
        weights_bytes=weights,
        published=published,
    )


def _status(scheme: Scheme) -> str:
    """Return `missing` without runs, `diverged` if one did, whatever it scores, else `ok`."""
    statuses = {run.record.status for run in scheme.runs}
    return "missing" if not statuses else "diverged" if "diverged" in statuses else "ok"


def mean_metrics(scheme: Scheme) -> dict[str, float | None]:
    """Return the mean over seeds of each metric; None where one of them has none."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(n for run in scheme.scored for n in run.record.metrics):
        values = [run.record.metrics.get(name) for run in scheme.scored]
        known = [v for v in values if v is not None]
        found[name] = statistics.fmean(known) if len(known) == len(values) else None
    return found


# --- what a careful reviewer would say ------------------------------------------------------------


def warnings(found: Comparison) -> list[str]:
    """Return what to know before believing a comparison."""
    group = found.group
    scored = [row for row in found.rows if row.score is not None]
    others = [row for row in scored if row.scheme != group.reference]
    said = [f"{row.scheme} has no score: {row.status}." for row in found.rows if row.score is None]
    said += [
        f"{row.scheme} diverged in training: what it scores is of weights that nobody keeps."
        for row in scored
        if row.status == "diverged"
    ]
    rows = max((len(run.predictions) for s in group.schemes for run in s.scored), default=0)
    if rows < FEW:
        said.append(
            f"Only {rows} evaluation rows: intervals are wide, and tests find large differences "
            "alone."
        )
    if unpaired := [row for row in others if row.apart is None]:
        said.append(
            f"Not tested against {group.reference}, for want of answers to the same rows: "
            f"{_listed(unpaired, others)}."
        )
    if alike := [row for row in others if row.apart is not None and not row.apart.is_clear]:
        said.append(
            f"Not distinguishable from {group.reference} at 95 %, on {rows:,} rows: "
            f"{_listed(alike, others)}."
        )
    if found.majority is not None:
        label, share = found.majority
        usable = [row for row in scored if not _scheme(group, row).is_diagnosis]
        near = [row for row in usable if _is_no_better(row, found)]
        if near:
            said.append(
                f"Always answering {label} has {share:.3f}; not clearly better than that: "
                f"{_listed(near, usable)}."
            )
    trained = [row for row in scored if row.trains]
    if single := [row for row in trained if row.seeds == 1]:
        said.append(
            f"One seed only, of {_listed(single, trained)}: what another seed would change is not "
            "known; intervals and tests are over examples alone."
        )
    said += [text for scheme in group.schemes if (text := _bound(scheme, found))]
    return said + _lengths(group)


def is_near(lower: float, share: float) -> bool:
    """Whether a score whose interval begins at `lower` is not clearly better than the majority's.

    Args:
        lower: end of its 95 % interval.
        share: the score of always giving the commonest answer.
    """
    return lower <= share + NEAR


def _bound(scheme: Scheme, found: Comparison) -> str | None:
    """Return what a head without its adapter says, where it falls from more than chance to it."""
    labels = scheme.task.classes(scheme.spec.task)
    low, _ = interval(scheme) or (1.0, 1.0)
    if not scheme.is_diagnosis or not labels or scheme.score is None:
        return None
    chance = max(1 / len(labels), found.majority[1] if found.majority else 0.0)
    whole = [s for s in found.group.schemes if _is_whole_of(s, scheme)]
    fell = [apart for s in whole if (apart := difference(s, scheme)) and apart.value > 0]
    if low > chance + NEAR or not any(apart.is_clear for apart in fell):
        return None
    return (
        f"{scheme.name} scores {scheme.score:.3f}, near chance ({chance:.3f}), where "
        f"{whole[0].name} has {whole[0].score:.3f}: head and adapter are bound to each other, and "
        "are kept and used together."
    )


def _is_whole_of(scheme: Scheme, part: Scheme) -> bool:
    """Whether a scheme is the one that another is a part of: the same training, adapter on."""
    keys = [{run.record.train_key for run in s.scored} for s in (scheme, part)]
    return not scheme.is_diagnosis and bool(keys[0] & keys[1])


def _lengths(group: Group) -> list[str]:
    """Return what differs in how much of the texts the schemes saw."""
    said = []
    lengths = {scheme.name: scheme.spec.task.max_length for scheme in group.schemes}
    if len(set(lengths.values())) > 1:
        each = "; ".join(f"{name} {length}" for name, length in lengths.items())
        said.append(f"The schemes read texts of different lengths (max_length): {each}.")
    shares = {
        scheme.name: cut / rows
        for scheme in group.schemes
        if scheme.scored
        and (cut := scheme.scored[0].record.counts.get("evaluation_truncated")) is not None
        and (rows := scheme.scored[0].record.counts.get("evaluation"))
    }
    if shares and max(shares.values()) > TRUNCATED:
        each = "; ".join(f"{name} {share:.0%}" for name, share in shares.items())
        said.append(f"Evaluation rows that lost tokens at max_length: {each}.")
    return said


def _scheme(group: Group, row: Row) -> Scheme:
    return next(scheme for scheme in group.schemes if scheme.name == row.scheme)


def _listed(rows: Sequence[Row], of: Sequence[Row]) -> str:
    """Return the names of rows; where these are all there could be, that."""
    return "all of them" if len(rows) == len(of) > 2 else "; ".join(row.scheme for row in rows)


# --- advice ---------------------------------------------------------------------------------------


def advice(found: Comparison) -> str:
    """Return one line: which scheme to take, what for, and at what cost.

    The cheapest of those that the best is not distinguishable from and that are clearly better than
    always giving the commonest answer: one that trains nothing before one that does, then by
    latency (of one text where measured, else an example in batches).
    """
    group = found.group
    usable = [
        row
        for row in found.rows
        if row.score is not None and row.status == "ok" and not _scheme(group, row).is_diagnosis
    ]
    if not usable:
        return "Take none yet: no scheme has a score of weights that are kept."
    best = max(usable, key=lambda row: row.score or 0.0)
    if _is_no_better(best, found):
        assert found.majority is not None
        label, share = found.majority
        return (
            f"Take none yet: the best, {best.scheme} ({best.score:.3f}), is not clearly better "
            f"than always answering {label} ({share:.3f})."
        )
    others = [row for row in usable if row is not best]
    tests = corrected(
        {r.scheme: difference(_scheme(group, best), _scheme(group, r)) for r in others}
    )
    alike = [
        row
        for row in others
        if row.scheme in tests and not tests[row.scheme].is_clear and not _is_no_better(row, found)
    ]
    taken = min([best, *alike], key=_cost)
    if taken is not best:
        apart = tests[taken.scheme]
        p = apart.p if apart.adjusted is None else apart.adjusted
        return (
            f"Take {taken.scheme} ({taken.score:.3f}): the best, {best.scheme} ({best.score:.3f}), "
            f"is not distinguishable from it (p = {p:.2g}){_price(best, taken)}."
        )
    if not others:
        return f"Take {best.scheme} ({best.score:.3f}): nothing else has a score."
    second = max(others, key=lambda row: row.score or 0.0)
    over = _over(best, second, tests.get(second.scheme))
    free = [r for r in others if not r.trains] if best.trains else []
    untrained = max(free, key=lambda row: row.score or 0.0, default=None)
    less = ""
    if untrained is not None:
        less = f"; {untrained.scheme} ({untrained.score:.3f}) if nothing may be trained"
    return f"Take {best.scheme} ({best.score:.3f}): {over}{_price(best, second)}{less}."


def _is_no_better(row: Row, found: Comparison) -> bool:
    """Whether a scheme is not clearly better than always giving the commonest answer."""
    if found.majority is None or row.interval is None:
        return False
    return is_near(row.interval[0], found.majority[1])


def _cost(row: Row) -> tuple[bool, float]:
    return row.trains, _seconds(row)


def _seconds(row: Row) -> float:
    seconds = row.evaluation_seconds if row.latency is None else row.latency.median
    return float("inf") if seconds is None else seconds


def _over(best: Row, second: Row, apart: Apart | None) -> str:
    if apart is None:
        return f"{second.scheme} has {second.score:.3f}, on other rows"
    p = apart.p if apart.adjusted is None else apart.adjusted
    told = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    chance = "" if apart.is_clear else ", not distinguishable"
    return f"{100 * apart.value:+.1f} points over {second.scheme} ({told}{chance})"


def _price(dearer: Row, other: Row) -> str:
    """Return what the first costs beside the second."""
    said = []
    if dearer.latency is not None and other.latency is not None:
        said.append(f"{dearer.latency.median / other.latency.median:.2g} times the latency")
    if dearer.trains and not other.trains and dearer.train_seconds is not None:
        said.append(f"{dearer.train_seconds:.0f} s of training more")
    return f" at {' and '.join(said)}" if said else ""
