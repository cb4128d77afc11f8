import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from llmpred.errors import DataError
from llmpred.meta.table import Table, make_table, read


def columns(rows: int = 30, **more: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    made = {
        "lr": 10 ** draw.uniform(-5, -3, rows),
        "base": [("small", "large")[i % 2] for i in range(rows)],
        "dataset": [f"d{i % 5}" for i in range(rows)],
        "score": draw.uniform(0.4, 0.9, rows),
    }
    return made | more


def table(group: tuple[str, ...] = (), rows: int = 30, **more: Any) -> Table:
    return make_table(pa.table(columns(rows, **more)), "score", group=group)[0]


def refusal(source: dict[str, Any], target: str = "score", **options: Any) -> str:
    with pytest.raises(DataError) as raised:
        make_table(pa.table(source), target, where="runs.csv", **options)
    return str(raised.value)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str):
    path, source = tmp_path / f"runs.{suffix}", pa.table(columns(flag=[True, False, None] * 10))
    if suffix == "parquet":
        pa.parquet.write_table(source, path)
    elif suffix == "jsonl":
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in source.to_pylist()))
    else:
        options = pa.csv.WriteOptions(delimiter="\t" if suffix == "tsv" else ",")
        pa.csv.write_csv(source, path, options)
    made, rows = make_table(read([path]), "score", group=["dataset"])
    assert list(made.features) == ["lr", "base", "flag"]
    assert made.features["base"][:2].tolist() == ["small", "large"]
    np.testing.assert_array_equal(made.features["flag"][:3], [1.0, 0.0, np.nan])
    np.testing.assert_allclose(made.target, source["score"].to_numpy(), rtol=1e-12)
    assert made.group_names == ("d0", "d1", "d2", "d3", "d4")
    assert rows.tolist() == list(range(30))


def test_a_ledgers_export_is_read_byte_order_mark_and_all(tmp_path: Path):
    path = tmp_path / "runs.csv"
    lines = [f"{i / 7:.4f},{i / 40 + 0.1:.3f}" for i in range(30)]
    path.write_bytes("\n".join(["lr,score", *lines]).encode("utf-8-sig"))
    assert list(make_table(read([path]), "score")[0].features) == ["lr"]


def test_what_cannot_be_read_says_so(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3\n")
    (tmp_path / "b.csv").write_text("x,x\n1,2\n")
    (tmp_path / "c.xlsx").write_text("")
    (tmp_path / "d.csv").write_text("x,z\n1,2\n")
    (tmp_path / "e.csv").write_text("x,y\n1,2\n")
    for name, said in (("a", "sound table"), ("b", "`x` comes twice"), ("f", "No such file")):
        with pytest.raises(DataError, match=said):
            read([tmp_path / f"{name}.csv"])
    with pytest.raises(DataError, match=r"read from \.csv"):
        read([tmp_path / "c.xlsx"])
    with pytest.raises(DataError, match="same columns"):
        read([tmp_path / "e.csv", tmp_path / "d.csv"])


def test_all_misspelt_columns_are_told_at_once():
    said = refusal(columns(), "scor", group=["datset"], ignore=["lrr", "nothing_*"])
    for part in ("Did you mean `score`?", "Did you mean `dataset`?", "`lr`", "nothing_*"):
        assert part in said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (columns(5), "at least 20 rows"),
        (columns(score=[0.5] * 30), "0.5 in every row"),
        (columns(score=["high", "low"] * 15), "must be a number"),
        (columns(score=[0.1, np.inf] * 15), "infinite in row 2"),
        ({"score": columns()["score"], "lr": [0.1] * 30}, "column to predict from"),
    ],
    ids=["few", "constant", "text", "infinite", "bare"],
)
def test_tables_that_allow_no_model(source: dict[str, Any], said: str):
    assert said in refusal(source)


def test_options_that_contradict():
    assert "because it is the --target" in refusal(columns(), ignore=["score"])
    assert "both target and group" in refusal(columns(), group=["score"])
    assert "`base` holds text" in refusal(columns(), log=["base"])
    assert "`lr` is -1" in refusal(columns(lr=[-1.0, 1.0] * 15), log=["lr"])


def test_useless_columns_are_left_out_with_a_warning():
    day = datetime.date(2026, 1, 1)
    made = table(
        empty=[None] * 30,
        same=[3] * 30,
        number=list(range(30)),
        name=[f"run {i}" for i in range(30)],
        when=[day] * 30,
        sometimes=[None, 1.0] * 15,
        seed=[i % 3 for i in range(30)],
    )
    assert list(made.features) == ["lr", "base", "dataset", "sometimes"]
    said = "\n".join(made.warnings)
    for part in (
        "`empty`: left out as empty",
        "`same`: left out as constant",
        "`number`: left out as row numbers",
        "`name`: left out as identifiers",
        "`when`: left out as neither numbers nor text",
        "`seed`: left out as a random seed",
    ):
        assert part in said


def test_rows_without_a_target_are_left_out_and_counted():
    scores = columns()["score"].tolist()
    made, rows = make_table(pa.table(columns(score=[None, None, *scores[2:]])), "score")
    assert len(made) == 28
    assert rows[0] == 2
    assert any("2 rows have no `score`" in w for w in made.warnings)


@pytest.mark.parametrize("leak", [lambda s: 100 * s, lambda s: -np.log(s)])
def test_a_column_that_is_the_target_in_disguise_is_warned_of(leak: Any):
    scores = columns()["score"]
    made = table(final_loss=leak(scores))
    assert any("`final_loss` ranks the rows" in w for w in made.warnings)
    assert not table().warnings


def test_one_group_column_is_no_feature_and_several_are():
    assert "dataset" not in table(("dataset",)).features
    cells = table(("dataset", "base"))
    assert {"dataset", "base"} <= set(cells.features)
    assert len(cells.group_names) == 10
    assert cells.group_names[0] == "d0, large"


def test_number_groups_sort_as_numbers():
    made = table(("size",), size=[10, 9, 100] * 10)
    assert made.group_names == ("9", "10", "100")


def test_rows_without_a_group_are_their_own():
    made = table(("family",), family=["a", None, "b"] * 10)
    assert len(np.unique(made.groups)) == 12


def test_a_copied_dataset_shares_its_groups_fate():
    source = columns()
    copied = {n: [*list(v), *list(v)[:4]] for n, v in source.items()}
    copied["dataset"][30:] = ["copy"] * 4  # rows of d0 to d3
    made = make_table(pa.table(copied), "score", group=["dataset"])[0]
    assert any("4 rows are duplicates" in w for w in made.warnings)
    assert len(np.unique(made.groups)) == 2  # d0 to d3 with their copy, and d4
    alone = table(("dataset",))
    assert len(np.unique(alone.groups)) == 5


def test_the_same_settings_on_two_datasets_are_no_repeats():
    """Without features of the data, its name alone tells their runs apart."""
    rows = {"dataset": ["a"] * 12 + ["b"] * 12, "lr": [i * 5 % 12 for i in range(12)] * 2}
    score = [i / 100 for i in range(24)]
    made, _ = make_table(pa.table(rows | {"score": score}), "score", group=["dataset"])
    assert len(np.unique(made.repeats)) == 24


def test_coarse_scores_join_no_datasets():
    """Of two datasets with the same settings, a few runs score the same by chance."""
    rows = {"dataset": ["a"] * 12 + ["b"] * 12, "lr": [i * 5 % 12 for i in range(12)] * 2}
    few = [i // 2 / 10 for i in range(12)]
    few += [few[i] if i < 5 else (i + 20) // 2 / 10 for i in range(12)]
    made, _ = make_table(pa.table(rows | {"score": few}), "score", group=["dataset"])
    assert len(np.unique(made.groups)) == 2
    most = few[:12] + [few[i] if i < 7 else (i + 20) // 2 / 10 for i in range(12)]
    made, _ = make_table(pa.table(rows | {"score": most}), "score", group=["dataset"])
    assert len(np.unique(made.groups)) == 1


def test_repeats_differ_in_seed_and_outcome_alone():
    lr = np.repeat(10 ** np.random.default_rng(1).uniform(-5, -3, 10), 3)
    made = table(lr=lr, seed=[0, 1, 2] * 10, base=["x", "y"] * 15, dataset=np.repeat(range(10), 3))
    assert len(np.unique(made.repeats)) == 20  # base alternates within the three
    assert len(np.unique(made.twins)) == 30
