import time

import pyarrow as pa
import pytest

from llmpred.data import content_hash, duplicates, holdout, sample, split_validation
from llmpred.data.content import example_lines
from llmpred.errors import DataError
from llmpred.spec.canonical import canonical_json

TEXT = pa.large_string()
SCHEMA = pa.schema([pa.field("text", TEXT, metadata={"role": "input"}), pa.field("label", TEXT)])


def make(texts, labels=None):
    return pa.table({"text": texts, "label": labels or ["a"] * len(texts)}, SCHEMA)


def test_lines_are_canonical_json():
    rows = [
        {"b": 'ü\u2028"\\/\x1f😀', "a": ["x", ""], "n": 3},
        {"b": None, "a": [], "n": -1},
    ]
    table = pa.Table.from_pylist(rows)
    assert list(example_lines(table)) == [canonical_json(row) for row in rows]


def test_hash_ignores_columns_order_and_chunks_but_not_row_order():
    table = make([f"t{i}" for i in range(10)])
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3)]).select(["label", "text"])
    assert content_hash(chunked) == content_hash(table)
    assert content_hash(table.take([1, 0, *range(2, 10)])) != content_hash(table)
    assert content_hash(make([])) != content_hash(make(["t"]))


def test_hash_is_fast():
    table = make([f"a short sentence, number {i}" for i in range(50_000)])
    start = time.perf_counter()
    content_hash(table)
    assert 50_000 / (time.perf_counter() - start) > 20_000  # about 200,000 on a free core


@pytest.mark.parametrize("divide", [holdout, split_validation])
def test_equal_inputs_stay_on_one_side(divide):
    table = make([f"t{i % 60}" for i in range(200)], [str(i) for i in range(200)])
    rest, held = divide(table, 0.25)
    assert not set(rest["text"].to_pylist()) & set(held["text"].to_pylist())
    assert sorted(rest["label"].to_pylist() + held["label"].to_pylist()) == sorted(
        table["label"].to_pylist()
    )
    assert 50 <= len(held) <= 53
    assert divide(table, 0.25)[1].equals(held)
    assert not divide(table, 0.25, seed=1)[1].equals(held)


def test_holdout_depends_on_content_not_on_place():
    table = make([f"t{i}" for i in range(100)])
    held = set(holdout(table, 0.2)[1]["text"].to_pylist())
    turned = set(holdout(table.take(list(range(99, -1, -1))), 0.2)[1]["text"].to_pylist())
    assert held == turned
    validation = set(split_validation(table, 0.2)[1]["text"].to_pylist())
    assert len(held) == 20
    assert validation != held


def test_a_split_needs_two_sides():
    with pytest.raises(DataError, match="1 distinct inputs"):
        holdout(make(["same"] * 10), 0.5)
    with pytest.raises(DataError, match="both sides"):
        holdout(make(["one"]), 0.1)


def test_sample():
    table = make([f"t{i:03}" for i in range(100)])
    assert sample(table, None, 0) is table
    assert sample(table, 100, 0) is table
    drawn = sample(table, 10, 0)["text"].to_pylist()
    assert drawn == sorted(set(drawn))
    assert drawn != sample(table, 10, 1)["text"].to_pylist()
    assert drawn == sample(table, 10, 0)["text"].to_pylist()


def test_overlap_with_evaluation():
    words = "the quick brown fox jumps over a lazy dog while birds sing"
    train = make([f"{i} {words} {i * 7919}" * 2 for i in range(10)] + ["Exact Ｔext", "other"])
    evaluation = make(["exact  text", "the quick brown", f"3 {words} {3 * 7919}" * 2 + " !"])
    stats = duplicates(train, evaluation)
    assert stats.rows == stats.compared == 12
    assert stats.evaluation_exact == pytest.approx(1 / 3)
    assert stats.evaluation_near == pytest.approx(1 / 3)


def test_near_needs_every_text_input_to_be_near():
    field = lambda name: pa.field(name, TEXT, metadata={"role": "input"})  # noqa: E731
    schema = pa.schema([field("context"), field("question")])
    context = "A long paragraph about the history of the town and its people."
    questions = ["Who founded the town?", "When was the mill built?", "Who founded the town ?"]
    table = pa.table({"context": [context] * 3, "question": questions}, schema)
    assert duplicates(table).near == pytest.approx(1 / 3)


def test_boilerplate_costs_no_square():
    shared = "Below there is a question with four options, find the right one. " * 4
    table = make([f"{shared} {i * 104729} or {i * 7907} or {i * 611953}?" for i in range(3000)])
    start = time.perf_counter()
    duplicates(table)
    assert time.perf_counter() - start < 15


def test_nothing_to_compare():
    stats = duplicates(make([]), make([]))
    assert (stats.exact, stats.near, stats.evaluation_exact) == (0, 0, 0)
