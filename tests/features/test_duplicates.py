import random

import numpy as np
import pytest

from llmpred.data import duplicates as in_memory
from llmpred.data.duplicates import NEAR
from llmpred.data.synthetic import generate
from llmpred.features.duplicates import (
    PERMUTATIONS,
    repeats,
    shingles,
    signatures,
    sketches,
)

SENTENCE = "the quick brown fox jumps over the lazy dog and runs far away from here"


@pytest.fixture
def compare(tmp_path):
    """Compare (input, output) pairs with each other, and evaluation inputs with them."""

    def compared(pairs, evaluation=(), cut=None):
        rows = [*pairs, *((text, "") for text in evaluation)]
        parts = [rows[:cut], rows[cut:]] if cut else [rows]
        return repeats((sketches(part) for part in parts), len(pairs), tmp_path)

    return compared


def edited(text, draw):
    words = text.split()
    for _ in range(max(1, len(words) // 10)):
        words.pop(draw.randrange(len(words)))
    return " ".join(words)


def world(n, copies=0, edits=0):
    draw = random.Random(0)
    rows = generate("summarization", {"n": n - copies - edits, "length": "short"})
    pairs = [(row["document"], row["summary"]) for row in rows]
    near = [(edited(text, draw), answer) for text, answer in draw.sample(pairs, edits)]
    pairs += draw.sample(pairs, copies) + near
    draw.shuffle(pairs)
    return pairs


def jaccard(first, second):
    a, b = (set(shingles([text])[0].tolist()) for text in (first, second))
    return len(a & b) / len(a | b)


def test_shingles_are_runs_of_characters():
    def own(text, size):
        return len({text[i : i + size] for i in range(max(1, len(text) - size + 1))})

    texts = ["abcabcabc", "abcd", "", "房间很干净服务也很好", "房间", SENTENCE]
    hashes, starts = shingles(texts)
    for i, text in enumerate(texts):
        found = hashes[starts[i] : [*starts, len(hashes)][i + 1]]
        assert len(set(found.tolist())) == own(text, 5 if text.isascii() else 3)
        assert found.tolist() == shingles([text])[0].tolist()


def test_signatures_estimate_jaccard():
    draw = random.Random(1)
    errors = []
    for _ in range(200):
        first = "".join(draw.choices("abcdefgh ", k=300))
        second = first[: draw.randrange(300)] + "".join(draw.choices("abcdefgh ", k=150))
        a, b = signatures([first, second])
        errors.append((a == b).mean() - jaccard(first, second))
    # The standard error of a share of 128 is at most 0.044; by chance bytes agree a little more.
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.045


def test_agrees_with_datasketch(compare):
    import datasketch

    pairs = world(10_000, edits=1_500)
    texts = [text.casefold() for text, _ in pairs]
    hashes, starts = shingles(texts)
    sets = [set(own.tolist()) for own in np.split(hashes, starts[1:])]
    # 25 bands of 5: 99.9 % of the pairs at similarity 0.75 share one.
    lsh = datasketch.MinHashLSH(num_perm=PERMUTATIONS, params=(25, 5))
    start = datasketch.MinHash(num_perm=PERMUTATIONS, hashfunc=int, seed=1)
    found = 0
    minima = []
    for place, own in enumerate(sets):
        sketch = start.copy()
        sketch.update_batch([value >> 32 for value in own])
        near = (sets[at] for at in lsh.query(sketch))
        found += any(len(own & other) >= NEAR * len(own | other) and own != other for other in near)
        lsh.insert(place, sketch)
        minima.append(sketch.hashvalues)
    assert compare(pairs).near == pytest.approx(found, abs=10)
    # The estimates of single pairs agree too, near the threshold and far from it.
    mine = signatures(texts[:2000])
    theirs = np.array(minima[:2000])
    apart = (mine[1:] == mine[:-1]).mean(1) - (theirs[1:] == theirs[:-1]).mean(1)
    assert abs(apart.mean()) < 0.01


def test_agrees_with_the_comparison_in_memory(compare):
    import pyarrow as pa

    pairs = world(3_000, copies=200, edits=300)
    column = pa.array([text for text, _ in pairs], pa.large_string())
    other = in_memory(pa.table({"document": column}))
    stats = compare(pairs)
    assert stats.exact == 200
    assert stats.near == pytest.approx(other.near * 3_000, abs=5)
    assert compare(pairs, cut=1_024) == stats


def test_kinds_of_repetition(compare):
    pairs = [(f"{SENTENCE} {i} {i * 7919 % 1000} {'xyz' * (i % 7)}"[::-1], "a") for i in range(5)]
    base = [("A text that stands here alone.", "yes"), ("Another one, quite unlike it.", "no")]
    assert compare(base).exact == compare(base).conflicts == compare(base).near == 0
    again = compare([*base, ("a text  that stands here ALONE.", "Yes")])
    assert (again.exact, again.conflicts, again.near) == (1, 0, 0)
    conflict = compare([*base, (base[0][0], "no")])
    assert (conflict.exact, conflict.conflicts, conflict.near) == (0, 2, 0)
    near = compare([*base, (base[0][0] + " Indeed", "no")])
    assert (near.exact, near.conflicts, near.near) == (0, 0, 1)
    assert compare(pairs).rows == 5


def test_evaluation_is_looked_up_in_training_alone(compare):
    train = [(SENTENCE, "a"), ("something else altogether, which is not met again", "b")]
    asked = [SENTENCE.upper(), SENTENCE + " too", "never seen before in any way", SENTENCE + " too"]
    stats = compare(train, asked)
    assert (stats.evaluation_rows, stats.evaluation_exact, stats.evaluation_near) == (4, 1, 2)
    assert (stats.exact, stats.near) == (0, 0)
    twins = compare(train, ["a line of the evaluation", "a line of the evaluation!"])
    assert (twins.evaluation_exact, twins.evaluation_near) == (0, 0)


def test_chinese_near_duplicates(compare):
    text = "房间很干净，服务也很周到，早餐的种类非常丰富，离地铁站只有五分钟的路程，下次还会再来"
    other = "这家酒店的隔音太差了，晚上一直能听到马路上的声音，前台的态度也很不好，不会推荐给朋友"
    stats = compare([(text, "好"), (other, "差"), (text.replace("非常", ""), "好")])
    assert (stats.exact, stats.near) == (0, 1)


def test_boilerplate_stays_linear(compare):
    # All rows share buckets, few are near: what is compared within a bucket is bounded.
    pairs = [(f"{SENTENCE} {i * 2654435761 % 2**32:08x}", "") for i in range(4000)]
    assert compare(pairs).near == 3_999


def test_empty_one_and_huge(compare):
    assert compare([("", "")]).near == 0
    stats = compare([("", "a"), ("", "b"), (" ", "b")])
    assert (stats.exact, stats.conflicts, stats.near) == (1, 3, 0)
    long = "".join(random.Random(0).choices("abcdefgh ", k=1_000_000))
    stats = compare([(long, ""), (long[:-1000], ""), ("abc", "")])
    assert (stats.exact, stats.near) == (0, 1)
    assert compare([], []).rows == 0
