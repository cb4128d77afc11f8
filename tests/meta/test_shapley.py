"""Shapley values: they add up, agree with what can be worked out by hand, and are drawn."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.font_manager import fontManager

from llmpred.meta import model, plots
from llmpred.meta.shapley import agreement, shapley, stability
from llmpred.meta.table import Table, make_table


def runs(rows: int = 75, seed: int = 0) -> Table:
    draw = np.random.default_rng(seed)
    lr = 10 ** draw.uniform(-5, -3, rows)
    noise = draw.uniform(0, 0.5, rows)
    base = draw.choice(["小", "large"], rows)
    score = 0.5 + 0.1 * np.log10(lr / 1e-4) - 0.4 * noise + 0.1 * (base == "large")
    score += 0.01 * draw.normal(size=rows)
    idle = draw.normal(size=rows)
    idle[::7] = np.nan
    source = {"学习率": lr, "label_noise": noise, "base": base, "idle": idle, "score": score}
    source["dataset"] = [f"d{i % 15}" for i in range(rows)]
    return make_table(pa.table(source), "score", group=["dataset"])[0]


@pytest.fixture(scope="module")
def table() -> Table:
    return runs()


@pytest.fixture(scope="module")
def fitted(table: Table) -> model.MetaModel:
    return model.fit(table)


def test_values_of_the_blend_add_up_for_every_row(table: Table, fitted: model.MetaModel):
    rows = table.take(np.arange(12))
    far = {**rows.features, "学习率": np.full(12, 1.0)}  # beyond the rows seen parts change sides
    for asked in (rows, replace(rows, features=far)):
        found = shapley(lambda t: fitted.blend.predict(t)[0], asked, table, evaluations=5_000)
        np.testing.assert_allclose(
            found.middle + found.values.sum(axis=1), found.predicted, rtol=0, atol=1e-9
        )
        np.testing.assert_array_equal(found.predicted, fitted.predict(asked).mean)


def test_values_point_where_the_rows_were_made_to(table: Table, fitted: model.MetaModel):
    found = shapley(lambda t: fitted.blend.predict(t)[0], table, table, evaluations=30_000)
    by_name = dict(zip(found.columns, found.values.T, strict=True))
    assert np.corrcoef(by_name["label_noise"], table.features["label_noise"])[0, 1] < -0.9
    assert np.corrcoef(by_name["学习率"], np.log(table.features["学习率"]))[0, 1] > 0.9
    large = table.features["base"] == "large"
    assert by_name["base"][large].min() > by_name["base"][~large].max()
    assert found.columns[int(found.importance.argmin())] == "idle"


def test_values_are_those_of_the_definition(table: Table):
    names = tuple(table.features)
    background, row = table.take(np.arange(10)), table.take(np.array([20]))

    def predict(asked: Table) -> np.ndarray:
        f = asked.features
        base = np.array([v == "large" for v in f["base"]], dtype=float)
        known = np.nan_to_num(f["idle"], nan=2.0)
        return 3 * f["label_noise"] * base + np.log(f["学习率"]) * known

    def value(subset: tuple[str, ...]) -> float:
        features = {
            n: np.repeat(row.features[n], 10) if n in subset else background.features[n]
            for n in names
        }
        return float(predict(replace(background, features=features)).mean())

    exact = []
    for name in names:
        others = [n for n in names if n != name]
        total = 0.0
        for size in range(len(names)):
            weight = 1 / (len(names) * math.comb(len(names) - 1, size))
            for subset in itertools.combinations(others, size):
                total += weight * (value((*subset, name)) - value(subset))
        exact.append(total)
    found = shapley(predict, row, background, evaluations=10_000_000)
    # Interactions of two columns are exact in every antithetic pair of permutations.
    np.testing.assert_allclose(found.values[0], exact, atol=1e-9)


def test_folds_agree_on_what_matters(table: Table, fitted: model.MetaModel):
    folds = stability(
        fitted.calibration.blends, table.take(np.arange(20)), table, evaluations=20_000
    )
    assert folds.shape == (5, 4)
    assert agreement(folds) > 0.7
    assert np.isnan(agreement(folds[:1]))
    assert set(folds.argmin(axis=1)) == {list(table.features).index("idle")}


def test_pictures_are_written(table: Table, fitted: model.MetaModel, tmp_path: Path):
    found = shapley(lambda t: fitted.blend.predict(t)[0], table, table, evaluations=20_000)
    plots.plot_importance(found, None, "score", tmp_path / "a/importance.png")
    plots.plot_importance(found, found.values[:3] ** 2, "score", tmp_path / "folds.png")
    plots.plot_values(found, table, "score", tmp_path / "values.png")
    plots.plot_row(found, "score", tmp_path / "row.png")
    for path in tmp_path.rglob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000
    assert len(list(tmp_path.rglob("*.png"))) == 4


@pytest.mark.usefixtures("latin_only")
def test_pictures_write_chinese(
    table: Table, fitted: model.MetaModel, tmp_path: Path, chinese_font: Path
):
    found = shapley(lambda t: fitted.blend.predict(t)[0], table, table, evaluations=2_000)
    with pytest.raises(UserWarning, match="missing from font"):
        plots.plot_row(found, "正分", tmp_path / "row.png")
    fontManager.addfont(str(chinese_font))
    plots.plot_row(found, "正分", tmp_path / "row.png")
    assert (tmp_path / "row.png").stat().st_size > 5_000
