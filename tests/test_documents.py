"""The commands in the documents work as written.

A fenced `bash` or `console` block under the line `<!-- ci: run -->` is run. All blocks of a
document run in order, as one script, in a fresh copy of the project with a fresh home folder. There
a space, a `yaml` block under `<!-- space -->` that opens with `# NAME.yaml`, lies in that file.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^<!-- ci: run -->\n+```(bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPACE = re.compile(
    r"^<!-- space -->\n+```yaml\n(# ([\w-]+\.yaml).*?)^```$", re.MULTILINE | re.DOTALL
)


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def script(text: str) -> str:
    """Commands of the marked blocks of `text`; in a console block, what stands after `$ `.

    Before them, where there are any, its spaces are written.
    """
    parts = []
    for kind, body in BLOCK.findall(text):
        if kind == "console":
            prompts = re.findall(r"^\$ ((?:.*\\\n)*.*)$", body, re.MULTILINE)
            body = "\n".join(prompts) + "\n"
        parts.append(body)
    spaces = [f"cat > {name} <<'END'\n{body}END\n" for body, name in SPACE.findall(text)]
    return "".join([*spaces, *parts]) if parts else ""


def test_marked_blocks_are_found_in_order():
    text = (
        "<!-- ci: run -->\n```bash\necho a  # one\n```\n\n```bash\nnot this\n```\n"
        "<!-- ci: run -->\n\n```console\n$ echo b \\\n    c\nb c\n$ echo d\n```\n"
    )
    commands = "echo a  # one\necho b \\\n    c\necho d\n"
    assert script(text) == commands
    space = "<!-- space -->\n```yaml\n# s.yaml: one\nname: s\n```\n"
    assert script(text + space) == f"cat > s.yaml <<'END'\n# s.yaml: one\nname: s\nEND\n{commands}"
    assert script(space) == ""


def test_every_mark_stands_above_a_block():
    for path in documents():
        text = path.read_text("utf-8")
        marks = len(re.findall(r"^<!-- ci: run -->$", text, re.MULTILINE))
        assert marks == len(BLOCK.findall(text)), path


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "path", [p for p in documents() if script(p.read_text("utf-8"))], ids=lambda p: p.name
)
def test_commands_of(path: Path, tmp_path: Path):
    copy = tmp_path / "project"
    left_out = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "storage")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*left_out))
    home = tmp_path / "home"
    home.mkdir()
    env = {
        **os.environ,
        "HOME": str(home),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script(path.read_text("utf-8"))],
        cwd=copy,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
