"""Meta-features of the texts alone: how much there is, how varied, how repetitive, how balanced.

`count` reads rows once and gives counts that add up: those of shards, merged, are those of the
whole. A word is a word as `llmpred.data.text.characters` cuts it, in any case: in Chinese, one
character. What is measured on running text (MTLD, distinct-n, compression) is measured on blocks of
128 consecutive rows, so shards must be cut at multiples of that.
"""

from __future__ import annotations

import functools
import hashlib
import math
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmpred.data.text import CJK, characters
from llmpred.features.base import Feature, Priority
from llmpred.features.duplicates import Repeats

BLOCK = 128  # rows whose texts are joined, where a measure needs running text
MTLD_WORDS = 2000  # first words of a block that MTLD is measured on
FACTOR = 0.72  # of MTLD: the type-token ratio at which a string of words ends
WINDOW = 100  # bigrams among which distinct ones are counted
CHUNK, CHUNKS = 8192, 4  # bytes compressed at once, and how often in a block
BUCKETS = 2**22  # of the vocabulary: rare words beyond millions of them share one
PENDING = 2**20  # words counted at once
REMEMBERED = 200_000  # words whose hash is kept

# Lengths are counted one by one up to 64, then in 32 buckets an octave: quantiles are within 1.1 %.
EXACT, OCTAVE = 64, 32

SCRIPTS = {
    "latin": "A-Za-zª-ºÀ-ɏḀ-ỿ",
    "han": CJK,
    "kana": "\u3040-\u30ff",
    "hangul": "\u1100-\u11ff\uac00-\ud7af",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff",
    "arabic": "\u0600-\u077f",
    "hebrew": "\u0590-\u05ff",
    "indic": "\u0900-\u0dff",
    "thai": "\u0e00-\u0e7f",
}
POINTS = 0x31350  # code points; beyond the last Chinese character all are special
KINDS = (*SCRIPTS, "other", "digit", "space", "special")  # of characters; the first are letters

Array = npt.NDArray[Any]


class Row(NamedTuple):
    """One example: its texts, and its label where the task chooses among candidates."""

    input: str
    output: str
    label: str | None = None


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in words.

    Attributes:
        histogram: bucket -> texts; see `bucket`.
        total: words of all texts.
        squares: sum of the squared lengths.
    """

    histogram: Mapping[int, int] = field(default_factory=dict)
    total: int = 0
    squares: int = 0


@dataclass(frozen=True)
class Share:
    """A share of things counted."""

    count: int = 0
    of: int = 0


@dataclass(frozen=True)
class TextCounts:
    """Counts over rows; those of shards add up, see `merge`.

    Attributes:
        rows: how many there are.
        inputs, outputs: lengths of the inputs and outputs.
        kinds: int64 (len(KINDS),), characters of inputs and outputs by kind.
        words, times: the distinct words of the inputs, as ascending uint32 below BUCKETS, and how
            often each occurs.
        mtld: words that MTLD was measured on, in both directions.
        factors: how many factors they hold.
        repeated: 3-grams of the inputs that repeat one of the same input.
        distinct: distinct bigrams within full windows of 100 bigrams of the outputs.
        distinct_rest: distinct bigrams within the rests that fill no window.
        copied: words of the outputs that occur in their input.
        compressed: bytes after and before compression, of full chunks.
        compressed_rest: the same of the rests that fill no chunk.
        labels: label -> rows, where the task has labels.
    """

    rows: int = 0
    inputs: Lengths = Lengths()
    outputs: Lengths = Lengths()
    kinds: Array = field(default_factory=lambda: np.zeros(len(KINDS), np.int64))
    words: Array = field(default_factory=lambda: np.zeros(0, np.uint32))
    times: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    mtld: int = 0
    factors: float = 0.0
    repeated: Share = Share()
    distinct: Share = Share()
    distinct_rest: Share = Share()
    copied: Share = Share()
    compressed: Share = Share()
    compressed_rest: Share = Share()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TextStats:
    """The measurement that `FEATURES` are functions of.

    Attributes:
        train: counts over the training rows.
        repeats: how the rows repeat.
        evaluation: counts over the evaluation inputs; None without an evaluation.
        facts: how it was made.
    """

    train: TextCounts
    repeats: Repeats
    evaluation: TextCounts | None
    facts: Mapping[str, float]


# --- counting --------------------------------------------------------------------------------


def count(rows: Iterable[Row]) -> TextCounts:
    """Count over rows in one pass; holds a block of them and the vocabulary in memory."""
    rows = iter(rows)
    inputs, outputs = _Lengths(), _Lengths()
    vocabulary = _Vocabulary()
    sums = {name: np.zeros(2, np.int64) for name in _SHARES}
    kinds = np.zeros(len(KINDS), np.int64)
    labels: Counter[str] = Counter()
    number = mtld = 0
    factors = 0.0
    while block := list(islice(rows, BLOCK)):
        number += len(block)
        labels.update(row.label for row in block if row.label is not None)
        asked = [_words(row.input) for row in block]
        answered = [_words(row.output) for row in block]
        inputs.add(asked)
        outputs.add(answered)
        running = [word for words in asked for word in words]
        vocabulary.add(running)
        some = running[:MTLD_WORDS]
        mtld += 2 * len(some)
        factors += mtld_factors(some) + mtld_factors(some[::-1])
        kinds += _kinds("".join(row.input + row.output for row in block))
        sums["repeated"] += _repeated(running, [len(words) for words in asked])
        sums["copied"] += _copied(asked, answered)
        for name, found in zip(("distinct", "distinct_rest"), _distinct(answered), strict=True):
            sums[name] += found
        running_text = "\n".join(f"{row.input}\n{row.output}" for row in block)
        for name, found in zip(
            ("compressed", "compressed_rest"), _compressed(running_text), strict=True
        ):
            sums[name] += found
    words, times = vocabulary.counted()
    return TextCounts(
        rows=number,
        inputs=inputs.counted(),
        outputs=outputs.counted(),
        kinds=kinds,
        words=words,
        times=times,
        mtld=mtld,
        factors=factors,
        labels=dict(sorted(labels.items())),
        **{name: Share(*map(int, pair)) for name, pair in sums.items()},
    )


def merge(first: TextCounts, second: TextCounts) -> TextCounts:
    """Return the counts over the rows of both."""
    words, times = _summed(
        np.concatenate([first.words, second.words]), np.concatenate([first.times, second.times])
    )
    return TextCounts(
        rows=first.rows + second.rows,
        inputs=_merged(first.inputs, second.inputs),
        outputs=_merged(first.outputs, second.outputs),
        kinds=first.kinds + second.kinds,
        words=words,
        times=times,
        mtld=first.mtld + second.mtld,
        factors=first.factors + second.factors,
        labels=_added(first.labels, second.labels),
        **{
            name: Share(a.count + b.count, a.of + b.of)
            for name in _SHARES
            for a, b in [(getattr(first, name), getattr(second, name))]
        },
    )


_SHARES = (
    "repeated",
    "distinct",
    "distinct_rest",
    "copied",
    "compressed",
    "compressed_rest",
)


def mtld_factors(words: Sequence[Any]) -> float:
    """Return how many factors a string of words holds, read in its direction.

    A factor ends where the type-token ratio falls below 0.72; of the words left over, the share of
    a factor that they have come (McCarthy & Jarvis, 2010). MTLD is words a factor, the mean of both
    directions in the paper; here, words over factors pooled over directions and blocks.
    """
    types: set[Any] = set()
    tokens = 0
    factors = 0.0
    for word in words:
        tokens += 1
        types.add(word)
        if len(types) < FACTOR * tokens:
            factors += 1
            types.clear()
            tokens = 0
    if tokens:
        factors += (1 - len(types) / tokens) / (1 - FACTOR)
    return factors


def bucket(words: int) -> int:
    """Return the bucket of the histogram that a length falls into."""
    if words < EXACT:
        return words
    return EXACT + int(OCTAVE * math.log2(words / EXACT))


def quantile(lengths: Lengths, share: float) -> float:
    """Return the length that a share of the texts does not exceed, within 1.1 %; NaN of none."""
    wanted = share * sum(lengths.histogram.values())
    met = 0
    for place in sorted(lengths.histogram):
        met += lengths.histogram[place]
        if met >= wanted:
            return place if place < EXACT else EXACT * 2 ** ((place - EXACT + 0.5) / OCTAVE)
    return math.nan


class _Hashes(dict[str, int]):
    """Word -> 32 bits that stand for it in any case, for as many words as are remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        text = word.casefold().encode("utf-8", "surrogatepass")
        found = self[word] = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())
        return found


_HASHES = _Hashes()


def _words(text: str) -> list[int]:
    return list(map(_HASHES.__getitem__, characters(text)))


class _Lengths:
    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, texts: Sequence[Sequence[int]]) -> None:
        self.counts.update(map(len, texts))

    def counted(self) -> Lengths:
        histogram: Counter[int] = Counter()
        for length, times in self.counts.items():
            histogram[bucket(length)] += times
        return Lengths(
            dict(sorted(histogram.items())),
            sum(length * times for length, times in self.counts.items()),
            sum(length * length * times for length, times in self.counts.items()),
        )


class _Vocabulary:
    """Words and how often they come; held as they come until there are many."""

    def __init__(self) -> None:
        self.words: Array = np.zeros(0, np.uint32)
        self.times: Array = np.zeros(0, np.int64)
        self.pending: list[Array] = []
        self.size = 0

    def add(self, words: Sequence[int]) -> None:
        self.pending.append(np.array(words, np.uint32) % np.uint32(BUCKETS))
        self.size += len(words)
        if self.size > PENDING:
            self.counted()

    def counted(self) -> tuple[Array, Array]:
        words = np.concatenate([self.words, *self.pending])
        times = np.concatenate([self.times, np.ones(self.size, np.int64)])
        self.words, self.times = _summed(words, times)
        self.pending, self.size = [], 0
        return self.words, self.times


def _summed(words: Array, times: Array) -> tuple[Array, Array]:
    """Return the distinct words in order, and the sum of the times of each."""
    order = np.argsort(words)
    words, times = words[order], times[order]
    starts = np.flatnonzero(np.concatenate([words[:1] == words[:1], words[1:] != words[:-1]]))
    return words[starts], np.add.reduceat(times, starts) if len(starts) else times


def _merged(first: Lengths, second: Lengths) -> Lengths:
    return Lengths(
        _added(first.histogram, second.histogram),
        first.total + second.total,
        first.squares + second.squares,
    )


def _added(first: Mapping[Any, int], second: Mapping[Any, int]) -> dict[Any, int]:
    total = Counter(first)
    total.update(second)
    return dict(sorted(total.items()))


def _kinds(text: str) -> Array:
    """Return how many characters are of each kind."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(_kind_of_points()[np.minimum(points, POINTS - 1)], minlength=len(KINDS))


@functools.cache
def _kind_of_points() -> Array:
    """Return the kind of every code point below POINTS, uint8 (POINTS,)."""
    kinds = np.full(POINTS, KINDS.index("special"), np.uint8)
    for point, character in enumerate(map(chr, range(POINTS))):
        # Marks belong to the letters that they change.
        if unicodedata.category(character)[0] in "LM":
            kinds[point] = KINDS.index("other")
        elif character.isnumeric():
            kinds[point] = KINDS.index("digit")
        elif character.isspace():
            kinds[point] = KINDS.index("space")
    for place, ranges in enumerate(SCRIPTS.values()):
        for first, last in _ranges(ranges):
            letters = kinds[first : last + 1]
            letters[letters == KINDS.index("other")] = place
    return kinds


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a character class such as `A-Za-z`."""
    for place in range(0, len(text), 3):
        yield ord(text[place]), ord(text[place + 2])


def _repeated(words: Sequence[int], lengths: Sequence[int]) -> tuple[int, int]:
    """Return how many 3-grams repeat one of the same text, and how many 3-grams there are."""
    ids = np.array(words, np.uint64)
    of = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    inside = of[2:] == of[:-2]
    grams = ids[:-2]
    for following in (ids[1:-1], ids[2:], of[2:]):
        grams = (grams ^ (grams >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) ^ following
    grams = grams[inside]
    return len(grams) - len(np.unique(grams)), len(grams)


def _copied(inputs: Sequence[list[int]], outputs: Sequence[list[int]]) -> tuple[int, int]:
    """Return how many words of the outputs occur in their input, and how many words they have."""
    found = 0
    for asked, answered in zip(inputs, outputs, strict=True):
        known = set(asked)
        found += sum(word in known for word in answered)
    return found, sum(map(len, outputs))


def _distinct(outputs: Sequence[list[int]]) -> list[tuple[int, int]]:
    """Return distinct and all bigrams, in full windows and in the rest; an end is a word too."""
    end = 2**32
    words = np.array([word for words in outputs for word in (*words, end)], np.uint64)
    grams = (words[:-1] * np.uint64(0x9E3779B97F4A7C15) ^ words[1:])[words[:-1] != end]
    full = len(grams) // WINDOW * WINDOW
    windows = np.sort(grams[:full].reshape(-1, WINDOW), axis=1)
    fresh = len(windows) + int((windows[:, 1:] != windows[:, :-1]).sum())
    rest = grams[full:]
    return [(fresh, full), (len(np.unique(rest)), len(rest))]


def _compressed(text: str) -> list[tuple[int, int]]:
    """Return bytes after and before compression, of full chunks and of the rest."""
    data = text.encode("utf-8", "surrogatepass")[: CHUNK * CHUNKS]
    full = len(data) // CHUNK * CHUNK
    chunks = [data[at : at + CHUNK] for at in range(0, full, CHUNK)]
    rest = data[full:]
    return [
        (sum(len(zlib.compress(chunk)) for chunk in chunks), full),
        (len(zlib.compress(rest)) if rest else 0, len(rest)),
    ]


# --- features --------------------------------------------------------------------------------


def ratio(over: float, under: float) -> float:
    """Return a quotient; NaN where it has none."""
    return over / under if under else math.nan


def entropy(counts: Iterable[float]) -> float:
    """Return the Shannon entropy of a distribution given by counts, in bits; NaN of none."""
    values = np.array([value for value in counts if value], np.float64)
    if not len(values):
        return math.nan
    shares = values / values.sum()
    return abs(float((shares * np.log2(shares)).sum()))


def _mean(lengths: Lengths, rows: int) -> float:
    return ratio(lengths.total, rows)


def _deviation(lengths: Lengths, rows: int) -> float:
    variance = ratio(lengths.squares, rows) - ratio(lengths.total, rows) ** 2
    return math.sqrt(max(0.0, variance)) if rows else math.nan


def _share(share: Share, rest: Share | None = None) -> float:
    """Return a share; that of the rest where nothing else was counted."""
    used = rest if rest is not None and not share.of else share
    return ratio(used.count, used.of)


def _of_characters(counts: TextCounts, kind: str) -> float:
    return ratio(_kind(counts, kind), int(counts.kinds.sum()))


def _kind(counts: TextCounts, kind: str) -> int:
    return int(counts.kinds[KINDS.index(kind)])


def _letters(counts: TextCounts) -> Array:
    return counts.kinds[: KINDS.index("digit")]


def _chinese(counts: TextCounts) -> float:
    return ratio(_kind(counts, "han"), int(_letters(counts).sum()))


def _word_length(counts: TextCounts) -> float:
    """Return letters and digits a word, of words that are no Chinese characters."""
    chinese = _kind(counts, "han")
    characters = int(_letters(counts).sum()) + _kind(counts, "digit") - chinese
    return ratio(characters, counts.inputs.total + counts.outputs.total - chinese)


def _imbalance(labels: Mapping[str, int]) -> float:
    return 1 - entropy(labels.values()) / math.log2(len(labels)) if len(labels) > 1 else math.nan


def _asked(stats: TextStats) -> TextCounts:
    if stats.evaluation is None or not stats.evaluation.rows:
        raise ValueError("there are no evaluation rows")
    return stats.evaluation


def _of_evaluation(stats: TextStats, found: int) -> float:
    return found / _asked(stats).rows


def _length_shift(stats: TextStats) -> float:
    asked, train = _asked(stats), stats.train
    return ratio(_mean(asked.inputs, asked.rows), _mean(train.inputs, train.rows))


def _unseen(stats: TextStats) -> float:
    asked = _asked(stats)
    new = np.isin(asked.words, stats.train.words, invert=True)
    return ratio(int(asked.times[new].sum()), int(asked.times.sum()))


def _divergence(stats: TextStats) -> float:
    asked, train = _asked(stats), stats.train
    if not asked.times.sum() or not train.times.sum():
        return math.nan
    words = np.union1d(asked.words, train.words)
    shares = np.zeros((2, len(words)))
    for row, counts in zip(shares, (asked, train), strict=True):
        row[np.searchsorted(words, counts.words)] = counts.times / counts.times.sum()
    return max(0.0, entropy(shares.mean(axis=0)) - (entropy(shares[0]) + entropy(shares[1])) / 2)


def _feature(
    name: str,
    unit: str,
    source: str,
    fn: Callable[[TextStats], float],
    *,
    priority: Priority = "further",
    log: bool = False,
) -> Feature:
    return Feature(name, "static", priority, unit, "text", 1, source, fn, log=log)


def _lengths(side: str) -> list[Feature]:
    """Return the features of how long the inputs or the outputs are."""

    def of(stats: TextStats) -> Lengths:
        return stats.train.inputs if side == "input" else stats.train.outputs

    def at(share: float) -> Callable[[TextStats], float]:
        return lambda stats: quantile(of(stats), share)

    def feature(what: str, source: str, fn: Callable[[TextStats], float]) -> Feature:
        return _feature(f"{side}_words_{what}", "words", source, fn, log=True)

    return [
        feature("mean", f"mean length of the {side}s", lambda s: _mean(of(s), s.train.rows)),
        feature("sd", "its standard deviation", lambda s: _deviation(of(s), s.train.rows)),
        *(feature(f"p{p}", f"its {p} % quantile, within 1.1 %", at(p / 100)) for p in (10, 50, 90)),
    ]


FEATURES: tuple[Feature, ...] = (
    _feature(
        "size_di", "1", "training examples", lambda s: s.train.rows, priority="core", log=True
    ),
    _feature(
        "words",
        "words",
        "words of all inputs and outputs",
        lambda s: s.train.inputs.total + s.train.outputs.total,
        log=True,
    ),
    *_lengths("input"),
    *_lengths("output"),
    _feature(
        "length_ratio",
        "1",
        "words of the outputs over words of the inputs",
        lambda s: ratio(s.train.outputs.total, s.train.inputs.total),
        log=True,
    ),
    # --- variety ---
    _feature(
        "input_mtld",
        "words",
        "McCarthy & Jarvis (2010); NaN if no word comes twice",
        lambda s: ratio(s.train.mtld, s.train.factors),
        log=True,
    ),
    _feature(
        "input_repetition",
        "1",
        "Welleck et al. (2020): share of word 3-grams that repeat one of the same input",
        lambda s: _share(s.train.repeated),
    ),
    _feature(
        "output_distinct_2",
        "1",
        "Li et al. (2016): distinct bigrams, among 100 consecutive ones of the outputs",
        lambda s: _share(s.train.distinct, s.train.distinct_rest),
    ),
    _feature(
        "output_copied",
        "1",
        "Grusky et al. (2018), by words: share of output words that occur in their input",
        lambda s: _share(s.train.copied),
    ),
    _feature(
        "word_entropy", "bits", "Shannon (1948), input words", lambda s: entropy(s.train.times)
    ),
    _feature(
        "vocabulary",
        "words",
        "distinct words of the inputs",
        lambda s: len(s.train.words),
        log=True,
    ),
    _feature(
        "word_length",
        "characters",
        "letters and digits of a word; Chinese characters left out",
        lambda s: _word_length(s.train),
    ),
    _feature(
        "compression_ratio",
        "1",
        "bytes before over bytes after DEFLATE, 8 KiB of consecutive rows at a time",
        lambda s: 1 / _share(s.train.compressed, s.train.compressed_rest),
    ),
    # --- characters ---
    _feature(
        "special_share",
        "1",
        "characters that are no letter, digit or space",
        lambda s: _of_characters(s.train, "special"),
    ),
    _feature("digit_share", "1", "characters", lambda s: _of_characters(s.train, "digit")),
    _feature("cjk_share", "1", "Chinese characters among letters", lambda s: _chinese(s.train)),
    _feature(
        "script_entropy", "bits", "Shannon (1948), letters", lambda s: entropy(_letters(s.train))
    ),
    # --- labels ---
    _feature(
        "label_entropy",
        "bits",
        "Shannon (1948), labels or places of the right choice; NaN for open answers",
        lambda s: entropy(s.train.labels.values()),
    ),
    _feature(
        "label_imbalance",
        "1",
        "1 less the label entropy over the greatest possible (Pielou, 1966)",
        lambda s: _imbalance(s.train.labels),
    ),
    # --- repetition ---
    _feature(
        "duplicate_share",
        "1",
        "rows whose input and output equal an earlier row's, but for case, width and spaces",
        lambda s: ratio(s.repeats.exact, s.repeats.rows),
    ),
    _feature(
        "near_duplicate_share",
        "1",
        "rows with an input near an earlier one: Jaccard similarity of shingles (Broder, 1997)",
        lambda s: ratio(s.repeats.near, s.repeats.rows),
    ),
    _feature(
        "conflict_share",
        "1",
        "rows whose input stands elsewhere with another output",
        lambda s: ratio(s.repeats.conflicts, s.repeats.rows),
    ),
    # --- the evaluation's inputs ---
    _feature(
        "contamination",
        "1",
        "evaluation inputs that are training inputs",
        lambda s: _of_evaluation(s, s.repeats.evaluation_exact),
    ),
    _feature(
        "near_contamination",
        "1",
        "evaluation inputs near a training input and equal to none",
        lambda s: _of_evaluation(s, s.repeats.evaluation_near),
    ),
    _feature("unseen_words", "1", "evaluation words that no training input has", _unseen),
    _feature(
        "word_divergence",
        "bits",
        "Lin (1991), words of training and evaluation inputs: 0 if alike, 1 if disjoint",
        _divergence,
    ),
    _feature(
        "length_shift",
        "1",
        "mean length of evaluation inputs over that of training inputs",
        _length_shift,
        log=True,
    ),
)
