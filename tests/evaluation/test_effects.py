from typing import Any

import pytest

from llmpred.evaluation.effects import dataset_effects, hyperparameter_effects


def row(key: str, dataset: str, score: float | None, lr: float, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "task": "qa",
        "dataset": dataset,
        "base": "proxy",
        "accuracy_r": score,
        "zero_shot_accuracy_r": 0.1,
        "tokens.steps": 10,
        "count.train": 100,
        "optim.lr": lr,
        "seed": 0,
    } | more


ROWS = [
    row("a", "easy", 0.9, 1e-3),
    row("b", "easy", 0.7, 1e-2),
    row("c", "hard", 0.3, 1e-3),
    row("d", "hard", 0.1, 1e-2),
    row("e", "hard", None, 1e-2),
    row("z", "hard", 0.1, 1e-2, **{"tokens.steps": None}),
]


def test_datasets_are_told_apart():
    easy, hard = dataset_effects(ROWS)
    assert (easy.dataset, easy.runs, easy.best_key) == ("easy", 2, "a")
    assert easy.mean == pytest.approx(0.8)
    assert (hard.runs, hard.best, hard.zero_shot, hard.examples) == (2, 0.3, 0.1, 100)


def test_a_hyperparameter_is_compared_within_datasets():
    low, high = hyperparameter_effects(ROWS)
    assert (low.name, low.level, low.runs) == ("optim.lr", "0.001", 2)
    assert low.effect == pytest.approx(0.1)
    assert high.effect == pytest.approx(-0.1)


def test_what_goes_together_is_told_once_and_thirds_stand_for_many_values():
    rows = [
        row(str(i), "one", i / 10, 10.0**-i, **{"method.adapter.r": r, "method.adapter.alpha": a})
        for i, (r, a) in enumerate([(4, 8)] * 3 + [(8, 16)] * 3)
    ]
    effects = hyperparameter_effects(rows)
    assert {e.name for e in effects} == {"method.adapter.r", "optim.lr"}
    thirds = [e for e in effects if e.name == "optim.lr"]
    assert [e.level for e in thirds] == ["1e-05 to 0.0001", "0.001 to 0.01", "0.1 to 1"]
    assert [e.effect for e in thirds] == pytest.approx([0.2, 0.0, -0.2])


def test_only_datasets_on_which_it_varies_say_something():
    rows = [*ROWS[:4], row("f", "fixed", 0.5, 1e-3), row("g", "fixed", 0.9, 1e-3)]
    assert [(e.level, e.runs) for e in hyperparameter_effects(rows)] == [("0.001", 2), ("0.01", 2)]
    heads = [row("h", "h", 0.5, 1e-3, **{"method.head": "classifier"}), *ROWS[:1]]
    assert hyperparameter_effects(heads) == []


def test_a_rank_says_nothing_of_a_full_fine_tune():
    kinds = {"full": 8, "lora": 4}
    rows = [
        row(kind, "one", 0.5, 1e-3, **{"method.adapter.kind": kind, "method.adapter.r": r})
        for kind, r in kinds.items()
    ]
    assert {e.name for e in hyperparameter_effects(rows)} == {"method.adapter.kind"}


def test_nothing_to_compare():
    assert dataset_effects([]) == []
    assert hyperparameter_effects(ROWS[:1]) == []
