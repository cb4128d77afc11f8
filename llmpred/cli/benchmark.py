"""`llmpred meta benchmark`: how well scores are predicted, question by question."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Storage,
    check_out,
    console,
    open_ledger,
    split,
    wait_passively,
    warn,
    write_json,
)
from llmpred.cli.common import table as show_table
from llmpred.cli.meta import LEDGER, Ignore, Log, Names, show_report
from llmpred.errors import DataError, InputError, Problem, nearest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from llmpred.meta.baselines import Baseline
    from llmpred.meta.benchmark import SplitReport
    from llmpred.meta.splits import Split
    from llmpred.meta.table import Table

    Rows = NDArray[np.int64]

KINDS = ("random", "group")  # of --split; any other word is a column
OWN = "features"  # as --tiers: the priorities of llmpred's own meta-features
SEEDS = 20
VALUES = 20  # so many values of a column are left out one by one; more are dealt into as many folds
FEW = 4  # with fewer values, inner folds cannot leave one out as the outer ones do


@dataclass(frozen=True)
class Question:
    """What is asked of the model: rows to test, of which nothing that the rest shares is known.

    Attributes:
        table: its rows, with the features that may be used.
        splits: which rows are fitted on and tested.
        inner: int64 [rows], groups that the model's own folds hold out.
        clusters: int64 [rows], groups that the bootstrap draws.
    """

    table: Table
    splits: Sequence[Split]
    inner: Rows
    clusters: Rows


def benchmark(
    target: Annotated[str, typer.Option(help="Column to predict, such as accuracy_r.")],
    table: Annotated[
        str | None,
        typer.Option(
            metavar="ledger|FILE", help="Runs of the storage, or a row a run: .csv, .parquet, …"
        ),
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Fit on these rows, …")] = None,
    test: Annotated[Path | None, typer.Option(help="… and test on these, instead of --table.")] = (
        None
    ),
    group: Annotated[
        Names,
        typer.Option(
            help="Columns that name a row's group, such as dataset; several: each cell. Of the "
            "ledger: dataset."
        ),
    ] = None,
    ignore: Ignore = None,
    log: Log = None,
    splits: Annotated[
        Names,
        typer.Option(
            "--split",
            help="random, group, or a column, whose values are left out one by one (base: new "
            "bases). Default: random, and group where --group is.",
        ),
    ] = None,
    test_size: Annotated[float, typer.Option(help="Share of rows, or groups, to test on.")] = 0.28,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help=f"How often to split: {SEEDS}, and of all folds once."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Deal groups into so many folds and test all.")
    ] = None,
    tiers: Annotated[
        str | None,
        typer.Option(
            metavar="features|FILE",
            help="Beside the whole model, one of the core features and one of core and strong "
            'ones. FILE: JSON, {"column": "core" | "strong" | "further"}.',
        ),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(help="Beside one model for all, one for each value of a column, as task."),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Beside the whole model, one of the features that pay (slow)."
        ),
    ] = False,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="The target is a loss; decides the regret.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the figures here.")
    ] = None,
) -> None:
    """Measure the meta-model beside its baselines on splits of a table."""
    from llmpred.meta.benchmark import as_json
    from llmpred.meta.divergence import divergence
    from llmpred.meta.table import make_table

    wait_passively()
    check_out(json)
    columns = {"group": split(group), "ignore": split(ignore), "log": split(log)}
    ended: dict[str, Question] = {}
    if train and test and not table:
        made, questions = _holdout(train, test, target, columns, splits, folds)
    elif table and not train and not test:
        _check(split(splits), columns["group"], table, folds, test_size)
        source, where = _read(table, storage, columns)
        kinds = _kinds(split(splits), columns["group"], source, where)
        asked = Asked(kinds, test_size, seeds, folds)
        made, rows = make_table(source, target, **columns, where=where)
        questions = _questions(made, source.take(rows), asked)
        found = divergence(source, target, **columns, where=where)
        if found:
            ended = _questions(found[0], source.take(found[1]), asked)
    else:
        law = "a benchmark takes --table FILE, or --train FILE and --test FILE"
        raise InputError(Problem(law, fix="Give one of the two."))
    variants = _variants(made, tiers, per, refine=refine)
    warn(made.warnings)
    reports = {}
    for kind, question in questions.items():
        reports[kind] = _measured(
            kind, question, variants(question.table), lower_is_better=lower_is_better
        )
        show_report(kind, reports[kind])
    endings = {kind: _measured(f"divergence, {kind}", each, {}) for kind, each in ended.items()}
    _show_endings(endings)
    warn(dict.fromkeys(w for report in reports.values() for w in report.warnings))
    if json:
        write_json(json, as_json(reports, made, endings))


def _measured(
    what: str,
    question: Question,
    variants: Mapping[str, Baseline],
    *,
    lower_is_better: bool = False,
) -> SplitReport:
    from llmpred.meta.benchmark import benchmark as measure

    with console(stderr=True).status(what) as status:
        return measure(
            question.table,
            question.splits,
            inner=question.inner,
            clusters=question.clusters,
            variants=variants,
            lower_is_better=lower_is_better,
            progress=lambda done: status.update(f"{what}: {done}"),
        )


def _show_endings(endings: Mapping[str, SplitReport]) -> None:
    """Print how well it is predicted which runs diverge."""
    names = list(dict.fromkeys(name for each in endings.values() for name in each.scores))
    rows = [[n, *(each.scores[n].get("auc") for each in endings.values())] for n in names]
    if rows:
        show_table(["predictor", *endings], rows, title="divergence: AUC")


def _check(
    kinds: Sequence[str],
    group: Sequence[str],
    table: str,
    folds: int | None,
    test_size: float,
) -> None:
    """Raise InputError with all that does not go together."""
    problems = []
    grouped = bool(group) or table == LEDGER
    if "group" in kinds and not grouped:
        problems.append(Problem("`--split group` needs --group", fix="Name the group column."))
    if folds and (set(kinds) == {"random"} or (not kinds and not grouped)):
        law = "`--folds` is of splits by group, but none is asked for"
        problems.append(Problem(law, fix="Add --group, or leave --folds out."))
    if not 0 < test_size < 1:
        law = f"`--test-size` must be above 0 and below 1, but got {test_size:g}"
        problems.append(Problem(law, fix="Such as 0.28."))
    if problems:
        raise InputError(problems)


def _kinds(
    kinds: Sequence[str], group: Sequence[str], source: pa.Table, where: str
) -> Sequence[str]:
    """Return the kinds of splits wanted, after checking that they are kinds or columns."""
    near = (*KINDS, *source.column_names)
    unknown = [kind for kind in kinds if kind not in near]
    if unknown:
        law = "`--split` must be random, group or a column, but got `{}`"
        raise InputError([Problem(law.format(k), where, nearest(k, near)) for k in unknown])
    return list(dict.fromkeys(kinds)) or ["random", *(["group"] if group else [])]


def _read(table: str, storage: str, columns: dict[str, list[str]]) -> tuple[pa.Table, str]:
    """Return the rows, and where they came from."""
    from llmpred.meta.table import read
    from llmpred.predict.history import NAMES, training_rows

    if table != LEDGER:
        return read([table]), table
    columns["group"] = columns["group"] or ["dataset"]
    columns["ignore"] += NAMES
    ledger = open_ledger(storage)
    return training_rows(ledger, names=True), f"ledger {ledger.storage.root}"


@dataclass(frozen=True)
class Asked:
    """How to split: what --split, --test-size, --seeds and --folds say."""

    kinds: Sequence[str]
    test_size: float
    seeds: int | None
    folds: int | None


def _questions(made: Table, source: pa.Table, asked: Asked) -> dict[str, Question]:
    """Return what is asked, by kind of split.

    Args:
        made: the rows.
        source: the same rows with all columns.
        asked: how to split.
    """
    from llmpred.meta.splits import group_folds, group_splits, random_splits

    clusters = made.groups if made.grouped else made.twins
    folds, seeds = asked.folds, asked.seeds
    questions = {}
    for kind in asked.kinds:
        if kind == "random":
            cut = random_splits(len(made), asked.test_size, seeds or SEEDS)
            questions[kind] = Question(made, cut, made.twins, clusters)
        elif kind == "group":
            if folds:
                cut = group_folds(made.groups, folds, seeds or 1)
            else:
                cut = group_splits(made.groups, asked.test_size, seeds or SEEDS)
            questions[kind] = Question(made, cut, made.groups, clusters)
        else:
            questions[kind] = _by_column(made, source[kind], kind, folds, seeds or 1)
    return questions


def _by_column(
    made: Table, column: pa.ChunkedArray, name: str, folds: int | None, seeds: int
) -> Question:
    """Return the question about new values of a column; rows without one are a value."""
    import numpy as np

    from llmpred.meta.splits import group_folds
    from llmpred.meta.table import is_number

    _, labels = np.unique([str(value) for value in column.to_pylist()], return_inverse=True)
    labels = labels.astype(np.int64)
    if not labels.any():
        law = f"`--split {name}` needs at least 2 values of it, but all rows have one"
        raise DataError(Problem(law, fix="Leave it out, or collect runs of another."))
    cut = group_folds(labels, folds or VALUES, seeds)
    # A text never seen tells nothing, yet would explain much among those seen; a number may be a
    # trend's.
    told = [n for n in made.features if n != name or is_number(made.features[n])]
    own = made.groups if made.grouped else made.twins
    return Question(made.only(told), cut, labels if labels.max() + 1 >= FEW else own, labels)


def _holdout(
    train: Path,
    test: Path,
    target: str,
    columns: Mapping[str, list[str]],
    kinds: Names,
    folds: int | None,
) -> tuple[Table, dict[str, Question]]:
    """Return both files as one table, and the one split into them."""
    import numpy as np

    from llmpred.meta.splits import Split
    from llmpred.meta.table import make_table, read

    if kinds or folds:
        law = "`--train` and `--test` are the split, so --split and --folds have no place"
        raise InputError(Problem(law, fix="Leave them out, or give --table."))
    fitted = read([train]).num_rows
    both = f"{train}, {test}"
    made, rows = make_table(read([train, test]), target, **columns, where=both)
    cut = Split(0, np.flatnonzero(rows < fitted), np.flatnonzero(rows >= fitted))
    for path, part in ((train, cut.train), (test, cut.test)):
        if len(part) < 2:
            law = f"a file must have at least 2 rows with a `{target}`, but got {len(part)}"
            raise DataError(Problem(law, str(path)))
    inner = made.groups if made.grouped else made.repeats
    clusters = made.groups if made.grouped else made.twins
    return made, {"holdout": Question(made, [cut], inner, clusters)}


def _variants(
    made: Table, tiers: str | None, per: str | None, *, refine: bool
) -> Callable[[Table], dict[str, Baseline]]:
    """Return what gives the models to compare the whole one with, for the table of a question."""
    from llmpred.meta.selection import pays
    from llmpred.meta.table import is_number
    from llmpred.meta.variants import by_tier, by_value, selected

    tier_of = _tiers(tiers, made) if tiers else {}
    if per is not None and (per not in made.features or is_number(made.features[per])):
        texts = [name for name in made.features if not is_number(made.features[name])]
        law = f"`--per` must be a text column that is a feature, but got `{per}`"
        raise InputError(Problem(law, fix=nearest(per, texts)))

    def variants(table: Table) -> dict[str, Baseline]:
        found = by_tier(table, tier_of) if tier_of else {}
        if per is not None and per in table.features:  # where its values are left out, it is not
            found |= by_value(per)
        if refine:
            found["llmpred_refined"] = selected(pays)
        return found

    return variants


def _tiers(tiers: str, made: Table) -> dict[str, str]:
    """Return the tier of each feature that has one."""
    from llmpred.meta.variants import TIERS

    if tiers == OWN:
        from llmpred.features.measurements import FEATURES

        own = {feature.name: feature.priority for feature in FEATURES}
        given: dict[str, Any] = {name: own[name] for name in made.features if name in own}
        if not given:
            law = "`--tiers features` needs columns of llmpred's meta-features, but there is none"
            raise InputError(Problem(law, fix="See `llmpred features`, or give a JSON file."))
        return given
    try:
        given = jsonlib.loads(Path(tiers).read_text("utf-8"))
    except OSError as error:
        law = f"`--tiers` must be readable, but says: {error.strerror or error}"
        raise InputError(Problem(law, tiers, f"Or `--tiers {OWN}`.")) from error
    except ValueError as error:
        raise InputError(Problem(f"`--tiers` must be JSON, but is not: {error}", tiers)) from error
    problems = []
    if not isinstance(given, dict):
        law = "`--tiers` must be a mapping from columns to tiers"
        raise InputError(Problem(law, tiers, 'Such as {"lr": "core"}.'))
    for name, tier in given.items():
        if name not in made.features:
            law = f"`--tiers` must name features, but `{name}` is none"
            problems.append(Problem(law, tiers, nearest(name, list(made.features))))
        if tier not in TIERS:
            law = f"a tier must be {', '.join(TIERS)}, but `{name}` has {tier!r}"
            problems.append(Problem(law, tiers))
    if problems:
        raise InputError(problems)
    return given
