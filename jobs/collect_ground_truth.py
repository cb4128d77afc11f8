"""Collect ground truth: run what a search space asks for and the ledger does not have.

    python jobs/collect_ground_truth.py --space search_spaces/qa_lora.yaml --storage ~/llmpred
    ray job submit --working-dir . -- python jobs/collect_ground_truth.py

Without arguments it runs the demo space. The same command resumes. Options: --help.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a submitted job runs the code it was submitted with

import typer

from llmpred.cli import run
from llmpred.cli.runs import collect

if __name__ == "__main__":
    job = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    job.command()(collect)
    run(job)
