"""Documents as one stream of tokens, in an order that depends on nothing but the seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Packed:
    """Documents of one or more corpora, tokenised.

    Attributes:
        ids: [tokens], documents one after another, each followed by the end token.
        ends: [documents], where each one ends in `ids`.
        weights: [documents], passes over it for each pass over a document of weight 1.
    """

    ids: Ids
    ends: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


def pack(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[Sequence[str]], weights: Sequence[float]
) -> Packed:
    """Tokenise the texts of several corpora, each with its weight."""
    parts: list[Ids] = []
    for corpus in texts:
        for encoding in tokenizer.backend_tokenizer.encode_batch(list(corpus)):
            parts.append(np.array([*encoding.ids, tokenizer.eos_token_id], np.uint16))
    return Packed(
        ids=np.concatenate(parts) if parts else np.zeros(0, np.uint16),
        ends=np.cumsum([len(part) for part in parts], dtype=np.int64),
        weights=np.repeat(np.asarray(weights, np.float64), [len(corpus) for corpus in texts]),
    )


def save_packed(packed: Packed, path: Path) -> None:
    """Write packed documents to an `.npz` file."""
    np.savez(path, ids=packed.ids, ends=packed.ends, weights=packed.weights)


def load_packed(path: Path) -> Packed:
    """Read packed documents; nothing pickled is accepted."""
    with np.load(path, allow_pickle=False) as stored:
        return Packed(stored["ids"], stored["ends"], stored["weights"])


def pass_order(packed: Packed, seed: int, number: int) -> npt.NDArray[np.int64]:
    """Return the documents of one pass, shuffled.

    A document of weight 2.3 comes twice, and with probability 0.3 once more.
    """
    rng = np.random.default_rng([seed % 2**64, number])
    copies = np.floor(packed.weights + rng.random(len(packed.weights))).astype(np.int64)
    order: npt.NDArray[np.int64] = rng.permutation(np.repeat(np.arange(len(copies)), copies))
    return order


def one_pass(packed: Packed, seed: int, number: int) -> Ids:
    """Return the tokens of one pass over the documents."""
    starts = np.concatenate([[0], packed.ends[:-1]])
    order = pass_order(packed, seed, number)
    return np.concatenate([packed.ids[starts[i] : packed.ends[i]] for i in order])


def batches(packed: Packed, tokens: int, seed: int, start: int = 0) -> Iterator[Ids]:
    """Yield the tokens of one optimizer step after the other, without end, from step `start` on.

    The passes stand one after another as one stream, which is cut every `tokens` tokens: no
    token is padding and none is left out.
    """
    lengths = np.diff(packed.ends, prepend=0)
    skip, number = start * tokens, 0
    while (length := int(lengths[pass_order(packed, seed, number)].sum())) <= skip:
        skip -= length
        number += 1
    rest = one_pass(packed, seed, number)[skip:]
    while True:
        while len(rest) < tokens:
            number += 1
            rest = np.concatenate([rest, one_pass(packed, seed, number)])
        yield rest[:tokens]
        rest = rest[tokens:]


def windows(ids: Ids, length: int) -> npt.NDArray[np.int64]:
    """Cut a stream into rows of `length` tokens; an incomplete last row is left out.

    Returns:
        [rows, length].
    """
    rows = len(ids) // length
    return ids[: rows * length].reshape(rows, length).astype(np.int64)
