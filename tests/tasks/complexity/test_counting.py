"""Reasoning is found, counted in four ways, and summarised by prompt."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from llmpred.errors import DataError, InputError
from llmpred.tasks.complexity.counting import (
    KINDS,
    Counted,
    Summary,
    Thinking,
    by_prompt,
    count,
    summarised,
    thinking,
)

THINKING = {
    "a block": ("<think>a b</think>\nc", "a b", True),
    "words before it": ("Sure. <think>a</think>c", "a", True),
    "a bare end": ("a\n</think>\n\nc", "a", True),
    "no end": ("<think>a", "a", False),
    "no end of a second block": ("<think>a</think>b<think>c", "a\nc", False),
    "several blocks": ("<think>a</think>b<think>c</think>d", "a\nc", True),
    "a nested block": ("<think>a<think>b</think>c</think>d", "a\nb\nc", True),
    "a tag within": ("<think>a <think> b</think>c", "a \n b", True),
    "nothing in it": ("<think>\n\n</think>c", "", True),
    "nothing after": ("<think>", "", False),
    "capitals": ("<THINK>a</Think>c", "a", True),
    "CRLF": ("<think>\r\na\r\nb\r\n</think>\r\nc", "a\r\nb", True),
    "Chinese": ("<think>想</think>答", "想", True),
}


@pytest.mark.parametrize("case", THINKING)
def test_reasoning_is_what_the_tags_hold(case: str) -> None:
    response, text, closed = THINKING[case]
    assert thinking(response) == Thinking(text, closed, tagged=True)


@pytest.mark.parametrize("response", ["a b", "", "a <thinking> b", "1 < 2 think> 3"])
def test_without_a_tag_all_is_reasoning(response: str) -> None:
    assert thinking(response) == Thinking(response, closed=True, tagged=False)


# text -> units, wait, tokens, sentences
COUNTS = {
    "nothing": ("", 0, 0, 0, 0),
    "marks alone": ("---\n\n1. \n\n…", 0, 0, 3, 0),
    "a sentence": ("We add 3.5 and 4", 1, 0, 5, 1),
    "two sentences, one thought": ("We add. We are done.", 1, 0, 5, 2),
    "paragraphs": ("We add.\n\nWe are done.", 2, 0, 5, 2),
    "a line is no paragraph": ("We add\nWe are done", 1, 0, 5, 2),
    "a marker": ("We add. But we may not.", 2, 0, 6, 2),
    "in any case": ("We add. HOWEVER, we may not.", 2, 0, 6, 2),
    "a marker that opens a paragraph": ("We add.\n\nBut we may not.", 2, 0, 6, 2),
    "a marker within": ("We add, but we may not, so it is.", 1, 0, 9, 1),
    "a longer word": ("We add. Button two. Sofas. So-called aid.", 1, 0, 7, 4),
    "two markers together": ("We add. But then we stop.", 2, 0, 6, 2),
    "a phrase": ("We add. On the other hand, no. Let’s see.", 3, 0, 9, 3),
    "a list": ("1. First, add\n2. Then stop\n3. End", 2, 0, 8, 3),
    "wait": ("Wait, no. wait! Hm? WAIT", 3, 3, 5, 4),
    "wait in bold, quoted, listed": ("**Wait** is it.\n- (Wait)\n“Wait.”", 3, 3, 6, 3),
    "wait after a quotation": ('He said "no." Wait, what?', 2, 1, 5, 2),
    "no wait": ("But wait, I wait, waiting. Awaits. Wait-time. I said: wait", 1, 0, 10, 4),
    "Chinese": ("先看苹果。再看梨！对吗？对", 1, 0, 13, 4),
    "Chinese markers": ("先看。但是不行。所以好，但也行。", 3, 0, 16, 3),
    "Chinese words within": ("他等等我。这不对。", 1, 0, 9, 2),
    "等等": ("等等，这里错了。不对，应该是5。对吗？等一下！", 3, 3, 22, 4),
    "a clause": ("应该是6，不对，是5，等等，是7。", 1, 2, 14, 1),
    "and so on": ("苹果、梨等等。苹果，梨，等等。", 1, 0, 15, 2),
    "再想想": ("让我再想想。我得再想想", 1, 2, 11, 2),
    "both scripts": ("对。Wait, 不对。So 好。", 3, 2, 7, 3),
}


@pytest.mark.parametrize("case", COUNTS)
@pytest.mark.parametrize("frame", ["{}", "<think>{}</think>\nWait. So 42.\n\nBut no.", " {}\n\n\n"])
def test_each_kind_counts_what_it_says(case: str, frame: str) -> None:
    text, *wanted = COUNTS[case]
    for response in (frame.format(text), frame.format(text).replace("\n", "\r\n")):
        assert [count(response, kind).count for kind in KINDS] == wanted
    assert count(text) == count(text, "units")


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_reasoning_is_censored(kind: str) -> None:
    text = "Wait, we add. Wait, we"
    cut, whole = count(f"<think>{text}", kind), count(f"<think>{text} stop.</think>5", kind)
    assert cut.censored
    assert not whole.censored
    assert 0 < cut.count <= whole.count
    assert count("<think></think>5", kind) == Counted(0, censored=False)


def test_an_unknown_kind_is_said() -> None:
    with pytest.raises(InputError, match=r"units, wait, tokens, sentences.*'wate'.*`wait`"):
        count("a", "wate")


def test_samples_keep_their_spread() -> None:
    counts = [Counted(n, censored=n > 9) for n in (4, 1, 20, 2)]
    wanted = Summary(counts=3.0, samples=4, minimum=1, maximum=20, iqr=6.25, censored=1)
    assert summarised(counts) == wanted
    assert summarised(counts[::-1]) == wanted
    assert summarised(counts[:1]) == Summary(4.0, 1, 4, 4, 0.0, 0)
    with pytest.raises(DataError, match="must have a response"):
        summarised([])


def test_prompts_are_grouped_in_their_order() -> None:
    pairs = [("b", "Wait. Wait."), ("a", "no"), ("b", "<think>Wait."), ("b ", "Wait")]
    found = by_prompt(iter(pairs), "wait")
    assert list(found) == ["b", "a", "b "]
    assert found["b"] == Summary(1.5, 2, 1, 2, 0.5, 1)
    assert found["a"].counts == 0


DEGENERATE = (
    "\n",
    "\r\n",
    " ",
    ".",
    ". (",
    ".)",
    "。",
    "，（",
    "? ",
    "Wait. ",
    "</think>",
    "a\n \n",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_repeats_itself_takes_no_longer(kind: str) -> None:
    started = time.process_time()
    for piece in DEGENERATE:
        count(piece * 50_000 + "x", kind)
    assert time.process_time() - started < 10  # quadratic patterns take minutes


def responses(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line)["reasoning"] for line in stream]


@pytest.mark.shared
def test_waits_of_r1_are_those_of_published_attempts(shared_data: Path) -> None:
    traces = responses(shared_data / "reasoning" / "r1_bangla_mcq_5000.jsonl.gz")
    found = [count(trace, "wait") for trace in traces]
    counts = np.array([each.count for each in found])
    assert len(counts) == 5000
    assert not any(each.censored for each in found)
    assert np.median(counts) == 1
    assert 0.31 < (counts == 0).mean() < 0.33
    assert 95 <= counts.max() <= 105
    plain = np.array([len(re.findall("Wait", trace)) for trace in traces])
    assert np.corrcoef(counts, plain)[0, 1] > 0.99
    units = np.array([count(trace).count for trace in traces])
    assert units.min() >= 1
    assert np.median(units) > 5


@pytest.mark.shared
def test_traces_of_a_small_model_are_often_cut_off(shared_data: Path) -> None:
    traces = responses(shared_data / "reasoning" / "mmlupro_traces_1001.jsonl.gz")
    found = [count(trace, "wait") for trace in traces]
    assert len(found) == 1001
    assert sum(each.censored for each in found) == 305
    assert not any(each.count for each in found)
    assert min(count(trace).count for trace in traces) >= 1
