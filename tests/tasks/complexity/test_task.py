"""The task: rows to counts, what is learnt of training rows, and answers back in counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmpred.errors import DataError, SpecError
from llmpred.spec.run import TargetSpec, TaskSpec
from llmpred.tasks.base import LEVELS, Prediction
from llmpred.tasks.complexity import Complexity

TASK = Complexity()


def spec(**target: Any) -> TaskSpec:
    made = TargetSpec.model_validate(target)
    return TaskSpec(name="complexity", language="en", prompt="{prompt}", target=made)


def table(counts: list[float], prompts: list[str] | None = None) -> pa.Table:
    prompts = prompts or [f"prompt {i}" for i in range(len(counts))]
    return pa.table({"prompt": prompts, "counts": pa.array(counts, pa.float64())})


def thoughts(*waits: int, closed: bool = True) -> list[str]:
    end = "</think>" if closed else ""
    return [f"<think>So. {'Wait, no. ' * n}{end}" for n in waits]


def test_responses_are_counted_and_samples_of_a_prompt_are_one_row() -> None:
    rows = pa.table({"prompt": ["a", "b", "a", "a"], "response": thoughts(1, 0, 5, 2)})
    found, notes = TASK.derive(spec(counts="wait"), rows)
    assert found.to_pylist() == [{"prompt": "a", "counts": 2.0}, {"prompt": "b", "counts": 0.0}]
    assert notes == ("1 prompts have several rows; the median of their counts is taken",)


@pytest.mark.parametrize(("censored", "counts"), [("drop", [1.0]), ("keep", [1.0, 3.0])])
def test_thoughts_that_were_cut_off(censored: str, counts: list[float]) -> None:
    rows = pa.table({"prompt": ["a", "b"], "response": thoughts(1) + thoughts(3, closed=False)})
    found, (note,) = TASK.derive(spec(counts="wait", censored=censored), rows)
    assert found["counts"].to_pylist() == counts
    assert note.startswith("1 of 2 thoughts are cut off")


def test_rows_without_counts_are_refused() -> None:
    with pytest.raises(DataError, match="1 have neither"):
        TASK.derive(spec(), pa.table({"prompt": ["a", "b"], "response": [*thoughts(1), None]}))
    rows = pa.table({"prompt": ["a"], "response": thoughts(1, closed=False)})
    with pytest.raises(DataError, match="no row has counts"):
        TASK.derive(spec(), rows)


@pytest.mark.parametrize(
    ("target", "edges", "label_of_2"),
    [
        ({"kind": "equal_width", "bins": 2}, (-0.01, 5.0, 10.0), 0),
        ({"kind": "quantile", "bins": 2}, (0.0, 2.0, 10.0), 0),
        ({"kind": "edges", "edges": (0, 1, 10)}, (0.0, 1.0, 10.0), 1),
    ],
)
def test_borders_are_learnt_from_training_rows(
    target: dict[str, Any], edges: tuple[float, ...], label_of_2: int
) -> None:
    learnt, rows, _ = TASK.learn(spec(**target), table([0, 1, 2, 10, 3]))
    assert learnt.target is not None
    assert learnt.target.edges == pytest.approx(edges)
    assert rows.num_rows == 5
    assert TASK.gold({"prompt": "a", "counts": 2.0}, learnt) == {"counts": 2.0, "label": label_of_2}
    assert TASK.learn(learnt, table([50]))[0] == learnt  # what is settled stays
    settled = TASK.settle(learnt, [{"prompt": "a", "counts": 99.0}])
    assert settled.target == learnt.target
    assert TASK.label({"prompt": "a", "counts": 99.0}, settled) == 1  # beyond the last border
    assert TASK.outputs(learnt, None) == 2
    assert TASK.outputs(learnt, "ordinal") == 1


def test_nothing_is_learnt_of_no_rows() -> None:
    with pytest.raises(SpecError, match="learnt from training rows, but there are none"):
        TASK.learn(spec(), table([]))


def test_bins_that_fall_together_are_told() -> None:
    _, _, notes = TASK.learn(spec(kind="quantile", bins=8), table([0] * 9 + [1] * 9 + [2, 3, 4]))
    assert "fall together" in notes[0]


def test_outliers_leave_training_alone() -> None:
    counts = [float(i % 9) for i in range(60)] + [400.0]
    learnt, rows, notes = TASK.learn(spec(kind="clusters", k=2, outliers="remove"), table(counts))
    assert rows["counts"].to_pylist() == counts[:-1]
    assert "1 training rows" in notes[0]
    assert TASK.label({"prompt": "prompt 60", "counts": 400.0}, learnt) == 1


@pytest.mark.parametrize("kind", ["counts", "log1p"])
def test_a_regression_is_taught_in_standard_deviations(kind: str) -> None:
    counts = np.array([0.0, 1.0, 5.0, 20.0])
    learnt, _, _ = TASK.learn(spec(kind=kind), table(counts.tolist()))
    taught = [TASK.value({"prompt": "a", "counts": c}, learnt) for c in counts]
    assert np.mean(taught) == pytest.approx(0.0, abs=1e-9)
    assert np.std(taught) == pytest.approx(1.0)
    assert TASK.outputs(learnt, "mse") == 1
    assert TASK.outputs(learnt, "pinball") == len(LEVELS)
    assert TASK.class_names(learnt) is None


def test_tags_stand_in_front_of_the_prompt_where_they_are_asked_for() -> None:
    example = {"prompt": "Why? List all."}
    plain = TASK.learn(spec(), table([0, 1]))[0]
    tagged = TASK.learn(spec(tags=True), table([0, 1]))[0]
    assert TASK.slots(example, plain) == {"prompt": "Why? List all."}
    assert TASK.slots(example, tagged)["prompt"].startswith("[SHORT]")
    assert "[WHY]" in TASK.slots(example, tagged)["prompt"]


def test_a_label_answers_with_the_counts_of_its_training_rows() -> None:
    learnt, _, _ = TASK.learn(spec(kind="edges", edges=(0, 4, 10)), table([0]))
    train = [{"prompt": "a", "counts": c} for c in (1.0, 3.0, 8.0)]
    kept = TASK.calibrate(learnt, None, train, lambda: pytest.fail("labels need no scores"))
    sure = [[-0.1, -9.0], [-9.0, -0.1]]
    first, second = TASK.answers(train[:2], learnt, sure, kept)
    assert (first["label"], first["mean"], first["quantiles"][2]) == (0, 2.0, 2.0)
    assert second == {"label": 1, "mean": 8.0, "quantiles": [8.0] * 5}


def test_an_ordinal_model_answers_with_the_mixture() -> None:
    learnt, _, _ = TASK.learn(spec(kind="edges", edges=(0, 4, 10)), table([0]))
    train = [{"prompt": "a", "counts": c} for c in (2.0, 8.0)]
    kept = TASK.calibrate(learnt, "ordinal", train, lambda: ([], []))
    halves = [np.log([0.5, 0.5]).tolist()]
    (found,) = TASK.answers(train[:1], learnt, halves, kept)
    assert found["mean"] == pytest.approx(5.0)
    assert (found["quantiles"][0], found["quantiles"][-1]) == (2.0, 8.0)


def test_quantiles_are_counts_in_ascending_order() -> None:
    learnt, _, _ = TASK.learn(spec(kind="log1p"), table([0, 1, 5, 20]))
    rows = [{"prompt": "a", "counts": c} for c in (0.0, 1.0, 5.0, 20.0)]
    scores = [[-1.0, -0.5, i / 2 - 1, 0.4, -9.0] for i in range(4)]
    kept = TASK.calibrate(learnt, "pinball", rows, lambda: (rows, scores))
    for found in TASK.answers(rows, learnt, scores, kept):
        assert found["quantiles"] == sorted(found["quantiles"])
        assert found["quantiles"][0] == 0.0  # counts are no less
        assert "label" not in found


def test_scores_agree_with_numpy() -> None:
    learnt, _, _ = TASK.learn(spec(), table([0, 1, 5, 20]))
    actual, mean, median = np.array([0.0, 4.0, 9.0]), np.array([1.0, 3.0, 5.0]), [0.0, 2.0, 6.0]
    predictions = [
        Prediction(str(i), {"counts": a, "label": i}, {"label": 0, "mean": m, "quantiles": [q] * 5})
        for i, (a, m, q) in enumerate(zip(actual, mean, median, strict=True))
    ]
    found = TASK.score(predictions, learnt)
    assert found["mae"] == pytest.approx(np.abs(actual - median).mean())
    assert found["rmse"] == pytest.approx(np.sqrt(((actual - mean) ** 2).mean()))
    assert found["inverse_mae"] == pytest.approx(1 / (1 + found["mae"]))
    assert found["pinball"] == pytest.approx(found["mae"] / 2)
    assert (found["spearman"], found["accuracy"]) == (1.0, pytest.approx(1 / 3))
    assert found["macro_f1"] == pytest.approx(0.5 / 3)


def test_a_count_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        TASK.parse({"prompt": "a", "counts": -1.0})
