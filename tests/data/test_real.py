"""Real datasets, where the optional folder is present."""

import pytest

from llmpred.data import duplicates, language

from .conftest import CHAT, CHOICE, QA, SENTIMENT, Field

pytestmark = pytest.mark.shared

PAPER = (
    Field("document", "text", "input", aliases=("source",)),
    Field("summary", "texts", "target", aliases=("target",)),
)


def letters(row):
    return {**row, "answer": "ABCD".index(row["answer"])}


@pytest.mark.parametrize(
    ("path", "fields", "rows", "options"),
    [
        ("qa/squad_v1.1_20_articles.json", QA, 4639, {}),
        ("qa/cmrc2018_trial.json", QA, 1000, {"on_bad_row": "skip"}),  # two have no question
        ("sentiment/sst2_train.tsv", SENTIMENT, 60614, {}),
        ("sentiment/chnsenticorp_train.tsv", SENTIMENT, 9600, {}),
        ("sentiment/chnsenticorp_dev.tsv", SENTIMENT, 1200, {}),
        ("summarization/scitldr_train.jsonl", PAPER, 1992, {}),
        ("instruct/dolly_alpaca_messages.jsonl", CHAT, 15331, {}),
        ("instruct/gpt4_alpaca_en.json", CHAT, 999, {}),
        ("instruct/gpt4_alpaca_zh.json", CHAT, 1000, {}),
    ],
)
def test_every_row_is_read(shared_data, read, path, fields, rows, options):
    loaded = read(shared_data / path, fields, **options)
    assert loaded.table.num_rows == rows
    assert loaded.table.num_rows + loaded.skipped == {1000: 1002}.get(rows, rows) or not options
    assert read(shared_data / path, fields, **options).table.equals(loaded.table)


def test_mmlu(shared_data, read):
    table = read(shared_data / "multiple_choice" / "mmlu_val.json", CHOICE, letters).table
    assert table.num_rows == 1531
    assert set(table["answer"].to_pylist()) == {0, 1, 2, 3}


def test_packed_traces(shared_data, read):
    path = shared_data / "reasoning" / "r1_bangla_mcq_5000.jsonl.gz"
    assert read(path, CHAT, columns={"response": "reasoning"}).table.num_rows == 5000


def test_unlabelled_data_says_so(shared_data, read):
    with pytest.raises(Exception, match="field `label` must have a column"):
        read(shared_data / "sentiment" / "chnsenticorp_test.tsv")


def test_garbled_pounds_are_noticed(shared_data, read):
    fields = (Field("document", "text", "input"), Field("summary", "text", "target"))
    (note,) = read(shared_data / "summarization" / "xsum_1000.jsonl", fields).notes
    assert note.startswith("127 of 1,000 rows")


def test_known_duplicates_of_chnsenticorp(shared_data, read):
    train = read(shared_data / "sentiment" / "chnsenticorp_train.tsv").table
    dev = read(shared_data / "sentiment" / "chnsenticorp_dev.tsv").table
    assert language(train["text"].to_pylist()) == "zh"
    stats = duplicates(train, dev)
    assert stats.exact == pytest.approx(0.141, abs=0.001)
    assert stats.evaluation_exact > 0.1
