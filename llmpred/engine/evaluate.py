"""Score a model on an evaluation set: one `Prediction` an example, and the task's metrics.

Label scoring and classification run examples sorted by length, and only the positions that carry a
candidate pass the language-model head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llmpred.data.fields import Example
from llmpred.engine import parallel, semantics
from llmpred.engine.boosted import Boosted, inputs_of
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
from llmpred.tasks.base import Calibration, Prediction, Task, candidate_lengths
from llmpred.tasks.prepare import Examples, Prepared

if TYPE_CHECKING:
    from torch import nn


def predict(
    model: nn.Module,
    base: LoadedBase,
    task: Task,
    spec: RunSpec,
    table: pa.Table,
    stop: Callable[[], str | None] = lambda: None,
    *,
    together: bool = False,
    without_content: Sequence[float] | None = None,
    calibration: Calibration | None = None,
    boosters: Boosted | None = None,
) -> tuple[list[Prediction], int]:
    """Answer every example of `table`.

    With `evaluation.calibration` scores are calibrated; `without_content` saves asking for
    `scores_without_content` again. `calibration` is the task's own, of `calibration_of`;
    `boosters` answer in place of a head.

    Of several processes each answers a share, unless the weights are split among them: then all
    pass every batch `together`.

    Returns:
        The predictions in the table's order, and how many inputs were truncated.

    Raises:
        Interrupted: when `stop`, asked before each batch, gave a reason.
    """
    examples = Examples(table)
    found = answer(
        model,
        base,
        task,
        spec,
        examples,
        stop,
        together=together,
        without_content=without_content,
        calibration=calibration,
        boosters=boosters,
    )
    predictions = []
    for i, (example, each) in enumerate(zip(examples, found, strict=True)):
        candidates = task.candidates(example, spec.task) if each.scores is not None else None
        predictions.append(
            Prediction(
                str(example.get("id", i)),
                task.gold(example, spec.task),
                each.answer,
                scores=each.scores,
                lengths=candidate_lengths(candidates) if candidates else None,
            )
        )
    return predictions, sum(each.truncated for each in found)


@dataclass(frozen=True)
class Answered:
    """What a model answered to one example.

    Attributes:
        answer: as `Prediction.prediction`.
        scores: of each candidate or class, as `Prediction.scores`; None when generated.
        truncated: whether its input lost tokens.
    """

    answer: Any
    scores: tuple[float, ...] | None
    truncated: bool


def answer(
    model: nn.Module,
    base: LoadedBase,
    task: Task,
    spec: RunSpec,
    examples: Sequence[Example],
    stop: Callable[[], str | None] = lambda: None,
    *,
    together: bool = False,
    without_content: Sequence[float] | None = None,
    calibration: Calibration | None = None,
    boosters: Boosted | None = None,
) -> list[Answered]:
    """Answer examples, which need no targets, in their order; all else as `predict` says."""
    if boosters is not None:
        rows, truncated = inputs_of(base, task, spec, examples, stop)
        found = boosters.scores(rows)
        answers = task.answers(examples, spec.task, found, calibration)
        return [Answered(*each) for each in zip(answers, found, truncated, strict=True)]
    encoded = encode(examples, task, spec, base.tokenizer, training=False)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].prompt))
    order = order if together else list(parallel.share(order))
    ordered = [encoded[i] for i in order]
    texts: dict[int, str] = {}
    scores: dict[int, tuple[float, ...]] = {}
    model.eval()
    with parallel.without_gradients(), autocast(spec.optim.precision, base.device):
        if spec.method.head == "causal_lm":
            made = _generate(model, base, spec, ordered, stop, together)
            texts = dict(zip(order, made, strict=True))
        else:
            found = _scorer(spec)(model, base, spec, ordered, stop, together)
            scores = dict(zip(order, found, strict=True))
    if spec.evaluation.calibration is not None and examples:
        if without_content is None:
            without_content = scores_without_content(model, base, task, spec, examples[0])
        scores = {i: _calibrated(row, without_content) for i, row in scores.items()}
    if not together:
        texts, scores = _joined(parallel.gathered(texts)), _joined(parallel.gathered(scores))
    if spec.method.head == "causal_lm":
        return [
            Answered(task.read(texts[i], spec.task), None, e.truncated)
            for i, e in enumerate(encoded)
        ]
    in_order = [scores[i] for i in range(len(encoded))]
    answers = task.answers(examples, spec.task, in_order, calibration)
    cut = [e.truncated for e in encoded]
    return [Answered(*each) for each in zip(answers, in_order, cut, strict=True)]


def calibration_of(
    model: nn.Module,
    base: LoadedBase,
    prepared: Prepared,
    spec: RunSpec,
    stop: Callable[[], str | None] = lambda: None,
    *,
    together: bool = False,
    boosters: Boosted | None = None,
) -> Calibration | None:
    """Return what the task makes of a trained model's scores of rows that it was not trained on.

    Without validation rows it takes the training rows.

    Args:
        model: trained.
        base: that it was trained on.
        prepared: the rows of the run.
        spec: the settled run.
        stop: asked before each batch.
        together: as in `predict`.
        boosters: as in `predict`.
    """
    task = prepared.task
    train = Examples(prepared.train)
    rows = Examples(prepared.validation) if prepared.validation.num_rows else train

    def held_out() -> tuple[Sequence[Example], Sequence[Sequence[float]]]:
        if boosters is not None:
            return rows, boosters.scores(inputs_of(base, task, spec, rows, stop)[0])
        encoded = encode(rows, task, spec, base.tokenizer, training=False)
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].prompt))
        mine = order if together else list(parallel.share(order))
        model.eval()
        with parallel.without_gradients(), autocast(spec.optim.precision, base.device):
            found = _scorer(spec)(model, base, spec, [encoded[i] for i in mine], stop, together)
        scores = dict(zip(mine, found, strict=True))
        if not together:
            scores = _joined(parallel.gathered(scores))
        return rows, [scores[i] for i in range(len(rows))]

    return task.calibrate(spec.task, spec.method.loss, train, held_out)


WITHOUT_CONTENT = ("N/A", "[MASK]", "")  # as Zhao et al., 2021, take them


def scores_without_content(
    model: nn.Module, base: LoadedBase, task: Task, spec: RunSpec, example: Example
) -> tuple[float, ...]:
    """Return the log-probability of each candidate, among them, where the input says nothing.

    The mean probability over `WITHOUT_CONTENT` in place of every input text (contextual
    calibration, Zhao et al., 2021).

    Args:
        model: to ask.
        base: of the model.
        task: whose candidates are the same for every example.
        spec: the settled run.
        example: any; its target is not read.
    """
    import numpy as np
    from scipy.special import log_softmax, logsumexp

    inputs = [f.name for f in task.fields if f.role == "input" and f.kind == "text"]
    empty = [{**example, **dict.fromkeys(inputs, text)} for text in WITHOUT_CONTENT]
    encoded = encode(empty, task, spec, base.tokenizer, training=False)
    model.eval()
    with parallel.without_gradients(), autocast(spec.optim.precision, base.device):
        scores = _candidate_scores(model, base, spec, encoded, lambda: None, together=True)
    logs = log_softmax(np.array(scores), axis=1)
    return tuple((logsumexp(logs, axis=0) - np.log(len(empty))).tolist())


def _calibrated(scores: Sequence[float], offsets: Sequence[float]) -> tuple[float, ...]:
    return tuple(score - offset for score, offset in zip(scores, offsets, strict=True))


def _joined(shares: Sequence[dict[int, Result]]) -> dict[int, Result]:
    return {i: each for those in shares for i, each in those.items()}


def _scorer(spec: RunSpec) -> Callable[..., list[tuple[float, ...]]]:
    """Return what scores examples by a run's head."""
    own = spec.method.head in ("classifier", "numeric")
    return _head_scores if own else _candidate_scores


def _head_scores(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
    together: bool,
) -> list[tuple[float, ...]]:
    """Return log-probabilities of all classes for each example, or what else a head says.

    A numeric head says log p(<NUM>) after each example, its rank, and the value.
    """

    def run(batch: Sequence[Encoded]) -> Sequence[tuple[float, ...]]:
        if spec.method.reads_numbers:
            from llmpred.engine import numbers

            return numbers.scores(model, base, spec, batch)
        logits = forward(model, base, [e.prompt for e in batch], None)
        return [tuple(row) for row in semantics.head_scores(logits, spec.method.loss).tolist()]

    return list(in_batches(encoded, spec.execution.eval_batch, run, stop, together=together))


def _candidate_scores(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
    together: bool,
) -> list[tuple[float, ...]]:
    """Return the scores of each example's candidates.

    A batch is as many prompts as have `eval_batch` candidates in all.
    """
    if not encoded:  # fewer examples than processes
        return []
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

    return list(in_batches(encoded, size, run, stop, together=together))


def _generate(
    model: nn.Module,
    base: LoadedBase,
    spec: RunSpec,
    encoded: Sequence[Encoded],
    stop: Callable[[], str | None],
    together: bool,
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

    return list(in_batches(encoded, spec.execution.eval_batch, run, stop, together=together))
