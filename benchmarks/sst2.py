"""Zero-shot against fine-tuned on real sentences, through the job, with wall times.

    python benchmarks/sst2.py --data ../shared/data/sentiment

Runs SmolLM2-135M with label scoring (300 training sentences of SST-2, 20 steps of 16, 300 test
sentences) and MiniLM with a LoRA classifier head on the same data, each as a space of its own, and
prints scores and seconds. The training file mixes sentences with fragments of them ("kids ,
spirit"); the test is on sentences, so SmolLM2 draws from rows of at least 12 words, while MiniLM
learns more from any. Learning rates and this floor were chosen on 400 sentences of sst2_dev.tsv.

Needs sst2_train.tsv and sst2_test.tsv with the columns `sentence` and `label`; without them it says
so and ends.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPACE = """
name: {name}
sampler: grid
seeds: [0, 1]
task: {{name: sentiment, language: en, labels: {{0: negative, 1: positive}}, max_length: 128}}
datasets:
  - name: sst2
    source: {sentences}
    columns: {{text: sentence}}
    recipe: [{{subsample: {{n: 300}}}}]
bases: [{base}]
methods: [{method}]
optim: {{lr: {lr}, max_steps: 20, batch_size: 16, warmup: 0.1}}
evaluation:
  data: {{source: {data}/sst2_test.tsv, columns: {{text: sentence}}}}
  limit: 300
execution: {{micro_batch: 16}}
"""
CASES = {  # method, learning rate, words of a training row at least
    "smollm2-135m": (
        "{head: label_scoring, loss: candidates, adapter: {r: 8, alpha: 16}}",
        "1e-3",
        12,
    ),
    "minilm": ("{head: classifier, adapter: {r: 8, alpha: 16}}", "5e-3", 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/sentiment")
    parser.add_argument("--base", choices=CASES, action="append")
    args = parser.parse_args()
    if not (args.data / "sst2_train.tsv").exists():
        print(f"skipped: {args.data} has no sst2_train.tsv")
        return
    for base in args.base or CASES:
        method, lr, words = CASES[base]
        with tempfile.TemporaryDirectory() as folder:
            space = Path(folder) / "space.yaml"
            sentences = Path(folder) / "sentences.tsv"
            header, *rows = (args.data / "sst2_train.tsv").read_text("utf-8").splitlines()
            rows = [row for row in rows if len(row.split("\t")[0].split()) >= words]
            sentences.write_text("\n".join([header, *rows, ""]), "utf-8")
            text = SPACE.format(
                name=base,
                sentences=sentences,
                data=args.data.resolve(),
                base=base,
                method=method,
                lr=lr,
            )
            space.write_text(text)
            command = [sys.executable, str(ROOT / "jobs/collect_ground_truth.py"), "--json"]
            command += ["--space", str(space), "--storage", f"{folder}/runs"]
            started = time.time()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            wall = time.time() - started
            print(f"{base}: {wall:.0f} s for the whole job")
            for run in json.loads(done.stdout)["run_list"]:
                print(f"  {run['what']:55} {run['accuracy_r']:.3f}  {run['seconds']:.0f} s")


if __name__ == "__main__":
    main()
