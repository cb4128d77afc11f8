"""Tables that no honest figure can be taken from, or a doubtful one only: each says so."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmpred.meta import model
from llmpred.meta.table import make_table

Run = Callable[..., Any]
Columns = Mapping[str, Any]


def sound(rows: int = 30) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    lr, size = draw.normal(size=(2, rows))
    score = lr + 0.5 * size + 0.1 * draw.normal(size=rows)
    dataset = [f"d{i % 10}" for i in range(rows)]
    return {"dataset": dataset, "lr": lr, "size_": size, "score": score}


def with_twins() -> Columns:
    rows = sound()
    # The first ten rows come again under other names.
    return {
        name: [f"{v}-copy" for v in values[:10]] + list(values)
        if name == "dataset"
        else [*values[:10], *values]
        for name, values in rows.items()
    }


ERRORS = [
    ("one group", {**sound(), "dataset": ["d"] * 30}, "at least 2 groups, but all rows are of one"),
    ("five rows", {n: v[:5] for n, v in sound().items()}, "at least 20 rows"),
    ("a constant target", {**sound(), "score": [0.5] * 30}, "`score` is 0.5 in every row"),
    ("no target at all", {**sound(), "score": [None] * 30}, "at least 20 rows"),
    ("nothing to predict from", {n: sound()[n] for n in ("dataset", "score")}, "none is left"),
    ("a target of text", {**sound(), "score": ["high"] * 30}, "the target must be a number"),
]

WARNINGS = [
    ("an empty column", {**sound(), "empty": [None] * 30}, "`empty`: left out as empty"),
    ("a constant column", {**sound(), "same": [1] * 30}, "`same`: left out as constant"),
    ("names of rows", {**sound(), "key": [f"k{i}" for i in range(30)]}, "`key`: left out as ident"),
    ("twins in two groups", with_twins(), "10 rows are duplicates of others"),
    (
        "the target in a column",
        {**sound(), "final_loss": -3 * np.asarray(sound()["score"])},
        "`final_loss` ranks the rows as `score` does",
    ),
    ("missing targets", {n: [*v, *v[:2]] for n, v in sound().items()}, "rows have no `score`"),
]
WARNINGS[-1][1]["score"][-2:] = [None, None]


def write(path: Path, columns: Columns) -> Path:
    def rows() -> Iterator[list[Any]]:
        yield list(columns)
        for row in zip(*columns.values(), strict=True):
            yield ["" if cell is None else cell for cell in row]

    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows())
    return path


@pytest.mark.parametrize("command", ["train", "benchmark"])
@pytest.mark.parametrize(("columns", "said"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_an_error_says_what_holds(
    llmpred: Run, tmp_path: Path, command: str, columns: Columns, said: str
):
    runs = write(tmp_path / "runs.csv", columns)
    ran = llmpred("meta", command, "--table", runs, "--target", "score", "--group", "dataset")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("columns", "said"), [w[1:] for w in WARNINGS], ids=[w[0] for w in WARNINGS]
)
def test_a_warning_says_what_is_doubtful(columns: Columns, said: str):
    made, _ = make_table(pa.table(dict(columns)), "score", group=["dataset"])
    assert any(said in warning for warning in made.warnings)


def test_twins_are_never_apart():
    made, _ = make_table(pa.table(dict(with_twins())), "score", group=["dataset"])
    for twin in range(10):
        assert made.groups[twin] == made.groups[10 + twin]


def test_a_warning_is_printed(llmpred: Run, tmp_path: Path):
    name, columns, said = WARNINGS[4]
    assert name == "the target in a column"
    runs = write(tmp_path / "runs.csv", columns)
    ran = llmpred("meta", "benchmark", "--table", runs, "--target", "score", "--seeds", 1)
    assert ran.code == 0
    assert f"warning: {said}" in " ".join(ran.out.split())


def test_folds_without_anything_to_tell_apart_are_fitted_all_the_same():
    rows = 40
    group = np.arange(rows) % 2
    columns = {"dataset": [f"d{g}" for g in group], "lr": group.astype(float), "score": 1.0 * group}
    made, _ = make_table(pa.table(columns), "score", group=["dataset"])
    alone = made.take(np.flatnonzero(group == 0))  # one outcome, one value in every column
    found = model.fit(alone).predict(made.take(np.flatnonzero(group == 1)))
    np.testing.assert_allclose(found.mean, 0.0)
    assert np.isfinite(found.lower).all()


def test_folds_that_leave_next_to_nothing_are_fitted_all_the_same():
    sizes = [25, 2, 2]  # without the large group and another, two rows are left
    rows = {name: np.tile(values, 2)[: sum(sizes)] for name, values in sound().items()}
    rows["dataset"] = np.repeat(["a", "b", "c"], sizes)
    found = model.fit(table := make_table(pa.table(rows), "score", group=["dataset"])[0])
    assert np.isfinite(found.predict(table).mean).all()


def test_a_split_must_leave_rows_to_fit_on(llmpred: Run, tmp_path: Path):
    rows = {**sound(), "base": ["big"] * 25 + ["small"] * 5}
    runs = write(tmp_path / "runs.csv", rows)
    ran = llmpred("meta", "benchmark", "--table", runs, "--target", "score", "--split", "base")
    assert ran.code == 2
    assert "at least 10 rows to fit on, but one leaves 5" in " ".join(ran.err.split())


def test_a_column_of_one_value_is_no_split(llmpred: Run, tmp_path: Path):
    runs = write(tmp_path / "runs.csv", {**sound(), "base": ["big"] * 30})
    ran = llmpred("meta", "benchmark", "--table", runs, "--target", "score", "--split", "base")
    assert ran.code == 2
    assert "needs at least 2 values" in " ".join(ran.err.split())
