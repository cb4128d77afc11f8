"""Carry out one run, by any number of processes, and keep its weights.

    python jobs/finetune.py run.yaml --storage ~/llmpred --out my_run
    python jobs/finetune.py 3f2a9c --workers 2 --strategy zero2      # the run of a record
    ray job submit --working-dir . -- python jobs/finetune.py run.yaml --workers 8 --strategy zero3

Without arguments it carries out jobs/finetune.yaml. It leaves the adapter as PEFT saves it, the
record in the ledger and an MLflow run; --out writes weights, results and predictions into a folder.
The same command resumes. Options: --help.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a submitted job runs the code it was submitted with

import typer

from llmpred.cli import run
from llmpred.cli.finetune import finetune

if __name__ == "__main__":
    job = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    job.command()(finetune)
    run(job)
