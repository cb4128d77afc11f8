from collections import Counter

import pyarrow as pa
import pytest

from llmpred.data import apply_recipe, content_hash, duplicates
from llmpred.errors import DataError
from llmpred.spec.run import RecipeStep

from .conftest import CHOICE, QA, SENTIMENT

TEXT, TEXTS = pa.large_string(), pa.large_list(pa.large_string())
ROLE = {"role": "input"}


@pytest.fixture
def table():
    """200 English reviews, each with words of its own."""
    texts = [" ".join(f"word{i}x{j}" for j in range(12)) for i in range(200)]
    return pa.table(
        {"text": texts, "label": ["ab"[i % 2] for i in range(200)]},
        pa.schema([pa.field("text", TEXT, metadata=ROLE), pa.field("label", TEXT)]),
    )


def cook(table, *steps, fields=SENTIMENT, seed=0, parts=None):
    steps = tuple(RecipeStep.model_validate(step) for step in steps)
    load_part = lambda part: (parts or {})[part.source]  # noqa: E731
    return apply_recipe(table, steps, fields, seed=seed, load_part=load_part)


def changed(before, after, name):
    pairs = zip(before[name].to_pylist(), after[name].to_pylist(), strict=True)
    return sum(a != b for a, b in pairs)


# Pinned: recipes must draw the same rows on every machine, and with every numpy.
PINS = {
    "subsample": ({"n": 50}, "2edc6cd7787c9a41"),
    "label_noise": ({"share": 0.25}, "56970bf1e9e15cd7"),
    "duplicate": ({"share": 0.25}, "aa28edc4af67e299"),
    "near_duplicate": ({"share": 0.25}, "9c90ed0fe7163ca6"),
    "truncate": ({"words": 5}, "b2f3faabab278276"),
    "shuffle_answers": ({"share": 0.5}, "68adb27b8247f0dc"),
    "mix": ({"sources": [{"source": "other", "weight": 0.5}], "n": 90}, "9e7bde18dad1d9cd"),
}


@pytest.mark.parametrize("name", PINS)
def test_step_is_deterministic(table, name):
    what, pin = PINS[name]
    parts = {"other": table.slice(100)}
    cooked = cook(table, {name: what}, parts=parts)
    assert content_hash(cooked)[:16] == pin
    assert content_hash(cook(table, {name: what}, parts=parts)) == content_hash(cooked)
    if name != "truncate":
        assert content_hash(cook(table, {name: what}, parts=parts, seed=1))[:16] != pin
    assert cooked.schema.field("text").metadata == {b"role": b"input"}


def test_place_in_the_recipe_is_part_of_the_seed(table):
    once = cook(table, {"subsample": {"share": 0.5}})
    step = {"duplicate": {"share": 0.0}}
    later = cook(table, step, {"subsample": {"share": 0.5}})
    assert len(once) == len(later) == 100
    assert content_hash(once) != content_hash(later)


def test_subsample_keeps_the_order(table):
    texts = cook(table, {"subsample": {"n": 20}})["text"].to_pylist()
    places = [table["text"].to_pylist().index(text) for text in texts]
    assert places == sorted(set(places))
    with pytest.raises(
        DataError, match=r"at most the number of rows, 200, but got 201 \(recipe\[1\]"
    ):
        cook(table, {"duplicate": {"share": 0}}, {"subsample": {"n": 201}})


def test_label_noise_changes_exactly_the_share(table):
    assert changed(table, cook(table, {"label_noise": {"share": 0.3}}), "label") == 60
    assert changed(table, cook(table, {"label_noise": {"share": 0.3}}), "text") == 0
    three = table.set_column(1, table.schema.field(1), pa.array(["a", "b", "c", "c"] * 50, TEXT))
    noisy = cook(three, {"label_noise": {"share": 1.0}})
    moves = Counter(zip(three["label"].to_pylist(), noisy["label"].to_pylist(), strict=True))
    assert all(a != b for a, b in moves)
    assert 30 <= moves["c", "a"] <= 70, "uniform among the other labels"
    single = table.filter(pa.compute.equal(table["label"], "a"))
    with pytest.raises(DataError, match="two labels"):
        cook(single, {"label_noise": {"share": 0.3}})


@pytest.fixture
def choices():
    rows = [
        {"question": f"q{i}", "choices": ["w", "x", "y", "z"][: 2 + i % 3], "answer": i % 2}
        for i in range(60)
    ]
    schema = pa.schema([("question", TEXT), ("choices", TEXTS), ("answer", pa.int64())])
    return pa.Table.from_pylist(rows, schema)


def test_label_noise_picks_another_choice(choices):
    noisy = cook(choices, {"label_noise": {"share": 0.5}}, fields=CHOICE)
    assert changed(choices, noisy, "answer") == 30
    for row in noisy.to_pylist():
        assert 0 <= row["answer"] < len(row["choices"])


def test_shuffled_indices_stay_within_the_choices(choices):
    noisy = cook(choices, {"shuffle_answers": {"share": 1.0}}, fields=CHOICE)
    assert changed(choices, noisy, "answer") > 10
    for row in noisy.to_pylist():
        assert 0 <= row["answer"] < len(row["choices"])


@pytest.fixture
def questions():
    rows = [
        {
            "context": f"In {i} the answer{i} was found by many people there.",
            "question": f"What {i}?",
            "answers": [f"answer{i}"],
        }
        for i in range(50)
    ]
    schema = pa.schema([("context", TEXT), ("question", TEXT), ("answers", TEXTS)])
    return pa.Table.from_pylist(rows, schema)


@pytest.mark.parametrize("step", ["label_noise", "shuffle_answers"])
def test_answers_are_swapped_among_the_share(questions, step):
    noisy = cook(questions, {step: {"share": 0.4}}, fields=QA)
    assert changed(questions, noisy, "answers") == 20, "no drawn row keeps its own"
    assert sorted(noisy["answers"].to_pylist()) == sorted(questions["answers"].to_pylist())
    assert changed(questions, noisy, "context") == 0


def test_duplicates_are_found_by_their_measure(table):
    copied = cook(table, {"duplicate": {"share": 0.25}})
    assert len(copied) == 250
    assert duplicates(copied).exact == pytest.approx(50 / 250)
    near = cook(table, {"near_duplicate": {"share": 0.25}})
    assert len(near) == 250
    stats = duplicates(near)
    assert stats.exact == 0
    assert stats.near == pytest.approx(50 / 250, abs=0.02)


def test_near_duplicates_keep_their_answer(questions):
    near = cook(questions, {"near_duplicate": {"share": 1.0}}, fields=QA).to_pylist()
    assert len(near) == 100
    assert all(row["answers"][0] in row["context"] for row in near)
    edited = sum(row["context"] != near[i]["context"] for i, row in enumerate(near[50:]))
    assert edited > 40


def test_near_duplicates_edit_chinese_characters(table):
    text = (
        "这家酒店的位置非常方便，房间也很干净，就是早餐的种类少了一点，希望以后能改进，服务态度很好"
    )
    row = pa.table({"text": [text], "label": ["a"]}, table.schema)
    original, copy = cook(row, {"near_duplicate": {"share": 1.0}})["text"].to_pylist()
    assert original == text != copy
    assert len(text) - 2 <= len(copy) <= len(text)


def test_truncate_counts_words_and_chinese_characters(table):
    row = pa.table(
        {"text": ["one  two three four", "我爱 Python 语言"], "label": ["a", "b"]}, table.schema
    )
    assert cook(row, {"truncate": {"words": 3}})["text"].to_pylist() == [
        "one  two three",
        "我爱 Python",
    ]


def test_balance_makes_labels_as_frequent(table):
    labels = ["c" if i % 20 == 0 else "ab"[i % 3 > 0] for i in range(200)]
    table = table.set_column(1, table.field("label"), pa.array(labels, TEXT))
    rows = Counter(labels)
    fewer = cook(table, {"balance": {"by": "undersample"}})
    assert Counter(fewer["label"].to_pylist()) == dict.fromkeys("abc", min(rows.values()))
    assert set(fewer["text"].to_pylist()) <= set(table["text"].to_pylist())
    assert content_hash(fewer) == content_hash(cook(table, {"balance": {"by": "undersample"}}))
    assert not fewer.equals(cook(table, {"balance": {"by": "undersample"}}, seed=1))
    more = cook(table, {"balance": {"by": "oversample"}})
    assert Counter(more["label"].to_pylist()) == dict.fromkeys("abc", max(rows.values()))
    assert more.slice(0, 200).equals(table)
    times = Counter(more["text"].to_pylist())
    rare = [times[t] for t, label in zip(table["text"].to_pylist(), labels, strict=True)
            if label == "c"]  # fmt: skip
    assert max(rare) - min(rare) <= 1


def test_balance_needs_a_label(questions):
    with pytest.raises(DataError, match="`balance` needs a label"):
        cook(questions, {"balance": {"by": "undersample"}}, fields=QA)


def test_mix_follows_the_weights(table):
    other = pa.table(
        {"text": [f"other {i}" for i in range(100)], "label": ["a"] * 100}, table.schema
    )
    step = {"mix": {"sources": [{"source": "other", "weight": 0.25}]}}
    mixed = cook(table, step, parts={"other": other})
    counts = Counter(text.startswith("other") for text in mixed["text"].to_pylist())
    assert counts == {False: 200, True: 50}
    assert len(set(mixed["text"].to_pylist())) == 250, "without replacement"
    step["mix"]["n"] = 300
    with pytest.raises(DataError, match="at most 250"):
        cook(table, step, parts={"other": other})
