"""Pictures of schemes side by side, as PNG files; names may be Chinese."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmpred.evaluation.common_ground import MEDIAN, Answers
from llmpred.meta.plots import picture
from llmpred.report.comparison import Row
from llmpred.report.plots import GREY, RIGHT, WRONG

LONGEST = 34  # characters of a name
ACROSS = 3  # small pictures in a row
WIDE = 20  # times the least, from which on a loss is drawn on a log scale
TICKS = (0, *(m * 10**e for e in range(7) for m in (1, 3)))  # of counts, on a log scale


def plot_scores(
    rows: Sequence[Row], metric: str, majority: tuple[str, float] | None, path: Path
) -> None:
    """Draw the score of each scheme and its 95 % interval.

    Args:
        rows: of a comparison; those without a score are left out.
        metric: its name.
        majority: the commonest answer, and the score of always giving it.
        path: .png file.
    """
    shown = [row for row in rows if row.score is not None][::-1]
    with picture(path, (8, 1.4 + 0.42 * len(shown))) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        for place, row in enumerate(shown):
            if row.interval is not None:
                axes.hlines(place, *row.interval, color=RIGHT, linewidth=2, alpha=0.5)
            axes.plot(row.score, place, "o", color=RIGHT, markersize=7)
            if row.published is not None:
                axes.plot(row.published, place, "D", color=WRONG, markersize=6, fillstyle="none")
        if any(row.published is not None for row in shown):
            axes.plot([], [], "D", color=WRONG, fillstyle="none", label="published, not rerun")
        if majority is not None:
            axes.axvline(majority[1], color=GREY, linestyle="--", label="majority class")
        axes.set_yticks(range(len(shown)), [short(row.scheme) for row in shown], parse_math=False)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel(f"{metric}, with 95 % intervals over examples")
        axes.grid(axis="x", color="#e5e7eb")
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            style: dict[str, Any] = {"frameon": False, "ncols": 2, "fontsize": 9}
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), **style)


def plot_price(rows: Sequence[Row], metric: str, path: Path) -> bool:
    """Draw scores against the latency of one text, the area telling what is trained.

    Args:
        rows: of a comparison; those without a score or a latency are left out.
        metric: its name.
        path: .png file.

    Returns:
        Whether there was anything to draw.
    """
    shown = [row for row in rows if row.score is not None and row.latency is not None]
    if not shown:
        return False
    with picture(path, (8, 4.6)) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        for i, row in enumerate(shown):
            assert row.latency is not None  # those without are left out
            assert row.score is not None
            middle, colour = 1000 * row.latency.median, f"C{i}"
            axes.hlines(row.score, middle, 1000 * row.latency.p90, color=colour, alpha=0.4)
            if row.interval is not None:
                axes.vlines(middle, *row.interval, color=colour, alpha=0.4)
            marker = "o" if row.trains else "s"
            axes.plot(middle, row.score, marker, color=colour, label=short(row.scheme).lstrip("_"))
        axes.set_xlim(left=0)
        axes.set_xlabel("milliseconds for one text: median, line to the 90th percentile")
        axes.set_ylabel(metric)
        axes.grid(color="#e5e7eb")
        axes.set_axisbelow(True)
        axes.set_title("circles are trained, squares are not", fontsize=10)
        legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return True


def plot_reliabilities(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw a small reliability diagram of each scheme.

    Args:
        found: of `confidence`, by scheme.
        path: .png file.
    """
    across = min(ACROSS, len(found))
    down = -(-len(found) // across)
    with picture(path, (2.9 * across, 2.9 * down)) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (name, told) in zip(grid.flat, found.items(), strict=False):
            rows = [row for row in told["reliability"] if row["count"]]
            largest = max(row["count"] for row in rows)
            axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
            axes.plot(
                [row["confidence"] for row in rows],
                [row["accuracy"] for row in rows],
                color=RIGHT,
                linewidth=1,
            )
            axes.scatter(
                [row["confidence"] for row in rows],
                [row["accuracy"] for row in rows],
                s=[8 + 60 * row["count"] / largest for row in rows],
                color=RIGHT,
            )
            axes.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
            axes.set_title(f"{short(name)}\nECE {told['ece']:.3f}", fontsize=8, parse_math=False)
        figure.supxlabel("confidence", fontsize=9)
        figure.supylabel("accuracy; larger dots are more answers", fontsize=9)


def plot_common_ground(
    found: Mapping[str, Mapping[str, tuple[float, tuple[float, float]]]],
    baselines: Collection[str],
    path: Path,
) -> None:
    """Draw pinball loss and Spearman's correlation of each scheme, with 95 % intervals.

    Args:
        found: scheme or baseline -> `pinball` and `spearman` -> value and interval.
        baselines: names of those that need no model.
        path: .png file.
    """
    from matplotlib.ticker import StrMethodFormatter

    shown = [*found][::-1]
    panels = {
        "pinball": "pinball loss, lower is better",
        "spearman": "Spearman, higher is better",
    }
    with picture(path, (9.6, 1.6 + 0.32 * len(shown))) as figure:
        grid = figure.subplots(1, 2, sharey=True)
        for axes, (statistic, about) in zip(grid, panels.items(), strict=True):
            for place, name in enumerate(shown):
                value, ends = found[name][statistic]
                style: dict[str, Any] = {"color": GREY if name in baselines else RIGHT}
                axes.hlines(place, *ends, linewidth=2, alpha=0.5, **style)
                axes.plot(value, place, "s" if name in baselines else "o", markersize=6, **style)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color="#e5e7eb")
            axes.set_axisbelow(True)
            limits = [end for told in found.values() for end in told[statistic][1]]
            if statistic == "pinball" and max(limits) > WIDE * min(limits) > 0:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                about += ", log scale"
            axes.set_xlabel(about)
            if baselines:
                values = [found[name][statistic][0] for name in baselines]
                best = min(values) if statistic == "pinball" else max(values)
                axes.axvline(best, color=GREY, linestyle="--", linewidth=1)
        names = [short(name) for name in shown]
        grid[0].set_yticks(range(len(shown)), names, parse_math=False)
        grid[0].set_ylim(-0.6, len(shown) - 0.4)
        line = "; dashed: the best of what needs no model" if baselines else ""
        figure.suptitle(f"with 95 % intervals over rows{line}", fontsize=10)


def plot_predicted(found: Mapping[str, Answers], path: Path) -> None:
    """Draw predicted medians against actual counts, both on the scale of log(1 + counts).

    Args:
        found: answers of a run, by scheme.
        path: .png file.
    """
    import numpy as np

    top = max(max(told.actual.max(), told.quantiles[:, MEDIAN].max()) for told in found.values())
    across = min(ACROSS, len(found))
    down = -(-len(found) // across)
    with picture(path, (3.2 * across, 3.4 * down)) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (name, told) in zip(grid.flat, found.items(), strict=False):
            low, high = told.quantiles[:, 0], told.quantiles[:, -1]
            holds = (low <= told.actual) & (told.actual <= high)
            colours = np.where(holds, RIGHT, WRONG)
            axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1)
            axes.scatter(
                told.actual, told.quantiles[:, MEDIAN], s=10, c=colours, alpha=0.4, linewidths=0
            )
            axes.spines[["top", "right"]].set_visible(False)
            for axis in ("x", "y"):
                getattr(axes, f"set_{axis}scale")("function", functions=(np.log1p, np.expm1))
                getattr(axes, f"set_{axis}lim")(-0.05, top * 1.15 + 0.1)
            ticks = [tick for tick in TICKS if tick <= top * 1.15 + 0.1]
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8, rotation=45)
            axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
            about = f"{short(name)}\n10-90 interval holds for {holds.mean():.0%}"
            axes.set_title(about, fontsize=9, parse_math=False)
        figure.supxlabel("actual counts (log); orange: outside the 10-90 interval", fontsize=9)
        figure.supylabel("predicted median (log)", fontsize=9)


def short(name: str) -> str:
    """Return a name as a picture has room for: on one line, cut where it is long."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
