import csv
import ctypes
import gzip
import json
import os
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmpred.data import content_hash, load
from llmpred.errors import DataError, StorageError
from llmpred.spec.run import SourceSpec

from .conftest import CHAT, CHOICE, QA, SENTIMENT, as_is

ROWS = [
    {"text": 'She said "fine", twice', "label": 1},
    {"text": "房间很干净，早餐一般", "label": 0},
    {"text": "two\nlines, one comma", "label": 1},
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_all(folder):
    """The same rows in every format."""
    yield write_jsonl(folder / "a.jsonl", ROWS)
    packed = folder / "a.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    yield packed
    (folder / "lines.json").write_bytes((folder / "a.jsonl").read_bytes())
    yield folder / "lines.json"
    (folder / "list.json").write_text(json.dumps(ROWS, indent=1))
    yield folder / "list.json"
    (folder / "data.json").write_text(json.dumps({"version": "1", "data": ROWS, "n": 3}))
    yield folder / "data.json"
    yield write_csv(folder / "a.csv", ROWS)
    yield write_csv(folder / "semicolons.csv", ROWS, ";")
    yield write_csv(folder / "a.tsv", ROWS, "\t")
    floats = pa.table({"label": [1.0, 0.0, 1.0], "text": [r["text"] for r in ROWS]})
    pq.write_table(floats, folder / "a.parquet")
    yield folder / "a.parquet"
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    yield folder / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(folder / "dict")
    yield folder / "dict"
    (folder / "plain").mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(folder / "plain" / "train.parquet")
    yield folder / "plain"


def test_every_format_gives_the_same_content(tmp_path, read):
    hashes = {}
    for path in write_all(tmp_path):
        loaded = read(path)
        assert loaded.table["label"].to_pylist() == ["1", "0", "1"], path
        assert loaded.table["text"].to_pylist() == [r["text"] for r in ROWS], path
        hashes[path.name] = content_hash(loaded.table)
    assert len(hashes) == 12
    # Pinned: it is part of run keys.
    pin = "d083500b08d921235e0297b536c1d3a5367cd62b9e6d1a9c96ad70d3e4d34c44"
    assert set(hashes.values()) == {pin}


def test_every_text_format_may_be_packed(tmp_path, read):
    for path in list(write_all(tmp_path)):
        if path.suffix in (".jsonl", ".json", ".csv", ".tsv"):
            packed = path.with_name(path.name + ".gz")
            packed.write_bytes(gzip.compress(path.read_bytes()))
            assert read(packed).table.equals(read(path).table), packed


def test_unquoted_tsv_keeps_its_quotation_marks(tmp_path, read):
    path = tmp_path / "a.tsv"
    path.write_text('label\ttext_a\n1\t"好书"，推荐\n0\t"opens and\n1\t"whole"\n', "utf-8")
    loaded = read(path)
    assert loaded.table["text"].to_pylist() == ['"好书"，推荐', '"opens and', '"whole"']
    assert "without quoting" in loaded.notes[0]


def test_quoted_tsv_is_unquoted(tmp_path, read):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a ""b"""\t1\nc\t0\n')
    assert read(path).table["text"].to_pylist() == ['a "b"', "c"]


def test_columns_are_given_named_or_alias(tmp_path, read):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text_a": "good", "Stars": 4.0, "qid": 7}])
    loaded = read(path)
    assert loaded.columns == {"id": "qid", "text": "text_a", "label": "Stars"}
    assert loaded.table.to_pylist() == [{"id": "7", "text": "good", "label": "4"}]
    loaded = read(path, columns={"text": "text_a", "label": "qid"})
    assert loaded.columns == {"text": "text_a", "label": "qid"}
    assert loaded.table.to_pylist() == [{"id": None, "text": "good", "label": "7"}]


def test_squad_is_flattened_and_may_be_unanswerable(tmp_path, read):
    qas = [
        {"id": "q1", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}]},
        {"id": "q2", "question": "Why?", "is_impossible": True, "answers": []},
    ]
    article = {"title": "T", "paragraphs": [{"context": "Ann won.", "qas": qas}]}
    for name, whole in (
        ("v1.json", {"data": [article]}),
        ("v2.json", {"version": "2", "data": [article]}),
    ):
        (tmp_path / name).write_text(json.dumps(whole))
        rows = read(tmp_path / name, QA).table.to_pylist()
        assert [row["answers"] for row in rows] == [["Ann"], []]
        assert rows[0]["context"] == "Ann won."
        assert rows[0]["id"] == "q1"


def test_flat_squad_of_the_hub(tmp_path, read):
    rows = [{"context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", QA).table["answers"].to_pylist() == [["a"]]


def test_messages(tmp_path, read):
    system = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    answer = {"role": "assistant", "content": "Hello"}
    rows = [
        {"messages": [system, user, answer]},
        {"messages": [user, answer, {"role": "user", "content": "Bye"}, answer]},
        {"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    ]
    table = read(write_jsonl(tmp_path / "a.jsonl", rows), CHAT).table
    assert table["prompt"].to_pylist() == ["Hi", "user: Hi\n\nassistant: Hello\n\nuser: Bye", "Hi"]
    assert table["system"].to_pylist() == ["Be brief.", None, None]
    with pytest.raises(DataError, match="end with the assistant's"):
        read(write_jsonl(tmp_path / "b.jsonl", [{"messages": [user]}]), CHAT, format="messages")


def test_alpaca(tmp_path, read):
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3", "answer": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hi"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = read(tmp_path / "a.json", CHAT).table
    assert table["prompt"].to_pylist() == ["Add.\n\n1 2", "Greet."]
    assert table["response"].to_pylist() == ["3", "Hi"]


def test_lists_and_indices(tmp_path, read):
    rows = [{"question": ["a", "b"], "choices": [1, 2.5, "x"], "answer": 2.0}]
    table = read(write_jsonl(tmp_path / "a.jsonl", rows), CHOICE).table
    assert table.to_pylist() == [{"question": "a b", "choices": ["1", "2.5", "x"], "answer": 2}]
    rows = [{"question": "q", "choices": '["x", "y"]', "answer": "1"}]
    table = read(write_csv(tmp_path / "a.csv", rows), CHOICE).table
    assert table.to_pylist() == [{"question": "q", "choices": ["x", "y"], "answer": 1}]
    assert table.schema.field("choices").type == pa.large_list(pa.large_string())


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "UTF-16"), ("gb18030", "GB18030")],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.json"])
def test_encodings(tmp_path, read, encoding, note, name):
    rows = [{"text": f"这家酒店真的很不错，我会再来，第{i}次", "label": 1} for i in range(3)]
    write = {"a.jsonl": write_jsonl, "a.csv": write_csv}.get(name)
    if name == "a.tsv":
        write_csv(tmp_path / name, rows, "\t")
    elif name == "a.json":
        (tmp_path / name).write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    else:
        write(tmp_path / name, rows)
    text = (tmp_path / name).read_text("utf-8")
    (tmp_path / name).write_bytes(text.encode(encoding))
    loaded = read(tmp_path / name)
    assert loaded.table["text"].to_pylist() == [row["text"] for row in rows]
    assert any(note in n for n in loaded.notes) == bool(note)


def test_traditional_chinese_in_gb18030_is_noticed_and_latin_1_is_not_chinese(tmp_path, read):
    path = tmp_path / "a.jsonl"
    row = {"text": "這間酒店環境和服務態度亦算不錯，但房間空間太小", "label": 1}
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode("gb18030"))
    assert read(path).table["text"][0].as_py() == row["text"]
    row = {"text": "très bon café, l'été dernier à Genève", "label": 1}
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DataError, match="utf-8 throughout"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "ä½ å¥½，酒店",
        "很好的酒店，位置不错".encode().decode("gb18030"),
        "烫烫烫",
        "锟斤拷锟斤拷",
        "caf\ufffd",
        "CafÃ©",
        "costs Â£80m",
        "浣犲ソ锛屼笘鐣岋紒",
    ],
)
def test_garbled_text_is_noticed(tmp_path, read, text):
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"text": "good", "label": 1}, {"text": text, "label": 0}]
    )
    (note,) = read(path).notes
    assert note.startswith("1 of 2 rows look as if")
    assert "a.jsonl:2" in note


@pytest.mark.parametrize(
    "text",
    ["Ça va très bien à Besançon, où ?", "½ Stück für 5 €", "你好，世界！", "smörgåsbord ñandú"],
)
def test_sound_text_is_not_called_garbled(tmp_path, read, text):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text, "label": 1}])
    assert read(path).notes == ()


GOOD = '{"text": "fine", "label": 1}\n'
BAD = {
    "broken JSON at line 7": (GOOD * 6 + '{"text": "x", \n' + GOOD, "a.jsonl:7", "JSON object"),
    "label missing": ('{"text": "x"}\n' + GOOD, "a.jsonl:1", "`label` must be a label"),
    "label null": (GOOD + '{"text": "x", "label": null}', "a.jsonl:2", "got null"),
    "label NaN": (GOOD + '{"text": "x", "label": NaN}', "a.jsonl:2", "got NaN"),
    "label a list": (GOOD + '{"text": "x", "label": [1]}', "a.jsonl:2", "got \\[1\\]"),
    "text empty": (GOOD + '{"text": "  ", "label": 1}', "a.jsonl:2", "not empty"),
    "text a number": (GOOD + '{"text": 5, "label": 1}', "a.jsonl:2", "got 5"),
    "null byte": (GOOD + '{"text": "a\\u0000b", "label": 1}', "a.jsonl:2", "null bytes"),
    "lone surrogate": (GOOD + '{"text": "a\\ud800", "label": 1}', "a.jsonl:2", "surrogates"),
    "not an object": (GOOD + "[1, 2]\n", "a.jsonl:2", "must be a JSON object"),
    "deep nesting": (GOOD + "[" * 100_000 + "\n", "a.jsonl:2", "JSON object"),
    "10 MB row": (
        GOOD + '{"text": "' + "x" * 10_000_000 + '", "label": 1}\n' + GOOD, "a.jsonl:2", "8 MB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_named_or_skipped(tmp_path, read, name):
    text, where, law = BAD[name]
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=law) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.where.endswith(where)
    assert len(str(problem)) < 400
    loaded = read(path, on_bad_row="skip")
    assert loaded.skipped == 1
    assert loaded.table.num_rows == text.count("fine")
    assert "1 bad rows are left out" in loaded.notes[-1]


FILES = {
    "empty": ("a.csv", b"", "is empty"),
    "blank": ("a.jsonl", b"\n \n", "is empty"),
    "header only": ("a.csv", b"text,label\n", "header alone"),
    "empty list": ("a.json", b"[]", "has none"),
    "wrong column": ("a.csv", b"phrase,label\nx,1\n", "columns: {text: phrase}"),
    "ragged": ("a.csv", b"text,label\nx,1\ny\n", "a.csv:3"),
    "open quotation": ("a.csv", b'text,label\n"x,1\n', "never closed"),
    "twice": ("a.csv", b"text,text\nx,1\n", "comes twice"),
    "cut JSON": ("a.json", b'[{"text": "x", "label": 1},\n{"text": ', "a.json:2"),
    "JSON with a tail": ("a.json", b'[{"text": "x", "label": 1}]]', "nothing more"),
    "no list": ("a.json", b'{\n"train": [1]}', "list under `data`"),
    "not Parquet": ("a.parquet", b"text,label\nx,1\n", "sound Parquet"),
    "not gzip": ("a.jsonl.gz", b'{"text": "x"}', "sound gzip"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(os.urandom(5000))[:-900], "sound gzip"),
    "UTF-16 without mark": ("a.csv", "text,label\nx,1\n".encode("utf-16-le"), "null bytes"),
    "unknown suffix": ("a.xlsx", b"PK", "must end in one of"),
    "NaN in CSV": ("a.csv", b"text,label\nx,nan\n", "must be a label"),
    "empty cell": ("a.csv", b"text,label\nx,\n", "got ''"),
    "no rows hold": ("a.jsonl", b"x\ny\n", "2 problems"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_file(tmp_path, read, name):
    file, content, law = FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / file)
    assert law in str(caught.value)
    assert not list(tmp_path.glob("cache/*")), "nothing half-written"


def test_bad_byte_is_located(tmp_path, read):
    path = tmp_path / "a.jsonl"
    good = '{"text": "很好的酒店，值得推荐", "label": 1}\n'.encode()
    path.write_bytes(good * 50_000 + b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match=r"0xff.*a\.jsonl:50001") as caught:
        read(path)
    assert f"byte {50_000 * len(good) + 10:,}" in str(caught.value)
    chinese = '{"text": "这家酒店真的很不错", "label": 1}\n'
    path.write_bytes(chinese.encode("gb18030"))
    with pytest.raises(DataError, match="set `encoding: gb18030`"):
        read(path, encoding="utf-8")
    assert read(path, encoding="gb18030").table.num_rows == 1


def test_utf_8_with_a_gb18030_line_is_not_read_as_gb18030(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\n很好的酒店，位置不错,1\n".encode() + "很差,0\n".encode("gb18030"))
    with pytest.raises(DataError, match=r"utf-8 throughout.*a\.csv:3"):
        read(path)


def test_twenty_problems_at_once(tmp_path, read):
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + '{"text": "x"}\n' * 30)
    with pytest.raises(DataError) as caught:
        read(path)
    assert len(caught.value.problems) == 20


def test_missing_source_names_the_nearest(tmp_path, read, monkeypatch):
    write_jsonl(tmp_path / "reviews.jsonl", ROWS)
    with pytest.raises(DataError, match=r"Did you mean `.*reviews\.jsonl`"):
        read(tmp_path / "review.jsonl")
    with pytest.raises(DataError, match="no folder"):
        read(tmp_path / "nowhere" / "a.jsonl")
    monkeypatch.chdir(tmp_path)
    assert read("reviews.jsonl").table.num_rows == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/reviews.jsonl").table.num_rows == 3


def test_wrong_mapping(tmp_path, read):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DataError, match=r"(?s)Did you mean `label`.*Did you mean `text`"):
        read(path, columns={"lable": "label", "text": "texts"})
    with pytest.raises(DataError, match="takes no `split`"):
        read(path, split="train")
    with pytest.raises(DataError, match="takes no `options`"):
        read(path, options={"n": 1})


@contextmanager
def bound_by_permissions():
    """Take from root the capabilities to read any file."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    held = (ctypes.c_uint32 * 6)()  # two times effective, permitted, inheritable
    assert libc.capget(header, held) == 0
    less = (ctypes.c_uint32 * 6)(*held)
    less[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux capabilities")
def test_permission_denied(tmp_path, read):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    path.chmod(0)
    with bound_by_permissions(), pytest.raises(DataError, match="permission is denied"):
        read(path)


def test_unusable_cache_is_said(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="LLMPRED_CACHE"):
        load(SourceSpec(source=str(path)), SENTIMENT, as_is, cache=tmp_path / "file" / "cache")


def test_pickle_in_a_folder_is_refused(tmp_path, read):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "extra.bin").write_bytes(b"\x80\x04\x95payload")
    with pytest.raises(DataError, match=r"no pickles.*extra\.bin"):
        read(tmp_path / "saved")


def test_splits(tmp_path, read):
    part = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": part, "test": part.select([0])}).save_to_disk(tmp_path / "d")
    assert read(tmp_path / "d", split="test").table.num_rows == 1
    with pytest.raises(DataError, match="needs `split`; it has train, test"):
        read(tmp_path / "d")
    with pytest.raises(DataError, match="Did you mean `train`"):
        read(tmp_path / "d", split="trian")


def test_class_labels_stay_numbers_and_are_said(tmp_path, read):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    datasets.Dataset.from_list(ROWS, features=features).save_to_disk(tmp_path / "d")
    loaded = read(tmp_path / "d")
    assert loaded.table["label"].to_pylist() == ["1", "0", "1"]
    assert "0 = neg, 1 = pos" in loaded.notes[0]


def test_hub_offline_is_said(tmp_path):
    code = """
        from pathlib import Path
        from llmpred.data import load
        from llmpred.spec.run import SourceSpec
        load(SourceSpec(source="someone/reviews", split="train"), (), dict, cache=Path("c"))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "llmpred.errors.DataError" in run.stderr
    assert "the hub cannot be reached" in run.stderr


CALLS = []


def counting(row):
    CALLS.append(1)
    return dict(row)


def test_second_load_reads_nothing_and_a_change_is_noticed(tmp_path, read):
    CALLS.clear()
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    first = read(path, parse=counting)
    again = read(path, parse=counting)
    assert len(CALLS) == 3
    assert again.table.equals(first.table)
    assert again.fingerprint == first.fingerprint
    write_jsonl(path, ROWS[:2])
    assert read(path, parse=counting).table.num_rows == 2
    assert len(CALLS) == 5
    assert len(list(tmp_path.glob("cache/*"))) == 1, "the stale copy is gone"
    assert first.table["label"].to_pylist() == ["1", "0", "1"], "but who has it mapped keeps it"


def test_only_lasting_parse_functions_are_reused(tmp_path, read):
    class Local:
        version = 1

        def parse(self, row):
            return {**row, "text": row["text"] + suffix}

    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    for suffix in ("!", "?"):
        assert read(path, parse=Local().parse).table["text"][0].as_py().endswith(suffix)
        assert (
            read(path, parse=lambda r, s=suffix: {**r, "label": s}).table["label"][0].as_py()
            == suffix
        )


def test_a_damaged_cache_is_made_again(tmp_path, read):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    read(path)
    (kept,) = tmp_path.glob("cache/*.arrow")
    kept.write_bytes(kept.read_bytes()[:100])
    assert read(path).table.num_rows == 3


def test_loading_at_once_is_fine(tmp_path, read):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS * 500)
    results = []
    threads = [threading.Thread(target=lambda: results.append(read(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {content_hash(r.table) for r in results} == {content_hash(results[0].table)}
    assert len(results) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak memory from /proc")
@pytest.mark.parametrize(
    ("kind", "megabytes"),
    [("jsonl", 60), ("json", 60), ("csv", 60), pytest.param("jsonl", 300, marks=pytest.mark.slow)],
)
def test_a_large_file_streams(tmp_path, kind, megabytes):
    path = tmp_path / f"big.{kind}"
    row = json.dumps({"text": "a fine stay " * 160, "label": 1})
    size = 0
    with path.open("w") as stream:
        stream.write({"jsonl": "", "json": "[", "csv": "text,label\n"}[kind])
        while size < megabytes * 2**20:
            block = {"jsonl": row + "\n", "json": row + ",\n", "csv": "a fine stay " * 160 + ",1\n"}
            size += stream.write(block[kind] * 500)
        stream.write(row + "]" if kind == "json" else "")
    write_jsonl(tmp_path / "small.jsonl", ROWS)
    code = """
        import re, sys
        from pathlib import Path
        from tests.data.conftest import SENTIMENT, as_is
        from llmpred.data import load
        from llmpred.spec.run import SourceSpec
        def peak():  # of this program; ru_maxrss would begin with that of its parent
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        read = lambda path: load(SourceSpec(source=path), SENTIMENT, as_is, cache=Path(sys.argv[3]))
        read(sys.argv[2])
        before = peak()
        loaded = read(sys.argv[1])
        print(loaded.table.num_rows, (peak() - before) / 1024)
    """
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(code),
            path,
            tmp_path / "small.jsonl",
            tmp_path / "cache",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    rows, grown = run.stdout.split()
    assert int(rows) * len(row) > megabytes * 1e6
    print(f"{kind} of {megabytes} MB: {grown} MB of memory")
    assert float(grown) < 50
