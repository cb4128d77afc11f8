"""What does not pay is dropped, by training rows alone."""

import numpy as np
import pyarrow as pa

from llmpred.meta.selection import _sizes, pays
from llmpred.meta.table import Table, make_table


def runs(idle: int, rows: int = 60) -> Table:
    draw = np.random.default_rng(0)
    columns = {f"idle_{i}": draw.normal(size=rows) for i in range(idle)}
    columns |= {"lr": draw.normal(size=rows), "noise": draw.normal(size=rows)}
    columns["score"] = columns["lr"] - columns["noise"] + 0.1 * draw.normal(size=rows)
    columns["dataset"] = [f"d{i % 12}" for i in range(rows)]
    return make_table(pa.table(columns), "score", group=["dataset"])[0]


def test_what_says_nothing_is_dropped():
    kept = pays(runs(idle=6), seed=0)
    assert {"lr", "noise"} <= set(kept)
    assert len(kept) <= 4


def test_few_features_are_kept_as_they_are():
    assert pays(runs(idle=1), seed=0) == ["idle_0", "lr", "noise"]
    assert _sizes(3) == [3]
    assert _sizes(100) == [10, 20, 35, 60, 100]
