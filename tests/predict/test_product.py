"""From an empty folder to advice: collect, describe, train, predict, screen, recommend, explain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Run = Callable[..., Any]

SPACE = """
name: product
sampler: random
samples: 8
task: {name: sentiment, max_length: 48, labels: {negative: bad, positive: good}}
datasets:
  - {name: clean, source: "synthetic:sentiment", options: {n: 60, seed: 1, length: short}}
  - {name: other, source: "synthetic:sentiment", options: {n: 40, seed: 2, length: short}}
  - name: noisy
    source: synthetic:sentiment
    options: {n: 60, seed: 1, length: short}
    recipe: [{label_noise: {share: 0.4}}]
bases: [proxy]
methods: [{adapter: {r: {choice: [4, 8]}, alpha: 8}}]
optim: {lr: {loguniform: [1e-3, 8e-3]}, max_steps: {choice: [8, 40]}, batch_size: 8}
evaluation:
  limit: 40
  data: {source: "synthetic:sentiment", options: {n: 40, part: test, length: short}}
"""
NEW = ("--set", "seed=1", "--set", "samples=5")


def test_a_ledger_becomes_advice(llmpred: Run, tmp_path: Path):
    space, storage = tmp_path / "space.yaml", tmp_path / "storage"
    space.write_text(SPACE)
    at = ("--storage", storage)

    def told(*words: object) -> dict[str, Any]:
        ran = llmpred(*words, *at, "--json")
        assert ran.code == 0, ran.err
        answer: dict[str, Any] = json.loads(ran.out[ran.out.index("{") :])
        return answer

    told("collect", "--space", space, "--max-concurrent", 1, "--no-tracking")
    told("features", space, "--measure", "text,tokens", "--max-concurrent", 1)
    trained = told("meta", "train", "--folds", 3, "--no-tracking")
    assert trained["rows"] == 24
    assert trained["group"] == ["dataset"]
    assert {"lr", "steps", "zero_shot_score"} & set(trained["shapley"]["importance"])
    assert not {"seconds", "key", "status"} & set(trained["shapley"]["importance"])
    assert 1 < trained["cost_factor"] < 5

    predicted = told("predict", space, *NEW)
    runs = predicted["candidates"]
    assert 10 <= len(runs) <= 15
    assert {run["dataset"] for run in runs} == {"clean", "other", "noisy"}
    assert all(0 < run["seconds"] < 120 for run in runs)
    screened = told("screen", space, *NEW, "--threshold", 0.99)
    assert screened["decisions"]["go"] == 0
    chosen = told("recommend", space, *NEW, "--budget", "20s")
    assert chosen["seconds"] <= 20
    assert {run["key"] for run in chosen["chosen"]} <= {run["key"] for run in runs}

    reviews = tmp_path / "reviews.tsv"
    lines = [f"a {word} film number {i}\t{i % 2}" for i in range(30) for word in ("dull", "fine")]
    reviews.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    of_file = told("predict", reviews, "--task", "sentiment")
    assert len(of_file["candidates"]) == 16
    assert any(run["outside"] for run in of_file["candidates"])  # three epochs were never run

    paid = json.loads(llmpred("ledger", "ls", *at, "--json").out)
    key = next(run["key"] for run in paid if run["dataset"] == "noisy")
    explained = told("meta", "explain", key[:12])
    assert explained["actual"] is not None
    everything = llmpred("predict", space, *at)
    assert everything.code == 2
    assert "the ledger has all of them" in everything.err
