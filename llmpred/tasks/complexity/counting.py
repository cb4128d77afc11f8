"""From reasoning traces to counts of thinking units.

Published work counts "thinking units" and does not say how; here is what each kind counts. White
space and line ends (LF, CRLF) make no difference, nor does the case of a marker.

- `units`: segments of the reasoning. A segment ends at a blank line, and before a sentence that
  opens with a discourse marker (`MARKERS`), by which reasoning turns (but, wait), concludes (so),
  goes on (next, then) or addresses itself (let me). A paragraph that opens with a marker is one.
- `wait`: sentences that open with the word *wait*; in R1's traces these are the occurrences of
  "Wait" that published attempts count. "But wait" and "I will wait" are none. Chinese sentences are
  chains of clauses, so 等等, 等一下 and 不对 count where they open a clause, and 再想想 wherever it
  stands; 等等 before a full stop is "and so on".
- `tokens`: Chinese characters, and runs of anything else between these and spaces: words with their
  marks. It needs no tokenizer, and is no model's token count.
- `sentences`: what ends in . ! ? … and a space, in 。！？, or with its line.

Segments and sentences without a letter (a rule, a number of a list) do not count. Abbreviations are
not known: "approx. 3 m" ends a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llmpred.data.fields import Field
from llmpred.data.text import UNIT
from llmpred.errors import DataError, InputError, Problem, nearest

COUNTS = Field("counts", "number", "target", required=False, aliases=("counts", "count"))
PROMPT = Field("prompt", "text", "input", aliases=("prompt", "question", "instruction"))
RESPONSE = Field(
    "response", "text", "target", aliases=("response", "reasoning", "output", "answer")
)
# What a sentence opens with when a new step of thought begins; words, whatever they mean there.
MARKERS = {
    "en": (
        *("wait", "hmm", "hmmm", "oh", "hold on", "but", "however", "yet", "alternatively"),
        *("actually", "on the other hand", "on second thought", "another", "instead", "otherwise"),
        *("so", "therefore", "thus", "hence", "consequently", "in conclusion", "in summary"),
        *("first", "firstly", "second", "secondly", "third", "thirdly", "to start", "next", "then"),
        *("now", "finally", "lastly", "also", "moreover", "furthermore", "besides", "in addition"),
        *("similarly", "likewise", "for example", "for instance", "in other words"),
        *("let me", "let us", "let's", "let’s", "okay", "ok", "alright", "looking at"),
    ),
    "zh": (
        *("等等", "等一下", "稍等", "不对", "再想想", "嗯", "哦", "但", "不过", "然而", "可是"),
        *("或者", "另一方面", "另外", "其实", "实际上", "反过来", "否则"),
        *("所以", "因此", "因而", "于是", "那么", "这样一来", "综上", "总之", "由此"),
        *("首先", "其次", "再次", "第一，", "第二，", "第三，", "然后", "接着", "接下来", "下一步"),
        *("现在", "最后", "此外", "而且", "并且", "还有", "同样", "同理", "类似地", "例如", "比如"),
        *("换句话说", "也就是说", "让我", "我们来", "好的", "好，", "看看"),
    ),
}
_TAG = re.compile(r"<(/?)think>", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_CLOSING = r"""[)\]"'”’」』）*_]*"""
_START = r"""[ \t(\["'“‘「『（*_>#•-]*"""  # what may stand before the first word of a sentence
# Where a sentence, or a clause, begins; a line is read alone, so no pattern runs on.
_OPENING = rf"(?:^|[.!?…]{_CLOSING}[ \t]|[。！？]{_CLOSING}){_START}"
_CLAUSE = rf"(?:^|[。！？!?…，,；;：:—]{_CLOSING}){_START}"
_END = re.compile(rf"(?<![.!?…])[.!?…]+{_CLOSING}(?=[ \t]|$)|[。！？]+|\n", re.MULTILINE)
_MARKED = re.compile(
    f"({_OPENING})(?=(?:{'|'.join(MARKERS['en'])})(?![\\w'’-])|{'|'.join(MARKERS['zh'])})",
    re.IGNORECASE | re.MULTILINE,
)
_WAIT = re.compile(
    rf"{_OPENING}wait(?![\w'’-])|再想想|{_CLAUSE}(?:等等(?!。)|等一下|不对)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Thinking:
    """The reasoning of a response.

    Attributes:
        text: the reasoning alone.
        closed: whether it came to its end; False if the last `<think>` is never closed.
        tagged: whether a tag says what is reasoning.
    """

    text: str
    closed: bool
    tagged: bool


@dataclass(frozen=True)
class Counted:
    """The count of one response.

    Attributes:
        count: of what the kind counts.
        censored: whether the reasoning was cut off, so that the count is a lower bound.
    """

    count: int
    censored: bool


@dataclass(frozen=True)
class Summary:
    """The counts of several responses to one prompt.

    Attributes:
        counts: their median.
        samples: how many responses there are.
        minimum: the least count.
        maximum: the greatest count.
        iqr: the interquartile range, by linear interpolation; 0 of one sample.
        censored: how many counts are lower bounds; if any are, so may the median be.
    """

    counts: float
    samples: int
    minimum: int
    maximum: int
    iqr: float
    censored: int


def thinking(response: str) -> Thinking:
    """Return the reasoning of a response.

    It is what stands after a `<think>` or before a `</think>`, up to the next tag: the text between
    the two, what comes before a bare `</think>` (chat templates open the tag themselves), what
    follows a `<think>` that is never closed, and each of several blocks. A response without a tag
    is reasoning as a whole, and closed: nothing says that it was cut off.
    """
    text, *rest = _TAG.split(response)
    if not rest:
        return Thinking(text, closed=True, tagged=False)
    closing = [slash == "/" for slash in rest[::2]]
    texts = [text, *rest[1::2]]
    opened = [False, *(not closes for closes in closing)]
    kept = [
        part
        for part, after_open, before_close in zip(texts, opened, [*closing, False], strict=True)
        if after_open or before_close
    ]
    return Thinking("\n".join(kept).strip(), closed=closing[-1], tagged=True)


def count(response: str, kind: str = "units") -> Counted:
    """Count what `kind` says in the reasoning of a response; no reasoning counts 0.

    Raises:
        InputError: if there is no such kind.
    """
    if kind not in COUNTERS:
        law = f"the kind of count must be one of {', '.join(KINDS)}, but got {kind!r}"
        raise InputError(Problem(law, "kind", nearest(kind, KINDS)))
    thought = thinking(response)
    lines = "\n".join(line.strip() for line in thought.text.splitlines())
    return Counted(COUNTERS[kind](lines), censored=not thought.closed)


def summarised(counts: Sequence[Counted]) -> Summary:
    """Return the median and the spread of the counts of one prompt.

    Raises:
        DataError: if there are none.
    """
    import numpy as np

    if not counts:
        raise DataError(Problem("a prompt must have a response to count, but it has none"))
    values = [each.count for each in counts]
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Summary(
        counts=float(median),
        samples=len(values),
        minimum=min(values),
        maximum=max(values),
        iqr=float(high - low),
        censored=sum(each.censored for each in counts),
    )


def by_prompt(pairs: Iterable[tuple[str, str]], kind: str = "units") -> dict[str, Summary]:
    """Return the summary of each distinct prompt, in the order of first occurrence.

    Args:
        pairs: prompts and responses; prompts are the same if their texts are.
        kind: see `count`.
    """
    found: dict[str, list[Counted]] = {}
    for prompt, response in pairs:
        found.setdefault(prompt, []).append(count(response, kind))
    return {prompt: summarised(counts) for prompt, counts in found.items()}


def _units(text: str) -> int:
    return _with_letters(_MARKED.sub(r"\1\n\n", text).split("\n\n"))


def _wait(text: str) -> int:
    return len(_WAIT.findall(text))


def _tokens(text: str) -> int:
    return len(UNIT.findall(text))


def _sentences(text: str) -> int:
    return _with_letters(_END.split(text))


def _with_letters(pieces: Iterable[str]) -> int:
    return sum(1 for piece in pieces if _LETTER.search(piece))


COUNTERS: dict[str, Callable[[str], int]] = {
    "units": _units,
    "wait": _wait,
    "tokens": _tokens,
    "sentences": _sentences,
}
KINDS = tuple(COUNTERS)
