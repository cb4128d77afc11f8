from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmpred.errors import DataError, StorageError
from llmpred.ledger import Ledger, export, import_table
from tests.ledger.samples import key_of, make_record

MAPPING = {"accuracy_r": "score", "dataset": "task", "optim.lr": "lr", "metric.em": "em"}
BASE = {"base": "qwen2.5-7b"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(
        "task,lr,score,em,note\n情感,1e-4,0.8,0.7,first\nqa,0.0002,0.6,,=1+1\n", "utf-8-sig"
    )
    return path


def test_export_writes_each_format(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put(make_record("a", dataset="情感"))
    ledger.put(make_record("b", dataset='=HYPERLINK("x")', accuracy_r=0.1 + 0.2))
    ledger.put(make_record("c", dataset="-0.5"))
    for suffix in (".csv", ".parquet", ".jsonl"):
        assert export(ledger, tmp_path / f"runs{suffix}") == 3
    table = ledger.table()
    assert pq.read_table(tmp_path / "runs.parquet").equals(table)
    lines = (tmp_path / "runs.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()

    data = (tmp_path / "runs.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    with (tmp_path / "runs.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert rows[key_of("a")]["dataset"] == "情感"
    assert rows[key_of("b")]["dataset"] == '\'=HYPERLINK("x")'
    assert rows[key_of("c")]["dataset"] == "-0.5"
    assert float(rows[key_of("b")]["accuracy_r"]) == 0.1 + 0.2
    assert rows[key_of("a")]["zero_shot_accuracy_r"] == ""


def test_export_says_what_it_cannot_write(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\.csv, \.parquet or \.jsonl"):
        export(ledger, tmp_path / "runs.xlsx")
    with pytest.raises(StorageError, match="folder that exists"):
        export(ledger, tmp_path / "none" / "runs.csv")


def test_import_takes_each_row_once(ledger: Ledger, runs: Path) -> None:
    first = import_table(ledger, runs, MAPPING, constants=BASE)
    assert len(first.added) == 2
    assert import_table(ledger, runs, MAPPING, constants=BASE).known == first.added
    rows = {row["dataset"]: row for row in ledger.table().to_pylist()}
    assert rows["情感"]["accuracy_r"] == 0.8
    assert rows["情感"]["origin"] == "imported"
    assert rows["情感"]["optim.lr"] == 1e-4
    assert rows["情感"]["metric.em"] == 0.7
    assert rows["情感"]["base"] == "qwen2.5-7b"
    assert rows["情感"]["field.note"] == "first"
    assert rows["qa"]["metric.em"] is None
    assert ledger.get(first.added[0]).spec is None
    assert ledger.verify() == []


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_import_reads_other_formats_alike(ledger: Ledger, runs: Path, suffix: str) -> None:
    rows = [
        {"task": "情感", "lr": 1e-4, "score": 0.8, "em": 0.7},
        {"task": "qa", "lr": 2e-4, "score": 0.6, "em": None},
    ]
    other = runs.with_suffix(suffix)
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), other)
    else:
        other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    added = import_table(ledger, other, MAPPING, constants=BASE).added
    assert import_table(ledger, runs, MAPPING, constants=BASE).known == added


def test_import_reads_gb18030(ledger: Ledger, runs: Path) -> None:
    added = import_table(ledger, runs, MAPPING, constants=BASE).added
    runs.write_bytes(runs.read_text("utf-8-sig").encode("gb18030"))
    assert import_table(ledger, runs, MAPPING, constants=BASE).known == added


def test_percent_is_asked_about_not_guessed(ledger: Ledger, runs: Path) -> None:
    runs.write_text("task,lr,score,em\nqa,1e-4,0.9,\nqa,2e-4,87.5,\n")
    with pytest.raises(DataError, match="--scale 100") as caught:
        import_table(ledger, runs, MAPPING, constants=BASE)
    assert "runs.csv, line 3, column score" in str(caught.value)
    import_table(ledger, runs, MAPPING, constants=BASE, scale=100)
    assert sorted(ledger.table()["accuracy_r"].to_pylist()) == pytest.approx([0.009, 0.875])


def test_all_bad_rows_are_said_and_nothing_is_imported(ledger: Ledger, runs: Path) -> None:
    runs.write_text("task,lr,score,em\nqa,1,high,\nqa,2,,\nqa,3,-1,\nqa,4,0.5,\n")
    with pytest.raises(DataError) as caught:
        import_table(ledger, runs, MAPPING, constants=BASE)
    assert [problem.where.split(", ", 1)[1] for problem in caught.value.problems] == [
        f"line {line}, column score" for line in (2, 3, 4)
    ]
    assert ledger.keys() == set()


def test_a_bad_mapping_is_said(ledger: Ledger, runs: Path) -> None:
    with pytest.raises(DataError) as caught:
        import_table(ledger, runs, {"accuracy_r": "scor", "key": "lr", "dataset": "task"})
    text = str(caught.value)
    assert "Did you mean `score`?" in text
    assert "`key` is set by the ledger" in text
    assert "`base` must be mapped" in text


def test_rows_that_cannot_be_told_apart_are_said(ledger: Ledger, runs: Path) -> None:
    runs.write_text("task,lr,score,em,s\nqa,1,0.5,,1\nqa,1,0.6,,2\n")
    with pytest.raises(DataError, match="line 3 is the same run as line 2"):
        import_table(ledger, runs, MAPPING, constants=BASE)
    assert len(import_table(ledger, runs, MAPPING | {"seed": "s"}, constants=BASE).added) == 2


def test_a_changed_score_is_said(ledger: Ledger, runs: Path) -> None:
    import_table(ledger, runs, MAPPING, constants=BASE)
    runs.write_text(runs.read_text("utf-8-sig").replace("0.8", "0.9"))
    with pytest.raises(StorageError, match="must keep its score"):
        import_table(ledger, runs, MAPPING, constants=BASE)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "No such file"),
        ("empty.csv", b"", "must have rows"),
        ("runs.xlsx", b"x", "but got '.xlsx'"),
        ("short.csv", b"task,lr,score,em\nqa,1\n", "line 2 has 2 cells, the header 4"),
        ("twice.csv", b"task,task\nqa,1\n", "is there twice"),
        ("open.csv", b'task,lr,score,em\n"qa,1,0.5,\n', "must be readable"),
        ("bad.jsonl", b'{"task": 1}\n{', "must be readable"),
        ("bad.parquet", b"PAR1", "must be readable"),
        ("list.jsonl", b"[1]\n", "must be readable"),
        ("latin.csv", b"task\n\xff\xff\n", "must be readable"),
    ],
)
def test_bad_files_are_said(
    ledger: Ledger, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_table(ledger, tmp_path / name, MAPPING, constants=BASE)
    assert said in str(caught.value)
    assert name in str(caught.value)


def test_importing_the_package_is_cheap() -> None:
    code = """
import sys, time
start = time.perf_counter()
import llmpred.ledger
assert time.perf_counter() - start < 0.3
assert not {"pyarrow", "fsspec", "pydantic"} & {*sys.modules}
from llmpred.ledger import *
assert not {"pyarrow", "fsspec", "psutil", "torch", "pandas"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
