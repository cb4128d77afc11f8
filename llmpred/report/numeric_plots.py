"""Pictures of predicted numbers, as PNG files; names of schemes and sets may be Chinese."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.meta.plots import picture
from llmpred.report.plots import GREY, RIGHT, WRONG
from llmpred.report.schemes_plots import ACROSS, short
from llmpred.report.tables import number
from llmpred.tasks.base import LEVELS, Prediction
from llmpred.tasks.numeric.metrics import right, symlog

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WRITTEN = 36  # bars that have their values above them
WIDE = 20  # times the least true value, from which on a panel is on a log scale
TICKS = 5  # of a scale, or about so many
LONG = 10_000  # powers of ten from here on are written as such
BREADTH = 0.8  # of the bars of a set, which is 1 apart from the next
LINE = 44  # characters of a note below a panel
ROOM = 0.12  # of a panel, beyond the true values on each side

Found = Mapping[str, Mapping[str, float]]  # scheme -> set -> value


def plot_accuracy(found: Found, before: str | None, path: Path) -> None:
    """Draw how often a number is predicted where one is due, as bars by set.

    Args:
        found: accuracy of each scheme on each set.
        before: name of the scheme that trains nothing, if there is one.
        path: .png file.
    """
    with picture(path, _size(found)) as figure:
        axes = figure.add_subplot()
        for scheme, colour, places, values in _grouped(axes, found, before):
            axes.bar(places, values, 0.92 * BREADTH / len(found), color=colour, label=scheme)
            _write(axes, found, places, values, [f"{value:.2f}" for value in values])
        axes.set(ylim=(0, 1.08), ylabel="accuracy")
        _legend(figure, axes)


def plot_ranks(found: Found, before: str | None, path: Path) -> None:
    """Draw the mean rank of `<NUM>` where a number is due by set, on a log scale from 1.

    Args:
        found: mean rank of each scheme on each set.
        before: name of the scheme that trains nothing, if there is one.
        path: .png file.
    """
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    with picture(path, _size(found)) as figure:
        axes = figure.add_subplot()
        for scheme, colour, places, values in _grouped(axes, found, before):
            axes.vlines(places, 1, values, color=colour, linewidth=2, alpha=0.5)
            axes.plot(places, values, "o", color=colour, markersize=6, label=scheme)
            _write(axes, found, places, [1.25 * v for v in values], [*map(number, values)])
        worst = max(rank for ranks in found.values() for rank in ranks.values())
        axes.set_yscale("log")
        axes.set(ylim=(0.7, 4 * max(10, worst)), ylabel="mean rank of <NUM>, from 1 (log)")
        axes.yaxis.set_major_locator(LogLocator(10))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        _legend(figure, axes)


def plot_values(sets: Mapping[str, Sequence[Prediction]], path: Path) -> bool:
    """Draw predicted against true values, a panel a set.

    A panel has the scale of `symlog` where its true values differ much in size. What is predicted
    beyond its bounds is drawn on the edge.

    Args:
        sets: predictions of a run, by set; rows without a number due, or without a value, are left
            out.
        path: .png file.

    Returns:
        Whether there was anything to draw.
    """
    there = {
        name: [p for p in rows if None not in (p.target.get("value"), p.prediction.get("value"))]
        for name, rows in sets.items()
    }
    there = {name: rows for name, rows in there.items() if rows}
    if not there:
        return False
    across, down = _grid(len(there))
    with picture(path, (3.3 * across, 3.3 * down + 0.4)) as figure:
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(there) :]:
            axes.set_visible(False)
        for axes, (name, rows) in zip(grid.flat, there.items(), strict=False):
            _panel(axes, name, rows)
        note = "true value (orange: not right; what is beyond the bounds is on the edge)"
        figure.supxlabel(textwrap.fill(note, LINE * across), fontsize=9)
        figure.supylabel("predicted value", fontsize=9)
    return True


def plot_calibration(found: Mapping[str, Mapping[str, Mapping[float, float]]], path: Path) -> None:
    """Draw how often true values are at most a predicted quantile, against its level.

    Args:
        found: scheme -> set, all rows last -> level -> share of true values.
        path: .png file.
    """
    across, down = _grid(len(found))
    with picture(path, (3.1 * across, 3.1 * down + 0.8)) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        names = list(dict.fromkeys(name for sets in found.values() for name in sets))
        for axes, (scheme, sets) in zip(grid.flat, found.items(), strict=False):
            axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
            for name, shares in sets.items():
                last = name == names[-1]
                style: dict[str, Any] = {"color": "black" if last else f"C{names.index(name)}"}
                style |= {"linewidth": 2 if last else 1, "label": short(name).lstrip("_")}
                axes.plot([*shares], [*shares.values()], "o-", markersize=3, **style)
            axes.set(xlim=(0, 1), ylim=(-0.03, 1.03))
            axes.set_xticks(LEVELS, [f"{level:g}" for level in LEVELS])
            axes.tick_params(labelsize=8)
            axes.set_title(short(scheme), fontsize=9, parse_math=False)
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("level of the quantile", fontsize=9)
        figure.supylabel("share of true values at most it", fontsize=9)
        _legend(figure, grid.flat[0])


def _grid(panels: int) -> tuple[int, int]:
    """Return how many panels are beside and below each other."""
    across = math.ceil(math.sqrt(panels))
    return across, math.ceil(panels / across)


def _size(found: Found) -> tuple[float, float]:
    bars = sum(map(len, found.values()))
    return min(max(6.0, 1.5 + 0.45 * bars), 14.0), 4.2


def _grouped(
    axes: Any, found: Found, before: str | None
) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """Give each scheme's label, colour, places and values, beside each other in each set."""
    sets = list(dict.fromkeys(name for values in found.values() for name in values))
    axes.set_xticks(range(len(sets)), [short(name) for name in sets], parse_math=False)
    axes.set_xlim(-0.5, len(sets) - 0.5)
    axes.grid(axis="y", color="#e5e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    trained = [name for name in found if name != before]
    for i, (name, values) in enumerate(found.items()):
        beside = BREADTH * ((i + 0.5) / len(found) - 0.5)
        label = f"before: {short(name)}" if name == before else short(name).lstrip("_")
        colour = GREY if name == before else f"C{trained.index(name)}"
        yield label, colour, [sets.index(s) + beside for s in values], [*values.values()]


def _write(
    axes: Any,
    found: Found,
    places: Sequence[float],
    heights: Sequence[float],
    texts: Sequence[str],
) -> None:
    """Write texts at these heights, where there is room for those of all schemes."""
    if sum(map(len, found.values())) > WRITTEN:
        return
    for place, height, text in zip(places, heights, texts, strict=True):
        axes.text(place, height, text, ha="center", va="bottom", fontsize=7)


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "ncols": min(ACROSS, len(labels))}
    for text in figure.legend(handles, labels, loc="outside upper center", **style).get_texts():
        text.set_parse_math(False)


def _panel(axes: Any, name: str, rows: Sequence[Prediction]) -> None:
    """Draw the answers to one set."""
    import numpy as np

    true = np.array([p.target.get("value") for p in rows], float)
    said = np.array([p.prediction.get("value") for p in rows], float)
    hits = np.array([right(p) for p in rows])
    size = np.abs(true)
    is_log = size.max() > WIDE * max(1.0, size.min())
    across, up = (symlog(true), symlog(said)) if is_log else (true, said)
    low, high = across.min(), across.max()
    room = ROOM * (high - low) or 1.0
    ends = low - room, high + room
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    style: dict[str, Any] = {"s": 10, "alpha": 0.4, "linewidths": 0, "clip_on": False}
    axes.scatter(across, np.clip(up, *ends), c=np.where(hits, RIGHT, WRONG), **style)
    axes.set(xlim=ends, ylim=ends)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{short(name)}: {hits.mean():.0%} right", fontsize=9, parse_math=False)
    if is_log:
        ticks = _decades(*ends)
        labels = [_power(tick) for tick in ticks]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(symlog(ticks), labels)
    else:
        axes.locator_params(nbins=TICKS)
    axes.tick_params(labelsize=8)


def _decades(low: float, high: float) -> list[int]:
    """Return 0 and powers of ten of either sign between bounds, which are in units of `symlog`."""
    step = max(1, math.ceil((high - low) / TICKS))
    powers = [10**e for e in range(step, int(max(-low, high)) + 1, step)]
    ticks = [*(-power for power in reversed(powers)), 0, *powers]
    return [tick for tick in ticks if low <= symlog(tick) <= high]


def _power(tick: int) -> str:
    """Return 0 or a power of ten as a scale has it."""
    if abs(tick) < LONG:
        return f"{tick:,}"
    return f"${'-' if tick < 0 else ''}10^{{{len(str(abs(tick))) - 1}}}$"
