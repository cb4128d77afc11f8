"""FSDP2: a model whose weights, gradients and optimizer state are split among the run's processes.

Every parameter becomes a `DTensor` of which each process holds a slice of the rows. The layers are
put together one at a time, for a pass through them; the rest (embeddings, last norm, head) is one
more such group. So LoRA's few trained weights lie beside frozen ones without more ado.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def shard(
    model: nn.Module, base: PreTrainedModel, device: torch.device, *, offload: bool = False
) -> None:
    """Split the weights of `model` among the processes, in place.

    Args:
        model: `base`, or what a method made of it.
        base: knows what its layers are.
        device: where to compute; weights elsewhere are brought there a layer at a time.
        offload: keep the slices, with gradients and optimizer state, in the CPU's memory.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        OffloadPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    how: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (dist.get_world_size(),)),
        # The root too, or it would stay whole after an evaluation.
        "reshard_after_forward": True,
        "offload_policy": CPUOffloadPolicy(pin_memory=device.type == "cuda")
        if offload
        else OffloadPolicy(),
    }
    layers = set(getattr(base, "_no_split_modules", None) or ())
    for module in [m for m in base.modules() if type(m).__name__ in layers]:
        fully_shard(module, **how)
    fully_shard(model, **how)
    if hasattr(model, "generate"):  # PEFT's would reach past the root, whose weights are split
        register_fsdp_forward_method(model, "generate")


@contextlib.contextmanager
def whole(model: nn.Module, *, write: bool = False) -> Iterator[None]:
    """Have the trained parameters whole in each process, on the CPU, within the body.

    No pass is possible within it.

    Args:
        model: that `shard` split.
        write: what the first process changes about them is kept.
    """
    import torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    held: list[dict[str, Any]] = [module._parameters for module in model.modules()]
    fulls: dict[torch.Tensor, nn.Parameter] = {}
    places: list[tuple[dict[str, Any], str, DTensor]] = []
    for parameters in held:
        for name, shared in parameters.items():
            if isinstance(shared, DTensor) and shared.requires_grad:
                if shared not in fulls:  # tied weights stay one
                    fulls[shared] = torch.nn.Parameter(shared.full_tensor().detach().cpu())
                places.append((parameters, name, shared))
    for parameters, name, shared in places:
        parameters[name] = fulls[shared]
    try:
        yield
    finally:
        for parameters, name, shared in places:
            parameters[name] = shared
    if write:
        with torch.no_grad():
            for _, _, shared in places:
                given = fulls[shared].detach().to(shared.device)
                shared.copy_(distribute_tensor(given, shared.device_mesh, shared.placements))


def save_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Save the optimizer's state, each process its slices."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save

    save(get_optimizer_state_dict(model, optimizer), checkpoint_id=folder)


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Put a state that `save_optimizer` saved back."""
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )
    from torch.distributed.checkpoint.state_dict_loader import load

    state = get_optimizer_state_dict(model, optimizer)
    load(state, checkpoint_id=folder)
    set_optimizer_state_dict(model, optimizer, state)
