from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from matplotlib.image import imread

from llmpred.evaluation.classification import Classified, classified, metrics
from llmpred.evaluation.confidence import confidence
from llmpred.report import plots
from llmpred.tasks.base import Prediction

pytestmark = pytest.mark.usefixtures("latin_only")
CHINESE = ("负面", "正面")


def scored(n: int, labels: tuple[str, ...] = ("bad", "good"), sharp: float = 2.0) -> Classified:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(n, len(labels)))
    targets = (logits + draw.gumbel(size=logits.shape)).argmax(axis=1)
    rows = [
        Prediction(str(i), labels[t], labels[int(row.argmax())], tuple((sharp * row).tolist()))
        for i, (t, row) in enumerate(zip(targets, logits, strict=True))
    ]
    return classified(rows, labels)


def generated(n: int, labels: tuple[str, ...]) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    answers = (*labels, "?")
    rows = [
        Prediction(str(i), str(draw.choice(labels)), str(draw.choice(answers))) for i in range(n)
    ]
    return metrics(classified(rows, labels))


def painted(path: Path) -> float:
    """Return the share of pixels that are not white; an error if it is no picture."""
    picture = imread(path)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 300
    return float(np.mean((picture[..., :3] < 0.99).any(axis=2)))


@pytest.mark.parametrize(("n", "sharp"), [(400, 2.0), (1, 1.0), (50, 900.0), (20, 0.0)])
def test_confidence_is_drawn(n: int, sharp: float, tmp_path: Path):
    found = confidence(scored(n, sharp=sharp))
    for draw in (plots.plot_reliability, plots.plot_confidence, plots.plot_coverage):
        path = tmp_path / "new" / f"{draw.__name__}.png"
        draw(found, path)
        assert painted(path) > 0.01


@pytest.mark.parametrize("k", [2, 25, 70])
def test_answers_are_drawn(k: int, tmp_path: Path):
    found = generated(300, tuple(f"a label of some length, {i}" for i in range(k)))
    assert plots.plot_confusion(found, tmp_path / "confusion.png") == {}
    assert painted(tmp_path / "confusion.png") > 0.1


def test_the_picture_shows_the_shares(tmp_path: Path):
    blue = {}
    for name, answers in (("right", "ab"), ("wrong", "ba")):
        rows = [Prediction(t, t, a) for t, a in zip("ab", answers, strict=True)]
        path = tmp_path / f"{name}.png"
        plots.plot_confusion(metrics(classified(rows, "ab")), path)
        blue[name] = imread(path)[..., 0] < 0.1  # the darkest of the colours
    rows, columns = np.nonzero(blue["right"][:, : blue["right"].shape[1] * 4 // 5])
    assert np.corrcoef(rows, columns)[0, 1] > 0.5
    rows, columns = np.nonzero(blue["wrong"][:, : blue["wrong"].shape[1] * 4 // 5])
    assert np.corrcoef(rows, columns)[0, 1] < -0.5


def test_labels_that_no_font_can_write_are_numbered(tmp_path: Path):
    found = metrics(scored(30, (*CHINESE, "neutral")))
    stands_for = plots.plot_confusion(found, tmp_path / "confusion.png")
    assert stands_for == {"label 0": "负面", "label 1": "正面"}


def test_chinese_is_written_where_a_font_can(tmp_path: Path, chinese_font: Path):
    found = metrics(scored(30, CHINESE))
    plots.plot_confusion(found, tmp_path / "numbered.png")
    fontManager.addfont(str(chinese_font))
    assert plots.plot_confusion(found, tmp_path / "written.png") == {}
    assert plots.plot_confusion(metrics(scored(30, ("负面", "喜"))), tmp_path / "other.png") == {
        "label 1": "喜"
    }
    one, other = (imread(tmp_path / f"{name}.png") for name in ("numbered", "written"))
    assert one.shape == other.shape
    assert (one != other).any()


@pytest.mark.parametrize(
    "label", ["$x$ and $y", "two\nlines", "tab\there", " ", "\\frac{", "x" * 99]
)
def test_odd_labels_are_drawn(label: str, tmp_path: Path):
    assert plots.plot_confusion(generated(30, (label, "b")), tmp_path / "confusion.png") == {}
    assert painted(tmp_path / "confusion.png") > 0.1
