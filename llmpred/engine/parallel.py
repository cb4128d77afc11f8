"""The processes that carry out one run together: who is who, and what they tell each other.

Every process takes the same steps over the same global batches (`semantics.batches`) and a share of
each. A process that is alone is rank 0 of 1 and never communicates. Knows torch.distributed and
DeepSpeed's configuration; who starts the processes is no matter of the engine.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llmpred.engine import sharded
from llmpred.errors import Problem, SpecError
from llmpred.spec.run import DistributedSpec, RunSpec

if TYPE_CHECKING:
    from torch import nn

    from llmpred.engine.models import LoadedBase

Item = TypeVar("Item")


def check(spec: RunSpec) -> None:
    """Check that as many processes carry out the run as it asks for.

    Raises:
        SpecError: when there are more or fewer.
    """
    wanted = spec.execution.distributed.workers if spec.execution.distributed else 1
    if wanted != size():
        law = f"the run asks for {wanted} processes, but {size()} carry it out"
        fix = "Leave execution.distributed out: a sweep starts one process a run."
        raise SpecError(Problem(law, "execution.distributed.workers", fix))


def rank() -> int:
    """Return which of the run's processes this is, from 0."""
    import torch.distributed as dist

    return dist.get_rank() if _together() else 0


def size() -> int:
    """Return how many processes carry out the run."""
    import torch.distributed as dist

    return dist.get_world_size() if _together() else 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    import torch.distributed as dist

    if _together():
        dist.barrier()


def gathered(mine: Item) -> list[Item]:
    """Return what each process gave, by rank; any picklable value."""
    import torch.distributed as dist

    if not _together():
        return [mine]
    found: list[Any] = [None] * size()
    dist.all_gather_object(found, mine)
    return found


def agreed(mine: Item) -> Item:
    """Return what the first process gave, in all of them."""
    import torch.distributed as dist

    if not _together():
        return mine
    given = [mine]
    dist.broadcast_object_list(given, src=0)
    return given[0]


def by_first(call: Callable[[], Item]) -> Item:
    """Have the first process do something; all return what it returned, or raise what it raised."""
    if not _together():
        return call()
    result, error = None, None
    if first():
        try:
            result = call()
        except Exception as raised:
            error = raised
    result, error = agreed((result, error))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this process's share: every n-th item, so that sorted lengths are dealt out evenly."""
    return items[rank() :: size()]


def micro_batches(batch: Sequence[Item], micro_batch: int) -> Iterator[tuple[Sequence[Item], bool]]:
    """Yield this process's micro-batches of a global batch, and whether they count.

    All processes get equally many, since each pass is one that all take part in: one that has run
    out of examples repeats the batch's first, which does not count.
    """
    mine = share(batch)
    for k in range(math.ceil(math.ceil(len(batch) / size()) / micro_batch)):
        micro = mine[k * micro_batch : (k + 1) * micro_batch]
        yield (micro, True) if micro else (batch[:1], False)


def splits_weights(spec: RunSpec) -> bool:
    """Whether no process has the whole model, so that all have to take every pass together."""
    distributed = spec.execution.distributed
    return distributed is not None and distributed.strategy in ("zero3", "fsdp2")


def by_fsdp(spec: RunSpec) -> bool:
    """Whether FSDP2 splits the model (`sharded`)."""
    distributed = spec.execution.distributed
    return distributed is not None and distributed.strategy == "fsdp2"


def split(model: nn.Module, base: LoadedBase, spec: RunSpec) -> None:
    """Split the model among the processes if none has the whole of it, weight by weight.

    So what lies in the CPU's memory until now reaches a GPU as its share only. A quantised base is
    on its device already; DeepSpeed splits it by itself.

    Args:
        model: to train.
        base: that it was made of.
        spec: the settled run.
    """
    distributed = spec.execution.distributed
    if distributed is None or not splits_weights(spec):
        return
    if distributed.strategy == "fsdp2":
        sharded.shard(model, base.model, base.device, offload=distributed.offload == "all")
    elif spec.base.quantization == "none":
        prepare_deepspeed(spec)
        import deepspeed

        deepspeed.zero.Init(module=model, config_dict_or_path=deepspeed_config(spec))
        for module in model.modules():  # buffers have no shares
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(base.device)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Turn gradients off.

    Weights that are put together within `inference_mode` could not be trained afterwards.
    """
    import torch

    with torch.no_grad() if _together() else torch.inference_mode():
        yield


@contextlib.contextmanager
def whole(model: nn.Module, spec: RunSpec, *, write: bool = False) -> Iterator[None]:
    """Have trained parameters that are split among processes whole in each, within the body.

    Args:
        model: that is trained.
        spec: the settled run.
        write: what the first process changes about them is kept.
    """
    if not splits_weights(spec):
        yield
    elif by_fsdp(spec):
        with sharded.whole(model, write=write):
            yield
    else:
        import deepspeed

        trained = [p for p in model.parameters() if p.requires_grad]
        with deepspeed.zero.GatheredParameters(trained, modifier_rank=0 if write else None):
            yield


def deepspeed_config(spec: RunSpec) -> dict[str, Any] | None:
    """Return DeepSpeed's configuration of a run; None if it takes no part in it.

    The optimizer is the reference's own, and what DeepSpeed calls a batch is a micro-batch: the
    engine says itself which one ends a step.
    """
    distributed = spec.execution.distributed
    if distributed is None or distributed.strategy not in ("zero2", "zero3"):
        return None
    zero: dict[str, Any] = {"stage": 2 if distributed.strategy == "zero2" else 3}
    if distributed.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if distributed.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": spec.optim.grad_clip or 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def prepare_deepspeed(spec: RunSpec) -> None:
    """Keep DeepSpeed from what takes long and is not needed.

    accelerate imports it in every process, which takes seconds, to ask whether a model is one of
    its; none is before it was imported. And on the CPU it would compile a collective of its own,
    for minutes and with a compiler that a machine may lack; gloo's does.
    """
    import accelerate.utils.other

    accelerate.utils.other.is_deepspeed_available = lambda: "deepspeed" in sys.modules
    if deepspeed_config(spec) is not None:
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def name(distributed: DistributedSpec | None) -> str:
    """Return what a checkpoint must agree in to be continued: it is split as its run was."""
    return f"{distributed.strategy} on {distributed.workers}" if distributed else "one process"


def _together() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
