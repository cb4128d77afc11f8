"""How well small sizes foretell the best base, on published curves of 30 bases.

    python benchmarks/curves.py --data ../shared/data/tables [--more OTHER.csv]

Every figure comes from `llmpred meta curves`, run as a user would, on the test losses of 30 models
fine-tuned on 200 to 1,638,400 examples (scaling_flan.csv, scaling_wmt19.csv: rectified scaling
law), and on any table of the same form given by `--more`. For each table:

- means over the seven budgets 1/8 … 1/512, beside the targets where there are some;
- the same with each other table as `--prior`, so that what a prior is worth is told by tables that
  had no part in it.

About 10 seconds. Tables that are not there are skipped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = [f"1/{2**k}" for k in range(3, 10)]
TARGETS = {"scaling_flan": (0.69, 0.921), "scaling_wmt19": (0.89, 0.992)}
# AtS (Lin et al., 2024), means over the seven budgets of its published table.
PUBLISHED = {
    "scaling_flan": (0.627, 0.921),
    "scaling_wmt19": (0.846, 0.992),
    "gigaword": (0.938, 0.951),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/tables")
    parser.add_argument("--more", type=Path, action="append", default=[])
    args = parser.parse_args()
    tables = [args.data / f"{name}.csv" for name in TARGETS] + args.more
    for table in tables:
        if not table.exists():
            print(f"skipped: there is no {table}")
    tables = [table for table in tables if table.exists()]
    for table in tables:
        print(f"\n{table.stem}: mean Pearson / relative accuracy over {', '.join(BUDGETS)}")
        alone = run(table, [])
        for name in ("llmpred", *alone["1/8"]["baselines"]):
            show(name, alone, name)
        if table.stem in PUBLISHED:
            print("  {:34}{:.3f} / {:.3f}".format("AtS, as published", *PUBLISHED[table.stem]))
        if table.stem in TARGETS:
            print("  {:34}{:.3f} / {:.3f}".format("at least", *TARGETS[table.stem]))
        others = [other for other in tables if other != table]
        for priors in [[other] for other in others] + ([others] if len(others) > 1 else []):
            show(f"with {', '.join(p.stem for p in priors)}", run(table, priors), "llmpred")


def run(table: Path, priors: Sequence[Path]) -> dict[str, Any]:
    """Return the figures that the command writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, "-c", "from llmpred.cli import main; main()", "meta", "curves"]
        options = ["--table", table, "--budget", ",".join(BUDGETS), "--json", out]
        options += [word for prior in priors for word in ("--prior", prior)]
        subprocess.run([*command, *map(str, options)], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def show(label: str, found: dict[str, Any], predictor: str) -> None:
    own = predictor == "llmpred"
    rows = [each if own else each["baselines"][predictor] for each in found.values()]
    means = [sum(row[key] for row in rows) / len(rows) for key in ("pearson", "relative_accuracy")]
    by_budget = " ".join(f"{row['pearson']:.2f}" for row in rows)
    covered = sum(each["coverage_90"] for each in found.values()) / len(found)
    end = f", in the 90 % interval {covered:.1%}" if own else ""
    print("  {:34}{:.3f} / {:.4f}   Pearson by budget: {}{}".format(label, *means, by_budget, end))


if __name__ == "__main__":
    main()
