"""What the meta-model takes on a large table: seconds and memory to read, fit and predict.

    python benchmarks/meta_scale.py
    python benchmarks/meta_scale.py --rows 200000 --suffix .csv

Makes a table (numbers, some missing, some over orders of magnitude; texts; a score that bends and
steps; 2,000 datasets with something of their own), then reads it in a fresh process, fits, and
predicts new candidates with intervals. Coverage is of those candidates.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

COLUMNS = 60
DATASETS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--suffix", choices=(".parquet", ".csv"), default=".parquet")
    args = parser.parse_args()
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        runs, new = (Path(folder) / f"{name}{args.suffix}" for name in ("runs", "new"))
        # In processes of their own, so that making does not count as memory of fitting.
        for job in ((make, (runs, args.rows, 0)), (make, (new, args.candidates, 1))):
            done(start.Process(target=job[0], args=job[1]))
        print(f"{args.rows} rows, {COLUMNS} columns, {runs.stat().st_size / 2**20:.0f} MiB")
        done(start.Process(target=measure, args=(runs, new)))


def done(process: Any) -> None:
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def make(path: Path, rows: int, seed: int) -> None:
    """Write a table of runs; datasets are the same for every seed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    draw = np.random.default_rng(seed)
    dataset = draw.integers(0, DATASETS, rows)
    own = np.random.default_rng(99).normal(size=(DATASETS, 10))
    columns: dict[str, Any] = {"dataset": np.char.add("d", dataset.astype(str))}
    for i in range(10):  # of the dataset
        columns[f"data_{i}"] = own[dataset, i]
    for i in range(10):  # over orders of magnitude
        columns[f"rate_{i}"] = 10 ** draw.uniform(-5, -2, rows)
    for i in range(24):
        columns[f"number_{i}"] = draw.normal(size=rows)
    for i in range(8):
        columns[f"steps_{i}"] = draw.integers(1, 100, rows)
    levels = np.array([f"value {i}" for i in range(12)])
    picked = draw.integers(0, len(levels), (rows, 7))
    for i in range(7):
        columns[f"text_{i}"] = levels[picked[:, i]]
    rate = np.log10(columns["rate_0"]) + 4
    score = 0.6 - 0.05 * rate**2 + 0.03 * columns["data_0"] * columns["number_0"]
    score += 0.05 * np.tanh(columns["number_1"] + columns["data_1"]) + 0.02 * (picked[:, 0] % 3)
    score += 0.02 * np.log(columns["steps_0"]) + 0.02 * draw.normal(size=rows)
    score += 0.02 * np.sin(3 * own[dataset, 2])
    for i in range(0, 24, 2):
        columns[f"number_{i}"] = np.where(draw.random(rows) < 0.1, np.nan, columns[f"number_{i}"])
    made = pa.table({**columns, "score": score})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(made, path)
    else:
        pyarrow.parquet.write_table(made, path)


def measure(runs: Path, new: Path) -> None:
    from llmpred.meta import metrics, model
    from llmpred.meta.table import make_table, read

    def table(path: Path) -> Any:
        return make_table(read([path]), "score", group=["dataset"])[0]

    started = time.perf_counter()
    fitted_on = told("read", lambda: table(runs))
    fitted = told("fit", lambda: model.fit(fitted_on))
    print(f"{'both':10} {time.perf_counter() - started:8.1f} s")
    candidates = table(new)
    found = told(f"predict {len(candidates)}", lambda: fitted.predict(candidates))
    for warning in fitted.warnings:
        print(f"warning: {warning}")
    print(", ".join(f"{name} {weight:.2f}" for name, weight in fitted.weights.items()))
    covered = metrics.coverage(candidates.target, found.lower, found.upper)
    print(f"rmse {metrics.rmse(candidates.target, found.mean):.4f}, coverage {covered:.3f}")


def told(what: str, job: Any) -> Any:
    """Return what a job returns, and print what it took."""
    started = time.perf_counter()
    made = job()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:10} {seconds:8.1f} s, peak memory so far {peak:.2f} GiB", flush=True)
    return made


if __name__ == "__main__":
    main()
