"""Score a model on an evaluation set: one `Prediction` an example, and the task's metrics.

Label scoring and classification run examples sorted by length, and only the positions that carry a
candidate pass the language-model head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from llmpred.engine import parallel
from llmpred.engine.encoding import Encoded, encode
from llmpred.engine.models import (
    LoadedBase,
    Result,
    autocast,
    candidate_scores,
    forward,
    in_batches,
    pad,
)
from llmpred.spec.run import RunSpec
from llmpred.tasks.base import Prediction, Task, candidate_lengths
from llmpred.tasks.prepare import Examples

if TYPE_CHECKING:
    from torch import nn


def predict(
    model: nn.Module,
    base: LoadedBase,
    task: Task,
    spec: RunSpec,
    table: pa.Table,
    stop: Callable[[], str | None] = lambda: None,
) -> tuple[list[Prediction], int]:
    """Answer every example of `table`.

    Returns:
        The predictions in the table's order, and how many inputs were truncated.

    Raises:
        Interrupted: when `stop`, asked before each batch, gave a reason.
    """
    examples = Examples(table)
    encoded = encode(examples, task, spec, base.tokenizer, training=False)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].prompt))
    together = parallel.splits_weights(spec)
    order = order if together else list(parallel.share(order))
    ordered = [encoded[i] for i in order]
    answers: dict[int, str] = {}
    scores: dict[int, tuple[float, ...]] = {}
    model.eval()
    with parallel.without_gradients(), autocast(spec.optim.precision, base.device):
        if spec.method.head == "causal_lm":
            texts = _generate(model, base, spec, ordered, stop)
            answers = dict(zip(order, texts, strict=True))
        else:
            scorer = _class_scores if spec.method.head == "classifier" else _candidate_scores
            scores = dict(zip(order, scorer(model, base, spec, ordered, stop), strict=True))
    if not together:
        answers, scores = _joined(parallel.gathered(answers)), _joined(parallel.gathered(scores))
    predictions = []
    for i, example in enumerate(examples):
        identity = str(example.get("id", i))
        gold = task.gold(example, spec.task)
        if spec.method.head == "causal_lm":
            answer = task.read(answers[i], spec.task)
            predictions.append(Prediction(identity, gold, answer))
            continue
        best = max(range(len(scores[i])), key=scores[i].__getitem__)
        candidates = task.candidates(example, spec.task)
        lengths = candidate_lengths(candidates) if candidates else None
        predictions.append(
            Prediction(
                identity,
                gold,
                task.answer(example, spec.task, best),
                scores=scores[i],
                lengths=lengths,
            )
        )
    return predictions, sum(e.truncated for e in encoded)


def _joined(shares: Sequence[dict[int, Result]]) -> dict[int, Result]:
    return {i: each for those in shares for i, each in those.items()}


def _class_scores(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
) -> list[tuple[float, ...]]:
    """Return log-probabilities of all classes for each example."""
    import torch

    def run(batch: Sequence[Encoded]) -> Sequence[tuple[float, ...]]:
        logits = forward(model, base, [e.prompt for e in batch], None)
        return [tuple(row) for row in torch.log_softmax(logits.float(), -1).tolist()]

    return list(in_batches(encoded, spec.execution.eval_batch, run, stop))


def _candidate_scores(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
) -> list[tuple[float, ...]]:
    """Return the scores of each example's candidates.

    A batch is as many prompts as have `eval_batch` candidates in all.
    """
    most = max(len(e.candidates) for e in encoded)
    longest = max(len(ids) for e in encoded for ids in e.candidates)
    size = spec.execution.eval_batch if longest == 1 else max(1, spec.execution.eval_batch // most)

    def run(batch: Sequence[Encoded]) -> Sequence[tuple[float, ...]]:
        scores = candidate_scores(
            model,
            base,
            [e.prompt for e in batch],
            [e.candidates for e in batch],
            length_normalization=spec.method.length_normalization,
        )
        return [tuple(row.tolist()) for row in scores]

    return list(in_batches(encoded, size, run, stop))


def _generate(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
) -> list[str]:
    """Return greedy continuations, the sampling settings that a base may bring left aside."""
    from transformers import GenerationConfig

    tokenizer = base.tokenizer
    assert isinstance(tokenizer.pad_token_id, int)
    pad_id = tokenizer.pad_token_id
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=spec.evaluation.max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
    )

    def run(batch: Sequence[Encoded]) -> Sequence[str]:
        prompts = [e.prompt for e in batch]
        ids = pad(prompts, pad_id, "left", base.device)
        mask = pad([[1] * len(p) for p in prompts], 0, "left", base.device)
        made = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # type: ignore[operator]
        texts: list[str] = tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
        return texts

    return list(in_batches(encoded, spec.execution.eval_batch, run, stop))
