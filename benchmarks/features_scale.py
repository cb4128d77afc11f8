"""Text features of large files: `python benchmarks/features_scale.py --sizes 10000,100000,1000000`.

Writes JSONL files of generated documents and summaries, of which 5 % come twice and 5 % come again
with a word in ten dropped, and reads each in a fresh process: first into the cache of tables, then
for the text features, in as many processes as --workers says. Prints rows a second of both, and the
peak memory of all processes together, sampled ten times a second: PSS, which shares a page among
the processes that map it, and RSS, which counts it for each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PART = 10_000  # rows generated at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(Path(args.measure), args.workers)))
        return
    speeds: dict[str, list[float]] = {"rows a second": [], "rows a CPU second": []}
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.jsonl"
            generate(file, size)
            print(f"{size:,} rows, {file.stat().st_size / 2**20:.0f} MB", flush=True)
            command = [sys.executable, __file__, "--measure", str(file)]
            command += ["--workers", str(args.workers)]
            output = subprocess.run(command, check=True, capture_output=True).stdout
            figures = json.loads(output.splitlines()[-1])
        for what, figure in figures.items():
            print(f"  {what:32} {figure:12,.3f}", flush=True)
        for what, kept in speeds.items():
            kept.append(figures[f"features: {what}"])
    for what, kept in speeds.items():
        print(f"{what}, last size over first: {kept[-1] / kept[0]:.2f}")


def generate(file: Path, size: int) -> None:
    from llmpred.data.synthetic import generate as rows_of

    draw = random.Random(0)
    with file.open("w") as out:
        for part in range(0, size, PART):
            count = min(PART, size - part)
            fresh = rows_of("summarization", {"n": count - count // 20 * 2, "seed": part})
            rows = [{"document": row["document"], "summary": row["summary"]} for row in fresh]
            rows += draw.sample(rows, count // 20)
            rows += [
                {**row, "document": edited(row["document"], draw)}
                for row in draw.sample(rows, count // 20)
            ]
            draw.shuffle(rows)
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def edited(text: str, draw: random.Random) -> str:
    words = text.split()
    for _ in range(max(1, len(words) // 10)):
        words.pop(draw.randrange(len(words)))
    return " ".join(words)


def measure(file: Path, workers: int) -> dict[str, float]:
    from llmpred.data import load
    from llmpred.features.base import compute
    from llmpred.features.scan import text_stats
    from llmpred.features.text import FEATURES
    from llmpred.spec.run import SourceSpec, TaskSpec
    from llmpred.tasks import registry

    task = registry.get("summarization")
    spec = task.settle(TaskSpec(name=task.name, language="en"), [])
    source = SourceSpec(source=str(file))
    with Memory() as reading:
        table = load(source, task.fields, task.parse, cache=file.parent / "cache").table
    with Memory() as scanning:
        stats = text_stats(table, task, spec, scratch=file.parent, workers=workers)
    values = compute(FEATURES, stats).values
    return {
        "reading: rows a second": table.num_rows / reading.seconds,
        "reading: peak PSS (MB)": reading.pss / 2**20,
        "features: rows a second": table.num_rows / scanning.seconds,
        "features: seconds": scanning.seconds,
        "features: rows a CPU second": table.num_rows / scanning.cpu,
        "features: cores used": scanning.cpu / scanning.seconds,
        "features: CPU share of workers": 1 - scanning.own / scanning.cpu,
        "features: peak PSS (MB)": scanning.pss / 2**20,
        "features: peak RSS (MB)": scanning.rss / 2**20,
        "duplicate_share": values["duplicate_share"],
        "near_duplicate_share": values["near_duplicate_share"],
    }


class Memory:
    """Seconds of a block, and CPU seconds and peak memory of this process and its children."""

    def __init__(self) -> None:
        self.seconds = self.cpu = self.own = 0.0
        self.pss = self.rss = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self) -> Memory:
        self.started = time.perf_counter()
        self.own, self.cpu = (-seconds for seconds in cpu_seconds())
        self.thread.start()
        return self

    def __exit__(self, *failed: Any) -> None:
        self.seconds = time.perf_counter() - self.started
        self.ended.set()
        self.thread.join()
        own, cpu = cpu_seconds()
        self.own, self.cpu = self.own + own, self.cpu + cpu

    def watch(self) -> None:
        import psutil

        this = psutil.Process()
        while not self.ended.wait(0.1):
            pss = rss = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    used = process.memory_full_info()
                except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                    continue  # it ended meanwhile
                pss, rss = pss + used.pss, rss + used.rss
            self.pss, self.rss = max(self.pss, pss), max(self.rss, rss)


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of it and its children that have ended."""
    times = os.times()
    return sum(times[:2]), sum(times[:4])


if __name__ == "__main__":
    main()
