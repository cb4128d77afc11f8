"""Rows a second and peak memory of `llmpred infer --file`, against one text at a time.

The model is a LoRA adapter on the proxy, scored by labels, trained here for a few steps on made-up
reviews; the files are further, short ones. Each file is answered by a process of its own, whose
peak is of its resident memory. Fails if the large file takes more memory than the small one by over
a tenth, or a row more than a third of the time that it takes alone.

python benchmarks/infer.py [ROWS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmpred import Predictor
from llmpred.bases.resolve import resolve
from llmpred.data import synthetic
from llmpred.engine.models import LoadedBases
from llmpred.engine.run import execute
from llmpred.spec.run import RunSpec

ALONE = 300  # texts answered one at a time
REVIEWS = "synthetic:sentiment"
SPEC = RunSpec.model_validate(
    {
        "task": {"name": "sentiment", "max_length": 160},
        "dataset": {"source": REVIEWS, "options": {"n": 2000, "seed": 1, "part": "train"}},
        "base": {"name": "proxy"},
        "method": {"head": "label_scoring", "adapter": {"kind": "lora", "r": 8}},
        "optim": {"lr": 2e-3, "max_steps": 30, "batch_size": 16},
        "evaluation": {"data": {"source": REVIEWS, "options": {"n": 100, "part": "test"}}},
        "execution": {"device": "cpu"},
    }
)


def write(path: Path, rows: int) -> list[str]:
    """Write a file of reviews, and return its first texts."""
    texts = []
    with path.open("w", encoding="utf-8") as file:
        for i, row in enumerate(
            synthetic.generate("sentiment", {"n": rows, "length": "short", "part": "test"})
        ):
            file.write(json.dumps({"n": i, "text": row["text"]}, ensure_ascii=False) + "\n")
            if i < ALONE:
                texts.append(row["text"])
    return texts


def answer(adapter: Path, source: Path) -> tuple[float, int]:
    """Answer a file, and return rows a second and the peak of resident memory in bytes."""
    out = source.with_name(f"answers-{source.name}")
    code = "from llmpred.cli import main; main()"
    arguments = ["infer", str(adapter), "--file", str(source), "--out", str(out), "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    done = json.loads(said)
    with out.open() as file:
        assert sum(1 for _ in file) == done["rows"]
    return done["rows_per_second"], usage.ru_maxrss * 1024


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        outcome = execute(resolve(SPEC), LoadedBases(), folder / "run", keep_adapter=True)
        assert outcome.adapter is not None
        print(f"trained for {SPEC.optim.max_steps} steps: accuracy {outcome.record.accuracy_r:.2f}")
        rates, peaks = {}, {}
        for count in (rows // 10, rows):
            texts = write(folder / f"{count}.jsonl", count)
            rates[count], peaks[count] = answer(outcome.adapter, folder / f"{count}.jsonl")
            print(
                f"--file, {count:,} rows: {rates[count]:,.0f} rows a second, "
                f"peak {peaks[count] / 1e6:,.0f} MB",
                flush=True,
            )
        predictor = Predictor.load(outcome.adapter)
        predictor.predict(texts[0])
        started = time.perf_counter()
        for text in texts:
            predictor.predict(text)
        alone = len(texts) / (time.perf_counter() - started)
    times, growth = rates[rows] / alone, peaks[rows] / peaks[rows // 10] - 1
    print(f"one text at a time: {alone:,.0f} rows a second; --file is {times:.1f} times as fast")
    print(f"memory of ten times the rows: {growth:+.1%}")
    assert times >= 3
    assert growth <= 0.1


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
