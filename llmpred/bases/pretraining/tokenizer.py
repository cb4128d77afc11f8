"""Train a byte-fallback BPE tokenizer: every text comes back as it was, in any script."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmpred.errors import DataError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"  # ends a document; stands for a beginning where one is asked for
PAD = "<|pad|>"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# Contractions, words with the space before them, single digits, runs of punctuation, white space:
# GPT-2's pattern (Radford et al., 2019) with digits one by one and line breaks apart.
PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|[\r\n]|"
    r"[^\S\r\n]+(?![^\s\p{N}])|[^\S\r\n]"
)


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, characters: int, positions: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Byte-pair encoding (Sennrich et al., 2016) over characters; a character that is not among the
    commonest is spelt as its UTF-8 bytes, so nothing is unknown.

    Args:
        texts: to learn merges from.
        vocabulary: number of tokens, the 256 bytes and two special tokens included.
        characters: how many of the commonest characters have a token of their own.
        positions: longest input of the model, for the tokenizer's warnings.

    Raises:
        DataError: if the texts do not yield so large a vocabulary.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learner = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    learner.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(BYTES),
        limit_alphabet=characters,
        special_tokens=[END, PAD],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    if learner.get_vocab_size() + len(BYTES) != vocabulary:
        got = learner.get_vocab_size() + len(BYTES)
        law = f"the texts must be enough for a vocabulary of {vocabulary:,}, but yield {got:,}"
        raise DataError(Problem(law, fix="Give more text, or a smaller vocabulary."))
    learnt = json.loads(learner.to_str())["model"]
    by_id = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    # Bytes are ordinary tokens: as special ones they would be found in a text that spells "<0x41>".
    tokens = [*by_id[:2], *BYTES, *by_id[2:]]
    tokenizer = Tokenizer(
        models.BPE(
            {token: place for place, token in enumerate(tokens)},
            [tuple(merge) for merge in learnt["merges"]],
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return how many bytes of text each token stands for; 0 for special tokens."""
    sizes = []
    for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer))):
        if token in (END, PAD):
            sizes.append(0)
        else:
            sizes.append(1 if token in BYTES else len(token.encode()))
    return sizes
