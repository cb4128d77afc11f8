from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpred.bases.pretraining.tokenizer import BYTES, END, PAD, token_bytes, train_tokenizer
from llmpred.errors import DataError

TEXTS = ["The hotel was fine, 12 rooms.", "房间很大，服务也不错。", "the hotel is fine"] * 3
TOKENIZER = train_tokenizer(TEXTS, 310, 60, 128)


@pytest.mark.parametrize(
    "text",
    [
        "The hotel was fine.",
        "房间很大，龘靐齉 rare",
        "emoji 😀👩‍👩‍👧 é ü ß",
        "  two  spaces\n\n\ttab \r\n end ",
        "<0x41> ▁ Ġ Ċ \x00 �",
        f"{PAD[:-1]} {END[1:]}",
        "",
        " ",
    ],
)
def test_round_trip(text: str):
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert sum(token_bytes(TOKENIZER)[i] for i in ids) == len(text.encode())


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str):
    if END not in text and PAD not in text:
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_digits_stand_alone_and_words_take_their_space():
    assert TOKENIZER.tokenize("12 34")[:2] == ["1", "2"]
    assert " hotel" in TOKENIZER.tokenize("The hotel")


def test_loads_plainly(tmp_path: Path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "The 龘 hotel 😀\n12"
    assert loaded(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert (loaded.eos_token, loaded.bos_token, loaded.pad_token) == (END, END, PAD)
    assert loaded.unk_token is None
    assert len(loaded) == 310
    assert loaded.convert_ids_to_tokens(range(2, 258)) == BYTES


def test_too_little_text_is_said():
    with pytest.raises(DataError, match=r"vocabulary of 2,000, but yield \d+"):
        train_tokenizer(["a b"], 2000, 60, 128)
