"""Schemes that predict thinking lengths, side by side: figures, traps, and data that are gone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from llmpred.evaluation.common_ground import binned, by_rules, common_edges, figures
from llmpred.ledger import RunRecord
from llmpred.report import complexity
from llmpred.report.comparison import Group, Scheme, Scored
from llmpred.report.parts import part_of
from llmpred.report.tables import written
from llmpred.tasks.base import Prediction
from llmpred.tasks.complexity.mapping import LEVELS

from .conftest import spec_of
from .test_plots import painted

ROWS = 600
SPEC = spec_of(task={"name": "complexity", "labels": None, "prompt": "{prompt}"})


def world(seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return prompts in English and Chinese, counts, and how hard a good model finds them."""
    draw = np.random.default_rng(seed)
    words = draw.integers(3, 60, ROWS)
    prompts = [
        " ".join(["why"] * n) + "?" if i % 2 else "请解释原因" * n for i, n in enumerate(words)
    ]
    hard = 1.5 + 0.01 * words + draw.normal(0, 0.8, ROWS)
    counts = np.floor(np.expm1((hard + draw.normal(0, 0.4, ROWS)).clip(0)))
    return prompts, counts, hard


PROMPTS, COUNTS, HARD = world(0)
TRAIN_PROMPTS, TRAIN_COUNTS, _ = world(1)
EXAMPLES, TRAINING = (
    tuple({"prompt": p, "counts": c} for p, c in zip(*rows, strict=True))
    for rows in ((PROMPTS, COUNTS), (TRAIN_PROMPTS, TRAIN_COUNTS))
)
LENGTHS = np.array([len(prompt) for prompt in PROMPTS])


@pytest.fixture
def training(monkeypatch):
    """The training rows are there."""
    monkeypatch.setattr(complexity, "training_of", lambda record: (TRAINING, ""))


def regression(noise: float, seed: int, counts: np.ndarray = COUNTS) -> tuple[Prediction, ...]:
    """Return answers of a regression that knows how hard the prompts are, but for noise."""
    guess = HARD + np.random.default_rng(seed).normal(0, noise, ROWS)
    spread = 0.4 * np.array([-1.28, -0.67, 0, 0.67, 1.28])
    quantiles = np.expm1((guess[:, None] + spread).clip(0))
    return tuple(
        Prediction(
            str(i),
            {"counts": float(count)},
            {"mean": float(np.expm1(g).clip(0)), "quantiles": q.tolist()},
            (float(g),),
        )
        for i, (count, g, q) in enumerate(zip(counts, guess, quantiles, strict=True))
    )


def classes(right: np.ndarray, said: np.ndarray, k: int) -> tuple[Prediction, ...]:
    """Return answers of classes, mapped back to the counts that they have."""
    found = []
    for i, (target, label) in enumerate(zip(right.tolist(), said.tolist(), strict=True)):
        alike = COUNTS[right == label] if (right == label).any() else COUNTS
        scores = np.full(k, -9.0)
        scores[label] = -0.01
        answer = {
            "label": label,
            "mean": float(alike.mean()),
            "quantiles": np.quantile(alike, LEVELS).tolist(),
        }
        target_ = {"counts": float(COUNTS[i]), "label": target}
        found.append(Prediction(str(i), target_, answer, tuple(scores.tolist())))
    return tuple(found)


def quantile_bins(seed: int = 0) -> tuple[Prediction, ...]:
    edges = common_edges(COUNTS, 5)
    guess = np.expm1(HARD + np.random.default_rng(seed).normal(0, 0.2, ROWS))
    return classes(binned(COUNTS, edges), binned(guess, edges), 5)


def equal_width() -> tuple[Prediction, ...]:
    """Nearly all rows fall into the first bin, and it is the answer to all."""
    right = binned(COUNTS, np.linspace(COUNTS.min(), COUNTS.max(), 11))
    return classes(right, np.zeros(ROWS, int), 10)


def read_off() -> tuple[Prediction, ...]:
    """Labels that are those of the prompt's length."""
    right = binned(LENGTHS, common_edges(LENGTHS, 4))
    said = np.where(np.random.default_rng(0).random(ROWS) < 0.95, right, 3 - right)
    return classes(right, said, 4)


def scheme(name: str, *runs: tuple[Prediction, ...]) -> Scheme:
    scored = []
    for seed, predictions in enumerate(runs):
        spec = SPEC.model_copy(update={"seed": seed})
        record = RunRecord(
            key=f"{name}-{seed}",
            train_key=f"{name}-{seed}",
            dataset="traces",
            base="tiny",
            spec=spec,
            hashes={"evaluation": "e", "train": "t"},
            status="ok",
            accuracy_r=0.5,
            metrics={},
        )
        scored.append(Scored(record, predictions))
    return Scheme(name, f"what {name} is", SPEC, tuple(scored))


def group(*schemes: Scheme, examples: Any = EXAMPLES) -> Group:
    return Group("traces", "tiny", schemes, schemes[0].name, examples)


def said(added: complexity.Part, about: str) -> list[str]:
    return [warning for warning in added.warnings if about in warning]


TRAP, LEAK, SMALL = "says little", "read off", "rarest label"


@pytest.mark.usefixtures("training")
def test_all_schemes_and_baselines_are_on_the_common_ground(tmp_path):
    both = scheme("log1p", regression(0.1, 0), regression(0.3, 1))
    added = part_of(group(both, scheme("bins", quantile_bins())), tmp_path, confidence=True)
    table = added.tables[0]
    assert table.title == "Common ground"
    rows = {
        row[0]: dict(zip([c.name for c in table.columns], row, strict=True)) for row in table.rows
    }
    assert [*rows] == [
        *("log1p", "bins", "baseline: median", "baseline: prompt length", "baseline: rules")
    ]
    edges = common_edges(TRAIN_COUNTS)
    seeds = []
    for run in both.runs:
        mean = [p.prediction["mean"] for p in run.predictions]
        quantiles = [p.prediction["quantiles"] for p in run.predictions]
        seeds.append(figures(COUNTS, mean, quantiles, edges))
    for column, name in {
        "MAE": "mae",
        "RMSE": "rmse",
        "pinball loss": "pinball",
        "Spearman": "spearman",
        "macro-F1 on common bins": "macro_f1_common",
        "10-90 interval holds": "coverage",
        "width of it": "width",
    }.items():
        expected = (seeds[0][name] + seeds[1][name]) / 2
        assert rows["log1p"][column] == pytest.approx(expected), column
    sd = np.std([told["pinball"] for told in seeds], ddof=1)
    assert rows["log1p"]["sd of pinball over seeds"] == pytest.approx(sd)
    assert rows["bins"]["sd of pinball over seeds"] is None
    low, high = rows["log1p"]["95 % interval of Spearman"]
    assert low < rows["log1p"]["Spearman"] < high
    for each in added.tables:
        names = [column.name for column in each.columns]
        assert len(set(names)) == len(names), each.title  # JSON has a key a column
        assert all(len(cells) == len(names) for cells in each.written())


@pytest.mark.usefixtures("training")
def test_baselines_know_the_training_rows_alone(tmp_path):
    added = complexity.part(group(scheme("log1p", regression(0.1, 0))), tmp_path, True)
    told = added.files["log1p"]["complexity.json"]["baselines"]
    edges = common_edges(TRAIN_COUNTS)
    n, features = len(COUNTS), [complexity._features(p) for p in (TRAIN_PROMPTS, PROMPTS)]
    median = figures(
        COUNTS,
        np.full(n, TRAIN_COUNTS.mean()),
        np.tile(np.quantile(TRAIN_COUNTS, LEVELS), (n, 1)),
        edges,
    )
    rules = figures(COUNTS, *by_rules(TRAIN_COUNTS, *features), edges)
    for name, expected in {"baseline: median": median, "baseline: rules": rules}.items():
        for figure in ("mae", "pinball", "spearman", "macro_f1_common"):
            assert told[name]["mean"][figure] == pytest.approx(expected[figure]), (name, figure)
    assert not [*tmp_path.glob("*confusion*")]


@pytest.mark.usefixtures("training")
def test_differences_are_from_the_reference(tmp_path):
    good, bad = scheme("good", regression(0.1, 0)), scheme("bad", regression(0.9, 1))
    added = complexity.part(group(good, bad), tmp_path, True)
    table = added.tables[1]
    assert table.title == "Differences in counts from good"
    assert table.rows[0][0] == "bad"
    found = added.files["bad"]["complexity.json"]["difference"]
    assert found["reference"] == "good"
    assert found["spearman"]["upper"] < 0 < found["pinball"]["lower"]
    assert found["mae"]["difference"] > 0
    # Four are compared with the reference; the least p-value counts four times.
    assert found["pinball"]["adjusted"] >= found["pinball"]["p"]
    assert table.rows[0][4] == found["pinball"]["adjusted"]
    assert "spearman" not in added.files["good"]["complexity.json"]["difference"]


# --- traps ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(
    ("name", "predictions", "fires"),
    [
        ("width", equal_width(), {TRAP, SMALL}),
        ("quantiles", quantile_bins(), set()),
        ("clusters", read_off(), {LEAK}),
        ("log1p", regression(0.1, 0), set()),
    ],
)
def test_traps_are_told_where_they_are(name, predictions, fires: set[str], tmp_path):
    added = complexity.part(group(scheme(name, predictions)), tmp_path, False)
    assert {about for about in (TRAP, LEAK, SMALL) if said(added, about)} == fires


@pytest.mark.usefixtures("training")
def test_equal_width_bins_are_told_with_the_share_of_the_commonest(tmp_path):
    added = complexity.part(group(scheme("width", equal_width())), tmp_path, False)
    right = [p.target["label"] for p in equal_width()]
    share = np.mean(np.array(right) == 0)
    assert share > 0.6
    [text] = said(added, TRAP)
    assert f"width {share:.3f} (always label 0: {share:.3f}, as {share:.1%} of the rows" in text
    table = next(table for table in added.tables if table.title == "On its own labels")
    assert table.rows[0][:4] == ("width", 10, share, share)


@pytest.mark.parametrize(
    ("accuracy", "macro_f1", "share", "fires"),
    [
        (0.72, 0.5, 0.70, True),  # near the commonest label's share
        (0.73, 0.5, 0.70, False),
        (0.60, 0.5, 0.70, True),  # below it
        (0.80, 0.39, 0.70, True),  # one label found, the others not
        (0.80, 0.41, 0.70, False),
        (0.80, 0.39, 0.60, False),  # no label has so large a share
    ],
)
def test_limits_of_the_trap(accuracy: float, macro_f1: float, share: float, fires: bool):
    told = {"accuracy": accuracy, "macro_f1": macro_f1, "majority_share": share, "majority": 0}
    assert bool(complexity._traps({"a": [told]})) == fires


@pytest.mark.parametrize(
    ("edges", "scores", "size"),
    [((0.0, 1.0, 2.0, 3.0), (0.7,), 3), ((0.0, 1.0, 2.0), (-1.0, -2.0), 2), (None, (-1.0,) * 8, 8)],
)
def test_labels_are_counted_by_edges_else_by_scores(edges, scores, size: int):
    spec = SimpleNamespace(target=SimpleNamespace(edges=edges))
    assert complexity._size(spec, Prediction("0", {}, {}, scores)) == size


@pytest.mark.usefixtures("training")
def test_leakage_is_told_with_what_rules_have(tmp_path):
    schemes = (
        scheme("clusters", read_off()),
        scheme("bins", quantile_bins()),
        scheme("log1p", regression(0.1, 0)),
    )
    added = complexity.part(group(*schemes), tmp_path, False)
    table = next(table for table in added.tables if table.title == "Leakage")
    told = {row[0]: row[1:] for row in table.rows}
    features = complexity._features(PROMPTS)
    for name, predictions in (("clusters", read_off()), ("bins", quantile_bins())):
        right = [p.target["label"] for p in predictions]
        answered = [p.prediction["label"] for p in predictions]
        tree = DecisionTreeClassifier(max_depth=5, random_state=0)
        folds = KFold(5, shuffle=True, random_state=0)
        rules = f1_score(right, cross_val_predict(tree, features, right, cv=folds), average="macro")
        method = f1_score(right, answered, average="macro")
        assert told[name][:2] == ("macro-F1", pytest.approx(rules))
        assert told[name][3] == pytest.approx(method)
        nothing = told[name][2]
        assert told[name][4] == pytest.approx((rules - nothing) / (method - nothing))
    assert [told[name][-1] for name in told] == ["yes", "no", "no"]
    assert told["log1p"][0] == "Spearman"
    assert told["log1p"][3] == pytest.approx(
        spearmanr(COUNTS, [p.prediction["mean"] for p in regression(0.1, 0)]).statistic
    )
    [text] = said(added, LEAK)
    assert f"clusters (rules macro-F1 {told['clusters'][1]:.3f}, the scheme" in text
    assert "bins (" not in text


@pytest.mark.usefixtures("training")
def test_schemes_no_better_than_rules_are_named(tmp_path):
    """A scheme that answers what the rules do is not better than they are."""
    features = [complexity._features(p) for p in (TRAIN_PROMPTS, PROMPTS)]
    mean, quantiles = by_rules(TRAIN_COUNTS, *features)
    same = tuple(
        Prediction(
            str(i),
            {"counts": float(c)},
            {"mean": float(m), "quantiles": q.tolist()},
        )
        for i, (c, m, q) in enumerate(zip(COUNTS, mean, quantiles, strict=True))
    )
    schemes = scheme("good", regression(0.1, 0)), scheme("rules again", same)
    [text] = said(complexity.part(group(*schemes), tmp_path, False), "Not clearly better")
    assert text.endswith(": rules again.")
    assert not said(complexity.part(group(schemes[0]), tmp_path, False), "Not clearly better")


# --- what is not there ----------------------------------------------------------------------------


def test_data_that_are_gone_are_told_of(tmp_path):
    schemes = scheme("log1p", regression(0.1, 0)), scheme("bins", quantile_bins())
    added = complexity.part(group(*schemes, examples=None), tmp_path, True)
    assert said(added, "The evaluation rows are not there any more")
    [text] = said(added, "Training rows")
    assert "its data cannot be read" in text  # no such file
    assert [row[0] for row in added.tables[0].rows] == ["log1p", "bins"]
    told = added.files["bins"]["complexity.json"]
    assert told["edges"] is told["leakage"] is None
    assert not told["baselines"]
    assert told["own_labels"]["mean"]["accuracy"] > 0.4
    assert {t.title for t in added.tables} >= {"Common ground", "On its own labels"}
    assert "Leakage" not in {t.title for t in added.tables}


@pytest.mark.usefixtures("training")
def test_without_prompts_there_is_the_median(tmp_path):
    added = complexity.part(
        group(scheme("log1p", regression(0.1, 0)), examples=None), tmp_path, True
    )
    assert [row[0] for row in added.tables[0].rows] == ["log1p", "baseline: median"]


@pytest.mark.usefixtures("training")
def test_schemes_that_count_something_else_are_not_compared(tmp_path):
    schemes = scheme("units", regression(0.1, 0)), scheme("tokens", regression(0.1, 0, 7 * COUNTS))
    added = complexity.part(group(*schemes), tmp_path, True)
    assert said(added, "count something else")[0].endswith("tokens.")
    assert "tokens" not in [row[0] for table in added.tables for row in table.rows]
    assert added.files["tokens"]["complexity.json"]["common_ground"] is None
    # A seed on other rows is left out, and told of, though its scheme is there.
    changed = scheme("log1p", regression(0.1, 0), regression(0.1, 1, 7 * COUNTS))
    added = complexity.part(group(changed), tmp_path, True)
    assert said(added, "count something else")[0].endswith("log1p.")
    assert len(added.files["log1p"]["complexity.json"]["common_ground"]["runs"]) == 1


def test_a_group_without_runs_has_nothing(tmp_path):
    assert complexity.part(group(scheme("none")), tmp_path, True) == complexity.Part()


@pytest.mark.usefixtures("training")
def test_a_constant_answer_has_its_note(tmp_path):
    same = tuple(
        Prediction(p.id, p.target, {"mean": 5.0, "quantiles": [5.0] * 5})
        for p in regression(0.1, 0)
    )
    added = complexity.part(group(scheme("same", same)), tmp_path, True)
    assert said(added, "same: Predicted means are all the same")


# --- files and pictures ---------------------------------------------------------------------------


@pytest.mark.usefixtures("training", "latin_only")
def test_files_are_json_and_pictures_are_drawn(tmp_path):
    schemes = (
        scheme("log1p", regression(0.1, 0), regression(0.2, 1)),
        scheme("bins", quantile_bins()),
        scheme("equal width", equal_width()),
        scheme("quantiles 2", quantile_bins(1)),
    )
    added = complexity.part(group(*schemes), tmp_path / "plots", True)
    assert set(added.files) == {"log1p", "bins", "equal width", "quantiles 2"}
    for files in added.files.values():
        assert json.loads(json.dumps(files, allow_nan=False)) == files
    assert len(added.files["log1p"]["complexity.json"]["common_ground"]["runs"]) == 2
    assert {picture.path.name for picture in added.pictures} == {
        *("common-ground.png", "predicted-counts.png")
    }
    for picture in added.pictures:
        assert painted(picture.path) > 0.01


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (123.45, "123"), (1234.5, "1,234"), (-0.5, "-0.5")]
)
def test_numbers_have_three_digits(value: float, text: str):
    assert written(value, "number") == text
