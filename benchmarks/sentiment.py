"""Ways to classify sentiment, compared on real data: the tables of docs/sentiment.md.

    python benchmarks/sentiment.py --data FOLDER --storage runs [--only chnsenticorp]

Each comparison is `llmpred compare` of search_spaces/sentiment_schemes.yaml with other data, bases
and lengths; about three hours of one CPU core in all. What is paid for is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHINESE = ("chnsenticorp_train.tsv", "chnsenticorp_dev.tsv")
ENGLISH = ("sst2_train.tsv", "sst2_test.tsv")
QUICK = ["execution.activation_checkpointing=false", "execution.eval_batch=64"]
PROXY = ["base=proxy", "optim.lr=2e-3", "methods[4].optim.lr=1e-2", *QUICK]
WORDS = ["task.labels={0: negative, 1: positive}", "task.max_length=64", "published=[]"]

COMPARISONS: dict[str, tuple[tuple[str, str], list[str]]] = {
    "chnsenticorp": (CHINESE, [*PROXY, "task.max_length=160"]),
    "sst2": (
        ENGLISH,
        [*PROXY, *WORDS, "task.labels={0: bad, 1: good}", "dataset.limit=6000"],
    ),
    "sst2_smollm2": (
        ENGLISH,
        [
            *("base=smollm2-135m", *WORDS, *QUICK[:1], "dataset.limit=375", "seeds=[0,1]"),
            *("optim.max_steps=40", "optim.lr=5e-4", "methods[4].optim.lr=1e-2"),
            "methods[1].loss=candidates",
        ],
    ),
    "sst2_minilm": (
        ENGLISH,
        [
            *("base=minilm", *WORDS, *QUICK[:1], "dataset.limit=1500", "seeds=[0,1]"),
            *("optim.epochs=2", "optim.lr=2e-3", "methods[4].optim.lr=1e-2"),
        ],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--only", choices=COMPARISONS)
    asked = parser.parse_args()
    for name, ((train, test), changes) in COMPARISONS.items():
        if asked.only not in (None, name):
            continue
        sources = {"dataset.source": train, "evaluation.data.source": test}
        given = [f"{path}={asked.data / file}" for path, file in sources.items()]
        named = [f"name={name}", f"datasets[0].name={name.partition('_')[0]}"]
        options = [word for text in (*named, *given, *changes) for word in ("--set", text)]
        command = "from llmpred.cli import main; main()"
        subprocess.run(
            [
                *(sys.executable, "-c", command, "compare"),
                str(ROOT / "search_spaces" / "sentiment_schemes.yaml"),
                *("--storage", asked.storage, "--out", f"comparison-{name}", *options),
            ],
            check=True,
        )


if __name__ == "__main__":
    main()
