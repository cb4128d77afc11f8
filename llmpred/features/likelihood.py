"""How likely the data are under the base that is to learn them, and the meta-features of it.

A row is encoded exactly as a run encodes it for training: rendered prompt, then target. One forward
pass of it gives the likelihood of the output given the input, and of the whole text.

Perplexity is exp of the mean negative log-likelihood (NLL, nats) a token, over all tokens of all
rows of the sample, so long outputs weigh more; spread and tails are of the means a row.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpred.data.content import sample as draw_rows
from llmpred.data.fields import Example
from llmpred.engine.encoding import encode
from llmpred.engine.models import LoadedBase, autocast, forward, in_batches, logprobs_at, pad
from llmpred.errors import DataError, Problem
from llmpred.features.base import Feature
from llmpred.spec.run import RunSpec
from llmpred.tasks.base import Task
from llmpred.tasks.prepare import Examples, Prepared

Vector = npt.NDArray[np.float64]
Ids = tuple[int, ...]

SAMPLE = 128  # rows of each part that are read
TOKENS = 256  # of a row that are read
LOGITS = 2**26  # numbers that a forward pass may give: 256 MB
LOW, HIGH = 10, 90  # percentiles that stand for the tails
NATS = "nats a token"


@dataclass(frozen=True, eq=False)
class Losses:
    """Summed NLL of pieces of text, a row each; rows without tokens are left out.

    Attributes:
        sums: [n] NLL in nats, summed over the tokens of a row.
        counts: [n] tokens of a row, at least 1.
        rows: rows of the data that the n stand for.
    """

    sums: Vector
    counts: Vector
    rows: int

    @property
    def per_token(self) -> float:
        """Mean NLL a token, over all tokens."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def means(self) -> Vector:
        """Mean NLL a token of each row [n]."""
        means: Vector = self.sums / self.counts
        return means

    @property
    def error(self) -> float:
        """Standard error of `per_token` against the value on all rows; NaN for one row.

        That of a ratio of means, corrected for the part of the rows that was drawn (Cochran, 1977,
        section 6.4).
        """
        n = len(self.sums)
        if n < 2:
            return float("nan")
        residuals = self.sums - self.per_token * self.counts
        variance = float((residuals**2).sum()) / (n - 1) / n * (1 - n / self.rows)
        return float(np.sqrt(max(variance, 0.0)) / self.counts.mean())


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What a base thinks of a sample of the data.

    Attributes:
        outputs: of the outputs given their inputs.
        alone: of the same outputs after the prompt with its text fields empty.
        texts: of prompt and output together, all tokens but the first.
        evaluation: of the prompts of evaluation rows, all tokens but the first.
        missing: name of a part that is None -> why.
        cut: share of training rows that were too long to be read whole.
        seconds: that it took.
    """

    outputs: Losses | None
    alone: Losses | None
    texts: Losses | None
    evaluation: Losses | None
    missing: dict[str, str]
    cut: float
    seconds: float


def measure_likelihood(
    prepared: Prepared,
    spec: RunSpec,
    base: LoadedBase,
    *,
    sample: int = SAMPLE,
    tokens: int = TOKENS,
    seed: int = 0,
) -> Likelihoods:
    """Measure the likelihood of a sample of the data under an untouched base.

    A row of more than `tokens` tokens keeps the first ones of its output, at most half of them, and
    of its prompt the first one, which may be the base's start token, and the last ones.

    Args:
        prepared: the data of the run, one that trains.
        spec: the settled run.
        base: of the run, loaded with its language-model head.
        sample: training rows, and evaluation rows, that are drawn at most, without replacement.
        tokens: of a row that are read at most; 2 or more.
        seed: of the draw.

    Returns:
        The likelihoods; of an encoder, or a base loaded with another head, only why there are none.

    Raises:
        DataError: when there are no training rows, or a row cannot be encoded for the run.
        OutOfMemory: when one row does not fit.
    """
    started = time.perf_counter()
    if not prepared.train.num_rows:
        law = "features of training data need training rows, but there are none"
        raise DataError(Problem(law, fix="Describe a run that trains."))
    if reason := _no_language_model(base):
        missing = dict.fromkeys(("outputs", "alone", "texts", "evaluation"), reason)
        return Likelihoods(None, None, None, None, missing, 0.0, time.perf_counter() - started)

    task, tokenizer = prepared.task, base.tokenizer
    examples = list(Examples(draw_rows(prepared.train, sample, seed)))
    asked = list(Examples(draw_rows(prepared.evaluation, sample, seed)))
    encoded = encode(examples, task, spec, tokenizer, training=True)
    rows = [_cut(e.prompt, e.target, tokens) for e in encoded]
    # An output alone still follows the prompt's own words: what is measured is the input's part.
    bare = encode([_emptied(e, task) for e in examples], task, spec, tokenizer, training=True)
    alone = [
        (_cut(e.prompt, list(target), tokens)[0] or _start(base), target)
        for e, (_, target) in zip(bare, rows, strict=True)
    ]
    prompts = encode(asked, task, spec, tokenizer, training=False)

    texts = token_losses([_after_first(p + t) for p, t in rows], spec, base)
    questions = [_after_first(_cut(e.prompt, [], tokens)[0]) for e in prompts]
    readings = {
        "outputs": [v[len(v) - len(t) :] for v, (_, t) in zip(texts, rows, strict=True)],
        "alone": token_losses(alone, spec, base),
        "texts": texts,
        "evaluation": token_losses(questions, spec, base),
    }
    of = dict.fromkeys(readings, prepared.train.num_rows)
    of["evaluation"] = prepared.evaluation.num_rows
    parts = {name: _losses(values, of[name]) for name, values in readings.items()}
    unread = f"the head {spec.method.head} leaves no tokens to be likely or not"
    return Likelihoods(
        **parts,
        missing={name: unread for name, part in parts.items() if part is None},
        cut=statistics.fmean(e.length > tokens for e in encoded),
        seconds=time.perf_counter() - started,
    )


def token_losses(rows: Sequence[tuple[Ids, Ids]], spec: RunSpec, base: LoadedBase) -> list[Vector]:
    """Return the NLL in nats of each token of continuations.

    Args:
        rows: (context, continuation) token ids; a context has at least one, a continuation may have
            none. Equal rows are read once.
        spec: the settled run, for its precision and batches.
        base: with its language-model head.

    Raises:
        OutOfMemory: when one row does not fit.
    """
    import torch

    distinct = sorted({row for row in rows if row[1]}, key=lambda row: (len(row[0] + row[1]), row))
    longest = max((len(ids) for _, ids in distinct), default=1)
    vocabulary = base.model.get_output_embeddings().weight.shape[0]
    size = max(1, min(spec.execution.eval_batch, LOGITS // (longest * vocabulary)))

    def run(batch: Sequence[tuple[Ids, Ids]]) -> Sequence[Vector]:
        longest = max(len(ids) for _, ids in batch)
        with autocast(spec.optim.precision, base.device):
            # The last token predicts nothing that is asked for.
            sequences = [[*context, *ids[:-1]] for context, ids in batch]
            logits = forward(base.model, base, sequences, longest)
        places = pad([ids for _, ids in batch], 0, "left", logits.device)
        found = -logprobs_at(logits, places).double().cpu().numpy()
        return [values[longest - len(ids) :] for values, (_, ids) in zip(found, batch, strict=True)]

    with torch.inference_mode():
        found = dict(zip(distinct, in_batches(distinct, size, run), strict=True))
    return [found[row] if row[1] else np.zeros(0) for row in rows]


def _no_language_model(base: LoadedBase) -> str:
    """Return why the base gives texts no likelihood; empty if it does."""
    if base.located.kind != "causal":
        return f"{base.located.name} is an encoder, which gives texts no likelihood"
    if base.model.get_output_embeddings() is None:
        return f"{base.located.name} was loaded without its language-model head"
    return ""


def _cut(prompt: Sequence[int], target: Sequence[int], tokens: int) -> tuple[Ids, Ids]:
    """Cut a row to `tokens` tokens; see `measure_likelihood`."""
    if len(prompt) + len(target) <= tokens:
        return tuple(prompt), tuple(target)
    target = target[: tokens // 2]
    room = tokens - len(target)
    if len(prompt) > room:
        prompt = [prompt[0], *prompt[len(prompt) - room + 1 :]]
    return tuple(prompt), tuple(target)


def _after_first(ids: Ids) -> tuple[Ids, Ids]:
    """Split token ids into the first, which nothing predicts, and the rest."""
    return ids[:1], ids[1:]


def _emptied(example: Example, task: Task) -> Example:
    """Return the example with nothing in its input fields that are one text."""
    empty = {f.name: "" for f in task.fields if f.role == "input" and f.kind == "text"}
    return {**example, **empty}


def _start(base: LoadedBase) -> Ids:
    """Return the token before a text: what stands for the context of a prompt without words."""
    tokenizer = base.tokenizer
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if not isinstance(start, int):
        law = f"a prompt without words needs a start token, but {base.located.name} has none"
        raise DataError(Problem(law, "task.prompt", "Put words around the fields."))
    return (start,)


def _losses(values: Sequence[Vector], rows: int) -> Losses | None:
    kept = [row for row in values if len(row)]
    if not kept:
        return None
    sums = np.array([row.sum() for row in kept])
    return Losses(sums, np.array([float(len(row)) for row in kept]), rows)


def facts(found: Likelihoods) -> dict[str, float]:
    """Return how the likelihoods were measured, and their sampling errors.

    `log_…_se` is the standard error of the logarithm of a perplexity (a mean NLL a token), against
    its value on all rows; absent for one row.
    """
    made = {"likelihood_seconds": found.seconds, "likelihood_cut_share": found.cut}
    parts = {"output": found.outputs, "text": found.texts, "eval_input": found.evaluation}
    for name, losses in parts.items():
        if losses is None:
            continue
        made[f"{name}_likelihood_rows"] = float(len(losses.sums))
        made[f"{name}_likelihood_tokens"] = float(losses.counts.sum())
        if len(losses.sums) >= 2:
            made[f"log_{name}_perplexity_se"] = losses.error
    return made


# --- features --------------------------------------------------------------------------------


def _part(found: Likelihoods, name: str) -> Losses:
    losses: Losses | None = getattr(found, name)
    if losses is None:
        raise ValueError(found.missing[name])
    return losses


def _perplexity(name: str) -> Callable[[Likelihoods], float]:
    return lambda found: math.exp(_part(found, name).per_token)


def _spread(name: str) -> Callable[[Likelihoods], float]:
    def spread(found: Likelihoods) -> float:
        means = _part(found, name).means
        if len(means) < 2:
            raise ValueError("a spread takes two rows, but there is one")
        return float(means.std(ddof=1))

    return spread


def _tail(name: str, percentile: int) -> Callable[[Likelihoods], float]:
    return lambda found: float(np.percentile(_part(found, name).means, percentile))


def _conditional_gain(found: Likelihoods) -> float:
    return _part(found, "alone").per_token - _part(found, "outputs").per_token


def _feature(
    name: str, fn: Callable[[Likelihoods], float], source: str, unit: str, **more: Any
) -> Feature:
    settled: dict[str, Any] = {"group": "static", "priority": "further", **more}
    return Feature(name=name, unit=unit, cost="forward", version=1, source=source, fn=fn, **settled)


PERPLEXITY = "exp of the mean NLL a token, over all tokens of the sample (Jelinek et al., 1977)"
ROW_MEAN = "of the rows' mean NLL a token"

FEATURES: tuple[Feature, ...] = (
    _feature(
        "output_perplexity",
        _perplexity("outputs"),
        f"{PERPLEXITY}: outputs given their inputs",
        "1",
        priority="strong",
        log=True,
    ),
    _feature(
        "text_perplexity",
        _perplexity("texts"),
        f"{PERPLEXITY}: prompt and output together",
        "1",
        priority="strong",
        log=True,
    ),
    _feature("output_nll_sd", _spread("outputs"), f"sd {ROW_MEAN}: outputs", NATS),
    _feature("output_nll_p10", _tail("outputs", LOW), f"p10 {ROW_MEAN}: outputs", NATS),
    _feature("output_nll_p90", _tail("outputs", HIGH), f"p90 {ROW_MEAN}: outputs", NATS),
    _feature("text_nll_sd", _spread("texts"), f"sd {ROW_MEAN}: whole texts", NATS),
    _feature("text_nll_p10", _tail("texts", LOW), f"p10 {ROW_MEAN}: whole texts", NATS),
    _feature("text_nll_p90", _tail("texts", HIGH), f"p90 {ROW_MEAN}: whole texts", NATS),
    _feature(
        "conditional_gain",
        _conditional_gain,
        "NLL a token of the output after the empty prompt, less that after the input's: pointwise "
        "mutual information given the prompt (Holtzman et al., 2021), the difference of which IFD "
        "is the ratio (Li et al., 2024)",
        NATS,
    ),
    _feature(
        "eval_input_perplexity",
        _perplexity("evaluation"),
        f"{PERPLEXITY}: prompts of the evaluation rows, without their answers",
        "1",
        group="base",
        log=True,
    ),
)
