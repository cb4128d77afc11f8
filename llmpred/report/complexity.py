"""What a prediction of thinking lengths adds to a comparison: all schemes on counts, and traps.

Schemes are taught labels of different kinds, so the score of one on its own labels says little
beside that of another. Here their answers are mapped back to counts and compared with each other,
and with what needs no model at all.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.evaluation.common_ground import (
    DRAWS,
    Answers,
    Resampled,
    answers,
    by_length,
    by_rules,
    common_edges,
    compare_paired,
    constant,
    figures,
    own,
    resampled,
)
from llmpred.evaluation.significance import Difference, holm
from llmpred.report.comparison import LEVEL, NEAR, Group, Scored
from llmpred.report.schemes_plots import plot_common_ground, plot_predicted
from llmpred.report.stored import training_of
from llmpred.report.tables import Column, Part, Picture, Table, number
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import Prediction
from llmpred.tasks.complexity.leakage import FIRES, leakage, rank_leakage, share_of
from llmpred.tasks.complexity.routes import budget_curve
from llmpred.tasks.complexity.tags import prompt_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FILE = "complexity.json"
SMALLEST = 90  # evaluation rows of a label, below which its F1 is a matter of few
DOMINANT = 0.6  # share of one label, above which accuracy may hide all the others
FOLDS = 5  # of the rows on which labels are tried for leakage
BEST = 3  # schemes whose predictions are drawn
STATISTICS = {"spearman": "Spearman", "pinball": "pinball", "mae": "MAE"}

Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Ground:
    """What schemes are compared on, as far as the data are still there.

    Attributes:
        actual: float64 [n], counts of the evaluation rows.
        prompts: of the evaluation rows.
        train_counts, train_prompts: of the training rows.
        edges: of the common bins.
        gone: what is not there, and what for want of it; sentences.
    """

    actual: Floats
    prompts: Sequence[str] | None = None
    train_counts: Floats | None = None
    train_prompts: Sequence[str] = ()
    edges: Floats | None = None
    gone: tuple[str, ...] = ()

    @cached_property
    def features(self) -> Floats | None:
        """What is seen of the evaluation prompts without a model, float64 [n, features]."""
        return None if self.prompts is None else _features(self.prompts)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A scheme or a baseline on the common ground.

    Attributes:
        answers: of the first seed.
        figures: of each seed; see `llmpred.evaluation.common_ground.figures`.
        resampled: statistics on the rows and on resamples of them, over seeds.
    """

    answers: Answers
    figures: tuple[Figures, ...]
    resampled: Resampled

    @cached_property
    def mean(self) -> Figures:
        """Mean of each figure over seeds."""
        return _mean(self.figures)

    @cached_property
    def sd(self) -> Figures:
        """Standard deviation of each figure over seeds; empty of one seed."""
        return _sd(self.figures)

    def json(self) -> Figures:
        """Return all figures."""
        intervals = {name: [*self.resampled.interval(name, LEVEL)] for name in STATISTICS}
        return {"mean": self.mean, "sd": self.sd, "intervals": intervals, "runs": [*self.figures]}


def read(predictions: Sequence[Prediction]) -> Answers:
    """Return the predictions of a run in counts."""
    return answers(
        [p.target["counts"] for p in predictions],
        [p.prediction["mean"] for p in predictions],
        [p.prediction["quantiles"] for p in predictions],
    )


def part(group: Group, folder: Path, sure: bool) -> Part:
    """Return how schemes compare in counts, how on their own labels, and which traps they are in.

    Args:
        group: the schemes.
        folder: for plots.
        sure: whether to tell how wide predicted intervals are, and how often they hold.
    """
    scored = {s.name: [run for run in s.scored if run.predictions] for s in group.schemes}
    runs = {name: found for name, found in scored.items() if found}
    if not runs:
        return Part()
    reference = group.reference if group.reference in runs else next(iter(runs))
    ground = _ground(group, read(runs[reference][0].predictions).actual)
    read_runs = {name: [read(run.predictions) for run in found] for name, found in runs.items()}
    schemes = {n: judged for n, found in read_runs.items() if (judged := _judged(found, ground))}
    baselines = _baselines(ground)
    everything = {**schemes, **baselines}
    apart = {s: _apart(everything, reference, s) for s in STATISTICS}
    specs = {scheme.name: scheme.spec.task for scheme in group.schemes}
    labelled = {name: told for name, found in runs.items() if (told := _own(found, specs[name]))}
    labels = {name: [p.target["label"] for p in runs[name][0].predictions] for name in labelled}
    leaks = _leaks(schemes, labels, labelled, ground)
    tables = [_common(schemes, baselines, ground, sure)]
    tables += [_differences(apart, reference)] if len(everything) > 1 else []
    tables += [_own_table(labelled)] if labelled else []
    tables += [_leak_table(leaks)] if leaks else []
    if ground.train_counts is not None and ground.train_counts.max() > 0:
        tables.append(_budgets(everything, ground))
    best, alike = _beaten(schemes, baselines)
    beaten: list[str] = []
    none_yet = None
    if best is not None:
        loss = baselines[best].mean["pinball"]
        beaten = _no_better(best, alike, schemes, loss)
        if set(alike) == set(schemes):
            none_yet = (
                f"Take none yet: no scheme is clearly better in pinball loss than {best} "
                f"({number(loss)}), which needs no model."
            )
    return Part(
        advice=none_yet,
        tables=tuple(tables),
        pictures=tuple(_pictures(schemes, baselines, folder)),
        warnings=(
            *_traps(labelled),
            *_leaking(leaks),
            *beaten,
            *_small(labelled),
            *_notes(schemes),
            *_elsewhere(runs, schemes, reference),
            *_not_held_out(group),
            *ground.gone,
        ),
        files={
            name: {
                FILE: {
                    "common_ground": schemes[name].json() if name in schemes else None,
                    "edges": None if ground.edges is None else ground.edges.tolist(),
                    "difference": {
                        "reference": reference,
                        **{s: _plain(found[name]) for s, found in apart.items() if name in found},
                    },
                    "own_labels": _seeds(labelled[name]) if name in labelled else None,
                    "leakage": leaks.get(name),
                    "baselines": {base: judged.json() for base, judged in baselines.items()},
                }
            }
            for name in runs
        },
    )


# --- what is judged, and on what ------------------------------------------------------------------


def _ground(group: Group, actual: Floats) -> Ground:
    """Return what the schemes of a group are compared on, on rows with these counts."""
    import numpy as np

    gone, prompts = [], None
    if group.examples is not None and len(group.examples) == len(actual):
        prompts = [str(row["prompt"]) for row in group.examples]
    else:
        gone.append(
            "The evaluation rows are not there any more: labels were not tried for leakage, and "
            "no baseline reads prompts."
        )
    records = [run.record for scheme in group.schemes for run in scheme.runs if scheme.spec.trains]
    # A scheme may leave rows out of its training, such as outliers.
    most = max(records, key=lambda record: record.counts.get("train", 0), default=None)
    rows, why = (None, "no scheme trains") if most is None else training_of(most)
    if not rows:
        gone.append(f"Training rows: {why}. So there are no baselines and no common bins.")
        return Ground(actual, prompts, gone=tuple(gone))
    counts = np.array([row["counts"] for row in rows], float)
    train_prompts = [str(row["prompt"]) for row in rows]
    return Ground(actual, prompts, counts, train_prompts, common_edges(counts), tuple(gone))


def _judged(runs: Sequence[Answers], ground: Ground) -> Judged | None:
    """Return those runs that answer the rows of the common ground; None if none does."""
    import numpy as np

    same = [run for run in runs if np.array_equal(run.actual, ground.actual)]
    if not same:
        return None
    told = (figures(run.actual, run.mean, run.quantiles, ground.edges) for run in same)
    return Judged(same[0], tuple(told), resampled(same))


def _baselines(ground: Ground) -> dict[str, Judged]:
    """Return what needs no model, as far as the data are there."""
    if ground.train_counts is None:
        return {}
    counts = ground.train_counts
    found = {"median": constant(counts, len(ground.actual))}
    if ground.prompts is not None and ground.features is not None:
        before, now = ([len(p) for p in each] for each in (ground.train_prompts, ground.prompts))
        found["prompt length"] = by_length(counts, before, now)
        found["rules"] = by_rules(counts, _features(ground.train_prompts), ground.features)
    runs = {name: answers(ground.actual, *told) for name, told in found.items()}
    judged = {f"baseline: {name}": _judged([run], ground) for name, run in runs.items()}
    return {name: each for name, each in judged.items() if each}


def _features(prompts: Sequence[str]) -> Floats:
    """Return float64 [prompts, features], what is seen of prompts without a model."""
    import numpy as np

    return np.array([[*prompt_features(prompt).values()] for prompt in prompts], float)


def _own(runs: Sequence[Scored], spec: TaskSpec) -> list[Figures]:
    """Return how good each run is on its own labels; nothing of a scheme that has none."""
    found = []
    for run in runs:
        if all("label" in p.target and "label" in p.prediction for p in run.predictions):
            actual = [p.target["label"] for p in run.predictions]
            predicted = [p.prediction["label"] for p in run.predictions]
            found.append(own(actual, predicted, _size(spec, run.predictions[0])))
    return found


def _not_held_out(group: Group) -> list[str]:
    """Tell of numbers that were mapped to counts by the very rows they were trained on."""
    names = [
        scheme.name
        for scheme in group.schemes
        if scheme.spec.task.target is not None
        and scheme.spec.task.target.is_regression
        and any(not run.record.counts.get("validation") for run in scheme.scored)
    ]
    if not names:
        return []
    return [
        "Mapped to counts by the rows that they were trained on, so that intervals are too narrow "
        f"(set dataset.validation): {'; '.join(names)}."
    ]


def _size(spec: TaskSpec, prediction: Prediction) -> int:
    """Return how many labels there are: a regression on bins has one score, but edges of them."""
    edges = spec.target and spec.target.edges
    return len(edges) - 1 if edges else len(prediction.scores or ())


def _leaks(
    schemes: Mapping[str, Judged],
    labels: Mapping[str, Sequence[int]],
    labelled: Mapping[str, Sequence[Figures]],
    ground: Ground,
) -> dict[str, Figures]:
    """Return how much of what each scheme scores is had by rules on the prompt alone.

    Schemes with labels are judged by macro-F1 on these, others by Spearman's correlation.
    """
    import numpy as np

    if ground.features is None or len(ground.actual) < FOLDS:
        return {}
    found: dict[str, Figures] = {}
    ranks = rank_leakage(ground.features, ground.actual, folds=FOLDS)
    for name, judged in schemes.items():
        score, rules, nothing = judged.mean["spearman"], ranks, 0.0
        if name in labelled:
            tried = leakage(ground.features, np.array(labels[name]), folds=FOLDS)
            score = _mean(labelled[name])["macro_f1"]
            rules, nothing = tried.macro_f1, tried.majority_macro_f1
        share = share_of(score, rules, nothing)
        found[name] = {
            "measure": "macro-F1" if name in labelled else "Spearman",
            "rules": rules,
            "nothing": nothing,
            "scheme": score,
            "share": share,
            "fires": share is not None and share >= FIRES,
        }
    return found


def _apart(
    judged: Mapping[str, Judged], reference: str, statistic: str
) -> dict[str, tuple[Difference, float]]:
    """Return how far all others are from one by a statistic, and p-values adjusted for them all."""
    one = judged[reference].resampled
    found = {
        name: compare_paired(each.resampled, one, LEVEL)[statistic]
        for name, each in judged.items()
        if name != reference
    }
    adjusted = holm([each.p for each in found.values()]).tolist()
    return {name: (each, p) for (name, each), p in zip(found.items(), adjusted, strict=True)}


def _seeds(found: Sequence[Figures]) -> Figures:
    return {"mean": _mean(found), "sd": _sd(found), "runs": [*found]}


def _mean(found: Sequence[Figures]) -> Figures:
    """Return the mean over seeds of all figures that are numbers."""
    return {name: statistics.fmean(values) for name, values in _numbers(found)}


def _sd(found: Sequence[Figures]) -> Figures:
    """Return the standard deviation over seeds of all figures that are numbers; empty of one."""
    several = len(found) > 1
    return {name: statistics.stdev(values) for name, values in _numbers(found) if several}


def _numbers(found: Sequence[Figures]) -> Iterable[tuple[str, list[float]]]:
    for name in found[0]:
        values = [each[name] for each in found]
        if all(isinstance(value, int | float) for value in values):
            yield name, values


def _plain(found: tuple[Difference, float]) -> Figures:
    difference, adjusted = found
    return {**dataclasses.asdict(difference), "adjusted": adjusted}


# --- tables ---------------------------------------------------------------------------------------


def _common(
    schemes: Mapping[str, Judged], baselines: Mapping[str, Judged], ground: Ground, sure: bool
) -> Table:
    several = any(len(judged.figures) > 1 for judged in schemes.values())
    columns = [
        *(Column(name, "number") for name in ("MAE", "RMSE", "pinball loss")),
        Column("95 % interval of pinball"),
        Column("Spearman", "score"),
        Column("95 % interval of Spearman", "interval"),
        Column("macro-F1 on common bins", "score"),
    ]
    rows = []
    for name, judged in {**schemes, **baselines}.items():
        mean, sd = judged.mean, judged.sd
        low, high = judged.resampled.interval("pinball", LEVEL)
        cells = [mean["mae"], mean["rmse"], mean["pinball"], f"{number(low)} to {number(high)}"]
        cells += [mean["spearman"], judged.resampled.interval("spearman", LEVEL)]
        cells += [mean.get("macro_f1_common")]
        cells += [mean["coverage"], mean["width"]] if sure else []
        cells += [sd.get("pinball"), sd.get("spearman")] if several else []
        rows.append((name, *cells))
    if sure:
        columns += [Column("10-90 interval holds", "share"), Column("width of it", "number")]
    if several:
        columns.append(Column("sd of pinball over seeds", "number"))
        columns.append(Column("sd of Spearman over seeds", "score"))
    notes = [
        "In counts. RMSE and Spearman's correlation are of the predicted mean, MAE and macro-F1 of "
        "the predicted median, the pinball loss is of the 10, 25, 50, 75 and 90 % quantiles "
        "(Koenker & Bassett, 1978); lower is better but for Spearman and macro-F1. Intervals are "
        "over rows.",
    ]
    if sure:
        notes.append("An interval from the 10 to the 90 % quantile should hold for 80 % of rows.")
    if ground.edges is not None:
        edges = ", ".join(map(number, ground.edges[1:-1]))
        notes.append(f"Common bins part the training counts evenly, at {edges}.")
    return Table("Common ground", (Column("scheme"), *columns), tuple(rows), tuple(notes))


def _differences(
    apart: Mapping[str, Mapping[str, tuple[Difference, float]]], reference: str
) -> Table:
    columns = [Column("scheme")]
    for told in STATISTICS.values():
        columns += [Column(f"{told}, with 95 % interval"), Column(f"p of {told} (Holm)", "p")]
    rows = []
    for name in apart["pinball"]:
        cells: list[Any] = []
        for statistic in STATISTICS:
            found, adjusted = apart[statistic][name]
            ends = f"{_signed(found.lower)} to {_signed(found.upper)}"
            cells += [f"{_signed(found.difference)} ({ends})", adjusted]
        rows.append((name, *cells))
    notes = (
        f"Less {reference}: a better scheme has more Spearman, less pinball loss and less MAE. "
        f"Paired bootstrap over rows, {DRAWS:,} resamples; p-values are two-sided and corrected "
        "for the number of rows here (Holm).",
    )
    return Table(f"Differences in counts from {reference}", tuple(columns), tuple(rows), notes)


def _budgets(everything: Mapping[str, Judged], ground: Ground) -> Table:
    """Return what budgets by the best forecast, and by the median alone, would save."""
    assert ground.train_counts is not None
    worst = float(ground.train_counts.max())
    best = min(everything, key=lambda name: everything[name].mean["pinball"])
    rows = []
    for name in dict.fromkeys([best, *(n for n in everything if n == "baseline: median")]):
        found = everything[name].answers
        for row in budget_curve(found.quantiles, found.actual, worst, shares=(1.0,)):
            rows.append((name, row["level"], row["saved"], row["accuracy"]))
    return Table(
        "What budgets would save",
        (
            Column("forecast"),
            Column("budget: predicted quantile", "number"),
            Column("saved", "share"),
            Column("prompts within their budget", "share"),
        ),
        tuple(rows),
        (
            f"Each prompt is reserved its predicted quantile rather than {number(worst)}, the most "
            "of any training row; saved is the share of that which is not reserved. The forecast "
            "is the one with the least pinball loss.",
        ),
    )


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _own_table(labelled: Mapping[str, Sequence[Figures]]) -> Table:
    rows = []
    for name, runs in labelled.items():
        mean = _mean(runs)
        cells = (mean["macro_f1"], mean["lowest_f1"], mean["zeros"], runs[0]["smallest"])
        rows.append((name, runs[0]["k"], mean["accuracy"], mean["majority_share"], *cells))
    return Table(
        "On its own labels",
        (
            Column("scheme"),
            Column("labels", "count"),
            Column("accuracy", "score"),
            Column("share of the commonest label", "score"),
            Column("macro-F1", "score"),
            Column("lowest F1", "score"),
            Column("labels with F1 0", "number"),
            Column("rows of the rarest", "count"),
        ),
        tuple(rows),
        (
            "Labels differ from scheme to scheme, so these scores cannot be compared with each "
            "other: the more rows one label has, the higher the accuracy of always answering it.",
        ),
    )


def _leak_table(leaks: Mapping[str, Figures]) -> Table:
    return Table(
        "Leakage",
        (
            Column("scheme"),
            Column("measure"),
            Column("rules on the prompt", "score"),
            Column("the commonest", "score"),
            Column("scheme's", "score"),
            Column("share of it had by rules", "share"),
            Column("can be read off the prompt"),
        ),
        tuple(
            (
                name,
                *(told[n] for n in ("measure", "rules", "nothing", "scheme", "share")),
                "yes" if told["fires"] else "no",
            )
            for name, told in leaks.items()
        ),
        (
            "Rules: a small tree on what is seen of the prompt without a model, on folds of the "
            "evaluation rows that it was not grown on. The share is of what the scheme has above "
            f"the commonest label (0 of a correlation); from {FIRES:.0%} on, what it is taught can "
            "be read off the prompt.",
        ),
    )


# --- warnings -------------------------------------------------------------------------------------


def _traps(labelled: Mapping[str, Sequence[Figures]]) -> list[str]:
    """Return where a high accuracy is that of the commonest label."""
    said = []
    for name, runs in labelled.items():
        mean, share = _mean(runs), runs[0]["majority_share"]
        hidden = share > DOMINANT and mean["macro_f1"] < mean["accuracy"] / 2
        if hidden or mean["accuracy"] <= share + NEAR:
            said.append(
                f"{name} {mean['accuracy']:.3f} (always label {runs[0]['majority']}: {share:.3f}, "
                f"as {share:.1%} of the rows have it; macro-F1 {mean['macro_f1']:.3f})"
            )
    return _in_one("An accuracy on its own labels says little where one label has most", said)


def _leaking(leaks: Mapping[str, Figures]) -> list[str]:
    """Return whose targets rules on the prompt find as well, or nearly."""
    said = [
        f"{name} (rules {told['measure']} {told['rules']:.3f}, the scheme {told['scheme']:.3f})"
        for name, told in leaks.items()
        if told["fires"]
    ]
    return _in_one("What a scheme is taught can be read off the prompt by rules alone", said)


def _in_one(law: str, cases: Sequence[str]) -> list[str]:
    """Return what holds of several schemes in one line, however many they are."""
    return [f"{law}: {'; '.join(cases)}."] if cases else []


def _beaten(
    schemes: Mapping[str, Judged], baselines: Mapping[str, Judged]
) -> tuple[str | None, list[str]]:
    """Return the best of what needs no model, and which schemes are not clearly better."""
    if not baselines:
        return None, []
    best = min(baselines, key=lambda name: baselines[name].mean["pinball"])
    apart = _apart({**schemes, best: baselines[best]}, best, "pinball")
    alike = [name for name, (found, p) in apart.items() if found.difference >= 0 or p >= 1 - LEVEL]
    return best, alike


def _no_better(best: str, alike: Sequence[str], of: Mapping[str, Judged], loss: float) -> list[str]:
    """Say which schemes are not clearly better than what needs no model."""
    if not alike:
        return []
    return [
        f"Not clearly better than {best}, which needs no model, in pinball loss "
        f"({number(loss)}): {_listed(alike, of)}."
    ]


def _small(labelled: Mapping[str, Sequence[Figures]]) -> list[str]:
    few = {name: runs[0]["smallest"] for name, runs in labelled.items()}
    told = [f"{name} {rows}" for name, rows in few.items() if rows < SMALLEST]
    if not told:
        return []
    return [
        f"The rarest label has fewer than {SMALLEST} evaluation rows, so that its F1, and macro-F1 "
        f"with it, is a matter of few: {'; '.join(told)}."
    ]


def _notes(schemes: Mapping[str, Judged]) -> list[str]:
    return [
        f"{name}: {note}"
        for name, judged in schemes.items()
        for note in dict.fromkeys(note for told in judged.figures for note in told["notes"])
    ]


def _elsewhere(
    runs: Mapping[str, Sequence[Scored]], schemes: Mapping[str, Judged], reference: str
) -> list[str]:
    """Return which schemes have runs that cannot be compared in counts."""
    compared = {name: len(judged.figures) for name, judged in schemes.items()}
    other = [name for name, found in runs.items() if compared.get(name, 0) < len(found)]
    if not other:
        return []
    return [
        f"Runs that answer other rows than {reference}, or count something else, are not on the "
        f"common ground: {'; '.join(other)}."
    ]


def _listed(names: Sequence[str], of: Mapping[str, Any]) -> str:
    """Return names; where these are all there could be, that."""
    return "all schemes" if len(names) == len(of) > 2 else "; ".join(names)


# --- pictures -------------------------------------------------------------------------------------


def _pictures(
    schemes: Mapping[str, Judged], baselines: Mapping[str, Judged], folder: Path
) -> list[Picture]:
    order = sorted(schemes, key=lambda name: schemes[name].mean["pinball"])
    ground, predicted = folder / "common-ground.png", folder / "predicted-counts.png"
    drawn = {
        name: {
            statistic: (judged.resampled.values[statistic], judged.resampled.interval(statistic))
            for statistic in ("pinball", "spearman")
        }
        for name, judged in {**schemes, **baselines}.items()
    }
    plot_common_ground(drawn, [*baselines], ground)
    plot_predicted({name: schemes[name].answers for name in order[:BEST]}, predicted)
    best = "; ".join(order[:BEST])
    about = "Predicted against actual counts, of the first seed and the least pinball loss"
    return [
        Picture(ground, "Pinball loss and Spearman's correlation by scheme, with 95 % intervals"),
        Picture(predicted, f"{about}: {best}"),
    ]
