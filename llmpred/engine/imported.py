"""Adapters trained elsewhere: whether one fits a run, what identifies it, what it scores."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.bases.resolve import ResolvedSpec
from llmpred.data.hub import is_pickle
from llmpred.errors import Problem
from llmpred.spec.canonical import digest
from llmpred.spec.run import RunSpec

if TYPE_CHECKING:
    from llmpred.engine.run import Outcome

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HEADER_LIMIT = 100_000_000  # bytes


def adapter_problems(folder: Path, spec: RunSpec) -> list[Problem]:
    """Return what keeps the PEFT adapter in `folder` from being the one that `spec` describes.

    Only JSON and the header of the weights are read.
    """
    where = str(folder)
    if spec.method.adapter.kind != "lora":
        law = f"the spec of an adapter must be of kind lora, but got {spec.method.adapter.kind}"
        return [Problem(law, "method.adapter.kind")]
    if not folder.is_dir():
        return [Problem("the adapter must be a folder, but there is none", where)]
    found = pickles(folder)
    if not (folder / WEIGHTS).is_file():
        law = f"the adapter's folder must hold {WEIGHTS}, but it holds {', '.join(found) or 'none'}"
        fix = (
            "Pickled weights can run code when loaded. Save the adapter again with PEFT's "
            "`save_pretrained`, which writes safetensors."
        )
        return [Problem(law, where, fix if found else "Give the folder that PEFT saved.")]
    if found:  # the folder is kept whole, and logged to MLflow: others would be given them
        law = f"the adapter's folder must hold no pickles, but it holds {', '.join(found)}"
        fix = (
            f"Pickles can run code when loaded. Give a folder of {WEIGHTS} and {CONFIG} without "
            "them; neither is needed to score an adapter."
        )
        return [Problem(law, where, fix)]
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        shapes = _shapes(folder / WEIGHTS)
    except (OSError, ValueError, struct.error) as error:
        law = f"the adapter must have a readable {CONFIG} and {WEIGHTS}, but: {error}"
        return [Problem(law, where, "Save it again with PEFT's `save_pretrained`.")]
    if not isinstance(config, dict):
        return [Problem(f"{CONFIG} must hold a mapping", where)]
    return [*_config_problems(config, spec, where), *_shape_problems(shapes, spec, where)]


def pickles(folder: Path) -> list[str]:
    """Return the names of the files in a folder that are pickles, or are called like them."""
    return sorted(p.name for p in folder.rglob("*") if p.suffix == ".bin" or _is_pickle(p))


def content_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) of an adapter: its configuration and its weights."""
    found = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def imported_keys(resolved: ResolvedSpec, content: str) -> tuple[str, str]:
    """Return key and train_key of an imported adapter with this content hash.

    How it was trained is not known, so it must not pass for the run that `resolved` would train;
    what it is, is known by its content.
    """
    train_key = digest({"imported_adapter": content, "run": resolved.train_payload()})
    key = digest({"imported_adapter": content, "run": resolved.payload()})
    return key, train_key


def score(resolved: ResolvedSpec, adapter: Path, folder: Path) -> Outcome:
    """Score an adapter as the run scores, and return the outcome with origin `imported`.

    The record's keys are still those of the run; see `imported_keys`.

    Raises:
        SpecError: when the weights do not fit the base.
    """
    from llmpred.engine.models import LoadedBases
    from llmpred.engine.run import Outcome, execute

    alone = resolved.with_execution(distributed=None)
    outcome = execute(alone, LoadedBases(), folder, trained=adapter)
    record = outcome.record.model_copy(update={"origin": "imported"})
    return Outcome(record, outcome.predictions, adapter)


def _is_pickle(path: Path) -> bool:
    try:
        return path.is_file() and is_pickle(path)
    except OSError:  # unreadable: what needs it says so
        return False


def _config_problems(config: dict[str, Any], spec: RunSpec, where: str) -> list[Problem]:
    adapter = spec.method.adapter
    place = f"{where}/{CONFIG}"
    problems = []
    if config.get("peft_type") != "LORA":
        law = f"the adapter's peft_type must be LORA, but got {config.get('peft_type')!r}"
        problems.append(Problem(law, place))
    wanted: dict[str, float] = {
        "r": adapter.r,
        "lora_alpha": adapter.alpha,
        "use_rslora": bool(adapter.use_rslora),
    }
    names = {"r": "r", "lora_alpha": "alpha", "use_rslora": "use_rslora"}
    for name, value in wanted.items():
        got = config.get(name, False if name == "use_rslora" else None)
        if got != value:
            law = f"the adapter's {name} must be that of the spec, {value:g}, but got {got!r}"
            fix = f"Set method.adapter.{names[name]} to what the adapter was trained with."
            problems.append(Problem(law, place, fix))
    plain: dict[str, Any] = {
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "bias": "none",
    }
    for name, value in plain.items():
        if config.get(name) and config[name] != value:
            law = f"only plain LoRA can be imported, but the adapter has {name} {config[name]!r}"
            problems.append(Problem(law, place))
    return problems


def _shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor, from the header alone: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER_LIMIT:
            raise ValueError("not a safetensors file")
        header = json.loads(file.read(length))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def _shape_problems(shapes: dict[str, list[int]], spec: RunSpec, where: str) -> list[Problem]:
    adapter = spec.method.adapter
    place = f"{where}/{WEIGHTS}"
    down = {name: shape for name, shape in shapes.items() if ".lora_A" in name}
    if not down:
        return [Problem("the adapter's weights must hold lora_A tensors, but hold none", place)]
    problems = []
    ranks = sorted({shape[0] for shape in down.values()})
    if ranks != [adapter.r]:
        got = ", ".join(map(str, ranks))
        law = f"the adapter's tensors must have rank {adapter.r}, but have {got}"
        problems.append(Problem(law, place, "Set method.adapter.r to it."))
    if isinstance(adapter.target_modules, tuple):
        trained = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in down}
        asked = {name.rsplit(".", 1)[-1] for name in adapter.target_modules}
        if trained != asked:
            law = (
                f"the adapter's layers must be those of method.adapter.target_modules, "
                f"{', '.join(sorted(asked))}, but are {', '.join(sorted(trained))}"
            )
            problems.append(
                Problem(law, place, f"Set target_modules to [{', '.join(sorted(trained))}].")
            )
    return problems
