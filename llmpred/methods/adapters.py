"""Attach what a method trains to a loaded base, and take it off again so the base can be reused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.bases.load import HEADS
from llmpred.errors import Problem, SpecError
from llmpred.spec.run import MethodSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

LAYER = re.compile(r"^.*?\.\d+\.")  # everything up to and with the first layer index
LAYER_INDEX = re.compile(r"^.*?\.(\d+)\.")
ATTENTION = re.compile(r"(^|[._])(self_)?(attn|attention)")
FILES = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
HEAD_FILE = "head.safetensors"
NUMERIC_FILE = "numeric.safetensors"  # beside an adapter, which PEFT alone can load
NUMERIC = "numeric"  # attribute of a base that has such a head


def attach(model: nn.Module, method: MethodSpec, seed: int) -> nn.Module:
    """Give the model to train, with exactly the weights that `method` trains requiring gradients.

    The seed is set before anything is drawn, so the first weights of an adapter or a head depend on
    it alone. With `full` every floating-point weight is trained, with `none` only a classification
    head.

    Raises:
        SpecError: when target modules are not in the model.
    """
    import torch

    from llmpred.methods import heads

    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if method.head == "classifier":
        setattr(model, head_name(model), heads.drawn(getattr(model, head_name(model)), method))
    tuned = model
    if method.adapter.kind == "lora":
        tuned = _with_lora(model, method)
    elif method.adapter.kind == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.is_floating_point() and _within(name, model, method))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            law = (
                "the layers of this base are not told apart by number, so none of them is the last"
            )
            fix = "Remove `last_layers`, or choose another base."
            raise SpecError(Problem(law, "method.adapter.last_layers", fix))
    if method.head == "classifier" and method.adapter.kind != "lora":  # PEFT trains a copy of it
        getattr(model, head_name(model)).requires_grad_(True)
    if method.head == "numeric":
        # Last: PEFT would adapt its layers too, and `last_layers` would take them for the base's.
        _add_numeric(model, method)
    return tuned


def _within(name: str, model: nn.Module, method: MethodSpec) -> bool:
    """Whether a weight is in the layers that a method trains in full; `last_layers` leaves out
    embeddings, the layers before them, and what stands after the last one.
    """
    last = method.adapter.last_layers
    if last is None:
        return True
    found = LAYER_INDEX.match(name)
    layers: Any = model.config
    return found is not None and int(found[1]) >= layers.num_hidden_layers - last


@contextmanager
def attached(model: nn.Module, method: MethodSpec, seed: int) -> Iterator[nn.Module]:
    """`attach`, and take it off at the end: the base is as it was, unless `full` changed it.

    Raises:
        SpecError: when target modules are not in the model.
    """
    own_head = getattr(model, head_name(model)) if method.head == "classifier" else None
    try:
        tuned: Any = attach(model, method, seed)
        if method.adapter.kind == "lora":
            try:
                yield tuned
            finally:
                tuned.unload()
                if hasattr(model, "peft_config"):  # left by older versions: it would be a second
                    del model.peft_config
        else:
            with _as_adapted(model):
                yield tuned
    finally:
        if own_head is not None:
            setattr(model, head_name(model), own_head)
        if hasattr(model, NUMERIC):
            delattr(model, NUMERIC)


@contextmanager
def _as_adapted(model: nn.Module) -> Iterator[None]:
    """Let the Trainer train the head of a quantised base: it knows of adapters only.

    None of the quantised weights is trained.
    """
    if not getattr(model, "is_quantized", False):
        yield
        return
    quantized: Any = model
    quantized._hf_peft_config_loaded = True
    try:
        yield
    finally:
        quantized._hf_peft_config_loaded = False


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Switch the LoRA layers of a model that `attached` gave off for a while; its head stays."""
    switch(model, on=False)
    try:
        yield
    finally:
        switch(model, on=True)


def switch(model: nn.Module, *, on: bool) -> None:
    """Switch the LoRA layers of a model on or off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)


def target_modules(model: nn.Module, method: MethodSpec) -> list[str]:
    """Return the linear layers that get an adapter, named without their layer index.

    `attention` is every linear layer inside an attention block, `all_linear` every one but the
    heads; names as a user gave them must each match at least one linear layer.

    Raises:
        SpecError: when a name matches none, or no attention was recognised.
    """
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    wanted = method.adapter.target_modules
    if isinstance(wanted, tuple):
        missing = [w for w in wanted if not any(n == w or n.endswith(f".{w}") for n in linear)]
        if missing:
            short = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise SpecError(
                Problem(
                    f"target modules must be linear layers of the base, but {', '.join(missing)} "
                    "is not among them",
                    "method.adapter.target_modules",
                    f"This base has: {', '.join(short)}.",
                )
            )
        return list(wanted)
    names = {LAYER.sub("", name) for name in linear if name.split(".")[0] not in HEADS}
    if wanted == "attention":
        names = {name for name in names if ATTENTION.search(name)}
    if not names:
        raise SpecError(
            Problem(
                "no attention layers were recognised in this base",
                "method.adapter.target_modules",
                "Name them there, or set it to all_linear.",
            )
        )
    return sorted(names)


def head_name(model: nn.Module) -> str:
    """Return the attribute that holds the head: lm_head, classifier or score.

    Raises:
        SpecError: when there is none.
    """
    for name in HEADS:
        if hasattr(model, name):
            return name
    raise SpecError(Problem(f"{type(model).__name__} has none of the heads {', '.join(HEADS)}"))


def trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trainable weights by name: what a checkpoint has to keep."""
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def load_trainable(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put weights that `trainable` gave back, in place.

    Raises:
        ValueError: when names or shapes are not exactly those of the model's trainable weights.
    """
    import torch

    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if {n: p.shape for n, p in own.items()} != {n: w.shape for n, w in weights.items()}:
        raise ValueError("the saved weights are those of another method or base")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def save(model: nn.Module, method: MethodSpec, folder: Path) -> None:
    """Save what was trained: a PEFT adapter, a whole model (`full`), or the head's weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if method.adapter.kind in ("lora", "full"):
        saver: Any = model
        if method.head != "numeric":
            saver.save_pretrained(folder)
            return
        lora = method.adapter.kind == "lora"
        # The table of embeddings is the base's but for one row, which PEFT keeps.
        saver.save_pretrained(folder, **({"save_embedding_layers": False} if lora else {}))
        if lora:
            own = _numeric_of(model).state_dict()
            save_file({n: w.cpu().contiguous() for n, w in own.items()}, folder / NUMERIC_FILE)
        return
    save_file(
        {name: weight.cpu().contiguous() for name, weight in trainable(model).items()},
        folder / HEAD_FILE,
    )


def load(model: nn.Module, method: MethodSpec, folder: Path) -> None:
    """Put weights that `save` wrote (or PEFT itself) into a model that `attached` gave.

    Raises:
        SpecError: when the folder holds no readable safetensors, or weights of another method,
            rank or base.
    """
    _load_file(model, method, folder / FILES.get(method.adapter.kind, HEAD_FILE))
    if method.head == "numeric" and method.adapter.kind == "lora":
        _load_file(model, method, folder / NUMERIC_FILE)


def _load_file(model: nn.Module, method: MethodSpec, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = str(path.parent)
    if not path.is_file():
        raise SpecError(
            Problem(
                f"the folder of trained weights must hold {path.name}, but does not",
                folder,
                "Weights are read as safetensors only: save yours again with `save_pretrained`.",
            )
        )
    try:
        weights = load_file(path)
        if path.name == NUMERIC_FILE:
            _numeric_of(model).load_state_dict(weights)
        elif method.adapter.kind == "lora":
            _load_lora(model, weights)
        elif method.adapter.kind == "full":
            _load_full(model, weights)
        else:
            load_trainable(model, weights)
    except SafetensorError as error:
        law = f"weights must be a safetensors file, but {path.name} is damaged: {error}"
        raise SpecError(Problem(law, folder, "Copy it again.")) from error
    except (RuntimeError, ValueError) as error:  # torch says a wrong shape by RuntimeError
        law = f"what {path.name} holds does not fit this base and method: {error}"
        fix = "Give the base, the rank and the target modules that they were trained with."
        raise SpecError(Problem(law, folder, fix)) from error


def _add_numeric(model: Any, method: MethodSpec) -> None:
    """Give a base the parts that read and say values, as its `numeric`."""
    from llmpred.methods.numeric import NumericHead

    table = model.get_input_embeddings().weight
    head = NumericHead(table.shape[1], method).to(table.device)
    setattr(model, NUMERIC, head.requires_grad_(method.adapter.kind != "none"))


def _numeric_of(model: Any) -> nn.Module:
    own: nn.Module = getattr(model.get_base_model(), NUMERIC)
    return own


def _with_lora(model: Any, method: MethodSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    adapter = method.adapter
    token = {}
    if method.head == "numeric":
        tables = (model.get_input_embeddings(), model.get_output_embeddings())
        names = [n for n, m in model.named_modules() if any(m is t for t in tables)]
        tied = tables[0].weight is tables[1].weight  # PEFT ties what it trains of them
        token = {n: [model.config.number_token] for n in (names[:1] if tied else names)}
    config = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_rslora=bool(adapter.use_rslora),
        target_modules=target_modules(model, method),
        modules_to_save=[head_name(model)] if method.head == "classifier" else None,
        task_type="SEQ_CLS" if method.head == "classifier" else "CAUSAL_LM",
        trainable_token_indices=token or None,
    )
    return get_peft_model(model, config)


def _load_lora(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = sorted(own.keys() ^ weights.keys())
    if wrong:
        raise ValueError(f"{wrong[0]} is in one and not in the other")
    set_peft_model_state_dict(model, weights)


def _load_full(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    own = model.state_dict()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    present = {own[name].data_ptr() for name in weights if name in own}
    # A tied weight is saved under one of its names.
    wrong = [*unexpected, *(name for name in missing if own[name].data_ptr() not in present)]
    if wrong:
        raise ValueError(f"{wrong[0]} is in one and not in the other")


def _is_linear(module: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)  # quantised layers are subclasses of nn.Linear
