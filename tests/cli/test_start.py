"""The command line starts fast and explains itself."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from llmpred.cli import main; main()"


def best_of_three(command: list[str]) -> float:
    """Return the seconds of processor time that the command takes: other work does not count."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def test_help_comes_within_a_second():
    assert best_of_three([sys.executable, "-c", MAIN, "--help"]) < 1.0


def test_import_takes_less_than_half_a_second():
    assert best_of_three([sys.executable, "-c", "import llmpred"]) < 0.5


HEAVY = "torch transformers peft ray mlflow pyarrow pandas sklearn scipy datasets"


def test_help_imports_nothing_heavy():
    program = f"import sys, llmpred.cli; print(*(set({HEAVY.split()!r}) & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == ""


COMMANDS = [
    [],
    ["plan"],
    ["collect"],
    ["data"],
    *(["data", name] for name in ("check", "show")),
    ["ledger"],
    *(["ledger", name] for name in ("ls", "show", "diff", "export", "import", "retract")),
    *(["ledger", name] for name in ("compact", "verify", "sync-mlflow")),
    ["bases"],
    *(["bases", name] for name in ("ls", "add")),
    ["infer"],
    ["doctor"],
    ["ui"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(command: list[str], llmpred: Callable[..., Any]):
    ran = llmpred(*command, "--help")
    assert ran.code == 0
    groups = ([], ["data"], ["ledger"], ["bases"])
    assert "--json" in ran.out or command in groups


def test_an_unknown_option_is_bad_input(llmpred: Callable[..., Any]):
    ran = llmpred("ledger", "ls", "--nonsense")
    assert ran.code == 2
    assert "--nonsense" in ran.err


def test_version(llmpred: Callable[..., Any]):
    ran = llmpred("--version")
    assert ran.code == 0
    assert ran.out.startswith("llmpred ")
