"""What a forecast of thinking is for: how deep to think, about what, and with which budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from llmpred.errors import DataError, InputError, Problem
from llmpred.tasks.base import LEVELS
from llmpred.tasks.complexity.labels import checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Depth = Literal["direct", "standard", "deep"]
TaskType = Literal["analytical", "creative", "code", "general"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)

THIRDS = (1 / 3, 2 / 3)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# What shows the type of a task. English words stand by themselves, in the forms that `ENDINGS`
# give them; Chinese ones stand anywhere.
KEYWORDS: dict[TaskType, tuple[str, ...]] = {
    "code": (
        *("code", "coding", "program", "programming", "debug", "debugging", "function", "script"),
        *("algorithm", "bug", "compile", "python", "java", "javascript", "sql", "regex", "api"),
        *("代码", "编程", "程序", "调试", "函数", "脚本", "算法", "编译"),
    ),
    "analytical": (
        *("calculate", "calculating", "compute", "solve", "solving", "prove", "proving", "proof"),
        *("analyse", "analyze", "analysis", "compare", "comparing", "evaluate", "derive", "why"),
        *("equation", "probability", "estimate", "how many", "how much", "which of the following"),
        *("计算", "求解", "证明", "分析", "比较", "评估", "推导", "为什么", "为何", "方程", "概率"),
        *("多少",),
    ),
    "creative": (
        *("poem", "poetry", "story", "stories", "tale", "song", "lyric", "novel", "imagine"),
        *("invent", "creative", "slogan", "haiku", "essay", "dialogue"),
        *("诗", "故事", "童话", "歌词", "小说", "想象", "创作", "创意", "口号", "散文", "剧本"),
    ),
}
ENDINGS = "(?:s|es|d|ed|ing)?"


def limits_of(counts: Floats, shares: Sequence[float] = THIRDS) -> tuple[float, float]:
    """Return the largest counts to answer directly, and to think about as usual.

    Args:
        counts: float64 [rows], of training rows.
        shares: of these rows at or below either limit, ascending.

    Raises:
        DataError: if counts do not hold.
    """
    import numpy as np

    low, high = np.quantile(checked(counts), shares)
    return float(low), float(high)


def depth(counts: Floats, limits: tuple[float, float]) -> list[Depth]:
    """Return how deep to think about each prompt.

    Args:
        counts: float64 [rows], predicted: means, or quantiles at the level that is to be safe.
        limits: of `limits_of`, or others: up to the first is `direct`, up to the second `standard`.

    Raises:
        DataError: if counts do not hold.
        InputError: if the limits do not ascend.
    """
    import numpy as np

    if not limits[0] <= limits[1]:
        law = f"the limits of depth must ascend, but got {limits[0]:g} and {limits[1]:g}"
        raise InputError(Problem(law, "limits"))
    return [DEPTHS[i] for i in np.searchsorted(limits, checked(counts), side="left")]


def task_type(prompt: str) -> TaskType:
    """Return what kind of task a prompt is, by the type with most of its `KEYWORDS` in it.

    The first type of the table wins a tie; without any keyword it is `general`.
    """
    found = {name: len(set(map(str.lower, _pattern(name).findall(prompt)))) for name in KEYWORDS}
    best = max(found, key=lambda name: found[name])
    return best if found[best] else "general"


@cache
def _pattern(name: TaskType) -> re.Pattern[str]:
    english = "|".join(map(re.escape, filter(str.isascii, KEYWORDS[name])))
    chinese = "|".join(word for word in KEYWORDS[name] if not word.isascii())
    # Chinese characters count as letters, so that \b would not see a word between them.
    bounded = rf"(?<![a-z])(?:{english}){ENDINGS}(?![a-z])"
    return re.compile(f"{bounded}|{chinese}", re.IGNORECASE)


def unexpectedly_long(actual: float, q90: float) -> bool:
    """Return whether a model thought longer than nine of ten times were to be expected."""
    return actual > q90


def budget_curve(
    quantiles: Floats,
    actual: Floats,
    worst: float,
    *,
    levels: Sequence[float] = LEVELS,
    shares: Sequence[float] = SHARES,
) -> list[dict[str, Any]]:
    """Return what budgets by prediction would save, and how often they would be too small.

    Without a forecast every prompt is reserved the same worst-case budget. With one, the share of
    the prompts with the smallest predicted quantiles get that quantile, or the worst case if that
    is less, and the others still the worst case.

    Args:
        quantiles: float64 [rows, levels], predicted counts.
        actual: float64 [rows], what the model took.
        worst: the budget of a prompt without a forecast, such as the largest training counts.
        levels: of the quantiles.
        shares: of the prompts that get a budget of their own.

    Returns:
        A row for each level and share: `level`, `share`, `prompts` with a budget of their own;
        `saved`, the share of rows * worst that is not reserved; `accuracy`, the share of all
        prompts whose actual counts are at most what was reserved for them.

    Raises:
        DataError: if counts do not hold, or the shape of the quantiles does not fit.
        InputError: if the worst case is not above 0.
    """
    import numpy as np

    actual, quantiles = checked(actual), np.asarray(quantiles, dtype=np.float64)
    if quantiles.shape != (len(actual), len(levels)) or not np.isfinite(quantiles).all():
        law = f"quantiles must be finite numbers of shape ({len(actual)}, {len(levels)})"
        raise DataError(Problem(f"{law}, but their shape is {quantiles.shape}", "quantiles"))
    if not worst > 0:
        raise InputError(Problem(f"the worst case must be above 0, but got {worst:g}", "worst"))
    rows = []
    for level, predicted in zip(levels, quantiles.T, strict=True):
        cheapest = np.argsort(predicted, kind="stable")
        for share in shares:
            chosen = cheapest[: round(share * len(actual))]
            budget = np.full(len(actual), float(worst))
            budget[chosen] = np.minimum(predicted[chosen], worst)
            rows.append(
                {
                    "level": level,
                    "share": share,
                    "prompts": len(chosen),
                    "saved": float(1 - budget.mean() / worst),
                    "accuracy": float(np.mean(actual <= budget)),
                }
            )
    return rows
