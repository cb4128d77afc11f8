"""`llmpred predict`, `screen` and `recommend` on a table of candidates."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmpred.cli.candidates import parse_duration
from llmpred.errors import InputError
from llmpred.meta import model, store
from llmpred.meta.cost import fit_cost
from llmpred.meta.table import make_table
from llmpred.meta.trained import Trained, trained
from llmpred.predict.forecast import forecast

Run = Callable[..., Any]


def columns(rows: int, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    lr = 10 ** draw.uniform(-5, -3, rows)
    size = draw.choice([1e8, 1e9, 7e9], rows)
    score = 0.3 + 0.05 * np.log10(size / 1e7) + 0.05 * np.log10(lr / 1e-5)
    return {
        "dataset": [f"d{i % 12}" for i in range(rows)],
        "base": [("a", "b")[i] for i in draw.integers(0, 2, rows)],
        "lr": lr,
        "model_size": size,
        "score": score + 0.02 * draw.normal(size=rows),
    }


@pytest.fixture(scope="module")
def fitted() -> Trained:
    found = columns(60, 0)
    table = make_table(pa.table(found), "score", group=["dataset"])[0]
    cost = fit_cost(table, found["model_size"] / 1e7)
    made = trained(model.fit(table), table, {"cost_factor": 1.1}, group=("dataset",))
    return Trained(made.model, made.schema, made.sample, made.about, cost)


@pytest.fixture
def kept(fitted: Trained, tmp_path: Path) -> Path:
    store.save(fitted, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Candidates: twenty like the training rows, then one with a learning rate never seen."""
    found = columns(21, 1)
    found["lr"][20], found["base"][20] = 10.0, "zzz"
    path = tmp_path / "new.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = ["base", "lr", "model_size", "dataset"]
        writer.writerow(names)
        writer.writerows(zip(*(found[name] for name in names), strict=True))
    return path


def test_candidates_are_ranked_with_intervals_seconds_and_what_is_new(
    llmpred: Run, kept: Path, new: Path, fitted: Trained
):
    ran = llmpred("predict", new, "--model", kept, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    rows = told["candidates"]
    assert [row["rank"] for row in rows] == list(range(1, 22))
    predicted = [row["predicted"] for row in rows]
    assert predicted == sorted(predicted, reverse=True)
    assert all(row["lower"] < row["predicted"] < row["upper"] for row in rows)
    by_row = {row["row"]: row for row in rows}
    assert by_row[21]["outside"] == ["base", "lr"]
    assert all(not by_row[i]["outside"] for i in range(1, 21))
    assert "1 of 21 runs lie outside" in told["warnings"][0]
    true = columns(21, 1)
    off = [
        abs(np.log(by_row[i]["seconds"] * 1e7 / true["model_size"][i - 1])) for i in range(1, 21)
    ]
    assert max(off) < 0.3
    shown = llmpred("predict", new, "--model", kept)
    assert shown.code == 0
    for text in ("score", "90% interval", "base, lr", "guesses"):
        assert text in shown.out
    losses = llmpred("predict", new, "--model", kept, "--lower-is-better", "--json")
    lowest = [row["predicted"] for row in json.loads(losses.out)["candidates"]]
    assert lowest == sorted(lowest)


def test_screening_says_go_no_go_or_probe_and_what_that_means(llmpred: Run, kept: Path, new: Path):
    ran = llmpred("screen", new, "--model", kept, "--threshold", 0.42, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    rows = told["candidates"]
    assert sum(told["decisions"].values()) == 21
    assert told["decisions"]["go"] > 0
    assert told["decisions"]["no-go"] > 0
    for row in rows:
        if row["decision"] == "go":
            assert row["chance"] >= 0.9
            assert row["predicted"] > 0.42
        if row["decision"] == "no-go":
            assert row["chance"] <= 0.1
    [strange] = [row for row in rows if row["row"] == 21]
    assert strange["decision"] == "probe-more"
    refused = [row for row in rows if row["decision"] == "no-go"]
    assert told["seconds_saved"] == pytest.approx(sum(row["seconds"] for row in refused))
    assert told["good_runs_lost"] == pytest.approx(sum(row["chance"] for row in refused))
    assert 0 < told["share_saved"] < 1
    shown = llmpred("screen", new, "--model", kept, "--threshold", 0.42)
    for text in ("probe-more", "of the compute", "risk:"):
        assert text in shown.out
    loss = llmpred(
        *("screen", new, "--model", kept, "--threshold", 0.42, "--lower-is-better", "--json")
    )
    mirrored = json.loads(loss.out)
    assert mirrored["threshold"] == 0.42
    assert mirrored["decisions"]["go"] == told["decisions"]["no-go"]


def test_a_budget_buys_the_runs_with_the_best_expected_best(llmpred: Run, kept: Path, new: Path):
    ran = llmpred("recommend", new, "--model", kept, "--budget", "30m", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["seconds"] <= told["budget_seconds"] == 1800
    assert told["seconds"] == pytest.approx(sum(row["seconds"] for row in told["chosen"]))
    best = [row["expected_best"] for row in told["chosen"]]
    assert best == sorted(best)
    assert told["expected_best"] == best[-1]
    richer = json.loads(llmpred("recommend", new, "--model", kept, "--budget", "10h", "--json").out)
    assert richer["expected_best"] >= told["expected_best"]
    poor = llmpred("recommend", new, "--model", kept, "--budget", "1s")
    assert poor.code == 0
    assert "the shortest takes" in poor.out
    by_set = llmpred(
        *("recommend", new, "--model", kept, "--budget", "10h", "--question", "dataset", "--json")
    )
    datasets = {row["row"] % 12 for row in json.loads(by_set.out)["chosen"]}
    assert len(datasets) == 12  # each asks for its own best
    shown = llmpred("recommend", new, "--model", kept, "--budget", "30m")
    assert "expected best score" in shown.out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["screen", "NEW", "--threshold", "0.4", "--risk", "0.6"], "below 0.5"),
        (["recommend", "NEW", "--budget", "soon"], "must be a duration"),
        (["recommend", "NEW", "--budget", "1h", "--question", "data"], "no `data`"),
        (["predict", "NEW", "--level", "1"], "below 1"),
        (["predict", "none.csv"], "No such file"),
    ],
)
def test_bad_options_say_what_holds(
    llmpred: Run, kept: Path, new: Path, command: list[str], said: str
):
    given = [new if option == "NEW" else option for option in command]
    ran = llmpred(*given, "--model", kept)
    assert ran.code == 2
    assert said in ran.err


def test_without_a_model_people_are_told_how_to_get_one(llmpred: Run, new: Path, tmp_path: Path):
    ran = llmpred("predict", new, "--storage", tmp_path / "storage")
    assert ran.code == 2
    assert "llmpred meta train" in ran.err


def test_ten_thousand_candidates_take_less_than_two_seconds(fitted: Trained):
    rows = pa.table(columns(10_000, 2))
    taken = []
    for _ in range(3):
        started = time.process_time()
        forecast(fitted, rows)
        taken.append(time.process_time() - started)
    assert min(taken) < 2


def test_durations():
    assert parse_duration("4h") == 14_400
    assert parse_duration("1h30m") == 5_400
    assert parse_duration("0.5d") == 43_200
    for wrong in ("", "4", "h", "4 h", "4h 3", "-1h"):
        with pytest.raises(InputError, match="must be a duration"):
            parse_duration(wrong)
