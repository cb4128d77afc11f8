"""Pictures of Shapley values, as PNG files; names may be Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.meta.shapley import Shapley
from llmpred.meta.table import Table, is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 15  # columns in a picture
FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "PingFang SC", "SimHei", "Microsoft YaHei"),
    "DejaVu Sans",
)
RAISED, LOWERED = "#c2410c", "#1d4ed8"


def plot_importance(
    found: Shapley, folds: NDArray[np.float64] | None, target: str, path: Path
) -> None:
    """Draw the mean absolute value of each column, and its range over folds.

    Args:
        found: values of many rows.
        folds: float64 [folds, columns], as `stability` returns; None for none.
        target: what is predicted.
        path: .png file.
    """
    import numpy as np

    order = np.argsort(found.importance)[::-1][:SHOWN][::-1]
    with picture(path, _size(len(order))) as figure:
        axes = figure.add_subplot()
        places = np.arange(len(order))
        axes.barh(places, found.importance[order], color=LOWERED, height=0.7)
        if folds is not None:
            low, high = folds[:, order].min(axis=0), folds[:, order].max(axis=0)
            axes.hlines(places, low, high, color="black", linewidth=1.2)
        axes.set_yticks(places, [found.columns[i] for i in order])
        range_ = "; lines: range over folds" if folds is not None else ""
        axes.set_xlabel(f"mean |Shapley value| for {target}{range_}")


def plot_values(found: Shapley, rows: Table, target: str, path: Path) -> None:
    """Draw every row's value of each column, coloured by what the row has there.

    Args:
        found: values of the rows.
        rows: the rows.
        target: what is predicted.
        path: .png file.
    """
    import numpy as np
    from scipy.stats import rankdata

    order = np.argsort(found.importance)[::-1][:SHOWN][::-1]
    with picture(path, _size(len(order))) as figure:
        axes = figure.add_subplot()
        draw = np.random.default_rng(0)
        for place, i in enumerate(order):
            cells = rows.features[found.columns[i]]
            ranks = np.full(len(cells), 0.5)  # of texts, which have no order
            if is_number(cells) and not np.isnan(cells).all():
                known = np.where(np.isnan(cells), np.nanmedian(cells), cells)
                ranks = rankdata(known) / len(known)
            axes.scatter(
                found.values[:, i],
                place + draw.uniform(-0.3, 0.3, len(cells)),
                c=ranks,
                cmap="coolwarm",
                vmin=0,
                vmax=1,
                s=9,
                linewidths=0,
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(np.arange(len(order)), [found.columns[i] for i in order])
        axes.set_xlabel(f"Shapley value for {target}; blue: low in the column, red: high")


def plot_row(found: Shapley, target: str, path: Path) -> None:
    """Draw what raised and what lowered the prediction of the first row."""
    import numpy as np

    values = found.values[0]
    order = np.argsort(np.abs(values))[::-1][:SHOWN][::-1]
    with picture(path, _size(len(order))) as figure:
        axes = figure.add_subplot()
        colours = [RAISED if value > 0 else LOWERED for value in values[order]]
        axes.barh(np.arange(len(order)), values[order], color=colours, height=0.7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(np.arange(len(order)), [found.columns[i] for i in order])
        axes.set_xlabel(f"{target}: {found.middle:.3f} on average, {found.predicted[0]:.3f} here")


def _size(bars: int) -> tuple[float, float]:
    return 8, 1 + 0.32 * bars


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Give a figure to draw on, and write it.

    Args:
        path: .png file.
        size: width and height in inches, of 120 pixels.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # A text takes its font when it is made, so the fonts are set before anything is drawn.
    with matplotlib.rc_context({"font.family": [*fonts()], "axes.unicode_minus": False}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def fonts() -> tuple[str, ...]:
    """Return those of `FONTS` that are installed; the last comes with matplotlib."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(font for font in FONTS if font in there)  # one that is not there is warned of
