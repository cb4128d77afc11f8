"""Files of labelled prompts: what they hold, and what is said of traps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpred.errors import DataError, InputError, StorageError
from llmpred.spec.run import ClusterSpec
from llmpred.tasks.complexity.labelled import label_file, write_clusters
from llmpred.tasks.complexity.labels import WAIT_EDGES, fit_clusters, nearest
from llmpred.tasks.complexity.tags import PROMPT_FEATURES, prompt_features


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def heavy(tmp_path: Path) -> str:
    """200 prompts, a third of each kind, with counts of a heavy tail."""
    counts = np.random.default_rng(0).lognormal(2, 1.5, 200).round()
    asked = ("Calculate {}.", "Why is {} odd?", "写一首关于{}的诗。")
    rows = [{"prompt": asked[i % 3].format(i), "counts": c} for i, c in enumerate(counts.tolist())]
    return written(tmp_path / "heavy.jsonl", rows)


@pytest.mark.parametrize(
    ("kind", "settings", "labels"),
    [
        ("equal_width", {}, 10),
        ("equal_width", {"bins": 4}, 4),
        ("quantile", {"bins": 8}, 8),
        ("edges", {"edges": WAIT_EDGES}, 7),
    ],
)
def test_bins(heavy: str, tmp_path: Path, kind: Any, settings: dict[str, Any], labels: int):
    out = tmp_path / "out" / "bins"
    found = label_file(heavy, out, kind=kind, **settings)
    assert json.loads((out / "bin_config.json").read_text("utf-8")) == json.loads(json.dumps(found))
    rows = read(out / "merged_with_bins.jsonl")
    assert len(rows) == 200 == sum(row["n"] for row in found["table"])
    assert len(found["table"]) == labels == len(found["edges"]) - 1
    for row in rows:
        low, high = found["edges"][row["label"] : row["label"] + 2]
        assert low <= row["counts"] <= high or row["counts"] > found["edges"][-1]
    assert found["leakage"]["macro_f1"] < 0.5


def test_traps_are_told(heavy: str, tmp_path: Path):
    wide = label_file(heavy, tmp_path / "a", kind="equal_width")
    (trap,) = wide["notes"]
    share = wide["table"][0]["share"]
    assert share > 0.5
    assert f"{share:.1%} of the rows have the label 0" in trap
    grouped = label_file(heavy, tmp_path / "b", kind="clusters", k=4)
    assert any("they tell of prompts more than of thinking" in note for note in grouped["notes"])
    ties = [{"prompt": str(i), "counts": c} for i, c in enumerate([0, 0, 0, 0, 0, 1, 1, 2, 9])]
    tied = written(tmp_path / "ties.jsonl", ties)
    merged = label_file(tied, tmp_path / "c", kind="quantile", bins=8)
    assert merged["merged"] > 0
    assert any("fell together" in note for note in merged["notes"])
    cut = label_file(tied, tmp_path / "d", kind="edges", edges=(1, 2, 3))
    assert (cut["below"], cut["above"]) == (5, 1)
    assert any("5 rows below the first edge and 1 above" in note for note in cut["notes"])


def test_clusters(heavy: str, tmp_path: Path):
    found = label_file(heavy, tmp_path / "out", kind="clusters", outliers="remove")
    config = json.loads((tmp_path / "out" / "cluster_config_clean.json").read_text("utf-8"))
    assert config == json.loads(json.dumps(found))
    assert config["variables"] == ["counts", *PROMPT_FEATURES]
    assert len(config["centroids"]) == 8 == len(config["table"])
    rows = read(tmp_path / "out" / "merged_with_clusters_clean.jsonl")
    assert len(rows) == 200 - config["left_out"] < 200
    assert max(row["counts"] for row in rows) <= config["limit"]
    names = ("mean", "scale", "centroids", "limit")
    again = ClusterSpec(
        **dict(zip(ClusterSpec.model_fields, (config[name] for name in names), strict=True))
    )
    counts = np.array([row["counts"] for row in rows])
    features = np.array([[*prompt_features(row["prompt"]).values()] for row in rows])
    assert nearest(counts, features, again).tolist() == [row["label"] for row in rows]
    assert {row["type"] for row in config["table"]} >= {"calculate", "why"}


def test_responses_are_counted_and_several_of_a_prompt_are_one_row(tmp_path: Path):
    rows = [
        {"question": "甲？", "output": "<think>Wait, no. Wait, yes.</think> 1"},
        {"question": "甲？", "output": "<think>Yes.</think> 1"},
        {"question": "乙？", "output": "<think>Wait, is it? Wait, wait"},
        {"question": "丙？", "output": "<think>等等，不是。</think> 3"},
    ]
    file = written(tmp_path / "a.jsonl", rows)
    found = label_file(file, tmp_path / "out", kind="edges", edges=WAIT_EDGES, count="wait")
    shown = read(tmp_path / "out" / "merged_with_bins.jsonl")
    assert shown == [
        {"prompt": "甲？", "counts": 1.0, "label": 1},
        {"prompt": "丙？", "counts": 1.0, "label": 1},
    ]
    assert any("1 of 4 responses are cut off and are left out" in note for note in found["notes"])
    assert found["leakage"] is None  # of two rows
    kept = label_file(
        *(file, tmp_path / "kept"),
        **{"kind": "edges", "edges": WAIT_EDGES, "count": "wait", "censored": "keep"},
    )
    assert sum(row["n"] for row in kept["table"]) == 3
    mapped = label_file(
        *(file, tmp_path / "mapped"),
        **{"kind": "quantile", "bins": 2, "columns": {"prompt": "output", "response": "question"}},
    )
    assert sum(row["n"] for row in mapped["table"]) == 4


@pytest.mark.parametrize(
    ("rows", "law"),
    [
        ([{"prompt": "a", "counts": None}, {"prompt": "b", "counts": 1}], "1 have neither"),
        ([{"prompt": "a", "counts": -1}], "must be finite and at least 0"),
        ([{"prompt": "a", "response": "<think>and so on"}], "every response is cut off"),
        ([{"text": "a", "counts": 1}], "field `prompt` must have a column"),
    ],
)
def test_rows_that_do_not_hold(rows: list[dict[str, Any]], law: str, tmp_path: Path):
    with pytest.raises(DataError, match=law):
        label_file(written(tmp_path / "a.jsonl", rows), tmp_path / "out", kind="quantile")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"kind": "quantil"}, "Did you mean `quantile`"),
        ({"kind": "quantile", "k": 3}, "quantile take no `k`"),
        ({"kind": "clusters", "bins": 3}, "clusters take no `bins`"),
        ({"kind": "quantile", "bins": 1}, "two labels or more, but got 1"),
        ({"kind": "clusters", "k": 1}, "two labels or more, but got 1"),
        ({"kind": "edges"}, "need edges"),
        ({"kind": "edges", "edges": (1, 1, 2)}, "ascending"),
        ({"kind": "edges", "edges": (1, 2)}, "three or more"),
        ({"kind": "edges", "edges": (1, 2, float("inf"))}, "finite"),
        ({"kind": "edges", "edges": (1, float("nan"), 2)}, "finite"),
    ],
)
def test_settings_that_do_not_hold(settings: dict[str, Any], law: str, heavy: str, tmp_path: Path):
    with pytest.raises(InputError, match=law):
        label_file(heavy, tmp_path / "out", **settings)


def test_a_folder_that_cannot_be(heavy: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="must be writable"):
        label_file(heavy, tmp_path / "file", kind="quantile")


def test_rows_keep_what_they_have(tmp_path: Path):
    counts, features = np.array([1.0, 2.0, 50.0, 51.0]), np.zeros((4, 9))
    clusters = fit_clusters(counts, features, k=2, outliers="keep")
    rows = [{"id": f"第{i}", "kind": "why"} for i in range(4)]
    write_clusters(tmp_path, clusters, rows, counts, features, names=PROMPT_FEATURES)
    shown = read(tmp_path / "merged_with_clusters_clean.jsonl")
    assert shown == [{**row, "label": int(i > 1)} for i, row in enumerate(rows)]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["r1_bangla_mcq_5000", "mmlupro_traces_1001"])
def test_real_traces(name: str, shared_data: Path, tmp_path: Path):
    path = shared_data / "reasoning" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        prompts = {json.loads(line)["prompt"] for line in stream}
    wide = label_file(str(path), tmp_path / "w", kind="equal_width", censored="keep")
    assert sum(row["n"] for row in wide["table"]) == len(prompts)
    assert any("always saying so is as accurate" in note for note in wide["notes"])
    even = label_file(str(path), tmp_path / "q", kind="quantile", censored="keep")
    groups = label_file(str(path), tmp_path / "c", kind="clusters", censored="keep")
    assert any("more than of thinking" in note for note in groups["notes"])
    assert not any("more than of thinking" in note for note in even["notes"])
    assert groups["leakage"]["accuracy"] > 0.75
