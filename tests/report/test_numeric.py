"""Schemes that predict numbers, side by side: before and after, values, warnings, pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llmpred.ledger import RunRecord
from llmpred.report import comparison_folder, numeric
from llmpred.report.comparison import Group, Scheme, Scored
from llmpred.report.numeric_plots import _decades
from llmpred.report.parts import part_of
from llmpred.report.tables import Part, Table
from llmpred.tasks.base import Prediction
from llmpred.tasks.numeric.metrics import by_set, figures

from .conftest import group_of, scheme_of, spec_of, with_records_of
from .test_plots import painted

ROWS = 120  # of a set with a number due; a third as many have none
SPREAD = {"basic": 1.0, "qa": 1.5, "extreme": 9.0, "boundary": 0.1}  # orders of magnitude
MEDIAN = 50.0
Z = np.array([-1.2816, -0.6745, 0.0, 0.6745, 1.2816])  # normal quantiles


@pytest.fixture
def training(monkeypatch):
    """The training rows are there; those without a value have no number due."""
    rows = ({"value": 10.0}, {"value": MEDIAN}, {"text": "no number"}, {"value": 1e6})
    monkeypatch.setattr(numeric, "training_of", lambda record: (rows, ""))


def truth(sets: dict[str, float] | None = None, rows: int = ROWS) -> list[tuple[str, float | None]]:
    """Return the set and the true value of each row, None where no number is due."""
    draw = np.random.default_rng(0)
    found: list[tuple[str, float | None]] = []
    for name, spread in (sets or SPREAD).items():
        signs = draw.choice([-1, 1], rows) if name == "extreme" else np.ones(rows)
        values = signs * 10 ** draw.uniform(spread, 2 * spread, rows)
        found += [(name, float(value)) for value in values]
        found += [(name, None)] * (rows // 3)
    return found


def head(
    sure: float, off: float, alarms: float = 0.0, seed: int = 0, rows: Any = None
) -> tuple[Prediction, ...]:
    """Return answers of a head.

    Args:
        sure: share of the rows with a number due where one is predicted.
        off: orders of magnitude that values are off.
        alarms: share of the other rows where one is predicted.
        seed: of all that is drawn.
        rows: as `truth` returns them.
    """
    draw = np.random.default_rng(seed)
    found = []
    for i, (name, true) in enumerate(rows or truth()):
        due = bool(draw.random() < (alarms if true is None else sure))
        value = (1.0 if true is None else true) * 10 ** draw.normal(0, off)
        rank = 1 if due else int(draw.integers(2, 100 if sure > 0.5 else 150_000))
        ends = sorted(value * 10 ** (off * Z) if off < 20 else [value] * 5)
        told = {"due": due, "rank": rank, "probability": 0.9 / rank, "value": value}
        answer = {**told, "quantiles": [float(end) for end in ends]}
        found.append(Prediction(str(i), {"value": true, "set": name}, answer))
    return tuple(found)


def digits(off: float, silent: float, seed: int = 0) -> tuple[Prediction, ...]:
    """Return generated texts, of which a share says no number."""
    draw = np.random.default_rng(seed)
    found = []
    for i, (name, true) in enumerate(truth()):
        value = None
        if true is not None and draw.random() >= silent:
            value = float(f"{true * 10 ** draw.normal(0, off):.4g}")
        answer = {"due": value is not None, "rank": None, "probability": None, "value": value}
        found.append(
            Prediction(str(i), {"value": true, "set": name}, {**answer, "quantiles": None})
        )
    return tuple(found)


def scheme(name: str, kind: str, trains: bool, *runs: tuple[Prediction, ...]) -> Scheme:
    spec = spec_of(
        task={"name": "numeric", "labels": None},
        method={"head": "causal_lm", "adapter": {"kind": "lora" if trains else "none"}},
    )
    spec = spec.model_copy(update={"method": spec.method.model_copy(update={"head": kind})})
    scored = []
    for seed, predictions in enumerate(runs):
        record = RunRecord(
            key=f"{name}-{seed}",
            train_key=f"{name}-{seed}",
            dataset="numbers",
            base="tiny",
            spec=spec.model_copy(update={"seed": seed}),
            hashes={"evaluation": "e", "train": "t"},
            status="ok",
            accuracy_r=0.5,
            metrics={},
        )
        scored.append(Scored(record, predictions))
    return Scheme(name, f"what {name} is", spec, tuple(scored))


def group(*schemes: Scheme) -> Group:
    return Group("numbers", "tiny", schemes, schemes[0].name)


BEFORE = scheme("before", "numeric", False, head(0.0, 30.0))
CAUCHY = scheme("Cauchy", "numeric", True, head(0.97, 0.02), head(0.95, 0.05, seed=1))
WRITTEN = scheme("写数字", "causal_lm", True, digits(0.1, 0.2))


def rows_of(table: Table) -> list[dict[str, Any]]:
    return table.json()["rows"]


def table_of(added: Part, title: str) -> list[dict[str, Any]]:
    return rows_of(next(table for table in added.tables if table.title == title))


def said(added: Part, about: str) -> list[str]:
    return [warning for warning in added.warnings if about in warning]


@pytest.mark.usefixtures("training")
def test_before_and_after_are_told_by_set(tmp_path):
    mse = scheme("mse", "numeric", True, head(0.8, 0.3))
    added = part_of(group(BEFORE, CAUCHY, mse, WRITTEN), tmp_path, confidence=True)
    rows = table_of(added, "Before and after")
    parts = [*SPREAD, "all rows"]
    assert [(row["scheme"], row["set"]) for row in rows] == [
        *(("Cauchy", name) for name in parts),
        *(("mse", name) for name in parts),
    ]
    assert [row["numbers due"] for row in rows[:5]] == [ROWS] * 4 + [4 * ROWS]
    seeds = [by_set(run.predictions) for run in CAUCHY.runs]
    start = by_set(BEFORE.runs[0].predictions)
    for row in rows[:4]:
        for column, name in {
            "accuracy": "accuracy",
            "mean rank": "mean_rank",
            "probability": "mean_probability",
            "false alarms": "false_alarms",
        }.items():
            first, then = row[f"{column}, before → after"]
            assert first == start[row["set"]][name]
            assert then == pytest.approx(np.mean([told[row["set"]][name] for told in seeds]))
    overall = figures(mse.runs[0].predictions)
    assert rows[-1]["accuracy, before → after"][1] == overall["accuracy"]


@pytest.mark.usefixtures("training")
def test_values_are_held_against_the_median(tmp_path):
    added = part_of(group(BEFORE, CAUCHY, WRITTEN), tmp_path, confidence=True)
    rows = {(row["set"], row["scheme"]): row for row in table_of(added, "Value")}
    names = ["before", "Cauchy", "写数字", "baseline: training median"]
    assert [*rows] == [(part, name) for part in (*SPREAD, "all rows") for name in names]
    told = by_set(WRITTEN.runs[0].predictions)["qa"]
    row = rows["qa", "写数字"]
    assert row["RMSE"] == row["RMSE where predicted"] == told["rmse"]
    assert row["log error"] == told["log_error"]
    assert row["with a value"] == 1 - told["without_value"] < 1
    assert row["80 % interval holds"] is None
    assert rows["qa", "Cauchy"]["80 % interval holds"] == pytest.approx(0.8, abs=0.1)
    assert rows["qa", "Cauchy"]["beats the median in MAE"] == "yes"
    assert rows["qa", "before"]["beats the median in log error"] == "no"
    true = np.array([value for name, value in truth() if name == "qa" and value is not None])
    median = rows["qa", "baseline: training median"]
    assert median["MAE"] == pytest.approx(np.abs(true - MEDIAN).mean())
    assert median["RMSE where predicted"] is median["beats the median in MAE"] is None
    assert median["with a value"] == 1.0
    bare = part_of(group(BEFORE, CAUCHY, WRITTEN), tmp_path, confidence=False)
    assert "80 % interval holds" not in table_of(bare, "Value")[0]


@pytest.mark.usefixtures("training")
def test_a_scheme_is_held_against_the_median_on_the_rows_it_answers(tmp_path):
    """It says a number where that is near the median, which would be worse on all rows."""
    answers = [(MEDIAN, 52.0), *((1000.0 * MEDIAN, None),) * 99]
    found = tuple(
        Prediction(
            str(i),
            {"value": true, "set": "a"},
            {"due": value is not None, "rank": None, "probability": None, "value": value}
            | {"quantiles": None},
        )
        for i, (true, value) in enumerate(answers)
    )
    added = numeric.part(group(scheme("few", "causal_lm", True, found)), tmp_path, True)
    mine, median = table_of(added, "Value")[:2]
    assert mine["MAE"] == 2.0 < median["MAE"]
    assert mine["beats the median in MAE"] == "no"


def test_published_figures_are_marked(tmp_path):
    added = numeric.part(group(BEFORE, CAUCHY), tmp_path, False)
    table = next(table for table in added.tables if "Published" in table.title)
    assert table.written()[0] == ["basic", "82,046 → 1", "42.1"]
    assert table.title == "Published, not rerun"
    assert "not rerun" in table.notes[0]


# --- warnings -------------------------------------------------------------------------------------

FEW, NONE, BEATEN, ALARMS = "a matter of few", "no before", "does not beat", "the rows where none"


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(
    ("schemes", "fires"),
    [
        ((BEFORE, CAUCHY, WRITTEN), set()),
        ((CAUCHY,), {NONE}),
        ((WRITTEN,), set()),  # nothing of it would be before
        ((BEFORE, scheme("far", "numeric", True, head(0.9, 9.0))), {BEATEN}),
        ((BEFORE, scheme("alarmed", "numeric", True, head(0.9, 0.1, 0.3))), {ALARMS}),
        ((scheme("few", "numeric", True, head(0.9, 0.1, rows=truth(rows=89))),), {FEW, NONE}),
        ((scheme("enough", "numeric", True, head(0.9, 0.1, rows=truth(rows=90))),), {NONE}),
    ],
)
def test_warnings_are_told_where_there_is_cause(schemes, fires: set[str], tmp_path):
    added = numeric.part(group(*schemes), tmp_path, False)
    assert {about for about in (FEW, NONE, BEATEN, ALARMS) if said(added, about)} == fires
    assert len(added.warnings) == len(fires)


@pytest.mark.usefixtures("training")
def test_warnings_name_the_sets(tmp_path):
    rows = truth({"容易": 1.0}) + truth({"hard": 9.0}, rows=30)
    bad = scheme("bad", "numeric", True, head(0.9, 9.0, 0.5, rows=rows))
    added = numeric.part(group(bad), tmp_path, False)
    assert said(added, FEW)[0].endswith(": hard 30.")
    [beaten] = said(added, BEATEN)
    assert beaten.startswith("bad: its value does not beat the training median on 容易 (log error")
    rate = by_set(bad.runs[0].predictions)["容易"]["false_alarms"]
    assert f"容易 {100 * rate:.1f} %" in said(added, ALARMS)[0]


def test_training_rows_that_are_gone_are_told_of(tmp_path):
    added = numeric.part(group(BEFORE, CAUCHY), tmp_path, False)
    [text] = said(added, "Training rows")
    assert "So values are not held against their median" in text
    rows = table_of(added, "Value")
    assert {row["scheme"] for row in rows} == {"before", "Cauchy"}
    assert {row["beats the median in MAE"] for row in rows} == {None}


@pytest.mark.parametrize(
    "schemes",
    [(scheme("none", "numeric", True),), (scheme("a", "numeric", True, head(1, 1)[ROWS:150]),)],
)
def test_without_a_number_due_there_is_nothing(schemes, tmp_path):
    assert numeric.part(group(*schemes), tmp_path, True) == Part()


# --- files and pictures ---------------------------------------------------------------------------


@pytest.mark.usefixtures("training")
def test_files_tell_what_was_before_and_after(tmp_path):
    added = numeric.part(group(WRITTEN, BEFORE, CAUCHY), tmp_path, True)
    assert set(added.files) == set(added.drawn) == {"Cauchy"}
    files = added.files["Cauchy"]
    assert json.loads(json.dumps(files, allow_nan=False)) == files
    for name, of in {"baseline.json": BEFORE, "finetuned.json": CAUCHY}.items():
        first = of.runs[0]
        assert files[name] == {
            "scheme": of.name,
            "key": first.record.key,
            "overall": figures(first.predictions),
            "sets": by_set(first.predictions),
        }
    alone = numeric.part(group(CAUCHY), tmp_path, True)
    assert set(alone.files["Cauchy"]) == {"finetuned.json"}


@pytest.mark.usefixtures("training", "latin_only")
@pytest.mark.parametrize("sure", [True, False])
def test_pictures_are_drawn(sure: bool, tmp_path):
    silly = scheme("$silly$", "numeric", True, head(0.5, 25.0))
    digit = scheme("digits", "causal_lm", True, digits(0.1, 0.2))
    silent = scheme("silent", "causal_lm", True, digits(0.1, 1.0))
    added = numeric.part(group(BEFORE, CAUCHY, silly, digit, silent), tmp_path, sure)
    names = {"accuracy_comparison.png", "mean_rank_comparison.png"}
    assert {picture.path.name.partition("-")[0] for picture in added.pictures} == {
        *(*names, "predicted"),
        *({"calibration.png"} if sure else ()),
    }
    assert sum(picture.small for picture in added.pictures) == 3  # nothing of what says nothing
    for picture in added.pictures:
        assert painted(picture.path) > 0.01
    for name, draw in added.drawn["Cauchy"].items():
        draw(tmp_path / "Cauchy" / name)
        assert painted(tmp_path / "Cauchy" / name) > 0.01
    assert set(added.drawn["Cauchy"]) == names


@pytest.mark.usefixtures("training", "latin_only")
@pytest.mark.parametrize("name", [None, "a name that is longer than any picture has room for"])
def test_odd_sets_are_drawn(name: str | None, tmp_path):
    rows = [(name, value) for value in (0.0, -1e-300, 1e300, 5.0, None)]
    before, after = (
        scheme(f"_{said}", "numeric", trains, head(sure, 1.0, rows=rows))
        for said, trains, sure in (("a", False, 0.0), ("b", True, 1.0))
    )
    added = numeric.part(group(before, after), tmp_path, True)
    assert len(added.pictures) == 4
    assert all(painted(picture.path) > 0.01 for picture in added.pictures)


@pytest.mark.parametrize(
    ("bounds", "ticks"),
    [
        ((-0.3, 3.2), [0, 10, 100, 1000]),
        ((-1.0, 18.5), [0, 10**4, 10**8, 10**12, 10**16]),
        ((-18.5, 18.5), [-(10**16), -(10**8), 0, 10**8, 10**16]),
        ((14.5, 18.2), [10**15, 10**16, 10**17, 10**18]),
    ],
)
def test_scales_have_some_powers_of_ten(bounds: tuple[float, float], ticks: list[int]):
    assert _decades(*bounds) == ticks


def test_pictures_come_into_the_folders_of_schemes(keep, monkeypatch, tmp_path):
    schemes = scheme_of("tuned", [True, False] * 60), scheme_of("other", [True] * 120)
    ledger = keep(*schemes)

    def added(*args: Any, **options: Any) -> Part:
        return Part(drawn={"tuned": {"a.png": lambda path: path.write_bytes(b"drawn")}})

    monkeypatch.setattr(comparison_folder, "part_of", added)
    group = with_records_of(ledger, group_of(*schemes))
    comparison_folder.write(tmp_path / "out", "T", [group], ledger)
    assert (tmp_path / "out" / "tuned" / "a.png").read_bytes() == b"drawn"
    assert not (tmp_path / "out" / "other" / "a.png").exists()
