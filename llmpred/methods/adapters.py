"""Attach what a method trains to a loaded base, and take it off again so the base can be reused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import Problem, SpecError
from llmpred.spec.run import MethodSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

LAYER = re.compile(r"^.*?\.\d+\.")  # everything up to and with the first layer index
ATTENTION = re.compile(r"(^|[._])(self_)?(attn|attention)")
HEADS = ("lm_head", "classifier", "score")


def attach(model: nn.Module, method: MethodSpec, seed: int) -> nn.Module:
    """Make exactly the weights that `method` trains trainable, and return the model to train.

    The seed is set before anything is drawn, so an adapter's first weights depend on it alone.
    With `full` every floating-point weight is trained, with `none` only a classification head.

    Raises:
        SpecError: when target modules are not in the model.
    """
    import torch

    torch.manual_seed(seed)
    head = head_name(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if method.head == "classifier":
        _draw_head(getattr(model, head))
    kind = method.adapter.kind
    if kind == "lora":
        from peft import LoraConfig, get_peft_model

        adapter = method.adapter
        config = LoraConfig(
            r=adapter.r,
            lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # PEFT takes floats
            lora_dropout=adapter.dropout,
            use_rslora=bool(adapter.use_rslora),
            target_modules=target_modules(model, method),
            modules_to_save=[head] if method.head == "classifier" else None,
            task_type="SEQ_CLS" if method.head == "classifier" else "CAUSAL_LM",
        )
        return get_peft_model(model, config)  # type: ignore[arg-type]
    if kind == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    elif method.head == "classifier":
        for parameter in getattr(model, head).parameters():
            parameter.requires_grad_(True)
    return model


def detach(model: nn.Module, method: MethodSpec) -> nn.Module:
    """Undo `attach` for everything but `full`: return the base as it was loaded."""
    if method.adapter.kind == "lora":
        model = model.unload()
        if hasattr(model, "peft_config"):  # PEFT would warn of a second adapter on the next attach
            del model.peft_config
    return model


def target_modules(model: nn.Module, method: MethodSpec) -> list[str]:
    """Return the linear layers that get an adapter, named without their layer index.

    `attention` is every linear layer inside an attention block, `all_linear` every one but the
    heads; names as a user gave them must each match at least one linear layer.
    """
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    wanted = method.adapter.target_modules
    if isinstance(wanted, tuple):
        missing = [w for w in wanted if not any(n == w or n.endswith(f".{w}") for n in linear)]
        if missing:
            short = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise SpecError(
                Problem(
                    f"`method.adapter.target_modules` must name linear layers of the base, but "
                    f"{', '.join(missing)} is not among them",
                    fix=f"This base has: {', '.join(short)}.",
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
                fix="Name them in method.adapter.target_modules, or set it to all_linear.",
            )
        )
    return sorted(names)


def head_name(model: nn.Module) -> str:
    """Return the attribute that holds the head: lm_head, classifier or score."""
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
        ValueError: when the names are not exactly the model's trainable ones.
    """
    import torch

    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if own.keys() != weights.keys():
        raise ValueError("the saved weights are those of another method or base")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def save(model: nn.Module, method: MethodSpec, folder: Path) -> None:
    """Save what was trained: a PEFT adapter, a whole model (`full`), or the head's weights."""
    if method.adapter.kind in ("lora", "full"):
        saver: Any = model
        saver.save_pretrained(folder, safe_serialization=True)
        return
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.cpu().contiguous() for name, weight in trainable(model).items()},
        folder / "head.safetensors",
    )


def _is_linear(module: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)  # quantised layers are subclasses of nn.Linear


def _draw_head(head: nn.Module) -> None:
    """Draw a classification head's weights anew: N(0, 0.02), biases 0 (BERT's initialisation)."""
    from torch import nn

    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load(model: nn.Module, method: MethodSpec, folder: Path) -> None:
    """Put weights that `save` wrote (or PEFT itself) into a model that `attach` made.

    Raises:
        SpecError: when the folder holds no safetensors, or weights of another shape.
    """
    from safetensors.torch import load_file

    names = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
    path = folder / names.get(method.adapter.kind, "head.safetensors")
    if not path.is_file():
        raise SpecError(
            Problem(
                f"{folder} must hold {path.name}, but does not",
                fix="Adapters are read as safetensors only: save yours again with PEFT's "
                "save_pretrained.",
            )
        )
    weights = load_file(path)
    if method.adapter.kind == "lora":
        from peft import set_peft_model_state_dict

        result = set_peft_model_state_dict(model, weights)
        if result.unexpected_keys or any("lora_" in key for key in result.missing_keys):
            raise SpecError(
                Problem(
                    f"the adapter in {folder} does not fit this base and method: "
                    f"{(result.unexpected_keys or result.missing_keys)[0]} is off",
                    fix="Give the rank and the target modules that it was trained with.",
                )
            )
    elif method.adapter.kind == "full":
        model.load_state_dict(weights, strict=False)  # tied weights are saved once
    else:
        load_trainable(model, weights)
