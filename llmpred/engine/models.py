"""Loaded bases, kept between runs of one process, and how a batch goes through them."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from llmpred.bases.load import load_model, load_tokenizer
from llmpred.bases.locate import Located, locate
from llmpred.bases.resolve import ResolvedSpec
from llmpred.engine import semantics
from llmpred.errors import BaseError, LlmpredError, Problem, SpecError
from llmpred.spec.run import RunSpec
from llmpred.tasks.numeric.numbers import NUM

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Item = TypeVar("Item")
Result = TypeVar("Result")

M_MMAP_THRESHOLD = -3  # as malloc.h has it
MAPPED = 2**20


class Interrupted(LlmpredError):  # noqa: N818  (it did as it was asked)
    """A run was asked to stop; what it has done stays for the next time."""


class OutOfMemory(LlmpredError):  # noqa: N818  (a state of the machine, no mistake)
    """The device's memory does not hold one example."""


@dataclass(frozen=True)
class LoadedBase:
    """A base in memory, as loaded: nothing attached."""

    located: Located
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    device: torch.device


class LoadedBases:
    """Keeps the base that was last used, one at a time: a worker loads it once for many runs."""

    def __init__(self) -> None:
        self._identity: tuple[Any, ...] | None = None
        self._loaded: LoadedBase | None = None

    def get(
        self, resolved: ResolvedSpec, classes: int | None, *, split: bool = False
    ) -> LoadedBase:
        """Return the base of a run, with a classification head of `classes` outputs if given.

        Args:
            resolved: the run.
            classes: outputs of a classification head; None for the language-model head.
            split: training will split it among processes (`parallel.split`), so that it need not
                fit on the device.

        Raises:
            BaseError: when its files are no longer those that were resolved.
        """
        spec = resolved.spec
        device = pick_device(spec.execution.device)
        dtype = _dtype(spec)
        identity = (
            resolved.hashes["weights"],
            spec.base.quantization,
            dtype,
            classes,
            device,
            split,
            spec.method.reads_numbers,
        )
        if self._loaded is None or self._identity != identity:
            self.drop()
            if device.type == "cpu":
                _return_freed_memory()
            located = locate(spec.base)
            if located.weights_hash != resolved.hashes["weights"]:
                law = f"the files of {spec.base.name} are not those that the run was planned with"
                raise BaseError(Problem(law, fix="Collect again: other weights make another run."))
            self._loaded = load_base(located, spec, classes, split=split)
            self._identity = identity
        return self._loaded

    def drop(self) -> None:
        """Forget the base: after a failure, or when a run changed its weights."""
        self._loaded = self._identity = None
        free_memory()


def load_base(
    located: Located, spec: RunSpec, classes: int | None, *, split: bool = False
) -> LoadedBase:
    """Load a base as a run wants it; `classes` and `split` as in `LoadedBases.get`."""
    import torch

    device = pick_device(spec.execution.device)
    numbers = spec.method.reads_numbers
    tokenizer = load_tokenizer(located, numbers=numbers)
    number_token = tokenizer.convert_tokens_to_ids(NUM) if numbers else None
    semantics.seed_everything(0)  # weights that the base lacks are drawn, always the same
    assert isinstance(tokenizer.pad_token_id, int)
    # `parallel.split` brings its share to the device. Quantised weights are made there.
    waits = split and spec.base.quantization == "none"
    model = load_model(
        located,
        classes=classes,
        quantization=spec.base.quantization,
        dtype=_dtype(spec),
        device=torch.device("cpu") if waits else device,
        pad_token_id=tokenizer.pad_token_id,
        number_token=number_token,
    )
    return LoadedBase(located, tokenizer, model, device)


def _dtype(spec: RunSpec) -> torch.dtype:
    """Return what a run's base is loaded in; trained weights are always float32."""
    import torch

    low = spec.optim.precision == "bf16" and spec.method.adapter.kind != "full"
    return torch.bfloat16 if low else torch.float32


def pick_device(wanted: str) -> torch.device:
    """Return the device to run on: CUDA where there is one, unless told otherwise.

    Raises:
        SpecError: when CUDA is asked for and there is none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        law = "execution.device is `cuda`, but torch sees no CUDA device on this machine"
        raise SpecError(Problem(law, "execution.device", "Set it to auto or cpu."))
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _return_freed_memory() -> None:
    """Have glibc return freed blocks of `MAPPED` bytes and more to the system at once.

    By itself it comes to keep what is below 32 MiB, in pieces that later tensors do not fit in: a
    run took up to 1.6 times the memory of its tensors, the more the longer. The price is a tenth of
    the time of runs with such tensors (benchmarks/memory.py).
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED)


def free_memory() -> None:
    """Give memory of dropped models back to the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context that a forward pass runs in: bf16 autocast, or none for fp32."""
    import torch

    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def pad(
    sequences: Sequence[Sequence[int]], value: int, side: str, device: torch.device
) -> torch.Tensor:
    """Stack token ids into [rows, longest], padded on `side` with `value`."""
    import torch

    longest = max(len(s) for s in sequences)
    rows = [
        [value] * (longest - len(s)) + list(s)
        if side == "left"
        else list(s) + [value] * (longest - len(s))
        for s in sequences
    ]
    return torch.tensor(rows, device=device)


def forward(
    model: torch.nn.Module,
    base: LoadedBase,
    sequences: Sequence[Sequence[int]],
    last: int | None,
) -> torch.Tensor:
    """Run sequences of token ids through a model.

    Args:
        model: the base, or what a method made of it.
        base: for the tokenizer's padding and the device.
        sequences: token ids, a row each.
        last: for language-model heads, how many last positions to compute logits for; None for
            classification heads.

    Returns:
        Logits [rows, last, vocabulary], or [rows, classes].
    """
    inputs = padded(base, sequences)
    if last is not None:
        inputs |= {"logits_to_keep": last_positions(last, base.device), "use_cache": False}
    logits: torch.Tensor = model(**inputs).logits
    return logits


def last_positions(positions: int, device: torch.device) -> torch.Tensor:
    """Return what `logits_to_keep` takes for the last positions, so that their states are copied.

    Of a number transformers makes a slice, for which torch copies the head's weights once a row of
    the batch in bf16 on the CPU: 467 MB a row for a vocabulary of 151,936.
    """
    import torch

    return torch.arange(-positions, 0, device=device)


def padded(base: LoadedBase, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return what a model takes: token ids, padded on the tokenizer's side, and what is padding."""
    pad_id = base.tokenizer.pad_token_id
    side = base.tokenizer.padding_side
    assert isinstance(pad_id, int)
    inputs = {
        "input_ids": pad(sequences, pad_id, side, base.device),
        "attention_mask": pad([[1] * len(s) for s in sequences], 0, side, base.device),
    }
    if side == "left":  # positions count from the first real token
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    return inputs


def candidate_scores(
    model: torch.nn.Module,
    base: LoadedBase,
    prompts: Sequence[list[int]],
    candidates: Sequence[Sequence[list[int]]],
    *,
    length_normalization: bool | None,
) -> list[torch.Tensor]:
    """Return the scores of each prompt's candidates, a vector each.

    A score is log p(candidate | prompt), summed over the candidate's tokens, or its mean over them
    with `length_normalization`. Differentiable: evaluation reads it, `loss: candidates` trains on
    it.
    """
    totals = _candidate_logprobs(model, base, prompts, candidates)
    if not length_normalization:
        return totals
    return [
        row / row.new_tensor([len(ids) for ids in those])
        for row, those in zip(totals, candidates, strict=True)
    ]


def _candidate_logprobs(
    model: torch.nn.Module,
    base: LoadedBase,
    prompts: Sequence[list[int]],
    candidates: Sequence[Sequence[list[int]]],
) -> list[torch.Tensor]:
    """Return log p(candidate | prompt), a vector for each prompt.

    A prompt passes the model once, whatever the number of its candidates; they go on from its keys
    and values. Activation checkpointing keeps none, so there each candidate passes with its prompt.
    Of several processes in training, all take as many passes, whatever their candidates.
    """
    import torch

    from llmpred.engine import parallel

    sizes = [len(those) for those in candidates]
    flat = [ids for those in candidates for ids in those]
    owner = [i for i, size in enumerate(sizes) for _ in range(size)]
    several = [n for n, ids in enumerate(flat) if len(ids) > 1]
    if model.training and parallel.size() > 1:
        several = several or [0]  # adds nothing, as it has nothing after its first token
    if several and model.training and base.model.is_activation_checkpointing:
        rows = [(prompts[i], ids) for i, ids in zip(owner, flat, strict=True)]
        return list(torch.split(_apart(model, base, rows), sizes))
    inputs = padded(base, prompts)
    said = model(**inputs, logits_to_keep=last_positions(1, base.device), use_cache=bool(several))
    first = torch.log_softmax(said.logits[:, -1].float(), -1)
    totals = first[owner, [ids[0] for ids in flat]]
    if several:
        of = torch.tensor([owner[n] for n in several], device=base.device)
        said.past_key_values.reorder_cache(of)
        seen = inputs["attention_mask"][of]
        # The last token of a candidate predicts nothing that is asked for.
        ids = pad([flat[n][:-1] or [0] for n in several], 0, "right", base.device)
        real = pad([[1] * (len(flat[n]) - 1) or [0] for n in several], 0, "right", base.device)
        logits = model(
            input_ids=ids,
            attention_mask=torch.cat([seen, real], 1),
            position_ids=seen.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=base.device),
            past_key_values=said.past_key_values,
            use_cache=True,
        ).logits
        places = pad([flat[n][1:] or [0] for n in several], 0, "right", base.device)
        rest = logprobs_at(logits, places).where(real.bool(), 0.0).sum(-1)
        totals = totals.index_add(0, torch.tensor(several, device=base.device), rest)
    return list(torch.split(totals, sizes))


def _apart(
    model: torch.nn.Module, base: LoadedBase, rows: Sequence[tuple[list[int], list[int]]]
) -> torch.Tensor:
    """Return log p(candidate | prompt) of (prompt, candidate) rows, each passing by itself."""
    import torch

    longest = max(len(ids) for _, ids in rows)
    logits = forward(model, base, [[*p, *ids[:-1]] for p, ids in rows], longest)
    places = pad([ids for _, ids in rows], 0, "left", logits.device)
    lengths = torch.tensor([[len(ids)] for _, ids in rows], device=logits.device)
    real = torch.arange(longest, 0, -1, device=logits.device) <= lengths
    return logprobs_at(logits, places).where(real, 0.0).sum(-1)


def logprobs_at(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities [rows, places] of the token `ids` under `logits`."""
    logits = logits.float()
    return logits.gather(-1, ids[:, :, None]).squeeze(-1) - logits.logsumexp(-1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def in_batches(
    items: Sequence[Item],
    size: int,
    run: Callable[[Sequence[Item]], Sequence[Result]],
    stop: Callable[[], str | None] = lambda: None,
    *,
    together: bool = False,
) -> Iterator[Result]:
    """Apply `run` to batches of `items` in order; on out-of-memory halve the batch and go on.

    Where processes pass each batch `together`, one alone cannot take a smaller one.

    Raises:
        Interrupted: when `stop`, asked before each batch, gave a reason.
        OutOfMemory: when a single item, or a batch of several processes, does not fit.
    """
    start = 0
    while start < len(items):
        if reason := stop():
            raise Interrupted(reason)
        try:
            results = run(items[start : start + size])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1 or together:
                many = "one example" if size == 1 else f"{size} examples"
                law = f"memory does not hold {many} in evaluation"
                raise OutOfMemory(law) from error
        else:
            yield from results
            start += size
            continue
        size = size // 2
        free_memory()  # here the exception no longer holds the tensors of the failed pass
