"""`llmpred meta benchmark`, as others script against it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]

OWN = {
    *("rmse", "mae", "within_1pp", "within_3pp", "r2", "pearson", "spearman"),
    *("coverage_90", "width_90"),
}


def write(path: Path, rows: int = 60, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dataset", "lr", "model_size", "zero_shot_accuracy_r", "late", "score"])
        for i in range(rows):
            size, lr = draw.choice([1e8, 1e9, 7e9]), 10 ** draw.uniform(-5, -3)
            zero = draw.uniform(0.2, 0.5)
            score = zero + 0.05 * np.log10(size / 1e7) + 0.02 * draw.normal()
            writer.writerow([f"d{i % 12}", lr, size, zero, draw.normal(), score])
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write(tmp_path / "runs.csv")


def test_both_splits_and_the_json(llmpred: Run, runs: Path, tmp_path: Path):
    out = tmp_path / "out.json"
    options = "--target", "score", "--group", "dataset", "--ignore", "late", "--seeds", 1
    ran = llmpred("meta", "benchmark", "--table", runs, *options, "--json", out)
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert set(found["splits"]) == {"random", "group"}
    rivals = {"mean", "nearest_dataset", "ridge", "tuneahead_lightgbm", "zero_shot", "model_size"}
    for split in found["splits"].values():
        assert set(split) == {"llmpred", *rivals}
        assert set(split["llmpred"]) >= OWN
        assert set(split["ridge"]) >= OWN - {"coverage_90", "width_90"}
        assert split["llmpred"]["rmse"] < split["mean"]["rmse"]
        assert split["zero_shot"]["rmse"] < split["mean"]["rmse"]
        assert 0.5 < split["llmpred"]["coverage_90"] <= 1
    assert found["tested"]["random"] == {"rows": 17, "groups": 9}
    assert found["tested"]["group"]["groups"] == 4
    assert found["table"]["features"] == ["lr", "model_size", "zero_shot_accuracy_r"]
    low, high = found["intervals"]["group"]["llmpred"]["rmse"]
    assert low <= found["splits"]["group"]["llmpred"]["rmse"] <= high
    assert "lightgbm" in found["weights"]["random"]
    for shown in ("tuneahead_lightgbm", "random: 17 predictions", "weights: lightgbm"):
        assert shown in ran.out


def test_values_of_a_column_are_left_out_and_other_models_stand_beside(
    llmpred: Run, tmp_path: Path
):
    draw = np.random.default_rng(0)
    with (tmp_path / "runs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["base", "task", "lr", "probe", "loss"])
        for i in range(60):
            lr, probe = draw.normal(size=2)
            row = [f"b{i % 4}", ["qa", "sentiment"][i % 2], lr, probe, lr + probe + 0.1 * (i % 4)]
            writer.writerow(row)
    (tmp_path / "tiers.json").write_text('{"probe": "strong"}')
    out = tmp_path / "out.json"
    ran = llmpred(
        *("meta", "benchmark", "--table", tmp_path / "runs.csv", "--target", "loss"),
        *("--split", "base", "--tiers", tmp_path / "tiers.json", "--per", "task"),
        *("--lower-is-better", "--json", out),
    )
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert list(found["splits"]) == ["base"]
    assert found["tested"]["base"] == {"rows": 60, "groups": 4}  # each base once
    scores = found["splits"]["base"]
    assert set(scores) > {"llmpred", "llmpred_core", "llmpred_per_task"}
    assert set(scores["llmpred_core"]) >= OWN - {"coverage_90", "width_90"}
    assert scores["llmpred"]["rmse"] < 0.4 * scores["llmpred_core"]["rmse"]
    assert scores["llmpred"]["regret_at_5"] < 0.1  # lowest is best: the highest is 5 off


def test_two_files_are_one_split(llmpred: Run, runs: Path, tmp_path: Path):
    out, other = tmp_path / "out.json", write(tmp_path / "new.csv", 30, seed=1)
    files = "--train", runs, "--test", other
    ran = llmpred("meta", "benchmark", *files, "--target", "score", "--json", out)
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert list(found["splits"]) == ["holdout"]
    assert found["tested"]["holdout"]["rows"] == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--train FILE and --test FILE"),
        (["--table", "RUNS", "--train", "RUNS"], "Give one of the two"),
        (["--train", "RUNS"], "--train FILE and --test FILE"),
        (["--table", "RUNS", "--split", "group"], "needs --group"),
        (["--table", "RUNS", "--split", "groop"], "Did you mean `group`?"),
        (["--table", "RUNS", "--split", "datast"], "Did you mean `dataset`?"),
        (["--table", "RUNS", "--per", "lr"], "`--per` must be a text column"),
        (["--table", "RUNS", "--ignore", "lr", "--tiers", "features"], "there is none"),
        (["--table", "RUNS", "--tiers", "none.json"], "`--tiers` must be readable"),
        (["--table", "RUNS", "--folds", "5"], "of splits by group"),
        (["--table", "RUNS", "--test-size", "1.5"], "above 0 and below 1"),
        (["--train", "RUNS", "--test", "RUNS", "--folds", "5"], "are the split"),
        (["--table", "none.csv"], "No such file"),
        (["--table", "RUNS", "--group", "datast"], "Did you mean `dataset`?"),
    ],
)
def test_bad_options_say_what_holds(llmpred: Run, runs: Path, options: list[str], said: str):
    given = [runs if option == "RUNS" else option for option in options]
    ran = llmpred("meta", "benchmark", "--target", "score", *given)
    assert ran.code == 2
    assert said in ran.err


def test_out_must_be_writable(llmpred: Run, runs: Path, tmp_path: Path):
    ran = llmpred(
        *(
            "meta",
            "benchmark",
            "--table",
            runs,
            "--target",
            "score",
            "--json",
            tmp_path / "none/out.json",
        ),
    )
    assert ran.code == 2
    assert "no folder" in ran.err


# --- published tables --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared
def test_a_published_near_linear_table(llmpred: Run, shared_data: Path, tmp_path: Path):
    table, out = shared_data / "tables/qwen7b_mmlu_runs.csv", tmp_path / "out.json"
    ran = llmpred(
        *("meta", "benchmark", "--table", table, "--target", "overall_accuracy"),
        *("--seeds", 5, "--json", out),
    )
    assert ran.code == 0, ran.err
    scores = json.loads(out.read_text())["splits"]["random"]
    assert scores["llmpred"]["rmse"] <= 0.72 * scores["tuneahead_lightgbm"]["rmse"]
    assert scores["llmpred"]["rmse"] < scores["ridge"]["rmse"]
    assert scores["llmpred"]["within_3pp"] >= 0.99
    assert 0.86 <= scores["llmpred"]["coverage_90"] <= 0.95


@pytest.mark.slow
@pytest.mark.shared
def test_published_mixtures(llmpred: Run, shared_data: Path, tmp_path: Path):
    train, test = (shared_data / f"tables/pile_mixture_1m_{p}.csv" for p in ("train", "test"))
    with train.open() as stream:
        losses = [name for name in next(csv.reader(stream)) if name.startswith("loss_")]
    ignored = ",".join(["index", *(name for name in losses if name != "loss_pile_cc")])
    out = tmp_path / "out.json"
    ran = llmpred(
        *("meta", "benchmark", "--train", train, "--test", test, "--target", "loss_pile_cc"),
        *("--ignore", ignored, "--json", out),
    )
    assert ran.code == 0, ran.err
    own = json.loads(out.read_text())["splits"]["holdout"]["llmpred"]
    assert own["spearman"] >= 0.996
    assert own["rmse"] <= 0.037


@pytest.mark.slow
@pytest.mark.shared
def test_published_lora_ranks_beyond_the_sizes_seen(
    llmpred: Run, shared_data: Path, tmp_path: Path
):
    with (shared_data / "tables/lora_rank_bert.csv").open() as stream:
        header, *rows = csv.reader(stream)
    n = header.index("n")
    for name, large in (("few", False), ("many", True)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            part = [row for row in rows if (int(row[n]) > 1000) == large]
            csv.writer(stream).writerows([header, *part])
    out = tmp_path / "out.json"
    ran = llmpred(
        *("meta", "benchmark", "--train", tmp_path / "few.csv", "--test", tmp_path / "many.csv"),
        *("--target", "accuracy", "--group", "task,n,rank", "--json", out),
    )
    assert ran.code == 0, ran.err
    found = json.loads(out.read_text())
    assert found["splits"]["holdout"]["llmpred"]["rmse"] <= 0.04
    assert found["noise_floor"] == pytest.approx(0.0224, abs=2e-4)
