"""How long one answer takes, of several schemes in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmpred.report.comparison import Latency

WARM_UP = 3  # first answers, which pay for what later ones find ready


def measure(
    answers: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any]
) -> dict[str, Latency]:
    """Return what each scheme takes for one input at a time.

    All answer one input before the next one comes, in turns that rotate, so that whatever else the
    machine does hits them alike.

    Args:
        answers: by scheme, what answers one input; waits until the answer is there.
        inputs: to be answered; at least one.
    """
    import numpy as np

    names = list(answers)
    for one in inputs[:WARM_UP]:
        for answer in answers.values():
            answer(one)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn, one in enumerate(inputs):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begun = time.perf_counter()
            answers[name](one)
            seconds[name].append(time.perf_counter() - begun)
    return {
        name: Latency(float(np.median(taken)), float(np.quantile(taken, 0.9)), len(taken))
        for name, taken in seconds.items()
    }
