"""Models of fewer features, or one a task, beside the whole one."""

import numpy as np
import pyarrow as pa
import pytest

from llmpred.meta import variants
from llmpred.meta.metrics import rmse
from llmpred.meta.table import Table, make_table

TIER_OF = {"rough": "core", "fine": "strong", "dust": "further"}


@pytest.fixture(scope="module")
def runs() -> Table:
    draw = np.random.default_rng(0)
    columns = {name: draw.normal(size=90) for name in ("lr", "rough", "fine", "dust")}
    task = draw.choice(["qa", "sentiment", "rare"], 90, p=[0.45, 0.45, 0.1])
    score = columns["lr"] + columns["rough"] + 0.5 * columns["fine"]
    score *= np.where(task == "qa", 1.0, -1.0)
    return make_table(pa.table({**columns, "task": task, "score": score}), "score")[0]


def parts(runs: Table) -> tuple[Table, Table]:
    rows = np.arange(len(runs))
    return runs.take(rows[rows % 3 > 0]), runs.take(rows[rows % 3 == 0])


def test_tiers_add_up_and_what_has_none_is_always_there(runs: Table):
    seen: list[list[str]] = []
    found = variants.by_tier(runs, TIER_OF)
    assert list(found) == ["llmpred_core", "llmpred_core_strong"]
    nothing_further = {**TIER_OF, "dust": "strong"}
    assert list(variants.by_tier(runs, nothing_further)) == ["llmpred_core"]
    nothing_strong = {**TIER_OF, "fine": "further"}
    assert list(variants.by_tier(runs, nothing_strong)) == ["llmpred_core"]
    train, test = parts(runs.take(np.flatnonzero(runs.features["task"] == "qa")))
    for name in found:
        seen.append([float(rmse(test.target, found[name](train, test, 0)))])
    assert seen[1][0] < 0.7 * seen[0][0]  # the strong tier holds half of what is left


def test_selection_sees_training_rows_alone(runs: Table):
    train, test = parts(runs)
    asked: list[int] = []

    def select(rows: Table, seed: int) -> list[str]:
        asked.append(len(rows))
        return ["lr"]

    predicted = variants.selected(select)(train, test, 0)
    assert asked == [len(train)]
    same = test.only(["lr"])
    np.testing.assert_array_equal(predicted, variants.selected(lambda *_: ["lr"])(train, same, 0))


def test_a_model_a_task_wins_where_tasks_have_nothing_in_common(runs: Table):
    train, test = parts(runs)
    (name, predict), *_ = variants.by_value("task").items()
    assert name == "llmpred_per_task"
    predicted = predict(train, test, 0)
    alone = test.features["task"] == "qa"
    assert rmse(test.target[alone], predicted[alone]) < 0.3
    rare = np.flatnonzero(test.features["task"] == "rare")
    for_all = variants.selected(lambda rows, _: list(rows.features))(train, test, 0)
    np.testing.assert_allclose(predicted[rare], for_all[rare])
