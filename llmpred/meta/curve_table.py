"""Tables of learning curves: a row a base, a column a size; read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import DataError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_SIZES = 2  # a line takes two points
NAMES = ("config name", "name", "base", "model")  # of the column that names a base, first found
PARAMETERS = "size"  # of the column with the model's size; not a number of examples


@dataclass(frozen=True)
class Curves:
    """Scores of some bases at some sizes of training data; lower is better.

    Attributes:
        names: of the bases.
        sizes: float64 [sizes], rising, above 0; numbers of examples.
        scores: float64 [bases, sizes], above 0; NaN where not measured.
        zero_shot: float64 [bases], the score without training; NaN where not measured.
        parameters: float64 [bases], of the model; NaN where not known.
        where: file, for messages.
    """

    names: tuple[str, ...]
    sizes: Floats
    scores: Floats
    zero_shot: Floats
    parameters: Floats
    where: str = ""

    def up_to(self, size: float) -> Curves:
        """Return the curves as far as this size, as if nothing larger had been measured.

        Sizes at which no base is measured are left out.
        """
        import numpy as np

        kept = (self.sizes <= size) & ~np.isnan(self.scores).all(axis=0)
        return replace(self, sizes=self.sizes[kept], scores=self.scores[:, kept])

    def take(self, bases: Sequence[int] | NDArray[np.int64]) -> Curves:
        """Return the curves of these bases, in this order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in bases),
            scores=self.scores[bases],
            zero_shot=self.zero_shot[bases],
            parameters=self.parameters[bases],
        )


def read_curves(path: Path) -> Curves:
    """Return the curves in a file.

    A column whose name is a number holds the scores at that many examples, 0 those without
    training; they may come in any order. `config name` (or `name`, `base`, `model`) names the base,
    `size` is the size of its model. Other columns, such as `family`, are not used. An empty cell is
    a score not measured.

    Args:
        path: .csv, .tsv, .parquet or .jsonl.

    Raises:
        DataError: if the file cannot be read, has no such columns, a base comes twice, or a score
            is not a number above 0; all such cells at once.
    """
    import numpy as np

    from llmpred.meta.table import read

    where = str(path)
    source = read([path])
    columns = source.column_names
    sizes = {name: _size(name) for name in columns}
    trained = sorted((n for n in columns if sizes[n] > 0), key=lambda name: sizes[name])
    named = next((name for name in NAMES if name in columns), None)
    problems = []
    if named is None:
        law = f"a table of curves must have a column `{NAMES[0]}`, but has {', '.join(columns[:5])}"
        problems.append(Problem(law, where, "Name the column that names the base so."))
    if len(trained) < MIN_SIZES:
        law = f"a table of curves must have {MIN_SIZES} columns named by a number of examples or"
        law += f" more, but has {len(trained)}"
        problems.append(Problem(law, where, "Such as 200, 400 and 800."))
    for small, large in pairwise(trained):
        if sizes[small] == sizes[large]:
            law = f"sizes must differ, but `{small}` and `{large}` are the same"
            problems.append(Problem(law, where, "Rename one, or leave it out."))
    if not source.num_rows:
        problems.append(Problem("a table of curves must have rows, but is empty", where))
    if problems or named is None:
        raise DataError(problems)
    names = [str(name).strip() if name is not None else "" for name in source[named].to_pylist()]
    problems += _check_names(names, named, where)
    untrained = [name for name in columns if sizes[name] == 0][:1]
    numbers = {}
    for name in [*untrained, *trained, *([PARAMETERS] if PARAMETERS in columns else [])]:
        numbers[name], wrong = _numbers(source[name].to_pylist(), names, name, where)
        problems += wrong
    if problems:
        raise DataError(problems)
    unknown = np.full(len(names), np.nan)
    return Curves(
        tuple(names),
        np.array([sizes[name] for name in trained]),
        np.stack([numbers[name] for name in trained], axis=1),
        numbers[untrained[0]] if untrained else unknown,
        numbers.get(PARAMETERS, unknown),
        where,
    )


def _size(name: str) -> float:
    """Return the number of examples that a column's name says; −1 for other columns."""
    try:
        size = float(name)
    except ValueError:
        return -1.0
    return size if 0 <= size < float("inf") else -1.0


def _check_names(names: Sequence[str], column: str, where: str) -> list[Problem]:
    problems = [
        Problem(f"a base must have a name, but `{column}` is empty in row {row}", where)
        for row, name in enumerate(names, 1)
        if not name
    ]
    for name in dict.fromkeys(n for n in names if n and names.count(n) > 1):
        law = f"a base must have one row, but `{name}` has {names.count(name)}"
        problems.append(Problem(law, where, "Rename or join them."))
    return problems


def _numbers(
    cells: Sequence[Any], names: Sequence[str], column: str, where: str
) -> tuple[Floats, list[Problem]]:
    """Return a column as float64 [bases], NaN where empty, and what is wrong with its cells."""
    import numpy as np

    values, problems = np.full(len(cells), np.nan), []
    for i, cell in enumerate(cells):
        if cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell:
            continue
        try:
            values[i] = float(cell)
        except (TypeError, ValueError):
            values[i] = -np.inf
        if isinstance(cell, bool) or not 0 < values[i] < np.inf:
            law = f"a cell must be a number above 0 or empty, but `{column}` of `{names[i]}` is"
            fix = "The law is of losses: lower is better, and none is 0 or below."
            problems.append(Problem(f"{law} {cell!r}", where, fix))
    return values, problems


def check_points(curves: Curves) -> None:
    """Raise DataError if a base has too few scores to draw a line through."""
    import numpy as np

    counts = (~np.isnan(curves.scores)).sum(axis=1)
    short = [
        Problem(
            f"a base needs scores at {MIN_SIZES} sizes to go on from, but `{name}` has {count}",
            curves.where,
            "Measure it at more sizes, or leave its row out.",
        )
        for name, count in zip(curves.names, counts, strict=True)
        if count < MIN_SIZES
    ]
    if short:
        raise DataError(short)


def check_prior(prior: Curves, curves: Curves) -> None:
    """Raise DataError if a prior is not complete, or holds the very scores that are to be told."""
    import numpy as np

    if np.isnan(prior.scores[:, -1]).any():
        law = f"a prior must have every base's score at its largest size, {prior.sizes[-1]:.15g}"
        raise DataError(Problem(law, prior.where, "Leave the rows without it out."))
    own = np.unique(curves.scores[~np.isnan(curves.scores)])
    told = np.unique(prior.scores[~np.isnan(prior.scores)])
    shared = len(np.intersect1d(own, told))
    if shared > 0.5 * min(len(own), len(told)):
        law = "a prior must be another table, but most of its scores are those of the table itself"
        raise DataError(Problem(law, prior.where, "It would tell what is to be predicted."))
