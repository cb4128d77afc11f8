"""Measuring features on Ray: once each, kept at once, resumed after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from llmpred.features.joined import ledger_table
from llmpred.features.measurements import FEATURES
from llmpred.ledger import Ledger
from tests.sweep.conftest import ROOT

pytestmark = pytest.mark.slow

SPACE = """
name: described
task: {name: sentiment, max_length: 64, labels: {negative: bad, positive: good}}
datasets:
  - {name: clean, source: "synthetic:sentiment", options: {n: 80, seed: 1}}
  - name: noisy
    source: synthetic:sentiment
    options: {n: 80, seed: 1}
    recipe: [{label_noise: {share: 0.4}}]
bases: [proxy]
methods: [{adapter: {r: 4, alpha: 8}}]
optim: {lr: {grid: [1e-3, 5e-3]}, max_steps: 10, batch_size: 8}
evaluation: {limit: 20, data: {source: "synthetic:sentiment", options: {n: 20, part: test}}}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "described.yaml"
    path.write_text(SPACE)
    return path


def command(job: str, *words: object) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / job), *map(str, words)]


def described(*words: object) -> dict[str, Any]:
    done = subprocess.run(
        command("extract_meta_features.py", *words, "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_each_measurement_is_taken_once_and_joined(space: Path, tmp_path: Path) -> None:
    storage, out = tmp_path / "storage", tmp_path / "f.parquet"
    found = described(space, "--storage", storage, "--out", out)
    # Two datasets in four ways, and a probe of each of the four runs.
    assert (found["measured"], found["cached"]) == (12, 0)
    rows = found["rows"]
    assert [row["dataset"] for row in rows] == ["clean", "clean", "noisy", "noisy"]
    assert all(set(row) >= {f.name for f in FEATURES} for row in rows)
    assert rows[0]["size_di"] == rows[2]["size_di"] == 80
    assert rows[2]["label_noise_estimate"] > rows[0]["label_noise_estimate"]
    assert rows[0]["initial_loss"] == pytest.approx(rows[1]["initial_loss"], abs=1e-3)
    assert rows[1]["relative_change"] > rows[0]["relative_change"] > 0
    assert rows[0]["zero_shot_score"] is None
    assert parquet.read_table(out).to_pylist() == rows

    again = described(space, "--storage", storage)
    assert (again["measured"], again["cached"]) == (0, 12)
    assert again["rows"] == rows
    assert again["seconds"] < 30

    done = subprocess.run(
        command("collect_ground_truth.py", "--space", space, "--storage", storage, "--no-tracking"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = described(space, "--storage", storage)
    assert known["measured"] == 0
    assert all(0 <= row["zero_shot_score"] <= 1 for row in known["rows"])
    assert not list((storage / "checkpoints").glob("*/*"))

    # What a meta-model learns from: the same features beside what came out.
    learnt = ledger_table(Ledger(storage)).to_pylist()
    by_key = {row["key"]: row for row in known["rows"]}
    assert {row["key"] for row in learnt} == set(by_key)
    for row in learnt:
        assert {name: row.get(name) for name in by_key[row["key"]]} == by_key[row["key"]]
        assert 0 <= row["accuracy_r"] <= 1
        assert row["seconds"] > 0


def test_a_kill_loses_what_was_being_measured_alone(space: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    words = (space, "--storage", storage, "--measure", "text,tokens,embedding")
    running = subprocess.Popen(
        command("extract_meta_features.py", *words),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.time() + 300
    while len(list(storage.glob("features/*/*/*.json"))) < 2:
        assert running.poll() is None
        assert time.time() < until
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = len(list(storage.glob("features/*/*/*.json")))
    found = described(*words)
    assert found["cached"] >= kept >= 2
    assert found["measured"] == 6 - found["cached"]
    assert all(math.isfinite(row["out_sem_div"]) for row in found["rows"])
    assert all(row["initial_loss"] is None for row in found["rows"])


def test_a_bad_dataset_does_not_end_the_others(space: Path, tmp_path: Path) -> None:
    text = SPACE.replace("n: 80, seed: 1}}\n", "n: 1, seed: 1}}\n", 1)
    space.write_text(text)
    found = described(space, "--storage", tmp_path / "s", "--measure", "embedding")
    clean, noisy = found["rows"][0], found["rows"][2]
    assert clean["out_sem_div"] is None
    assert math.isfinite(noisy["out_sem_div"])
    assert any("clean" in warning and "out_sem_div" in warning for warning in found["warnings"])


def test_a_data_file_is_described_by_one_row(tmp_path: Path) -> None:
    rows = tmp_path / "reviews.jsonl"
    lines = [{"text": f"text number {i}", "label": ["bad", "good"][i % 2]} for i in range(60)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    found = described(
        rows, "--task", "sentiment", "--storage", tmp_path / "s", "--measure", "text,likelihood"
    )
    [row] = found["rows"]
    assert row["size_di"] == pytest.approx(54, abs=3)  # a tenth stands for the evaluation
    assert row["output_perplexity"] > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measure", "texts"], "Did you mean `text`?"),
        (["--out", "features.xlsx"], "--out features.parquet"),
        (["--task", "sentiment"], "a search space says this itself"),
    ],
)
def test_bad_options(words: list[str], said: str, space: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("extract_meta_features.py", space, "--storage", tmp_path / "s", *words),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert " ".join(said.split()) in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
