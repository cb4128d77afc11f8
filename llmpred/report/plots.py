"""Pictures of a classification, as PNG files; labels may be Chinese.

Each is drawn of what `metrics` or `confidence` returns, so that a stored report can be drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from llmpred.evaluation.confidence import HIGH
from llmpred.evaluation.significance import wilson
from llmpred.meta.plots import fonts, picture

RIGHT, WRONG, GREY = "#1d4ed8", "#c2410c", "#9ca3af"
NUMBERED = 20  # labels of a confusion matrix whose cells have numbers
NAMED = 60  # labels of one that all have their names beside it
LONGEST = 24  # characters of a label
FEW = 10  # points of a curve that are marked


def plot_reliability(found: Mapping[str, Any], path: Path) -> None:
    """Draw how often answers are right against how sure they are, and how many there are.

    Lines are Wilson's 95 % intervals: a bin that reaches the diagonal may well be calibrated.

    Args:
        found: of `confidence`.
        path: .png file.
    """
    with _panels(path, (6, 6.4), 3.2, 1) as (above, below):
        rows = [row for row in found["reliability"] if row["count"]]
        sure = [row["confidence"] for row in rows]
        accuracy = [row["accuracy"] for row in rows]
        ranges = [wilson(round(row["accuracy"] * row["count"]), row["count"]) for row in rows]
        above.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
        above.vlines(sure, *zip(*ranges, strict=True), color=RIGHT, linewidth=1.2, alpha=0.6)
        above.plot(sure, accuracy, "o-", color=RIGHT, markersize=5, label="answers, by confidence")
        above.set(ylim=(-0.02, 1.02), ylabel="accuracy")
        _head(above, _calibration_title(found))
        below.bar(
            [row["lower"] for row in rows],
            [row["count"] for row in rows],
            [row["upper"] - row["lower"] for row in rows],
            align="edge",
            color=RIGHT,
            edgecolor="white",
        )
        below.set(xlim=(-0.02, 1.02), ylabel="examples", xlabel="confidence")
        _whole_numbers(below)


def _calibration_title(found: Mapping[str, Any]) -> str:
    title = f"ECE {found['ece']:.3f} over {_examples(found)}"
    scaling = found["temperature_scaling"]
    if scaling["after"] is None or scaling["at_bound"]:
        return title
    scaled = f"{scaling['after']['ece']:.3f} after temperature scaling"
    return f"{title}; {scaled} (T = {scaling['temperature']:.2f})"


def plot_confidence(found: Mapping[str, Any], path: Path) -> None:
    """Draw how many right and wrong answers there are of each confidence.

    Args:
        found: of `confidence`.
        path: .png file.
    """
    with _panels(path, (6, 4), 1) as (axes,):
        rows = found["confidence_distribution"]
        right = [round(row["count"] * (row["accuracy"] or 0)) for row in rows]
        wrong = [row["count"] - hits for row, hits in zip(rows, right, strict=True)]
        left, width = [row["lower"] for row in rows], [row["upper"] - row["lower"] for row in rows]
        style: dict[str, Any] = {"align": "edge", "edgecolor": "white"}
        axes.bar(left, right, width, color=RIGHT, label="right", **style)
        axes.bar(left, wrong, width, bottom=right, color=WRONG, label="wrong", **style)
        mean = found["avg_confidence"]
        axes.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {mean:.2f}")
        axes.set(xlim=(-0.02, 1.02), xlabel="confidence", ylabel="examples")
        surer = (
            f"{found['high_confidence_ratio']:.0%} of {_examples(found)} are surer than {HIGH:g}"
        )
        _head(axes, surer)
        _whole_numbers(axes)


def plot_coverage(found: Mapping[str, Any], path: Path) -> None:
    """Draw how good the surest answers are, by how many are given, and at what threshold.

    Args:
        found: of `confidence`.
        path: .png file.
    """
    with _panels(path, (6, 5.6), 2, 1) as (above, below):
        rows = found["coverage_curve"]
        coverage = [row["coverage"] for row in rows]
        accuracy = [row["accuracy"] for row in rows]
        ranges = [wilson(round(row["accuracy"] * row["count"]), row["count"]) for row in rows]
        low, high = zip(*ranges, strict=True)
        marker = "o" if len(rows) <= FEW else None
        above.fill_between(coverage, low, high, color=RIGHT, alpha=0.15, linewidth=0)
        above.plot(coverage, accuracy, color=RIGHT, marker=marker, label="the surest answers")
        above.axhline(found["accuracy"], color=GREY, linestyle="--", label="all answers")
        lowest = max(0.0, min(low[-1], *accuracy) - 0.05)
        above.set(ylim=(lowest, 1.02), ylabel="accuracy of the answers given")
        area = f"area under the risk-coverage curve {found['aurc']:.3f}"
        _head(above, f"accuracy {found['accuracy']:.3f} over {_examples(found)}; {area}")
        thresholds = [row["threshold"] for row in rows]
        below.plot(coverage, thresholds, color="black", linewidth=1.2, marker=marker)
        below.set(
            xlim=(0, 1.02), ylim=(0, 1.04), ylabel="threshold", xlabel="share of answers given"
        )


def plot_confusion(found: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Draw which label is taken for which; colours are shares of the targets of a label.

    Args:
        found: of `metrics`.
        path: .png file.

    Returns:
        What stands in the picture for labels that no installed font can write -> the label; to be
        told beside the picture. Empty where all can be written.
    """
    import numpy as np

    counts = np.array(found["confusion_matrix"])
    columns, labels = found["confusion_columns"], found["labels"]
    names = _written(columns)
    rows, k = counts.shape
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(3.2 + 0.4 * max(k, 4), 13)
    size = 10 if k <= 12 else 8 if k <= 40 else 6.5
    # Letters are about 0.6 of the font size wide, Chinese ones twice that; 72 points are an inch.
    turned = max(map(_width, names)) * 0.6 * size / 72 > 0.65 * side / k
    with picture(path, (side + 1, side)) as figure:
        figure.set_layout_engine("compressed")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=shares.max())
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("share of the label's targets")
        if k <= NUMBERED:
            for row, column in np.ndindex(counts.shape):
                axes.text(
                    column,
                    row,
                    _short(int(counts[row, column])),
                    ha="center",
                    va="center",
                    fontsize=size,
                    color="white" if shares[row, column] > 0.55 * shares.max() else "black",
                )
        step = 1 + (k - 1) // NAMED
        places = range(0, k, step)
        style: dict[str, Any] = {"fontsize": size, "parse_math": False}
        upright = {"rotation": 90} if turned else {}
        axes.set_xticks([*places], [names[i] for i in places], **style, **upright)
        below = range(0, rows, step)
        axes.set_yticks([*below], [names[i] for i in below], **style)
        axes.set(xlabel="answer", ylabel="target")
        title = f"accuracy {found['accuracy']:.3f} over {_examples(found)}"
        if step > 1:
            title += f"; one label in {step} is named"
        axes.set_title(title, fontsize=10)
        axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        if k <= NUMBERED:
            axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
        stands_for = {
            name: label
            for name, label in zip(names, columns, strict=True)
            if name.startswith("label ") and not _can_write(label)
        }
        if stands_for:
            note = (
                f"label i: the i-th of the {len(labels)} labels from 0; no font here can write it"
            )
            figure.supxlabel(note, fontsize=8, color="#4b5563")
    return stands_for


def _short(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def _written(labels: Sequence[str]) -> list[str]:
    """Return labels as a picture can show them: short, on one line, in glyphs that are there."""
    lines = [" ".join(label.split()) or "(blank)" for label in labels]
    return [
        (line if len(line) <= LONGEST else line[: LONGEST - 1] + "…")
        if _can_write(line)
        else f"label {i}"
        for i, line in enumerate(lines)
    ]


def _can_write(text: str) -> bool:
    glyphs = _glyphs(fonts())
    return all(character.isspace() or ord(character) in glyphs for character in text)


@cache
def _glyphs(names: tuple[str, ...]) -> frozenset[int]:
    """Return the code points that one of the fonts can write; others it falls back to."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    maps = [get_font(findfont(FontProperties(family=name))).get_charmap() for name in names]
    return frozenset().union(*maps)


def _width(text: str) -> int:
    """Return how many letters a text is wide; a Chinese one counts as two."""
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def _examples(found: Mapping[str, Any]) -> str:
    return f"{found['n']:,} example{'s' * (found['n'] != 1)}"


def _head(axes: Any, title: str) -> None:
    """Write a title and, below it, the legend: in the axes it could hide what is drawn."""
    axes.figure.suptitle(title, fontsize=10)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


@contextmanager
def _panels(path: Path, size: tuple[float, float], *heights: float) -> Iterator[list[Any]]:
    """Give axes one above the other, with the same x-axis, to draw on."""
    with picture(path, size) as figure:
        axes = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for each in axes[:, 0]:
            each.spines[["top", "right"]].set_visible(False)
        yield [*axes[:, 0]]
