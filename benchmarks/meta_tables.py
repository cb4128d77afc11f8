"""How well the meta-model predicts published tables, each target beside what was measured.

    python benchmarks/meta_tables.py --data ../shared/data/tables

Every figure comes from `llmpred meta benchmark`, run as a user would:

- 300 runs of Qwen2.5-7B on MMLU, random splits (qwen7b_mmlu_runs.csv, TuneAhead's public sample);
- data mixtures of 1 M parameter models, fitted on one file and tested on the other, for the loss on
  Pile-CC (also random splits of the first) and, with `--all-losses`, the mean over all 13
  (pile_mixture_1m_*.csv, RegMix);
- LoRA on BERT by number of examples and rank: all folds of cells, and from at most 1,000 examples
  to more (lora_rank_bert.csv).

About 10 minutes of one core, with `--all-losses` 10 more. Tables that are not there are skipped.
`--out FOLDER` keeps the JSON files.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BOUNDED = 250, 20  # from so many test rows and groups on, coverage itself is bounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/tables")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--all-losses", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        if present(args.data, "qwen7b_mmlu_runs.csv"):
            qwen(args.data, out, args.seeds)
        if present(args.data, "pile_mixture_1m_train.csv", "pile_mixture_1m_test.csv"):
            pile(args.data, out, every=args.all_losses)
        if present(args.data, "lora_rank_bert.csv"):
            lora(args.data, out)


def present(folder: Path, *names: str) -> bool:
    for name in names:
        if not (folder / name).exists():
            print(f"skipped: {folder} has no {name}")
            return False
    return True


def qwen(data: Path, out: Path, seeds: int) -> None:
    table = data / "qwen7b_mmlu_runs.csv"
    found = run(
        out / "qwen.json",
        *("--table", table, "--target", "overall_accuracy", "--seeds", seeds),
    )
    scores = found["splits"]["random"]
    own, published = scores["llmpred"], scores["tuneahead_lightgbm"]
    print(f"rmse: published LightGBM {published['rmse']:.5f}, ridge {scores['ridge']['rmse']:.5f}")
    told("rmse / published LightGBM's", own["rmse"] / published["rmse"], most=0.72)
    told("within 3 pp", own["within_3pp"], least=0.99)
    coverage(found, "random")


def pile(data: Path, out: Path, *, every: bool) -> None:
    files = data / "pile_mixture_1m_train.csv", data / "pile_mixture_1m_test.csv"
    with files[0].open() as stream:
        header = next(csv.reader(stream))
    losses = [name for name in header if name.startswith("loss_")]
    ranks = []
    for loss in losses if every else ["loss_pile_cc"]:
        ignored = ",".join(["index", *(name for name in losses if name != loss)])
        found = run(
            out / f"pile.{loss}.json",
            *("--train", files[0], "--test", files[1], "--target", loss, "--ignore", ignored),
        )
        own = found["splits"]["holdout"]["llmpred"]
        ranks.append((own["spearman"], lightgbm_alone(files, loss)))
        if loss == "loss_pile_cc":
            told("spearman", own["spearman"], least=0.996)
            told("rmse", own["rmse"], most=0.037)
            within = "--table", files[0], "--target", loss, "--ignore", ignored, "--seeds", 5
            coverage(run(out / "pile.random.json", *within), "random")
        coverage(found, "holdout")
    if every:
        own, alone = (sum(column) / len(column) for column in zip(*ranks, strict=True))
        told("mean spearman, 13 losses", own, least=alone)


def lightgbm_alone(files: Sequence[Path], loss: str) -> float:
    """Return the rank correlation that 1000 trees at 0.01 reach, RegMix's own way."""
    import lightgbm
    import pyarrow.csv
    from scipy.stats import spearmanr

    tables = [pyarrow.csv.read_csv(path).to_pandas() for path in files]
    weights = [name for name in tables[0] if name.startswith("weight_")]
    model = lightgbm.LGBMRegressor(n_estimators=1000, learning_rate=0.01, n_jobs=1, verbose=-1)
    model.fit(tables[0][weights], tables[0][loss])
    return float(spearmanr(model.predict(tables[1][weights]), tables[1][loss]).statistic)


def lora(data: Path, out: Path) -> None:
    table = data / "lora_rank_bert.csv"
    cells = "--target", "accuracy", "--group", "task,n,rank"
    found = run(out / "lora.json", "--table", table, *cells, "--split", "group", "--folds", 5)
    own = found["splits"]["group"]["llmpred"]
    noise = found["noise_floor"]
    told(f"rmse / noise between seeds ({noise:.4f})", own["rmse"] / noise, most=1.08)
    coverage(found, "group")
    with table.open() as stream:
        rows = list(csv.reader(stream))
    n = rows[0].index("n")
    parts = {
        "few": [row for row in rows[1:] if int(row[n]) <= 1000],
        "many": [row for row in rows[1:] if int(row[n]) > 1000],
    }
    files = {}
    for name, part in parts.items():
        files[name] = out / f"lora.{name}.csv"
        with files[name].open("w", newline="") as stream:
            csv.writer(stream).writerows([rows[0], *part])
    found = run(out / "lora.few.json", "--train", files["few"], "--test", files["many"], *cells)
    told("rmse, few examples to many", found["splits"]["holdout"]["llmpred"]["rmse"], most=0.04)
    coverage(found, "holdout")


def run(out: Path, *arguments: Any) -> dict[str, Any]:
    """Run the benchmark command, show what it ran, and return its figures."""
    command = ["llmpred", "meta", "benchmark", *map(str, arguments), "--json", str(out)]
    shown = " ".join(part if len(part) < 60 else part[:57] + "…" for part in command)
    print(f"\n$ {shown}", flush=True)
    started = time.perf_counter()
    program = "from llmpred.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", program, *command[1:]], check=True, stdout=subprocess.DEVNULL
    )
    print(f"{time.perf_counter() - started:.0f} s")
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    weights = next(iter(found["weights"].values()))
    print("weights: " + ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items()))
    return found


def told(what: str, value: float, *, least: float = -1e9, most: float = 1e9) -> None:
    bound = f"at least {least:.4g}" if least > -1e9 else f"at most {most:.4g}"
    verdict = "holds" if least <= value <= most else "MISSED"
    print(f"  {what:40} {value:8.4f}   target: {bound:16} {verdict}")


def coverage(found: dict[str, Any], split: str) -> None:
    low, high = found["intervals"][split]["llmpred"]["coverage_90"]
    share = found["splits"][split]["llmpred"]["coverage_90"]
    told(f"0.9 above lower end of coverage {share:.3f}", low, most=0.9)
    told(f"0.9 below upper end of coverage {share:.3f}", high, least=0.9)
    tested = found["tested"][split]
    if tested["rows"] >= BOUNDED[0] and tested["groups"] >= BOUNDED[1]:
        told("coverage of 90 % intervals", share, least=0.87)
        told("coverage of 90 % intervals", share, most=0.93)


if __name__ == "__main__":
    main()
