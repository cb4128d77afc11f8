"""Which runs diverge is a question of its own."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmpred.meta.divergence import LEAST, divergence
from llmpred.meta.table import make_table

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def runs() -> pa.Table:
    draw = np.random.default_rng(0)
    lr, size = draw.normal(size=(2, 60))
    ended = lr > 0.8
    score = pa.array(0.1 * lr + size, mask=ended & (np.arange(60) % 2 > 0))
    status = np.where(ended, "diverged", "ok")
    return pa.table({"lr": lr, "size_": size, "status": status, "score": score})


def test_runs_that_diverged_are_rows_of_their_own_question(runs: pa.Table):
    found = divergence(runs, "score", ignore=["status", "score"])
    assert found is not None
    made, rows = found
    assert len(made) == len(rows) == 60
    assert set(made.features) == {"lr", "size_"}
    np.testing.assert_array_equal(made.target == 1, made.features["lr"] > 0.8)
    few = runs.filter(pa.array(np.cumsum(made.target) < LEAST))
    assert divergence(few, "score") is None
    assert divergence(runs.drop_columns(["status"]), "score") is None


def test_scores_are_of_runs_that_did_not(runs: pa.Table):
    made, _ = make_table(runs, "score")
    assert set(made.features) == {"lr", "size_"}
    assert made.features["lr"].max() <= 0.8
    assert any("runs diverged and are left out" in warning for warning in made.warnings)


def test_the_benchmark_tells_how_well_divergence_is_foreseen(
    llmpred: Run, runs: pa.Table, tmp_path: Path
):
    with (tmp_path / "runs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(runs.column_names)
        writer.writerows(zip(*(runs[name].to_pylist() for name in runs.column_names), strict=True))
    out = tmp_path / "out.json"
    options = "--target", "score", "--seeds", 1, "--json", out
    ran = llmpred("meta", "benchmark", "--table", tmp_path / "runs.csv", *options)
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())["divergence"]["random"]
    assert found["llmpred"]["auc"] > 0.9
    assert found["mean"]["auc"] == 0.5
    assert "divergence: AUC" in ran.out


def test_settings_that_diverge_alike_join_no_datasets(runs: pa.Table):
    """Columns may be named as patterns are, and as the outcome is."""
    dataset = pa.array([f"d{i % 6}" for i in range(60)])
    lr = pa.array([float(i // 6) for i in range(60)])
    ended = pa.array(["diverged" if i // 6 > 7 else "ok" for i in range(60)])
    source = pa.table(
        {
            "dataset": dataset,
            "lr": lr,
            "loss[final]": runs["score"],
            "size_": runs["size_"],
            "status": ended,
            "diverged": lr,
            "score": runs["score"],
        }
    )
    found = divergence(
        source, "score", group=["dataset"], ignore=["loss[final]", "size_", "diverged"]
    )
    assert found is not None
    assert set(found[0].features) == {"lr"}
    assert len(np.unique(found[0].groups)) == 6
