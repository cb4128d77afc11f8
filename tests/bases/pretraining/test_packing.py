from itertools import islice
from pathlib import Path

import numpy as np

from llmpred.bases.pretraining.packing import (
    Packed,
    batches,
    load_packed,
    one_pass,
    pack,
    pass_order,
    save_packed,
    windows,
)
from llmpred.bases.pretraining.tokenizer import train_tokenizer


def packed(lengths: list[int], weights: list[float]) -> Packed:
    ids = np.concatenate([np.full(n, i, np.uint16) for i, n in enumerate(lengths)])
    return Packed(ids, np.cumsum(lengths), np.array(weights))


def test_documents_end_with_the_end_token():
    tokenizer = train_tokenizer(["ab ab ab"] * 3, 262, 10, 128)
    made = pack(tokenizer, [["ab", "ab ab"], [], ["b"]], [1.0, 5.0, 2.0])
    texts = [tokenizer.decode(part) for part in np.split(made.ids, made.ends[:-1])]
    assert texts == [f"{text}{tokenizer.eos_token}" for text in ("ab", "ab ab", "b")]
    assert made.weights.tolist() == [1.0, 1.0, 2.0]


def test_a_pass_holds_each_document_as_often_as_it_weighs():
    made = packed([3, 2, 4], [1.0, 2.0, 0.5])
    counts = [np.bincount(pass_order(made, 0, n), minlength=3) for n in range(400)]
    assert {tuple(c[:2]) for c in counts} == {(1, 2)}
    assert 0.4 < np.mean([c[2] for c in counts]) < 0.6
    stream = one_pass(made, 0, 0)
    assert np.bincount(stream, minlength=3)[:2].tolist() == [3, 4]


def test_the_stream_goes_on_where_it_was_left():
    made = packed([3, 2, 4, 7], [1.0, 2.0, 0.5, 1.3])
    whole = list(islice(batches(made, 5, seed=3), 40))
    for start in (0, 1, 7, 23):
        rest = list(islice(batches(made, 5, seed=3, start=start), 40 - start))
        np.testing.assert_array_equal(rest, whole[start:])
    passes = np.concatenate([one_pass(made, 3, n) for n in range(20)])
    np.testing.assert_array_equal(np.concatenate(whole), passes[:200])


def test_windows_drop_an_incomplete_row():
    assert windows(np.arange(7, dtype=np.uint16), 3).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_files(tmp_path: Path):
    made = packed([3, 2], [1.0, 2.0])
    save_packed(made, tmp_path / "a.npz")
    loaded = load_packed(tmp_path / "a.npz")
    for name, value in vars(made).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
