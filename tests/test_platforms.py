"""What is installed where, and the commands of docs/platforms.md: as the project has them."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

from llmpred.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "platforms.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for line in re.findall(r"^ {4}(\S.*)$", PAGE.replace("\\", "/"), re.MULTILINE)
]


def installed(platform: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [Requirement(text) for text in project["dependencies"]]
    environment = {"sys_platform": platform, "extra": ""}
    return {n.name for n in needed if n.marker is None or n.marker.evaluate(environment)}


def test_bitsandbytes_is_for_linux_and_windows_and_deepspeed_for_linux() -> None:
    everything = installed("linux")
    assert {"bitsandbytes", "deepspeed", "torch"} <= everything
    assert everything - installed("win32") == {"deepspeed"}
    assert everything - installed("darwin") == {"deepspeed", "bitsandbytes"}


def test_the_python_that_the_page_names_is_the_one_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in PAGE


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_there(words: list[str]) -> None:
    name = words[0].rsplit("/", 1)[-1]
    if name == "llmpred":
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while getattr(command, "commands", None) and rest:
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known
    elif name == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        variables = [word.split("=")[0] for word in words[1:] if "=" in word]
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{v} +\?=", makefile, re.MULTILINE) for v in variables)
        assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in targets)
    elif name == "export":
        variable = words[1].split("=")[0]
        source = "".join(p.read_text("utf-8") for p in (ROOT / "llmpred").rglob("*.py"))
        assert variable == "HF_HOME" or f'"{variable}"' in source
    elif "pip" in words:
        assert words[words.index("-c") + 1] == "constraints.txt"
        assert words[-1] in ("torch", ".")
    else:
        assert name in {"py", "conda", "nvidia-smi", "df", "apt-get", "tmux", "."}


def test_paths_and_links_of_the_page_are_there() -> None:
    for target in re.findall(r"\]\((?!#)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).is_file()
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
