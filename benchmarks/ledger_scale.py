"""How fast a ledger of many runs opens: `python benchmarks/ledger_scale.py --runs 100000`.

Generates records, folds them as `compact` does, and prints what `keys()`, `has()`, `get()` and
`table()` take in a fresh process, and its peak memory. `--loose N` leaves N records unfolded.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--loose", type=int, default=100)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        segments = generate(folder, args.runs, args.loose)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / 2**20
        took = time.perf_counter() - started
        print(
            f"{args.runs} runs made and folded in {took:.1f} s: {segments} segments, {size:.0f} MB"
        )
        command = [sys.executable, __file__, "--measure", folder]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for what, figure in figures.items():
            print(f"{what:28} {figure:10.3f}")


def generate(folder: str, runs: int, loose: int) -> int:
    from llmpred.ledger import Ledger, RunRecord
    from llmpred.ledger.ledger import SEGMENT_ROWS
    from llmpred.spec.canonical import digest
    from llmpred.spec.run import RunSpec

    draw = random.Random(0)
    ledger = Ledger(folder)

    def record(number: int) -> RunRecord:
        spec = {
            "task": {"name": "sentiment", "labels": {"0": "negative", "1": "positive"}},
            "dataset": {"source": f"data/{number % 50}.jsonl"},
            "base": {"name": "smollm2-135m"},
            "method": {"head": "causal_lm", "adapter": {"r": draw.choice([4, 8, 16])}},
            "optim": {"lr": 10 ** draw.uniform(-5, -3), "epochs": 3},
            "evaluation": {"holdout": 0.2},
            "seed": number,
        }
        curve = tuple(
            {"step": float(step), "loss": draw.random(), "lr": 1e-4, "grad_norm": draw.random()}
            for step in range(20)
        )
        score = draw.random()
        return RunRecord(
            key=digest(["run", number]),
            train_key=digest(["train", number]),
            dataset=f"data-{number % 50}",
            base="smollm2-135m",
            spec=RunSpec.model_validate(spec),
            hashes={name: digest([name, number % 50]) for name in ("train", "evaluation")},
            versions={"task": 1, "method": 1, "engine": 1},
            status="ok",
            accuracy_r=score,
            metrics={"accuracy": score, "macro_f1": draw.random()},
            zero_shot_key=digest(["run", number % 50]),
            loss_curve=curve,
            wall_seconds={"load": 1.0, "train": draw.random() * 100, "total": 120.0},
            tokens={"train": draw.randrange(10**6)},
            counts={"train": 300, "evaluation": 300},
            provenance={"created": f"2026-01-01T00:00:00.{number:09d}", "git_commit": "0" * 40},
        )

    in_order = sorted(range(runs), key=lambda number: digest(["run", number]))
    for start in range(0, runs, SEGMENT_ROWS):
        numbers = in_order[start : start + SEGMENT_ROWS]
        ledger._write_segment([record(n).sealed().model_dump(mode="json") for n in numbers])
    for number in range(runs, runs + loose):
        ledger.put(record(number))
    return len(ledger.storage.list("segments/"))


def measure(folder: str) -> dict[str, float]:
    started = time.perf_counter()
    from llmpred.ledger import Ledger

    figures: dict[str, float] = {}

    def timed(what: str, call: object) -> object:
        begin = time.perf_counter()
        found = call()  # type: ignore[operator]
        figures[what + " (s)"] = time.perf_counter() - begin
        return found

    ledger = Ledger(folder)
    figures["import (s)"] = time.perf_counter() - started
    keys = sorted(timed("keys(), first", ledger.keys))  # type: ignore[call-overload]
    timed("keys(), again", ledger.keys)
    timed("has()", lambda: ledger.has(keys[len(keys) // 2]))
    timed("get()", lambda: ledger.get(keys[len(keys) // 3]))
    figures["peak memory so far (MB)"] = peak_memory()
    table = timed("table()", ledger.table)
    figures["rows"] = table.num_rows  # type: ignore[attr-defined]
    figures["columns"] = table.num_columns  # type: ignore[attr-defined]
    figures["table (MB)"] = table.nbytes / 2**20  # type: ignore[attr-defined]
    figures["peak memory (MB)"] = peak_memory()
    return figures


def peak_memory() -> float:
    """Of this process since its start, in MB; Linux only (rusage would count the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
