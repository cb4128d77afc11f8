"""What memory a run needs, before it is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple

from llmpred.bases.resolve import ResolvedSpec
from llmpred.spec.run import RunSpec

LIBRARIES = 720_000_000  # Python, torch and the others, as measured after a first step on the CPU
CONTEXT = 500_000_000  # of CUDA; not among what torch has allocated, but on the card
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: codes, scales, scales of these (QLoRA, § 3)
LOSS = 12  # bytes a logit: itself, its log-softmax and its gradient, in float32
ANSWER = 32  # tokens of an answer of which nothing is known
LABEL = 2  # tokens of a label word
NUMERIC = 3072  # weights of a numeric head of the form `pointer`, for each of a state
ATTENTION = ("q", "k", "v", "o")
ALL_LINEAR = (*ATTENTION, "gate", "up", "down")
DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at the moment of its peak, by what takes them.

    Attributes:
        weights: of the base; while it is loaded, its file as well.
        trained: weights that are trained, their gradients and the optimizer's moments.
        activations: kept for the backward pass, and what the layer at work needs.
        logits: of the scored positions, and of their loss.
        process: everything that does not depend on the run.
    """

    weights: int
    trained: int
    activations: int
    logits: int
    process: int = LIBRARIES

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))


class Shape(NamedTuple):
    """What memory depends on in a base's `config.json`; widths in numbers, not in bytes.

    Attributes:
        hidden, inner: widths of the residual stream and inside the MLP.
        heads, keys: widths of all query heads, and of all key (or value) heads, together.
        gated: whether the MLP multiplies two branches (SwiGLU, Shazeer 2020).
        embeddings: their weights and, unless tied, those of the head.
        stored: bytes a weight in the file.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    keys: int
    vocabulary: int
    gated: bool
    embeddings: int
    stored: int


def memory_of(run: ResolvedSpec) -> Memory:
    """Estimate the peak memory of each process of a run, where it would run from here."""
    from llmpred.bases.locate import locate

    device = run.spec.execution.device
    gpu = _has_gpu() if device == "auto" else device == "cuda"
    return estimated(run.spec, run.parameters, locate(run.spec.base).config, gpu=gpu)


def memory_bytes(run: ResolvedSpec) -> int:
    """Estimate the peak memory of each process of a run, in bytes."""
    return memory_of(run).total


def estimated(
    spec: RunSpec, parameters: int, config: Mapping[str, Any], *, gpu: bool = False
) -> Memory:
    """Estimate the peak memory of each process of a run whose sequences fill `task.max_length`.

    The peak is that of three moments: loading, a training step, a batch of the evaluation.

    On the CPU it is the resident memory, files that are mapped included: weights whose type is the
    file's are the mapped file itself, others are a copy of it, made while it is still mapped, and
    NF4 leaves it mapped. On a GPU it is what torch allocates there, and the CUDA context. What is
    trained takes 16 bytes a weight in fp32: itself, its gradient and AdamW's two moments. ZeRO-2
    splits gradients and moments among the processes, ZeRO-3 and FSDP2 the weights as well;
    offloading leaves them to the host (Rajbhandari et al., 2020).

    Args:
        spec: the settled run.
        parameters: of the base.
        config: the base's `config.json`.
        gpu: whether it runs on a CUDA device.
    """
    shape = _shape(config, parameters)
    width = 2 if spec.optim.precision == "bf16" else 4
    full = spec.method.adapter.kind == "full"
    classifies = spec.method.has_head
    process = CONTEXT if gpu else LIBRARIES

    whole = 4 if full else width
    quantised = {"nf4": NF4, "int8": 1.0}.get(spec.base.quantization)
    inside = parameters - shape.embeddings
    weights = inside * (quantised or whole) + shape.embeddings * whole
    file = 0 if gpu else parameters * shape.stored
    if not gpu and whole == shape.stored:  # the weights are the mapped file
        file = inside * shape.stored if quantised else 0
        if classifies:  # nothing reads the table of embeddings but the rows of the texts
            weights -= shape.embeddings * whole
    kept = file if quantised else 0

    trained = _trained(spec, parameters, config)
    state = trained * 12.0  # gradients and two moments; the weights themselves are counted apart
    held = 0.0 if full else trained * 4.0
    if full and width == 2:
        held += parameters * 2.0  # autocast's copies
    working = 0.0
    loading = weights + file
    if (split := spec.execution.distributed) is not None:
        if split.strategy != "ddp":
            state /= split.workers
        if split.strategy in ("zero3", "fsdp2") and spec.trains:  # zero-shot, each has it whole
            working = 2 * inside / shape.layers * whole + shape.embeddings * whole
            weights /= split.workers
            held /= split.workers
            loading = 0.0 if gpu else loading  # a base waits in the host's memory to be split
        if split.offload != "none":
            state = 0.0
        if split.offload == "all":
            weights = 0.0
    weights += kept + working
    if quantised:  # a matrix is made whole for each product
        working = shape.hidden * max(shape.inner, shape.heads) * width

    batch, rows = spec.execution.micro_batch, spec.execution.eval_batch
    length = spec.task.max_length
    answer = LABEL if spec.task.labels else spec.evaluation.max_new_tokens or ANSWER
    generates = spec.method.head == "causal_lm"
    scored = 0 if classifies else batch * min(answer, length // 2)
    transient = length * _at_work(shape, length) * width
    cached = length * 2 * shape.keys * shape.layers * width if generates else 0
    tables = 0.0
    if spec.method.reads_numbers:
        cached = length * shape.hidden * shape.layers * width  # the states of all layers
        if spec.method.adapter.kind == "lora":
            # PEFT puts its row into copies of the table, for the embedding and for the head.
            tables = 2.0 * shape.vocabulary * shape.hidden * whole
    moments = [
        Memory(int(loading), 0, 0, 0, process),
        Memory(
            int(weights),
            int(held),
            int(rows * (transient + cached) + working + tables),
            0 if classifies else rows * shape.vocabulary * LOSS,
            process,
        ),
    ]
    if spec.trains:
        activations = batch * length * _kept(spec, shape, width, gpu) + batch * transient + working
        activations += 2 * tables  # and their gradients
        loss = scored * shape.vocabulary * LOSS
        moments.append(Memory(int(weights), int(state + held), int(activations), loss, process))
    return max(moments, key=lambda moment: moment.total)


def _kept(spec: RunSpec, shape: Shape, width: int, gpu: bool) -> float:
    """Return the bytes that all layers keep of a token for the backward pass.

    As Korthikanti et al. (2022, § 4.1) count them, for what autograd keeps here: a frozen linear
    layer keeps nothing, a norm keeps its input in float32, attention queries, keys, values and
    output (keys and values repeated for all heads, and a mask, where rows are padded), SwiGLU three
    of the inner width. In bf16 each LoRA matrix keeps its own copy of what it reads, which in fp32
    is shared unless dropout comes between, whose mask is kept too: a byte on a GPU, a float32 on
    the CPU. With activation checkpointing a layer keeps its input alone, and one at a time all.
    """
    padded = spec.execution.micro_batch > 1
    attention = (
        4 * shape.heads + spec.task.max_length if padded else 2 * shape.heads + 2 * shape.keys
    )
    mlp = shape.inner * (3 if shape.gated else 1)
    layer = (attention + mlp) * width + 2 * shape.hidden * 4
    adapter = spec.method.adapter
    reads = {"o": shape.heads, "down": shape.inner}
    if adapter.kind == "full":
        layer += (4 * shape.hidden + shape.heads + shape.inner) * width
    elif adapter.kind == "lora":
        targets = _targets(spec)
        copies = [reads.get(name, shape.hidden) for name in targets]
        if width == 4 and not adapter.dropout:
            groups = ({"q", "k", "v"}, {"gate", "up"})
            copies = [shape.hidden for group in groups if group & set(targets)]
            copies += [shape.inner] * ("down" in targets)
        mask = (1 if gpu else 4) if adapter.dropout else 0
        layer += sum(copies) * (width + mask)
    else:
        return 0.0  # a head alone is trained: nothing below it has gradients
    if spec.execution.activation_checkpointing:
        return _layers(spec, shape) * shape.hidden * width + layer
    return _layers(spec, shape) * layer


def _layers(spec: RunSpec, shape: Shape) -> int:
    """Return how many layers gradients pass."""
    return min(spec.method.adapter.last_layers or shape.layers, shape.layers)


def _at_work(shape: Shape, length: int) -> int:
    """Return how many numbers a token the widest part of a layer needs for a while."""
    mlp = shape.inner * (3 if shape.gated else 2) + 3 * shape.hidden
    attention = 6 * shape.heads + 2 * shape.hidden + length
    return max(mlp, attention)


def _trained(spec: RunSpec, parameters: int, config: Mapping[str, Any]) -> int:
    """Return how many weights are trained."""
    adapter = spec.method.adapter
    shape = _shape(config, parameters)
    if adapter.kind == "full":
        if adapter.last_layers is None:
            return parameters
        return (parameters - shape.embeddings) * _layers(spec, shape) // shape.layers
    head = shape.hidden * 8 if spec.method.has_head else 0
    if spec.method.reads_numbers and spec.trains:
        head = shape.hidden * NUMERIC
    if adapter.kind == "none":
        return head
    sides = {
        "q": shape.hidden + shape.heads,
        "k": shape.hidden + shape.keys,
        "v": shape.hidden + shape.keys,
        "o": shape.heads + shape.hidden,
    }
    each = sum(sides.get(name, shape.hidden + shape.inner) for name in _targets(spec))
    return shape.layers * each * adapter.r + head


def _targets(spec: RunSpec) -> tuple[str, ...]:
    """Return which of a layer's matrices have an adapter; names of the user's that tell nothing
    stand for the attention's.
    """
    wanted = spec.method.adapter.target_modules
    if isinstance(wanted, str):
        return ALL_LINEAR if wanted == "all_linear" else ATTENTION
    named = {name.rsplit(".", 1)[-1].removesuffix("_proj") for name in wanted}
    return tuple(name for name in ALL_LINEAR if name in named) or ATTENTION


def _shape(config: Mapping[str, Any], parameters: int) -> Shape:
    hidden = int(config.get("hidden_size") or 768)
    heads = int(config.get("num_attention_heads") or 12)
    size = int(config.get("head_dim") or hidden // heads)
    vocabulary = int(config.get("vocab_size") or 32000)
    causal = "CausalLM" in str(config.get("architectures") or "CausalLM")
    untied = causal and not config.get("tie_word_embeddings")
    return Shape(
        layers=int(config.get("num_hidden_layers") or 12),
        hidden=hidden,
        inner=int(config.get("intermediate_size") or 4 * hidden),
        heads=heads * size,
        keys=int(config.get("num_key_value_heads") or heads) * size,
        vocabulary=vocabulary,
        gated="num_key_value_heads" in config,  # older families have neither
        embeddings=min(vocabulary * hidden * (2 if untied else 1), parameters),
        stored=DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), 4),
    )


@cache
def _has_gpu() -> bool:
    from llmpred.sweep.cluster import this_machine

    return this_machine()[1] is not None
