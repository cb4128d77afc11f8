"""`llmpred complexity count`: files in, a row a prompt out, and warnings of what misleads."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

ROWS = [
    {"prompt": "a", "response": "<think>Add. But no. So yes.</think>5"},
    {"prompt": "求b", "response": "<think>Wait, add.</think>Wait"},
    {"prompt": "a", "response": "<think>Add.\n\nWait"},
    {"prompt": "c", "response": "<think></think>5"},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def counted(llmpred: Run, *args: object) -> dict[str, Any]:
    ran = llmpred("complexity", "count", *args, "--json")
    assert ran.code == 0, ran.err
    return dict(json.loads(ran.out))


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_a_prompt_is_a_row(name: str, tmp_path: Path, llmpred: Run) -> None:
    source, out = write(tmp_path / name, ROWS), tmp_path / "out.jsonl"
    out.write_text("of yesterday")
    ran = llmpred("complexity", "count", source, "--out", out)
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == ["a", "求b", "c"]
    assert rows[0] == {
        **{"prompt": "a", "counts": 2.5, "samples": 2, "minimum": 2, "maximum": 3},
        **{"iqr": 0.5, "censored": 1},
    }
    assert [row["counts"] for row in rows] == [2.5, 1.0, 0.0]
    assert not list(tmp_path.glob("*.part"))
    for part in ("prompt from prompt, response from response", "median", "33.3%", "3 prompts"):
        assert part in ran.out
    assert "1 of 4 responses (25.0%) never close <think>" in ran.out


def test_figures_are_those_of_the_prompts(tmp_path: Path, llmpred: Run) -> None:
    found = counted(llmpred, write(tmp_path / "in.jsonl", ROWS))
    quantiles = found.pop("quantiles")
    assert quantiles == pytest.approx(
        {"min": 0, "10 %": 0.2, "25 %": 0.5, "median": 1, "75 %": 1.75, "90 %": 2.2, "max": 2.5}
    )
    assert (found["kind"], found["rows"], found["prompts"]) == ("units", 4, 3)
    assert (found["censored"], found["zeros"]) == (1, pytest.approx(1 / 3))
    by_tokens = counted(llmpred, tmp_path / "in.jsonl", "--kind", "tokens")
    assert by_tokens["quantiles"]["max"] == 3.5


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("question", "reasoning"), ()),
        (("instruction", "output"), ()),
        (("Prompt", "answer"), ()),
        (("q", "r"), ("--prompt", "q", "--response", "r")),
    ],
)
def test_columns_are_known_or_given(
    names: tuple[str, str], options: tuple[str, ...], tmp_path: Path, llmpred: Run
) -> None:
    rows = [dict(zip(names, row.values(), strict=True)) for row in ROWS]
    found = counted(llmpred, write(tmp_path / "in.jsonl", rows), *options)
    assert (found["rows"], found["prompts"]) == (4, 3)


def test_warnings_say_what_misleads(tmp_path: Path, llmpred: Run) -> None:
    rows = [{"prompt": f"p{i}", "response": "<think>Add.</think>"} for i in range(20)]
    source = tmp_path / "in.jsonl"
    write(source, rows)
    assert counted(llmpred, source)["warnings"] == []
    (said,) = counted(llmpred, source, "--kind", "wait")["warnings"]
    assert "100.0% of the counts are 0: the kind `wait`" in said
    rows[0]["response"] = "<think>Add."  # one in twenty does no harm
    write(source, rows)
    assert counted(llmpred, source)["warnings"] == []
    rows[1]["response"] = "<think>Add."
    rows[2]["response"] = "Add."
    write(source, rows)
    cut, untagged = counted(llmpred, source)["warnings"]
    assert cut.startswith("2 of 20 responses (10.0%) never close <think>")
    assert untagged.startswith("1 of 20 responses (5.0%) have no <think>")


def test_bad_rows_are_named_or_left_out(tmp_path: Path, llmpred: Run) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    with source.open("a", encoding="utf-8") as stream:
        stream.write('{"prompt": "d", "response": 5}\n{"prompt": \n')
    ran = llmpred("complexity", "count", source, "--out", out)
    assert ran.code == 2
    assert "`response` must be text that is not empty, but got 5" in ran.err
    assert "in.jsonl:5" in ran.err
    assert "in.jsonl:6" in ran.err
    assert not out.exists()
    found = counted(llmpred, source, "--on-bad-row", "skip")
    assert (found["rows"], found["skipped"]) == (4, 2)
    assert "2 bad rows are left out" in found["notes"][0]


BAD: dict[str, tuple[list[str], str]] = {
    "no file": (["absent.jsonl"], "there is no such file"),
    "kind": (["in.jsonl", "--kind", "unit"], "but got unit. Did you mean `units`?"),
    "bad row": (["in.jsonl", "--on-bad-row", "keep"], "must be error or skip"),
    "column": (["in.jsonl", "--prompt", "promt"], "Did you mean `prompt`?"),
    "no column": (["other.jsonl"], "field `response` must have a column"),
    "empty": (["empty.jsonl"], "it is empty"),
    "damaged": (["in.jsonl.gz"], "sound gzip"),
    "out form": (["in.jsonl", "--out", "out.csv"], "must end in .jsonl, but got out.csv"),
    "out folder": (["in.jsonl", "--out", "no/out.jsonl"], "there is no folder no"),
    "out is a folder": (["in.jsonl", "--out", "dir.jsonl"], "dir.jsonl is a folder"),
    "out is in": (["in.jsonl", "--out", "./in.jsonl"], "but this is the input"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said(
    case: str, llmpred: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", ROWS)
    write(tmp_path / "other.jsonl", [{"prompt": "a", "label": 1}])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "in.jsonl.gz").write_text("plain")
    (tmp_path / "dir.jsonl").mkdir()
    options, said = BAD[case]
    ran = llmpred("complexity", "count", *options)
    assert ran.code == 2
    assert said in ran.err
    assert len((tmp_path / "in.jsonl").read_text("utf-8").splitlines()) == len(ROWS)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "rows", "censored", "zeros", "said"),
    [
        ("r1_bangla_mcq_5000.jsonl.gz", 5000, 0, (0.31, 0.33), []),
        ("mmlupro_traces_1001.jsonl.gz", 1001, 305, (1.0, 1.0), ["are 0", "305 of 1,001"]),
    ],
)
def test_real_traces(
    file: str,
    rows: int,
    censored: int,
    zeros: tuple[float, float],
    said: list[str],
    shared_data: Path,
    llmpred: Run,
) -> None:
    found = counted(llmpred, shared_data / "reasoning" / file, "--kind", "wait")
    assert (found["rows"], found["prompts"], found["censored"]) == (rows, rows, censored)
    assert zeros[0] <= found["zeros"] <= zeros[1]
    assert len(found["warnings"]) == len(said)
    assert all(part in text for part, text in zip(said, found["warnings"], strict=True))
