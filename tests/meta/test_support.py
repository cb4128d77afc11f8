import numpy as np
import pyarrow as pa

from llmpred.meta.schema import Schema, differing
from llmpred.meta.support import beyond, outside
from llmpred.meta.table import Table, make_table
from llmpred.meta.transforms import fit_encoder


def table() -> Table:
    draw = np.random.default_rng(0)
    source = {
        "n": 10 ** draw.uniform(2, 4, 40),
        "share": np.linspace(0.2, 0.4, 40)[::-1],
        "base": draw.choice(["small", "large"], 40),
        "score": draw.uniform(size=40),
    }
    source["n"][:2], source["share"][5] = (100, 10_000), np.nan
    return make_table(pa.table(source), "score")[0]


def changed(runs: Table, **columns: object) -> Table:
    features = {**runs.features}
    for name, value in columns.items():
        features[name] = np.full(len(runs), value, dtype=features[name].dtype)
    return Table(**{**vars(runs), "features": features})


def test_training_rows_and_what_is_near_their_border_are_inside():
    runs = table()
    encoder = fit_encoder(runs)
    assert not any(outside(encoder, runs))
    near = changed(runs, n=15_000.0, share=0.41)  # 9 % of two decades, 5 % of 0.2 to 0.4
    assert not any(outside(encoder, near))


def test_what_lies_outside_is_told_by_feature():
    runs = table()
    encoder = fit_encoder(runs)
    assert set(outside(encoder, changed(runs, n=50_000.0))) == {("n",)}
    assert set(outside(encoder, changed(runs, n=1.0, base="huge"))) == {("n", "base")}
    assert not any(outside(encoder, changed(runs, share=np.nan, base=None)))
    # A text never seen says nothing about a trend.
    assert not beyond(encoder, changed(runs, base="huge")).any()


def test_what_was_the_same_in_all_training_rows_is_outside_when_it_is_not():
    schema = Schema(("lr",), (), "score", constants={"base": "small", "batch": 8.0})
    rows = {
        "base": ["small", "large", None, "small"],
        "batch": [8, 8, None, 16],
        "lr": [1.0, 1.0, 1.0, 1.0],
    }
    assert differing(pa.table(rows), schema) == [(), ("base",), (), ("batch",)]
    assert differing(pa.table({"lr": [1.0]}), schema) == [()]
