import numpy as np
import pyarrow as pa

from llmpred.meta.cost import fit_cost
from llmpred.meta.table import Table, make_table


def runs(rows: int, seed: int) -> tuple[Table, np.ndarray]:
    draw = np.random.default_rng(seed)
    steps = draw.choice([10.0, 50.0, 200.0, 1000.0], rows)
    size = 10 ** draw.uniform(6, 9, rows)
    seconds = 2e-8 * steps * size * np.exp(0.1 * draw.normal(size=rows))
    source = {"steps": steps, "parameters": size, "dataset": [f"d{i % 9}" for i in range(rows)]}
    source["score"] = draw.uniform(size=rows)
    return make_table(pa.table(source), "score", group=["dataset"])[0], seconds


def test_seconds_follow_what_makes_a_run_long():
    table, seconds = runs(120, 0)
    seconds[::5] = np.nan
    cost = fit_cost(table, seconds)
    assert cost is not None
    assert 1.0 < cost.factor < 1.25
    new, true = runs(200, 1)
    off = np.abs(np.log(cost(new) / true))
    assert np.median(off) < 0.15
    assert np.quantile(off, 0.95) < 0.4


def test_too_few_runs_tell_nothing():
    table, seconds = runs(40, 0)
    seconds[9:] = np.nan
    assert fit_cost(table, seconds) is None
