"""Numbers before and after, on generated texts: the tables of docs/numeric.md.

    python benchmarks/numeric.py --storage runs [--only proxy]

Each comparison is `llmpred compare` of search_spaces/numeric_before_after.yaml on another base;
half an hour of two CPU cores for the proxy, two for smollm2-135m. What is paid for is not rerun.
Printed are the tables of the reports, which lie in comparison-numeric-NAME.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("Before and after", "Value")
FEWER = {"pointer": "head_form: pointer", "cauchy": "head_form: mlp"}  # of the larger base
LORA = "adapter: {kind: lora, r: 16, alpha: 32, target_modules: all_linear}"
METHODS = ", ".join(
    ["{name: before, head: numeric, adapter: {kind: none}}"]
    + [f"{{name: {name}, head: numeric, {form}, {LORA}}}" for name, form in FEWER.items()]
    + ["{name: 'digits, before', head: causal_lm, adapter: {kind: none}}"]
    + [f"{{name: digits, head: causal_lm, {LORA}}}"]
)
COMPARISONS: dict[str, list[str]] = {
    "proxy": [],
    "smollm2-135m": [
        *("base=smollm2-135m", f"methods=[{METHODS}]", "optim.lr=1e-3"),
        *("optim.epochs=null", "optim.max_steps=200", "execution.checkpoints.every=25"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--only", choices=COMPARISONS)
    parser.add_argument("--no-collect", action="store_true", help="compare what is there")
    asked = parser.parse_args()
    for name, changes in COMPARISONS.items():
        if asked.only in (None, name):
            out = f"comparison-numeric-{name}"
            options = [word for change in changes for word in ("--set", change)]
            options += ["--no-collect"] * asked.no_collect
            command = [sys.executable, "-c", "from llmpred.cli import main; main()", "compare"]
            space = str(ROOT / "search_spaces" / "numeric_before_after.yaml")
            where = ["--storage", asked.storage, "--out", out, "--no-tracking"]
            subprocess.run([*command, space, *where, *options], check=True)
            tell(json.loads((Path(out) / "comparison.json").read_text("utf-8")))


def tell(found: dict[str, Any]) -> None:
    """Print the tables of a comparison as Markdown."""
    for group in found["groups"]:
        print(f"\n{group['dataset']} on {group['base']}, {group['evaluation_rows']} rows")
        for table in group["tables"]:
            if table["title"] in TABLES:
                print(f"\n{table['title']}\n")
                columns = list(table["rows"][0])
                print(f"| {' | '.join(columns)} |\n| {' | '.join('---' for _ in columns)} |")
                for row in table["rows"]:
                    print(f"| {' | '.join(map(_said, row.values()))} |")


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " → ".join(map(_said, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
