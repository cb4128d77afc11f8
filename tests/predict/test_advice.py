"""Advice changes what a user can set, with what follows from it, and points where it should."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from llmpred.meta import model, store
from llmpred.meta.table import make_table
from llmpred.meta.trained import Trained, trained
from llmpred.predict.advice import advise, levers

Run = Callable[..., Any]


def runs(rows: int = 90) -> pa.Table:
    """Runs whose score wants a high lr, many steps and clean labels."""
    draw = np.random.default_rng(0)
    steps = draw.choice([10.0, 40.0, 160.0], rows)
    size = draw.choice([100.0, 400.0], rows)
    lr = 10 ** draw.uniform(-5, -3, rows)
    noise = draw.uniform(0, 0.5, rows)
    score = 0.5 + 0.1 * np.log10(lr / 1e-4) + 0.05 * np.log(steps / 40) - 0.3 * noise
    return pa.table(
        {
            "dataset": [f"d{i % 15}" for i in range(rows)],
            "lr": lr,
            "steps": steps,
            "epochs": 8 * steps / size,
            "tokens_seen": 8 * steps * 50,
            "size_di": size,
            "label_noise_estimate": noise,
            "base_layers": draw.choice([2.0, 4.0], rows),
            "score": score + 0.01 * draw.normal(size=rows),
        }
    )


@pytest.fixture(scope="module")
def fitted() -> Trained:
    table = make_table(runs(), "score", group=["dataset"])[0]
    return trained(model.fit(table), table, {}, group=("dataset",))


def test_only_what_users_set_is_a_lever():
    found = levers(["lr", "steps", "base_layers", "initial_loss", "task", "my_column", "size_di"])
    assert list(found) == ["lr", "steps", "my_column", "size_di"]
    assert found["steps"] == {"epochs": 1, "tokens_seen": 1}


def test_advice_points_to_what_makes_scores_better(fitted: Trained):
    worst = fitted.sample.take(np.array([int(fitted.sample.target.argmin())]))
    changes = advise(fitted, worst)
    assert {"lr", "label_noise_estimate"} <= {change.column for change in changes}
    gains = [change.gain for change in changes]
    assert gains == sorted(gains, reverse=True)
    now = fitted.model.predict(worst).mean[0]
    for change in changes:
        assert change.predicted == pytest.approx(now + change.gain)
        if change.column == "lr":
            assert change.after > change.before
        if change.column == "label_noise_estimate":
            assert change.after < change.before
    down = {c.column: c for c in advise(fitted, worst, lower_is_better=True)}
    assert "lr" not in down or down["lr"].after < down["lr"].before


def test_what_follows_moves_along(fitted: Trained):
    row = fitted.sample.take(np.array([int(fitted.sample.features["steps"].argmin())]))
    [change] = [c for c in advise(fitted, row, shown=9) if c.column == "steps"]
    by_hand = dict(row.features)
    factor = change.after / change.before
    for name in ("steps", "epochs", "tokens_seen"):
        by_hand[name] = by_hand[name] * factor
    table = type(row)(**{**vars(row), "features": by_hand})
    assert fitted.model.predict(table).mean[0] == pytest.approx(change.predicted)


def test_the_command_reads_like_advice(llmpred: Run, fitted: Trained, tmp_path: Path):
    folder, table = tmp_path / "model", tmp_path / "runs.csv"
    store.save(fitted, folder)
    rows = runs()
    pyarrow.csv.write_csv(rows, table)
    worst = int(np.asarray(rows["score"]).argmin()) + 1
    options = ("--model", folder, "--table", table)
    ran = llmpred("meta", "explain", worst, *options, "--plot", tmp_path / "why.png")
    assert ran.code == 0, ran.err
    for text in ("predicted", "measured", "raised it:", "lowered it: ", "what to change", "lr"):
        assert text in ran.out
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(llmpred("meta", "explain", worst, *options, "--json").out)
    assert sum(told["shapley"].values()) + told["average"] == pytest.approx(told["predicted"])
    assert told["actual"] == pytest.approx(float(np.asarray(rows["score"]).min()))
    assert told["changes"][0]["gain"] > 0
    wrong = llmpred("meta", "explain", "91", *options)
    assert wrong.code == 2
    assert "1 to 90" in wrong.err
