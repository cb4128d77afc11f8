"""Describe every run of a search space, or a data file, by meta-features.

    python jobs/extract_meta_features.py search_spaces/demo.yaml --storage ~/llmpred --out f.parquet
    ray job submit --working-dir . -- python jobs/extract_meta_features.py search_spaces/world.yaml

What was measured before costs nothing; the same command resumes. Options: --help.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a submitted job runs the code it was submitted with

import typer

from llmpred.cli import run
from llmpred.cli.features import features

if __name__ == "__main__":
    job = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    job.command()(features)
    run(job)
