"""Unigram and trigram language models over token ids: what a neural one must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def unigram(ids: npt.NDArray[np.integer], vocabulary: int) -> Floats:
    """Return the log-probability of each token, by its count plus one (Laplace).

    Args:
        ids: [tokens], the training stream.
        vocabulary: number of tokens.
    """
    counts = np.bincount(ids, minlength=vocabulary) + 1.0
    logs: Floats = np.log(counts / counts.sum())
    return logs


@dataclass(frozen=True)
class _Counts:
    """What was seen after each context.

    Attributes:
        keys: sorted codes of context and token, `context * vocabulary + token`.
        values: how often each was seen.
        contexts: sorted codes of the contexts.
        totals: sum of the values in each context.
        types: number of different tokens in each context.
    """

    keys: Ints
    values: Ints
    contexts: Ints
    totals: Ints
    types: Ints

    @property
    def discount(self) -> float:
        """n1 / (n1 + 2 n2): Ney, Essen & Kneser, 1994."""
        once, twice = int((self.values == 1).sum()), int((self.values == 2).sum())
        return once / (once + 2 * twice) if once else 0.5


@dataclass(frozen=True)
class Trigram:
    """An interpolated Kneser-Ney trigram model (Chen & Goodman, 1999, section 2.7).

    The highest order counts occurrences; a lower order counts in how many different contexts a
    token was seen, and mixes with the order below by the discounted mass. Below the unigrams
    stands the uniform distribution.
    """

    vocabulary: int
    trigrams: _Counts
    bigrams: _Counts
    unigrams: _Counts

    def log_probability(self, first: Ints, second: Ints, token: Ints) -> Floats:
        """Return the log-probability of each token after the two before it; arrays of one shape."""
        size = self.vocabulary
        lower = np.full(token.shape, 1.0 / size)
        for counts, context in (
            (self.unigrams, np.zeros_like(token)),
            (self.bigrams, second),
            (self.trigrams, first * size + second),
        ):
            lower = _interpolate(counts, context, context * size + token, lower)
        logs: Floats = np.log(lower)
        return logs


def trigram(ids: npt.NDArray[np.integer], vocabulary: int) -> Trigram:
    """Count a training stream.

    Args:
        ids: [tokens], at least three.
        vocabulary: number of tokens; its cube must fit 63 bits.
    """
    stream = ids.astype(np.int64)
    bigram_codes = stream[:-1] * vocabulary + stream[1:]
    codes, values = np.unique(bigram_codes[:-1] * vocabulary + stream[2:], return_counts=True)
    # Each different trigram is one context of its last two tokens, each different bigram one of
    # its last token.
    pairs, pair_values = np.unique(codes % vocabulary**2, return_counts=True)
    singles, single_values = np.unique(pairs % vocabulary, return_counts=True)
    return Trigram(
        vocabulary,
        _counts(codes, values, vocabulary),
        _counts(pairs, pair_values, vocabulary),
        _counts(singles, single_values, vocabulary),
    )


def _counts(keys: Ints, values: Ints, vocabulary: int) -> _Counts:
    contexts, starts, types = np.unique(keys // vocabulary, return_index=True, return_counts=True)
    return _Counts(keys, values, contexts, np.add.reduceat(values, starts), types)


def _interpolate(counts: _Counts, context: Ints, key: Ints, lower: Floats) -> Floats:
    """Return max(c - D, 0) / total + D types / total × lower; `lower` where a context is new."""
    place = np.minimum(np.searchsorted(counts.contexts, context), len(counts.contexts) - 1)
    seen = counts.contexts[place] == context
    at = np.minimum(np.searchsorted(counts.keys, key), len(counts.keys) - 1)
    count = np.where(counts.keys[at] == key, counts.values[at], 0)
    total, types = counts.totals[place], counts.types[place]
    discount = counts.discount
    mixed = (np.maximum(count - discount, 0) + discount * types * lower) / total
    return np.where(seen, mixed, lower)
