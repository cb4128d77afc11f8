"""`llmpred meta train`: a model in a folder and in MLflow, with what is known of it."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpred.meta import store

Run = Callable[..., Any]


def write(path: Path, rows: int = 60, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dataset", "base", "lr", "model_size", "late", "seconds", "score"])
        for i in range(rows):
            size, lr = float(draw.choice([1e8, 1e9, 7e9])), 10 ** draw.uniform(-5, -3)
            score = 0.3 + 0.05 * np.log10(size / 1e7) + 0.05 * np.log10(lr / 1e-5)
            seconds = size / 1e7 * (1 + 0.1 * draw.uniform())
            row = [f"d{i % 12}", draw.choice(["a", ""]), lr, size, draw.normal(), seconds]
            writer.writerow([*row, score + 0.02 * draw.normal()])
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write(tmp_path / "runs.csv")


@pytest.fixture(autouse=True)
def _own_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_model_is_trained_measured_kept_and_served(llmpred: Run, runs: Path, tmp_path: Path):
    storage = tmp_path / "storage"
    options = ("--target", "score", "--group", "dataset", "--ignore", "late", "--folds", 2)
    options = (*options, "--cost", "seconds")
    ran = llmpred("meta", "train", "--table", runs, *options, "--storage", storage, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["model"] == str(storage / "meta/runs-score")
    assert set(told["benchmark"]["splits"]["group"]) >= {"llmpred", "ridge", "tuneahead_lightgbm"}
    assert told["benchmark"]["splits"]["group"]["llmpred"]["rmse"] < 0.035
    assert told["rows"] == 60
    assert 1 < told["cost_factor"] < 1.5
    trained = store.load(Path(told["model"]))
    assert trained.schema.columns == ("lr", "model_size", "base")
    assert trained.about["table_sha256"] == told["table_sha256"]
    assert told["mlflow"]["uri"] == "models:/runs-score/1"
    importance = told["shapley"]["importance"]
    assert importance["base"] == min(importance.values())
    assert told["shapley"]["agreement_of_folds"] > 0.4

    # A clean process has the model from MLflow's registry alone.
    code = (
        "import sys, mlflow, numpy as np, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/runs-score/1')\n"
        "rows = pd.read_csv(sys.argv[2]).drop(columns=['late', 'seconds', 'score', 'dataset'])\n"
        "found = model.predict(rows)\n"
        "wide = model.predict(rows, params={'level': 0.8})\n"
        "assert ((wide.upper - wide.lower) < (found.upper - found.lower)).all()\n"
        "found.to_csv(sys.argv[3], index=False)\n"
        "run = mlflow.search_runs(experiment_names=['llmpred-meta']).iloc[0]\n"
        "plots = mlflow.artifacts.list_artifacts(run_id=run.run_id, artifact_path='plots')\n"
        "assert len(plots) == 2, plots\n"
        "print(run['metrics.group/rmse'], run['params.table_sha256'])\n"
    )
    uri = f"sqlite:///{storage}/mlflow.db"
    out = tmp_path / "found.csv"
    done = subprocess.run(
        [sys.executable, "-c", code, uri, str(runs), str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rmse, sha = done.stdout.split()
    assert float(rmse) == pytest.approx(told["benchmark"]["splits"]["group"]["llmpred"]["rmse"])
    assert sha == told["table_sha256"]
    import pyarrow.csv

    expected = trained.predict(pyarrow.csv.read_csv(runs))
    served = np.genfromtxt(out, delimiter=",", names=True)
    np.testing.assert_allclose(served["mean"], expected.mean, rtol=1e-12)
    np.testing.assert_allclose(served["upper"], expected.upper, rtol=1e-12)


def test_people_see_figures_and_where_the_model_is(llmpred: Run, runs: Path, tmp_path: Path):
    out = tmp_path / "model"
    ran = llmpred(
        *(
            "meta",
            "train",
            "--table",
            runs,
            "--target",
            "score",
            "--ignore",
            "late,dataset,seconds",
        ),
        *("--out", out, "--no-tracking", "--folds", 2, "--storage", tmp_path / "none"),
    )
    assert ran.code == 0, ran.err
    for shown in (
        "random: 60 predictions",
        "tuneahead_lightgbm",
        "weights:",
        "what predictions rest on",
        str(out),
    ):
        assert shown in ran.out
    assert "MLflow" not in ran.out
    assert store.is_model(out)
    assert not (tmp_path / "none").exists()


def test_a_dead_mlflow_does_not_cost_the_model(
    llmpred: Run, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    storage = tmp_path / "storage"
    ran = llmpred(
        *("meta", "train", "--table", runs, "--target", "score", "--ignore", "late,seconds"),
        *("--storage", storage, "--name", "mine", "--folds", 2),
    )
    assert ran.code == 0, ran.err
    assert "MLflow did not take the model" in ran.err
    assert store.is_model(storage / "meta/mine")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--table", "RUNS", "--split", "group"], "needs --group"),
        (["--table", "RUNS", "--split", "groop"], "Did you mean `group`?"),
        (["--table", "none.csv"], "No such file"),
        (["--table", "RUNS", "--cost", "second"], "Did you mean `seconds`?"),
        (["--table", "RUNS", "--cost", "dataset"], "must hold numbers"),
        (["--table", "RUNS", "--target", "scores"], "Did you mean `score`?"),
    ],
)
def test_bad_options_say_what_holds(
    llmpred: Run, runs: Path, tmp_path: Path, options: list[str], said: str
):
    given = [runs if option == "RUNS" else option for option in options]
    ran = llmpred("meta", "train", "--target", "score", *given, "--storage", tmp_path / "s")
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.slow
def test_a_model_in_a_bucket_predicts(llmpred: Run, runs: Path, bucket: str, tmp_path: Path):
    ran = llmpred(
        *("meta", "train", "--table", runs, "--target", "score", "--ignore", "late,seconds"),
        *("--storage", bucket, "--name", "ledger-accuracy_r", "--folds", 2, "--no-tracking"),
    )
    assert ran.code == 0, ran.err
    ran = llmpred("predict", runs, "--storage", bucket, "--json")
    assert ran.code == 0, ran.err
    assert len(json.loads(ran.out)["candidates"]) == 60
