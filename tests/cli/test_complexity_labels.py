"""`llmpred complexity label`: tables, JSON, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from llmpred.cli import run
from llmpred.cli.complexity_labels import label_command

Label = Callable[..., tuple[int, str, str]]


@pytest.fixture
def label(capsys: pytest.CaptureFixture[str]) -> Label:
    """Run the command in this process; returns its exit code, output and complaints."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(label_command)

    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(lambda: app([str(arg) for arg in args]))
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    asked = ("Calculate {}.", "为什么{}是奇数？")
    rows = [{"prompt": asked[i % 2].format(i), "counts": i % 7 * (i % 5)} for i in range(60)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_bins_are_shown_with_their_edges(label: Label, prompts: Path, tmp_path: Path):
    out = tmp_path / "out"
    code, shown, error = label(prompts, "--kind", "edges", "--edges", "0,4,12,30", "--out", out)
    assert (code, error) == (0, "")
    for text in ("[0, 4]", "(4, 12]", "(12, 30]", "macro-F1", f"written to {out}: 60 prompts"):
        assert text in shown
    assert sorted(p.name for p in out.iterdir()) == ["bin_config.json", "merged_with_bins.jsonl"]


@pytest.mark.parametrize(
    ("args", "labels"),
    [
        (("--kind", "edges", "--edges", "wait"), 7),
        (("--kind", "equal_width", "--bins", 3), 3),
        (("--kind", "clusters", "--k", 3), 3),
        (("--kind", "clusters", "--k", "auto", "--outliers", "remove", "--seed", 1), None),
    ],
)
def test_kinds(args: tuple[object, ...], labels: int | None, label: Label, prompts: Path):
    out = prompts.parent / "out"
    code, shown, error = label(prompts, *args, "--out", out, "--json")
    assert code == 0, error
    found = json.loads(shown)
    assert len(found["table"]) == (labels or len(found["centroids"]))
    assert found == json.loads(next(out.glob("*_config*.json")).read_text("utf-8"))


@pytest.mark.parametrize(
    ("args", "law"),
    [
        (("--kind", "bins"), "--kind must be one of equal_width, quantile, edges, clusters"),
        (("--kind", "clusters", "--k", "many"), "--k must be a number or auto"),
        (("--kind", "clusters", "--outliers", "kep"), "Did you mean `keep`?"),
        (("--kind", "edges", "--edges", "0,one"), "bin_index, weighted, wait"),
        (("--kind", "quantile", "--censored", "no"), "--censored must be one of drop, keep"),
        (("--kind", "quantile", "--count", "steps"), "units, wait, tokens, sentences"),
        (("--kind", "quantile", "--columns", "prompt"), "FIELD=COLUMN"),
        (("--kind", "quantile", "--edges", "0,1,2"), "take no `edges`"),
    ],
)
def test_what_does_not_hold(args: tuple[str, ...], law: str, label: Label, tmp_path: Path):
    rows = tmp_path / "a.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "response": "<think>b</think>"}) + "\n")
    code, _, error = label(rows, *args, "--out", tmp_path / "out")
    assert code == 2
    assert law in error
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(label: Label, prompts: Path):
    code, _, error = label(prompts, "--kind", "quantile", "--out", prompts.parent)
    assert code == 2
    assert "new or empty folder" in error
