"""The folder that a comparison leaves: report, JSON, plots, and a folder for each scheme's runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmpred import __version__
from llmpred.errors import InputError, Problem
from llmpred.ledger import Ledger, safe_name
from llmpred.report import pages, run_folder
from llmpred.report.comparison import Comparison, Group, Latency, Row, compare
from llmpred.report.parts import part_of
from llmpred.report.schemes_plots import plot_price, plot_scores
from llmpred.report.tables import Column, Page, Part, Picture, Section, Table
from llmpred.spec.space import Published
from llmpred.wording import counted

MADE = ".llmpred-comparison.json"  # what of the folder is ours: path -> size
HTML, MARKDOWN = "report.html", "report.md"
TABLES, BASELINES = "comparison.json", "baseline_comparison.json"
REPORT = (HTML, MARKDOWN, TABLES, BASELINES, "plots")
ROBUSTNESS = "robustness_result.json"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the models of a group answered beyond their stored predictions.

    Attributes:
        latency: by scheme, where measured.
        robustness: by scheme, as `llmpred.evaluation.robustness` returns it.
        warnings: what could not be asked, and why.
    """

    latency: Mapping[str, Latency] = dataclasses.field(default_factory=dict)
    robustness: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@contextmanager
def made_anew(out: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes the place of `out` when all went well.

    Raises:
        InputError: if `out` holds what no comparison made.
    """
    check_ours(out)
    out = out.resolve()  # a link keeps its name; what it leads to is made anew
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "comparison"
        folder.mkdir()
        yield folder
        sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _files(folder)}
        run_folder.dump(folder / MADE, {"llmpred": __version__, "files": sizes})
        check_ours(out)  # hours may have passed
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


def check_ours(out: Path) -> None:
    """Raise InputError if a folder holds anything that no comparison made, or somebody changed."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(Problem(f"--out must name a folder, but {out} is a file"))
    there = {p.relative_to(out).as_posix(): p.stat().st_size for p in _files(out)}
    if not there and not any(out.iterdir()):
        return
    try:
        made: dict[str, int] = json.loads((out / MADE).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        made = {}
    strange = sorted(n for n, size in there.items() if n != MADE and made.get(n) != size)
    if strange or not made:
        some = ", ".join(strange[:3]) + (", …" if len(strange) > 3 else "")
        law = f"--out must be new, or a folder that a comparison made, but {out} holds {some}"
        raise InputError(Problem(law, fix="Name another folder, or move that elsewhere."))


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]


def write(
    out: Path,
    title: str,
    groups: Sequence[Group],
    ledger: Ledger,
    *,
    published: Sequence[Published] = (),
    own: Collection[str] | None = None,
    notes: Sequence[str] = (),
    confidence: bool = True,
    ask: Callable[[Group], Asked] = lambda group: Asked(),
) -> list[Comparison]:
    """Write the comparison of groups, and return it.

    Args:
        out: folder, new or one that a comparison made, whose place the new one takes.
        title: of the report.
        groups: the schemes, a group a dataset and base.
        ledger: has their weights.
        published: figures of others.
        own: the datasets whose groups they stand in, see `Space.own`; None for all.
        notes: what the plan had to say, such as schemes that were left out.
        confidence: whether to tell how sure answers are.
        ask: asks the models of a group what stored predictions cannot say.

    Raises:
        InputError: if `out` holds what no comparison made, or no scheme has a score.
    """
    if not any(scheme.scored for group in groups for scheme in group.schemes):
        law = f"a comparison needs a run with a score, but {ledger.storage.root} has none of these"
        why = ledger.storage.hint("llmpred ledger ls --attempts")
        fix = f"Collect them; `{why}` says why runs failed."
        raise InputError(Problem(law, title, fix))
    with made_anew(out) as folder:
        return _write(folder, title, groups, ledger, published, own, notes, confidence, ask)


def read(out: Path) -> Any:
    """Return the tables of a comparison that was written."""
    return json.loads((out / TABLES).read_text("utf-8"))


def _write(
    folder: Path,
    title: str,
    groups: Sequence[Group],
    ledger: Ledger,
    published: Sequence[Published],
    own: Collection[str] | None,
    notes: Sequence[str],
    confidence: bool,
    ask: Callable[[Group], Asked],
) -> list[Comparison]:
    found: list[Comparison] = []
    sections: list[Section] = []
    baselines: dict[str, Any] = {}
    for group in groups:
        place = "" if len(groups) == 1 else f"{safe_name(group.title)}/"
        plots = folder / "plots" / place
        part, asked = part_of(group, plots, confidence=confidence), ask(group)
        stand = published if own is None or _is_one_of(group, own) else ()
        weights = _run_folders(folder / place, group, part, asked, ledger)
        comparison = compare(
            group,
            latency=asked.latency,
            weights=weights,
            published=_published(group, stand),
            majority=part.majority,
        )
        said = [*comparison.warnings, *part.warnings, *asked.warnings]
        if published and not stand:
            said.append(
                "Published figures are left out: they are of the data in the space's file, and "
                "--set put others in their place."
            )
        comparison = dataclasses.replace(
            comparison, warnings=tuple(said), advice=part.advice or comparison.advice
        )
        found.append(comparison)
        sections.append(_section(comparison, part, asked, plots, stand))
        baselines |= {f"{place}{safe_name(row.scheme)}": _baseline(row) for row in comparison.rows}
    page = Page(title, tuple(notes), tuple(sections))
    (folder / HTML).write_text(pages.html(page), "utf-8")
    (folder / MARKDOWN).write_text(pages.markdown(page, folder), "utf-8")
    run_folder.dump(folder / BASELINES, baselines)
    run_folder.dump(folder / TABLES, as_json(title, found, sections, notes))
    return found


def as_json(
    title: str, found: Sequence[Comparison], sections: Sequence[Section], notes: Sequence[str]
) -> dict[str, Any]:
    """Return all that a report says as JSON."""
    return {
        "title": title,
        "notes": [*notes],
        "groups": [
            {
                "dataset": each.group.dataset,
                "base": each.group.base,
                "metric": each.group.metric,
                "reference": each.group.reference,
                "evaluation_rows": rows_of(each.group),
                "majority": each.majority
                and {"answer": each.majority[0], "score": each.majority[1]},
                "rows": [dataclasses.asdict(row) for row in each.rows],
                "tables": [table.json() for table in section.tables],
                "warnings": [*section.warnings],
                "advice": each.advice,
            }
            for each, section in zip(found, sections, strict=True)
        ],
    }


def rows_of(group: Group) -> int | None:
    """Return how many evaluation rows a group's schemes answered."""
    return max((len(run.predictions) for s in group.schemes for run in s.scored), default=None)


def _run_folders(
    folder: Path, group: Group, part: Part, asked: Asked, ledger: Ledger
) -> dict[str, int]:
    """Write a folder a scheme, in it one a further seed; return the bytes of weights."""
    weights: dict[str, int] = {}
    for scheme in group.schemes:
        home = described = folder / safe_name(scheme.name)
        for i, run in enumerate(scheme.runs):
            spec = run.record.spec
            place = home / f"seed-{spec.seed}" if i and spec else home
            if scheme.scored and run is scheme.scored[0]:
                described = place
            told = run_folder.write(ledger, run.record, place)
            size = told.get(run_folder.TRAINED, {}).get("weights_bytes")
            if size is not None:
                weights.setdefault(scheme.name, size)
        further = {**part.files.get(scheme.name, {})}
        if scheme.name in asked.robustness:
            further[ROBUSTNESS] = asked.robustness[scheme.name]
        for name, content in further.items():
            run_folder.dump(described / name, content)
        for name, draw in part.drawn.get(scheme.name, {}).items():
            draw(described / name)
    return weights


def _is_one_of(group: Group, datasets: Collection[str]) -> bool:
    """Whether a group is of one of these datasets; its name may go on with what else it is of."""
    return any(group.dataset == one or group.dataset.startswith(f"{one}, ") for one in datasets)


def _published(group: Group, published: Sequence[Published]) -> dict[str, float]:
    """Return what others reported of the primary metric, by scheme."""
    return {
        one.method: one.metrics[group.metric] for one in published if group.metric in one.metrics
    }


def _baseline(row: Row) -> dict[str, Any]:
    return {
        "name": row.scheme,
        "description": row.description,
        "metrics": row.metrics,
        "status": row.status,
    }


def _section(
    found: Comparison, part: Part, asked: Asked, plots: Path, published: Sequence[Published]
) -> Section:
    group = found.group
    tables = [_scores(found, part, published), _tests(found), _costs(found), *part.tables]
    if asked.robustness:
        tables.append(_robustness(asked.robustness))
    tables.append(_about(found))
    pictures = [Picture(plots / "scores.png", f"{group.metric} by scheme, with 95 % intervals")]
    plot_scores(found.rows, group.metric, found.majority, pictures[0].path)
    price = plots / "latency.png"
    if plot_price(found.rows, group.metric, price):
        pictures.append(Picture(price, f"{group.metric} against the latency of one text"))
    rows = rows_of(group)
    lead = (
        f"{counted(len(group.schemes), 'scheme')} on the same "
        f"{'rows' if rows is None else counted(rows, 'evaluation row')}. Primary metric: "
        f"{group.metric}. Differences and tests are against {group.reference}."
    )
    return Section(
        group.title, (lead,), found.warnings, tables, (*pictures, *part.pictures), found.advice
    )


def _scores(found: Comparison, part: Part, published: Sequence[Published]) -> Table:
    metric, rows = found.group.metric, found.rows
    several = any(row.seeds > 1 for row in rows)
    told = any(row.published is not None for row in rows)
    columns = [Column("scheme"), Column(metric, "score"), Column("95 % interval", "interval")]
    columns += [Column("seeds", "count"), Column("sd over seeds", "score")] if several else []
    columns += [*part.columns, Column("difference", "signed"), Column("p (Holm)", "p")]
    columns += [Column("published, not rerun", "score")] if told else []
    body: list[tuple[Any, ...]] = []
    for row in rows:
        cells: list[Any] = [row.scheme, row.score, row.interval]
        cells += [row.seeds, row.sd] if several else []
        cells += part.values.get(row.scheme, (None,) * len(part.columns))
        cells += [row.apart and row.apart.value, row.apart and row.apart.adjusted]
        body.append((*cells, *([row.published] if told else [])))
    if found.majority is not None:
        label, score = found.majority
        empty = (None,) * (len(columns) - 2)
        body.append((f"always {label}", score, *empty))
    notes = [
        "Intervals are over examples; p-values are two-sided and corrected for the number of "
        "schemes (Holm). A point (pt) is 0.01."
    ]
    notes += dict.fromkeys(
        f"Published, not rerun: {one.base} on {one.data} ({one.source})."
        for one in published
        if told and found.group.metric in one.metrics
    )
    return Table("How good", tuple(columns), tuple(body), tuple(notes))


def _tests(found: Comparison) -> Table:
    rows = []
    for row in found.rows:
        if (apart := row.apart) is None:
            continue
        ends = f"{100 * apart.lower:+.1f} to {100 * apart.upper:+.1f} pt"
        verdict = "yes" if apart.is_clear else "no: not distinguishable"
        cells = (row.scheme, apart.value, ends, apart.p, apart.adjusted, apart.test, verdict)
        rows.append(cells)
    return Table(
        f"Difference from {found.group.reference}",
        (
            Column("scheme"),
            Column("difference", "signed"),
            Column("95 % interval"),
            Column("p", "p"),
            Column("p (Holm)", "p"),
            Column("test"),
            Column("more than chance at 95 %"),
        ),
        tuple(rows),
    )


def _costs(found: Comparison) -> Table:
    rows = [
        (
            row.scheme,
            row.train_seconds if row.trains else None,
            row.evaluation_seconds,
            row.latency and row.latency.median,
            row.latency and row.latency.p90,
            row.peak_memory_bytes,
            row.trainable if row.trains else 0,
            row.share if row.trains else 0.0,
            row.weights_bytes,
        )
        for row in found.rows
    ]
    texts = {row.latency.texts for row in found.rows if row.latency is not None}
    notes = [
        "Training, evaluation and memory are those of the recorded runs, wherever they ran; memory "
        "is the peak of the whole process (on a GPU, of its memory)."
    ]
    if texts:
        notes.append(
            f"Latency: {max(texts)} texts, one at a time, all schemes in turns in one process on "
            "this machine."
        )
    return Table(
        "What it costs",
        (
            Column("scheme"),
            Column("training", "time"),
            Column("an example, in batches", "time"),
            Column("one text, median", "time"),
            Column("one text, 90th percentile", "time"),
            Column("peak memory", "bytes"),
            Column("trained weights", "count"),
            Column("of the base", "share"),
            Column("kept weights", "bytes"),
        ),
        tuple(rows),
        tuple(notes),
    )


def _robustness(found: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        "Robustness",
        (
            Column("scheme"),
            Column("rows", "count"),
            Column("accuracy", "score"),
            Column("perturbed", "score"),
            Column("score", "score"),
            Column("95 % interval", "interval"),
            Column("weakest under"),
        ),
        tuple(
            (
                name,
                told["n"],
                told["original_accuracy"],
                told["perturbed_accuracy"],
                told["robustness_score"],
                told["interval"],
                _weakest(told["perturbation_tests"]),
            )
            for name, told in found.items()
        ),
        (
            "Score: accuracy under changes that keep the label, over accuracy before them. All of "
            "them are in each scheme's robustness_result.json.",
        ),
    )


def _weakest(tests: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the change that keeps the label and has the lowest score, and this."""
    scores = {
        kind: test["score"]
        for kind, test in tests.items()
        if test["keeps_label"] and test["score"] is not None
    }
    if not scores:
        return None
    kind = min(scores, key=scores.__getitem__)
    return f"{kind.replace('_', ' ')}, {scores[kind]:.3f}"


def _about(found: Comparison) -> Table:
    columns = (Column("scheme"), Column("what it is"))
    return Table("The schemes", columns, tuple((row.scheme, row.description) for row in found.rows))
