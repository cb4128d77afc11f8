"""Tables of finished runs: read, type, group, and say what is odd about them.

A table is any file with a row a run and a column that holds what came out. What would make every
figure meaningless is an error; what would make one doubtful is a warning, said once.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem, nearest
from llmpred.meta.oddities import alike, joined, leaks, row_hashes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

MIN_ROWS = 20
STATUS, DIVERGED = "status", "diverged"  # the column that says how a run ended, and its word
CONSTANT = "constant"  # why a column says nothing
SEEDS = ("seed", "random_seed", "random_state")  # a name of a draw, not a quantity
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Table:
    """Rows of finished runs, ready to fit on.

    Attributes:
        features: column name -> float64 [rows] with NaN where missing, or an object array [rows] of
            text and None. In the order of the file.
        target: float64 [rows].
        target_name: its column.
        groups: int64 [rows]; rows that must not be torn apart share a number. Without a group
            column every row is its own, but for duplicates.
        group_names: name of each number in `groups`.
        twins: int64 [rows]; rows that are the same in all features, seed and target share a number.
        repeats: int64 [rows]; rows that differ in nothing but seed and target share a number.
        grouped: whether a group column was named.
        log: number columns that the user wants taken as logarithms.
        warnings: what is odd, a sentence each.
        constants: columns that say the same of every row, and what; no features.
    """

    features: Mapping[str, NDArray[Any]]
    target: Floats
    target_name: str
    groups: Rows
    group_names: tuple[str, ...]
    twins: Rows
    repeats: Rows
    grouped: bool = False
    log: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    constants: Mapping[str, float | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Rows) -> Table:
        """Return the table of these rows, in this order."""
        features = {name: values[rows] for name, values in self.features.items()}
        return replace(
            self,
            features=features,
            target=self.target[rows],
            groups=self.groups[rows],
            twins=self.twins[rows],
            repeats=self.repeats[rows],
        )

    def only(self, names: Iterable[str]) -> Table:
        """Return the same rows with these features alone."""
        return replace(self, features={name: self.features[name] for name in names})

    def grouped_by(self, groups: Rows) -> Table:
        """Return the same rows with other groups."""
        return replace(self, groups=groups)

    def with_target(self, target: Floats) -> Table:
        """Return the same runs with other outcomes."""
        return replace(self, target=target)


def is_number(values: NDArray[Any]) -> bool:
    """Return whether a feature column holds numbers rather than text."""
    return values.dtype.kind == "f"


# --- reading -----------------------------------------------------------------------------------


def read(paths: Sequence[Path | str]) -> pa.Table:
    """Return the rows of the files, one below the other.

    Args:
        paths: .csv, .tsv, .parquet or .jsonl files with the same columns.

    Raises:
        DataError: if a file cannot be read, or the files' columns differ.
    """
    import pyarrow as pa

    tables = [_read(Path(path)) for path in paths]
    first = set(tables[0].column_names)
    for path, table in zip(paths, tables, strict=True):
        absent = sorted(first ^ set(table.column_names))
        if absent:
            raise DataError(
                Problem(
                    f"The files must have the same columns, but not all have `{absent[0]}`"
                    + (f" and {len(absent) - 1} more" if len(absent) > 1 else ""),
                    str(path),
                    f"Its first companion is {paths[0]}.",
                )
            )
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        law = f"a column must be of one type in all files, but is not: {error}"
        raise DataError(Problem(law, ", ".join(map(str, paths)))) from error


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        law = f"A table is read from {', '.join(SUFFIXES)}, but got {path.suffix!r}"
        raise DataError(Problem(law, str(path), "Convert the file, or give it its suffix."))
    try:
        if suffix == ".parquet":
            return pa.parquet.read_table(path)
        if suffix == ".jsonl":
            return pa.json.read_json(path)
        parse = pa.csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",")
        convert = pa.csv.ConvertOptions(strings_can_be_null=True)
        table = pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        law = f"the file must be a sound table, but is not: {str(error).splitlines()[0]}"
        raise DataError(Problem(law, str(path), "Open and save it again.")) from error
    except OSError as error:
        law = f"the file must be readable, but says: {error.strerror or error}"
        raise DataError(Problem(law, str(path))) from error
    twice = sorted({n for n in table.column_names if table.column_names.count(n) > 1})
    if twice:
        law = f"the columns must have different names, but `{twice[0]}` comes twice"
        raise DataError(Problem(law, str(path), "Rename one."))
    return table


# --- from columns to a table -------------------------------------------------------------------


def make_table(
    source: pa.Table,
    target: str,
    *,
    group: Sequence[str] = (),
    ignore: Sequence[str] = (),
    log: Sequence[str] = (),
    where: str = "",
) -> tuple[Table, Rows]:
    """Return a table of the rows that have a target, and which rows of the source they are.

    A single group column is a name and no feature. Of several group columns each combination is a
    group, and they stay features.

    Args:
        source: rows of runs.
        target: column to predict, a number.
        group: columns whose values, taken together, name the group of a row.
        ignore: columns to leave out; `*` and `?` stand for any text and any letter.
        log: number columns to take as logarithms, beside those that ask for it by themselves.
        where: file, for messages.

    Raises:
        DataError: if a column is not there or of the wrong kind, or no model can be made of the
            rows: fewer than `MIN_ROWS`, a constant target, no features.
    """
    import numpy as np

    ignored = _named(source.column_names, target, group, ignore, log, where)
    outcome = _target(source[target], target, where)
    known = ~np.isnan(outcome)
    warnings = []
    if not known.all():
        warnings.append(f"{(~known).sum()} rows have no `{target}` and are left out.")
    status = [n for n in status_columns(source) if n not in {target, *group, *ignored}]
    ended = diverged(source, status)
    if (ended & known).any():
        law = f"{(ended & known).sum()} runs diverged and are left out: what they scored is chance."
        warnings.append(law)
    rows = np.flatnonzero(known & ~ended)
    outcome = outcome[rows]
    _check_target(outcome, target, where)
    kept = source.take(rows)
    labels = _labels(kept, group)
    left_out = {target, *ignored, *status, *(group if len(group) == 1 else ())}
    used = [name for name in kept.column_names if name not in left_out]
    seeds = {name for name in used if name.rpartition(".")[2].lower() in SEEDS}
    features, constants, odd = _features(kept, [name for name in used if name not in seeds])
    warnings += odd
    if seeds:
        warnings.append(
            f"`{'`, `'.join(sorted(seeds))}`: left out as a random seed; runs that differ in "
            "nothing else are repeats of each other."
        )
    if not features:
        law = "a table must have a column to predict from, but none is left"
        raise DataError(Problem(law, where, "Ignore fewer columns, or add features."))
    _check_log(features, log, where)
    names, groups = np.unique(labels, return_inverse=True)
    drawn = {name: cells(kept[name]) for name in sorted(seeds)}
    own = [groups.astype(np.float64)] if len(group) == 1 else []  # a name that is no feature
    repeats = alike(row_hashes([*features.values(), *own], len(outcome)))
    whole = [*features.values(), *(v for v in drawn.values() if v is not None), outcome]
    twins = alike(row_hashes(whole, len(outcome)))
    groups = groups.astype(np.int64)
    # Of two outcomes most rows have a twin somewhere, which says nothing of their datasets.
    if not group or len(np.unique(outcome)) > 2:
        groups = joined(groups, twins, outcome)
    shared = len(twins) - len(np.unique(twins))
    if shared:
        warnings.append(
            f"{shared} rows are duplicates of others in features and target. Groups that share "
            "such rows, and not by chance, count as one."
        )
    warnings += leaks(features, outcome, target)
    made = Table(
        features,
        outcome,
        target,
        groups,
        tuple(str(name) for name in names),
        twins,
        repeats,
        bool(group),
        frozenset(log),
        tuple(warnings),
        constants,
    )
    return made, rows.astype(np.int64)


def status_columns(source: pa.Table) -> list[str]:
    """Return the columns that say how a run ended, which no prediction can rest on."""
    return [n for n in source.column_names if n.rpartition(".")[2].lower() == STATUS]


def diverged(source: pa.Table, status: Iterable[str]) -> NDArray[np.bool_]:
    """Return bool [rows], whether one of these columns says `diverged`."""
    import numpy as np

    found = np.zeros(source.num_rows, dtype=bool)
    for name in status:
        found |= np.array([str(v).lower() == DIVERGED for v in source[name].to_pylist()], bool)
    return found


def _named(
    names: Sequence[str],
    target: str,
    group: Sequence[str],
    ignore: Sequence[str],
    log: Sequence[str],
    where: str,
) -> set[str]:
    """Return the columns to ignore, after checking every name that was given."""
    problems = []
    wanted = [("--target", target), *(("--group", n) for n in group), *(("--log", n) for n in log)]
    for option, name in wanted:
        if name not in names:
            law = f"`{option}` must name a column, but there is no `{name}`"
            problems.append(Problem(law, where, nearest(name, names)))
    ignored: set[str] = set()
    for pattern in ignore:
        found = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if not found:
            law = f"`--ignore` must name columns, but there is no `{pattern}`"
            problems.append(Problem(law, where, nearest(pattern, names)))
        ignored.update(found)
    for option, name in wanted[:1] + wanted[1 + len(group) :]:
        if name in ignored:
            law = f"`{name}` cannot be ignored, because it is the {option} column"
            problems.append(Problem(law, where, "Name it in one of the two."))
    if target in group:
        problems.append(Problem(f"`{target}` cannot be both target and group", where))
    if problems:
        raise DataError(problems)
    return ignored


def _target(column: pa.ChunkedArray, name: str, where: str) -> Floats:
    import numpy as np

    values = _numbers(column)
    if values is None:
        law = f"the target must be a number, but `{name}` is {column.type}"
        raise DataError(Problem(law, where, "Name another column as --target."))
    if np.isinf(values).any():
        law = f"the target must be finite, but `{name}` is infinite in row {_first(values) + 1}"
        raise DataError(Problem(law, where, "Leave the cell empty where a run has no outcome."))
    return values


def _first(values: Floats) -> int:
    import numpy as np

    return int(np.flatnonzero(np.isinf(values))[0])


def _check_target(outcome: Floats, name: str, where: str) -> None:
    import numpy as np

    if len(outcome) < MIN_ROWS:
        law = f"a model needs at least {MIN_ROWS} rows with a `{name}`, but got {len(outcome)}"
        raise DataError(Problem(law, where, "Collect more runs."))
    if np.ptp(outcome) == 0:
        law = f"the target must vary, but `{name}` is {outcome[0]:g} in every row"
        raise DataError(Problem(law, where, "There is nothing to predict."))


def _labels(source: pa.Table, group: Sequence[str]) -> NDArray[Any]:
    """Return a label a row that sorts as its group's values do; rows without group differ."""
    import numpy as np

    if not group:
        return np.arange(source.num_rows)
    columns = [source[name].to_pylist() for name in group]
    if len(group) == 1:
        (values,) = columns
        if all(isinstance(v, int | float) for v in values):
            return np.asarray(values)
        labels = values
    else:
        labels = [
            None if None in row else ", ".join(map(str, row)) for row in zip(*columns, strict=True)
        ]
    return np.asarray([f"row {i}" if c is None else str(c) for i, c in enumerate(labels)])


def _features(
    source: pa.Table, names: Iterable[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, float | str], list[str]]:
    """Return the columns to predict from, the constant ones, and what is odd about the others."""
    import numpy as np

    features: dict[str, NDArray[Any]] = {}
    constants: dict[str, float | str] = {}
    dropped: dict[str, list[str]] = {}
    for name in names:
        values = cells(source[name])
        if values is None:
            dropped.setdefault("neither numbers nor text", []).append(name)
            continue
        if is_number(values):
            infinite = np.isinf(values)
            if infinite.any():
                dropped.setdefault("infinite somewhere (those cells count as missing)", []).append(
                    name
                )
                values = np.where(infinite, np.nan, values)
        reason = _useless(values)
        if reason == CONSTANT:
            constants[name] = float(values[0]) if is_number(values) else str(values[0])
        if reason:
            dropped.setdefault(reason, []).append(name)
        else:
            features[name] = values
    warnings = []
    for reason, columns in dropped.items():
        shown = ", ".join(f"`{c}`" for c in columns[:8])
        more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
        verb = "has cells that are" if reason.startswith("infinite") else "left out as"
        warnings.append(f"{shown}{more}: {verb} {reason}.")
    return features, constants, warnings


def _useless(values: NDArray[Any]) -> str:
    """Return why a column cannot help to predict, or nothing."""
    import numpy as np

    if is_number(values):
        known = values[~np.isnan(values)]
        if not len(known):
            return "empty"
        if np.ptp(known) == 0:
            return CONSTANT if len(known) == len(values) else ""
        # Nearly all: files below each other each begin anew.
        counted = np.mean(np.diff(values) == 1) > 0.95
        return "row numbers" if counted else ""
    texts = [v for v in values if v is not None]
    distinct = len(set(texts))
    if not texts:
        return "empty"
    if distinct == 1:
        return CONSTANT if len(texts) == len(values) else ""
    return "identifiers, a new one in every row" if distinct == len(values) else ""


def cells(column: pa.ChunkedArray) -> NDArray[Any] | None:
    """Return a column as float64 or as text, or None where it is neither."""
    import numpy as np
    import pyarrow as pa

    numbers = _numbers(column)
    if numbers is not None:
        return numbers
    kind = column.type
    if pa.types.is_dictionary(kind):
        return cells(column.cast(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray([v if v else None for v in column.to_pylist()], dtype=object)
    return None


def _numbers(column: pa.ChunkedArray) -> Floats | None:
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _check_log(features: Mapping[str, NDArray[Any]], log: Sequence[str], where: str) -> None:
    import numpy as np

    problems = []
    for name in log:
        values = features.get(name)
        if values is None:
            continue
        if not is_number(values):
            problems.append(Problem(f"`--log` takes numbers, but `{name}` holds text", where))
        elif np.nanmin(values) < 0:
            law = f"`--log` takes numbers of at least 0, but `{name}` is {np.nanmin(values):g}"
            problems.append(Problem(law, where))
    if problems:
        raise DataError(problems)
