"""The pages of `docs/` say what the code does: their tables, and every YAML block, load."""

import itertools
import re
import runpy
import shlex
from pathlib import Path

import pytest

from llmpred.spec.distributions import DISTRIBUTIONS
from llmpred.spec.run import SourceSpec
from llmpred.spec.space import _KEYS, expand, load_run, load_space
from llmpred.tasks import registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "search_spaces.md"
BLOCK = re.compile(r"^(?:<!-- (space|run) -->\n)?```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADS = {name: registry.get(name).heads for name in registry.names()}
DOCUMENTS = [PAGE, ROOT / "docs" / "comparing.md", ROOT / "README.md", ROOT / "README.zh.md"]
FIELDS = runpy.run_path(str(ROOT / "docs" / "fields.py"))


def blocks() -> list[tuple[str, str, str]]:
    """Return file, mark and text of every YAML block in the documents."""
    return [
        (path.name, mark, text)
        for path in DOCUMENTS
        for mark, text in BLOCK.findall(path.read_text("utf-8"))
    ]


def test_tables_follow_from_the_code() -> None:
    texts = {page.name: page.read_text("utf-8") for page in FIELDS["PAGES"]}
    found = [name for t in texts.values() for name in re.findall(r"<!-- made: ([\w-]+) -->", t)]
    assert sorted(found) == sorted(FIELDS["TABLES"])
    stale = [name for name, text in texts.items() if FIELDS["refreshed"](text) != text]
    assert not stale, f"{', '.join(stale)}: refresh with python docs/fields.py"


def test_a_stale_table_is_noticed_and_mended() -> None:
    text = PAGE.read_text("utf-8")
    stale = text.replace("| `lr` |", "| `learning_rate` |")
    assert stale != text
    assert FIELDS["refreshed"](stale) == text


def test_every_key_distribution_and_format_has_a_row() -> None:
    text = PAGE.read_text("utf-8")
    formats = set(SourceSpec.model_fields["format"].annotation.__args__) - {"auto"}
    rows = [f"| `{name}` |" for name in (*_KEYS, *formats)]
    rows += [f"| `{{{name}: [" for name in DISTRIBUTIONS]
    assert [row for row in rows if row not in text] == []


def test_every_block_is_marked() -> None:
    assert [name for name, mark, _ in blocks() if not mark] == []
    assert {name for name, _, _ in blocks()} == {path.name for path in DOCUMENTS}


@pytest.mark.parametrize(("name", "mark", "text"), blocks(), ids=lambda value: value[:12])
def test_block_loads(name: str, mark: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(text, "utf-8")
    if mark == "run":
        assert load_run(path, heads=HEADS).trains
    else:
        assert expand(load_space(path, heads=HEADS))


def test_set_commands_of_the_page_apply(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    [command] = re.findall(r"^    llmpred plan reviews\.yaml .*?[^\\]$", text, re.M | re.S)
    words = shlex.split(command.replace("\\\n", " "))
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    path = tmp_path / "reviews.yaml"
    path.write_text(blocks()[0][2], "utf-8")
    runs = expand(load_space(path, overrides, HEADS))
    assert {(run.base.name, run.optim.max_steps) for run in runs if run.trains} == {
        ("smollm2-135m", 20)
    }
