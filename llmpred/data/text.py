"""Words and languages: how text is counted wherever words are counted."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import jieba

Language = Literal["en", "zh"]

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CJK = re.compile(f"[{CJK}]")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_CHARACTER = re.compile(f"[{CJK}]|[^\\W{CJK}]+(?:['’-][^\\W{CJK}]+)*")
# What a length limit counts: a Chinese character, or a run of anything else between spaces.
UNIT = re.compile(f"[{CJK}]|[^\\s{CJK}]+")


def language(texts: Iterable[str], look_at: int = 1000) -> Language:
    """Return `zh` if at least three letters in ten of the first texts are Chinese, else `en`."""
    chinese = letters = 0
    for text in islice(texts, look_at):
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        chinese += len(_CJK.findall(text))
        letters += len(_LETTER.findall(text))
    return "zh" if chinese and chinese >= 0.3 * letters else "en"


def words(text: str, language: Language) -> list[str]:
    """Return the words of `text` without punctuation; Chinese is segmented by jieba."""
    if language == "en":
        return _WORD.findall(text)
    return [word for word in _segmenter().lcut(text) if _LETTER.search(word) or word.isalnum()]


@functools.lru_cache(64)  # who changes a text in several ways comes back with it at once
def cut(text: str) -> tuple[str, ...]:
    """Return the words that jieba finds and all that is between them; joined, they are the text."""
    return tuple(_segmenter().lcut(text))


def frequencies() -> dict[str, int]:
    """Return how often each Chinese character occurs in the words of jieba's dictionary."""
    segmenter = _segmenter()
    segmenter.initialize()
    counts: Counter[str] = Counter()
    for word, count in segmenter.FREQ.items():
        if count:
            for character in _CJK.findall(word):
                counts[character] += count
    return dict(counts)


def characters(text: str) -> list[str]:
    """Return Chinese characters one by one and other words whole, without punctuation."""
    return _CHARACTER.findall(text)


@functools.cache
def _segmenter() -> jieba.Tokenizer:
    """Return a tokenizer of our own, so that a user's jieba settings and ours stay apart."""
    with warnings.catch_warnings():  # jieba still asks pkg_resources for its dictionary
        warnings.simplefilter("ignore")
        import jieba

    from llmpred.cache import cache_root

    jieba.setLogLevel(logging.CRITICAL)
    tokenizer = jieba.Tokenizer()
    # By default jieba loads its compiled dictionary from /tmp, where anyone may have written it.
    # Where our folder cannot be made, it builds the dictionary each time.
    with contextlib.suppress(OSError):
        cache_root().mkdir(parents=True, exist_ok=True)
    tokenizer.tmp_dir = str(cache_root())
    return tokenizer
