"""Meta-features of real data under two bases, as the table in docs/meta_features.md.

    python benchmarks/features_real.py --data ../shared/data --storage ~/llmpred-real

Questions on passages (SQuAD), sentences (SST-2), Chinese reviews (ChnSentiCorp), answers to
instructions (Dolly, as chats) and multiple choice (MMLU): 2,000 training rows of each, all of
MMLU's, by `llmpred features` with the shipped proxy and with SmolLM2-135M. Rows to compare with are
the datasets' own evaluation parts, or a tenth held out. Prints the table in Markdown; what was
measured before is not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BASES = ("proxy", "smollm2-135m")
FIRST = {"recipe": [{"subsample": {"n": 2000}}]}
HELD_OUT = {"evaluation": {"holdout": 0.1}}
SHOWN = (
    ("input_words_mean", "{:.1f}"),
    ("output_words_mean", "{:.1f}"),
    ("near_duplicate_share", "{:.3f}"),
    ("out_sem_div", "{:.3f}"),
    ("out_vendi", "{:.1f}"),
    ("io_sim", "{:.3f}"),
    ("label_noise_estimate", "{:.2f}"),
    ("eval_similarity", "{:.3f}"),
    ("output_perplexity", "{:,.1f}"),
    ("text_perplexity", "{:,.1f}"),
    ("conditional_gain", "{:.2f}"),
)


def datasets(data: Path) -> list[dict[str, Any]]:
    def sentiment(name: str, stem: str, test: str, column: str, **task: Any) -> dict[str, Any]:
        columns = {"text": column}
        own = {"source": str(data / "sentiment" / test), "columns": columns}
        return {
            "name": name,
            "source": str(data / "sentiment" / f"{stem}_train.tsv"),
            "columns": columns,
            **FIRST,
            "task": {"name": "sentiment", **task},
            "evaluation": {"data": own},
        }

    chats = {
        "source": str(data / "instruct/dolly_alpaca_messages.jsonl"),
        "columns": {"document": "prompt", "summary": "response"},
    }
    return [
        {
            "name": "SQuAD",
            "source": str(data / "qa/squad_v1.1_20_articles.json"),
            **FIRST,
            "task": {"name": "qa"},
            **HELD_OUT,
        },
        sentiment("SST-2", "sst2", "sst2_test.tsv", "sentence", labels={0: "bad", 1: "good"}),
        sentiment(
            "ChnSentiCorp",
            "chnsenticorp",
            "chnsenticorp_dev.tsv",
            "text_a",
            language="zh",
            labels={0: "差", 1: "好"},
        ),
        {"name": "Dolly", **chats, **FIRST, "task": {"name": "summarization"}, **HELD_OUT},
        {
            "name": "MMLU",
            "source": str(data / "multiple_choice/mmlu_val.json"),
            "task": {"name": "multiple_choice"},
            **HELD_OUT,
        },
    ]


def described(data: Path, storage: Path) -> list[dict[str, Any]]:
    """Return the features of each dataset under each base, a row each."""
    space = {
        "name": "real",
        "sampler": "grid",
        "task": {"name": "qa", "max_length": 512},
        "datasets": datasets(data),
        "bases": list(BASES),
        "methods": [{}],
        "optim": {"lr": 1e-3, "max_steps": 20, "batch_size": 8},
        "evaluation": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "real.yaml"
        path.write_text(yaml.safe_dump(space, allow_unicode=True, sort_keys=False), "utf-8")
        command = [sys.executable, str(ROOT / "jobs/extract_meta_features.py"), str(path), "--json"]
        command += ["--storage", str(storage), "--measure", "text,tokens,embedding,likelihood"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    answer = json.loads(done.stdout)
    print(f"{answer['measured']} measured, {answer['seconds']:.0f} s", file=sys.stderr)
    for warning in answer["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    rows: list[dict[str, Any]] = answer["rows"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--storage", type=Path, required=True)
    args = parser.parse_args()
    rows = described(args.data.resolve(), args.storage)
    print("| data | base | " + " | ".join(f"`{name}`" for name, _ in SHOWN) + " |")
    print("|---" * (len(SHOWN) + 2) + "|")
    for row in rows:
        cells = ["–" if row[name] is None else shown.format(row[name]) for name, shown in SHOWN]
        print("| " + " | ".join([row["dataset"], row["base"], *cells]) + " |")


if __name__ == "__main__":
    main()
