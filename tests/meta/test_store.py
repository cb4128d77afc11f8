"""A trained model goes to a folder and comes back the same, in another process; and only whole."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from llmpred.errors import DataError, StorageError
from llmpred.meta import codec, model, store
from llmpred.meta.table import Table, make_table
from llmpred.meta.trained import Trained, table_hash, trained


def source(rows: int = 60, groups: int = 12, seed: int = 0) -> pa.Table:
    draw = np.random.default_rng(seed)
    lr = 10 ** draw.uniform(-5, -3, rows)
    size = draw.uniform(0, 1, rows)
    base = draw.choice(["small", "大"], rows)
    score = 0.5 + 0.1 * np.log10(lr / 1e-4) + 0.2 * size + 0.1 * (base == "大")
    score += 0.02 * draw.normal(size=rows)
    size[::11] = np.nan
    names = [f"d{i % groups}" for i in range(rows)]
    return pa.table({"lr": lr, "rows_": size, "base": base, "dataset": names, "score": score})


def made(rows: int = 60, groups: int = 12) -> Trained:
    table: Table = make_table(source(rows, groups), "score", group=["dataset"], log=["lr"])[0]
    about = {"rows": rows, "hash": table_hash(table), "rmse": float("nan"), "over": [1, 2.5]}
    return trained(model.fit(table), table, about, group=("dataset",))


@pytest.fixture(scope="module")
def fitted() -> Trained:
    return made()


@pytest.fixture
def kept(fitted: Trained, tmp_path: Path) -> Path:
    store.save(fitted, tmp_path / "model")
    return tmp_path / "model"


def rehash(folder: Path) -> None:
    """Make the manifest agree with the files again, as whoever meddles on purpose would."""
    files = [path for path in folder.iterdir() if path.name != store.MANIFEST]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / store.MANIFEST).write_text(json.dumps(hashes))


@pytest.mark.parametrize("groups", [12, 4])
def test_predictions_are_bit_equal_in_a_clean_process(groups: int, fitted: Trained, tmp_path: Path):
    fitted, new = fitted if groups == 12 else made(groups=groups), source(200, seed=1)
    store.save(fitted, tmp_path / "model")
    parquet.write_table(new, tmp_path / "new.parquet")
    code = (
        "import sys, pickle, numpy as np, pyarrow.parquet as parquet; from pathlib import Path\n"
        "pickle.Unpickler = pickle.loads = pickle.load = None\n"
        "from llmpred.meta import store\n"
        "new = parquet.read_table('new.parquet')\n"
        "found = store.load(Path('model')).predict(new)\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules\n"
        "np.savez('found.npz', mean=found.mean, lower=found.lower, upper=found.upper)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = fitted.predict(new)
    with np.load(tmp_path / "found.npz") as found:
        for name in ("mean", "lower", "upper"):
            np.testing.assert_array_equal(found[name], getattr(expected, name))


def test_what_is_known_of_it_comes_back(fitted: Trained, kept: Path):
    again = store.load(kept)
    assert again.schema == fitted.schema
    assert again.schema.numbers == ("lr", "rows_")
    assert again.schema.texts == ("base",)
    assert again.schema.group == ("dataset",)
    assert again.model.warnings == fitted.model.warnings
    assert again.about["hash"] == fitted.about["hash"]
    assert np.isnan(again.about["rmse"])
    assert again.about["over"] == (1, 2.5)
    assert len(again.sample) == 60


def test_every_way_a_folder_can_be_torn_is_told(kept: Path):
    files = sorted(kept.iterdir())
    assert {path.suffix for path in files} == {".json", ".safetensors", ".txt"}
    for path in files:
        whole = path.read_bytes()
        for torn in (None, b"", whole[: len(whole) // 2], whole[:-1] + b"\x00"):
            path.unlink()
            if torn is not None:
                path.write_bytes(torn)
            with pytest.raises(StorageError, match=r"(must be as it was written|must hold)"):
                store.load(kept)
            path.write_bytes(whole)
    store.load(kept)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"is": "Blend"', '"is": "Popen"', "nothing is written as"),
        ('"weights": {', '"heights": {', "Blend has the fields"),
        ('"format": 2', '"format": 99', "its format is not 2"),
        ('"intercept": ', '"intercept": 1', "predict as it did"),
        ('"array": "a0"', '"array": "b0"', "nothing is written as"),
        ('"booster": "lightgbm-0.txt"', '"booster": "../x"', "nothing is written as"),
    ],
)
def test_what_is_no_model_is_refused_whatever_its_hashes(
    kept: Path, before: str, after: str, said: str
):
    text = (kept / store.MODEL).read_text()
    assert before in text
    (kept / store.MODEL).write_text(text.replace(before, after, 1))
    rehash(kept)
    with pytest.raises(StorageError, match=said):
        store.load(kept)


def test_a_manifest_names_files_of_its_folder_alone(kept: Path):
    hashes = json.loads((kept / store.MANIFEST).read_text())
    hashes["../secret.txt"] = "0"
    (kept / store.MANIFEST).write_text(json.dumps(hashes))
    with pytest.raises(StorageError, match="not a file of the folder"):
        store.load(kept)


def test_trees_that_do_not_end_are_refused(kept: Path):
    from safetensors.numpy import load_file, save_file

    tree = json.loads((kept / store.MODEL).read_text())
    parts = tree["content"]["map"]["trained"]["fields"]["model"]["fields"]["blend"]["fields"]
    [forest] = [
        each["fields"]
        for each in parts["parts"]["fields"]["predictors"]
        if each.get("is") == "Forest"
    ]
    arrays = load_file(kept / store.ARRAYS)
    left = arrays[forest["left"]["array"]]
    left[0] = 0
    save_file(arrays, kept / store.ARRAYS)
    rehash(kept)
    with pytest.raises(StorageError, match="a tree does not end"):
        store.load(kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [("left_child", 0), ("right_child", 10**6), ("left_child", -(10**6)), ("split_feature", 99)],
)
def test_lightgbm_is_given_sound_trees_alone(kept: Path, name: str, value: int):
    path = next(kept.glob("*.txt"))
    text = path.read_text()
    path.write_text(re.sub(rf"(?m)^{name}=-?\d+", f"{name}={value}", text))
    assert path.read_text() != text
    rehash(kept)
    with pytest.raises(StorageError, match="does not end, or leaves its arrays"):
        store.load(kept)


def test_a_model_replaces_a_model_and_nothing_else(fitted: Trained, kept: Path, tmp_path: Path):
    store.save(fitted, kept)
    assert store.load(kept).schema == fitted.schema
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="neither"):
        store.save(fitted, other)
    assert (other / "thesis.tex").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]


def test_rows_to_predict_must_have_the_columns(fitted: Trained):
    new = source(20, seed=1)
    shuffled = new.select(["score", "base", "rows_", "lr"])
    np.testing.assert_array_equal(fitted.predict(shuffled).mean, fitted.predict(new).mean)
    with pytest.raises(DataError, match="lack `lr`"):
        fitted.predict(new.drop_columns(["lr"]))
    with pytest.raises(DataError, match="`lr` must hold numbers"):
        fitted.predict(new.set_column(0, "lr", pa.array(["low"] * 20)))
    empty = new.set_column(2, "base", pa.nulls(20))
    assert np.isfinite(fitted.predict(empty).mean).all()


def test_the_hash_is_of_values_not_of_files(fitted: Trained):
    rows = source()
    table = make_table(rows, "score", group=["dataset"])[0]
    assert table_hash(table) == fitted.about["hash"]
    other = rows.set_column(0, "lr", pa.array(np.asarray(rows["lr"]) * 1.0000001))
    assert table_hash(make_table(other, "score", group=["dataset"])[0]) != fitted.about["hash"]


def test_only_what_models_are_made_of_is_written():
    with pytest.raises(TypeError, match="no way to write"):
        codec.take_apart({"model": object()})


def test_what_is_held_twice_is_one_again(kept: Path):
    parts = store.load(kept).model.blend.parts
    by_name = dict(zip(parts.names, parts.predictors, strict=True))
    assert by_name["lightgbm_on_residuals"].base is by_name["gaussian_process"]
