"""`llmpred infer`: texts, files of every form, typed lines, examples; and what goes wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmpred import Predictor
from llmpred.inference import stream
from llmpred.inference.examples import EXAMPLES
from tests.quick import quick
from tests.runs import carry_out, run_spec

__all__ = ["quick"]

TEXTS = ["a fine film", "it was, “so”\tbad", "", "还不错 but long " * 30, "fine"]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the kept weights of a LoRA run by label scoring."""
    folder = tmp_path_factory.mktemp("run")
    outcome = carry_out(run_spec(tiny_causal, optim={"lr": 1e-2}), folder, keep_adapter=True)
    assert outcome.adapter is not None
    return outcome.adapter


@pytest.fixture(scope="module")
def wanted(model: Path) -> list[dict[str, Any]]:
    """What the model answers to `TEXTS`."""
    answers = Predictor.load(model).predict_batch(TEXTS)
    names = ("label", "confidence", "scores", "truncated")
    return [{name: getattr(answer, name) for name in names} for answer in answers]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[dict[str, Any]], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the form that the file's name says."""
    kind = path.name.split(".")[1]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind == "txt":
        content = "".join(row["text"] + "\n" for row in rows)
    elif kind == "jsonl":
        content = jsonl(rows)
    else:
        content = table(rows, "," if kind == "csv" else "\t")
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if ".csv" not in path.name:
        return [json.loads(line) for line in text.splitlines()]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    return [
        {**row, "confidence": float(row["confidence"]), "scores": json.loads(row["scores"])}
        for row in rows
    ]


def close(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Assert that rows hold these answers."""
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
        assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-5)
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-5)


FORMS = ["jsonl", "csv", "tsv", "parquet", "txt", "jsonl.gz", "csv.gz", "txt.gz"]


@pytest.mark.parametrize("form", FORMS)
def test_files_of_every_form_are_answered(
    form: str, model: Path, wanted: list[dict[str, Any]], llmpred: Run, tmp_path: Path
) -> None:
    rows = [{"n": str(i), "text": text} for i, text in enumerate(TEXTS)]
    source = write(tmp_path / f"in.{form}", rows)
    for suffix in ("jsonl", "csv", "jsonl.gz"):
        out = tmp_path / f"out.{suffix}"
        ran = llmpred("infer", model, "--file", source, "--out", out)
        assert ran.code == 0, ran.err
        assert "5 rows answered" in ran.err
        assert "1 input truncated" in ran.err
        found = read(out)
        close(found, wanted)
        assert [row["text"] for row in found] == TEXTS
        assert [str(row["truncated"]) for row in found] == [str(a["truncated"]) for a in wanted]
        if "txt" not in form:
            assert [row["n"] for row in found] == [row["n"] for row in rows]
        assert not out.with_name(out.name + stream.PART).exists()


def test_texts_are_answered(model: Path, wanted: list[dict[str, Any]], llmpred: Run) -> None:
    options = [part for text in TEXTS for part in ("--text", text)]
    ran = llmpred("infer", model, *options, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert [row["input"] for row in said["answers"]] == TEXTS
    close(said["answers"], wanted)
    shown = llmpred("infer", model, "--text", TEXTS[0], "--batch", 1, "--device", "cpu")
    assert shown.code == 0
    assert f"{wanted[0]['confidence']:.4g}" in shown.out
    assert {"confidence", "negative", "positive"} <= set(shown.out.split())


def test_examples_are_shown(model: Path, llmpred: Run) -> None:
    ran = llmpred("infer", model, "--demo", "--json")
    assert ran.code == 0, ran.err
    answers = json.loads(ran.out)["answers"]
    assert [row["input"] for row in answers] == list(EXAMPLES["sentiment"]["en"])
    assert all(row["label"] in row["scores"] for row in answers)


@pytest.mark.parametrize("end", ["quit\n", " EXIT\n", "q\nnot asked\n", ""])
def test_typed_lines_are_answered_until_the_end(
    end: str, model: Path, wanted: list[dict[str, Any]], llmpred: Run, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXTS[0]}\n\nbroken \0\n{TEXTS[1]}\n{end}"))
    ran = llmpred("infer", model, "--interactive", "--json")
    assert ran.code == 0
    assert "null bytes" in ran.err
    close([json.loads(line) for line in ran.out.splitlines()], wanted[:2])
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXTS[0]))
    shown = llmpred("infer", model, "--interactive")
    assert shown.out.startswith(f"{wanted[0]['label']}  {wanted[0]['confidence']:.3f}")


def test_columns_are_found_named_and_kept(
    model: Path, wanted: list[dict[str, Any]], llmpred: Run, tmp_path: Path
) -> None:
    alias = write(tmp_path / "a.jsonl", [{"review": text, "label": 7} for text in TEXTS])
    ran = llmpred("infer", model, "--file", alias)  # to standard output
    assert ran.code == 0, ran.err
    assert "the column `label` is called `input_label` in the output" in ran.err
    found = [json.loads(line) for line in ran.out.splitlines()]
    close(found, wanted)
    assert {row["input_label"] for row in found} == {7}
    rows = [{"text": TEXTS[0]}] * 120 + [{"text": TEXTS[0], "label": 7}]  # past those looked at
    ran = llmpred("infer", model, "--file", write(tmp_path / "late.jsonl", rows))
    last = json.loads(ran.out.splitlines()[-1])
    assert (last["input_label"], last["label"]) == (7, wanted[0]["label"])
    other = write(tmp_path / "b.csv", [{"said": text, "text": "no"} for text in TEXTS])
    for column in ("said", "text=said"):
        out = tmp_path / "b.jsonl"
        ran = llmpred("infer", model, "--file", other, "--out", out, "--column", column, "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["columns"] == {"text": "said"}
        close(read(out), wanted)
    none = write(tmp_path / "c.csv", [{"x": "1", "y": "2"}])
    ran = llmpred("infer", model, "--file", none, "--out", tmp_path / "c.jsonl")
    assert ran.code == 2
    assert "`text` must have a column, but the columns are 'x', 'y'" in ran.err


def test_rows_come_in_chunks_and_in_order(
    model: Path, llmpred: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(stream, "CHUNK", 7)
    rows = [{"id": i, "text": "good " * (i * 5 % 13)} for i in range(30)]
    out = tmp_path / "out.jsonl"
    ran = llmpred("infer", model, "--file", write(tmp_path / "in.jsonl", rows), "--out", out)
    assert ran.code == 0, ran.err
    assert [row["id"] for row in read(out)] == list(range(30))
    close(read(out), [vars_of(model, row["text"]) for row in rows])


def vars_of(model: Path, text: str, known: dict[Path, Predictor] = {}) -> dict[str, Any]:  # noqa: B006
    answer = known.setdefault(model, Predictor.load(model)).predict(text)
    return {"label": answer.label, "confidence": answer.confidence, "scores": answer.scores}


def test_bad_rows_stop_it_or_are_counted(
    model: Path, wanted: list[dict[str, Any]], llmpred: Run, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = jsonl([{"text": text} for text in TEXTS]).splitlines()
    lines[1:1] = ['{"text": 5}', "not json", '{"other": "x"}', '{"text": null}', "[1]"]
    source.write_text("\n".join(lines))
    ran = llmpred("infer", model, "--file", source, "--out", out)
    assert ran.code == 2
    for number in range(2, 7):
        assert f"in.jsonl:{number}" in ran.err
    assert not out.exists()
    ran = llmpred("infer", model, "--file", source, "--out", out, "--on-bad-row", "skip")
    assert ran.code == 0
    assert "5 bad rows left out" in ran.err
    close(read(out), wanted)
    source.write_text('{"text": 5}\n{"text": 6}\n')
    ran = llmpred("infer", model, "--file", source, "--out", out, "--on-bad-row", "skip")
    assert ran.code == 2
    assert "in.jsonl:1" in ran.err


def test_a_stopped_output_never_looks_whole(
    model: Path, llmpred: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(stream, "CHUNK", 2)
    rows: list[dict[str, Any]] = [{"text": "fine"}, {"text": "dull"}, {"text": 5}]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    out.write_text("before")
    ran = llmpred("infer", model, "--file", source, "--out", out)
    assert ran.code == 2
    assert out.read_text() == "before"
    assert len(read(tmp_path / "out.jsonl.part")) == 2


def test_csv_has_one_header(model: Path, llmpred: Run, tmp_path: Path) -> None:
    rows = [{"text": "fine"}] * 100 + [{"text": "dull", "new": 1}]
    source = write(tmp_path / "in.jsonl", rows)
    ran = llmpred("infer", model, "--file", source, "--out", tmp_path / "out.csv")
    assert ran.code == 2
    assert "columns of the first rows, but here is 'new' (in.jsonl:101)" in ran.err
    rows = [{"text": "fine", "tags": ["a", "b"], "score": float("nan")}]
    source = tmp_path / "odd.jsonl"
    source.write_text(json.dumps(rows[0]))
    for name in ("odd.csv", "odd2.jsonl"):
        ran = llmpred("infer", model, "--file", source, "--out", tmp_path / name)
        assert ran.code == 0, ran.err
    assert read(tmp_path / "odd.csv")[0]["tags"] == '["a", "b"]'
    assert read(tmp_path / "odd2.jsonl")[0]["score"] is None


BAD: dict[str, tuple[list[str], str]] = {
    "nothing asked": ([], "one of --text, --file, --interactive, --demo must say"),
    "two ways": (["--text", "a", "--demo"], "but got --text and --demo"),
    "out alone": (["--demo", "--out", "x.jsonl"], "`--out` belongs to --file"),
    "column alone": (["--text", "a", "--column", "x"], "`--column` belongs to --file"),
    "device": (["--demo", "--device", "tpu"], "`--device` must be auto, cpu or cuda"),
    "bad row": (["--file", "in.txt", "--on-bad-row", "keep"], "must be error or skip"),
    "no file": (["--file", "absent.csv"], "the file must exist"),
    "form": (["--file", "in.docx"], "name must end in"),
    "out form": (["--file", "in.txt", "--out", "out.xml"], "must end in .jsonl or .csv"),
    "out folder": (["--file", "in.txt", "--out", "no/out.csv"], "there is no folder no"),
    "out is in": (["--file", "in.csv", "--out", "in.csv"], "but this is the input"),
    "empty": (["--file", "empty.txt"], "it is empty"),
    "header alone": (["--file", "header.csv"], "must have rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said(
    case: str, model: Path, llmpred: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in.txt", "in.docx", "in.csv"):
        (tmp_path / name).write_text("text\nfine\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "header.csv").write_text("text\n")
    options, said = BAD[case]
    ran = llmpred("infer", model, *options)
    assert ran.code == 2
    assert said in ran.err


def test_a_run_of_the_ledger_is_asked_by_its_key(
    tiny_causal: Path, llmpred: Run, tmp_path: Path
) -> None:
    from llmpred.ledger import Ledger

    outcome = carry_out(run_spec(tiny_causal, method={"adapter": {"kind": "none"}}), tmp_path / "r")
    Ledger(tmp_path / "store").put(outcome.record, outcome.predictions)
    key = outcome.record.key
    ran = llmpred("infer", key[:8], "--storage", tmp_path / "store", "--text", "fine", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["key"] == key
    ran = llmpred("infer", "abc", "--storage", tmp_path / "store", "--text", "fine")
    assert ran.code == 2
    ran = llmpred("infer", key[:8], "--storage", tmp_path / "store", "--demo", "--base", "nowhere")
    assert ran.code == 2
    assert "nowhere" in ran.err


def test_questions_are_typed_field_by_field(
    tiny_causal: Path, llmpred: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    from llmpred.ledger import Ledger

    spec = run_spec(
        tiny_causal,
        task={"name": "multiple_choice", "labels": None, "max_length": 200},
        dataset={"source": "synthetic:multiple_choice"},
        method={"adapter": {"kind": "none"}},
        evaluation={"data": {"source": "synthetic:multiple_choice", "options": {"n": 4}}},
    )
    outcome = carry_out(spec, tmp_path / "r")
    Ledger(tmp_path / "store").put(outcome.record, outcome.predictions)
    asked = ("infer", outcome.record.key, "--storage", tmp_path / "store")
    monkeypatch.setattr("sys.stdin", io.StringIO("What flies?\nan owl | a shark\nWhat? \n\nq\n"))
    ran = llmpred(*asked, "--interactive", "--json")
    assert ran.code == 0
    assert set(json.loads(ran.out)["scores"]) == {"an owl", "a shark"}
    assert "`choices` is absent" in ran.err
    ran = llmpred(*asked, "--demo")
    assert ran.code == 0, ran.err
    lines = write(tmp_path / "in.jsonl", [{"query": "Which?", "options": ["a", "b"], "answer": 0}])
    ran = llmpred(*asked, "--file", lines)
    assert ran.code == 0, ran.err
    assert set(json.loads(ran.out)["scores"]) == {"a", "b"}


def test_numbers_are_answered(tiny_causal: Path, llmpred: Run, tmp_path: Path) -> None:
    quantities = {"source": "synthetic:quantities", "options": {"n": 30, "seed": 1}}
    spec = run_spec(
        tiny_causal,
        task={"name": "numeric", "labels": None},
        dataset=quantities,
        method={"head": "numeric", "head_form": "pointer"},
        evaluation={"data": quantities},
    )
    folder = carry_out(spec, tmp_path, keep_adapter=True).adapter
    text = "the box has 1,250 kg. It has"
    ran = llmpred("infer", folder, "--text", text, "--json")
    assert ran.code == 0, ran.err
    (answer,) = json.loads(ran.out)["answers"]
    number = Predictor.load(folder).predict(text).number
    assert answer["number"] == number is not None
    shown = llmpred("infer", folder, "--text", text)
    assert {"P(<NUM>)", "rank", "value"} <= set(shown.out.split())
    (tmp_path / "in.jsonl").write_text(jsonl([{"text": text, "number": "mine"}]))
    ran = llmpred("infer", folder, "--file", tmp_path / "in.jsonl", "--out", tmp_path / "o.jsonl")
    assert ran.code == 0, ran.err
    (row,) = read(tmp_path / "o.jsonl")
    assert row["number"] == number
    assert row["input_number"] == "mine"
