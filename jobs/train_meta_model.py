"""Train the meta-model on the runs of a ledger, or on any table of finished runs.

    python jobs/train_meta_model.py --storage ~/llmpred
    python jobs/train_meta_model.py --table runs.csv --target accuracy --group dataset
    ray job submit --working-dir . -- python jobs/train_meta_model.py

The same as `llmpred meta train`. Options: --help.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a submitted job runs the code it was submitted with

import typer

from llmpred.cli import run
from llmpred.cli.training import train

if __name__ == "__main__":
    job = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    job.command()(train)
    run(job)
