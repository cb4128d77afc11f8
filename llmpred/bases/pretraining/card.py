"""Score a pretrained model against n-gram models, and write its card from what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.bases.pretraining.ngram import trigram, unigram
from llmpred.bases.pretraining.packing import one_pass, windows
from llmpred.bases.pretraining.prepare import Prepared
from llmpred.bases.pretraining.tokenizer import token_bytes
from llmpred.bases.pretraining.train import Settings, Step, validate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CARD = "README.md"


@dataclass(frozen=True)
class Score:
    """Losses on the held-out documents of one corpus.

    Attributes:
        name: of the corpus, or `all`.
        tokens: how many were scored: all but the first of each window.
        bytes: of text that these tokens stand for.
        nats: method -> sum of the cross-entropies: `model`, `unigram`, `trigram`.
    """

    name: str
    tokens: int
    bytes: int
    nats: dict[str, float]

    def per_token(self, method: str) -> float:
        """Return the loss in nats a token."""
        return self.nats[method] / self.tokens

    def bits_per_byte(self, method: str) -> float:
        """Return the loss in bits a byte of text, which does not depend on the tokenizer."""
        return self.nats[method] / math.log(2) / self.bytes


def score(model: LlamaForCausalLM, prepared: Prepared, settings: Settings) -> list[Score]:
    """Score model, unigram and trigram on the same held-out tokens; the last row is `all`.

    The n-gram models count one pass over the training documents, weights included.
    """
    packed = prepared.train()
    size = model.config.vocab_size
    stream = one_pass(packed, settings.seed, 0)
    single, triple = unigram(stream, size), trigram(stream, size)
    weigh = np.array(token_bytes(prepared.tokenizer()))
    scores = []
    for name, held_out in prepared.validation().items():
        rows = windows(held_out.ids, settings.length)
        if not len(rows):
            continue
        before = np.pad(rows, ((0, 0), (1, 0)))[:, :-2]  # the second token's history is one token
        targets = rows[:, 1:]
        scores.append(
            Score(
                name,
                targets.size,
                int(weigh[targets].sum()),
                {
                    "model": float(validate(model, held_out.ids, settings.length).sum()),
                    "unigram": float(-single[targets].sum()),
                    "trigram": float(-triple.log_probability(before, rows[:, :-1], targets).sum()),
                },
            )
        )
    return [*scores, _total(scores)]


def _total(scores: Sequence[Score]) -> Score:
    methods = ("model", "unigram", "trigram")
    return Score(
        "all",
        sum(s.tokens for s in scores),
        sum(s.bytes for s in scores),
        {m: sum(s.nats[m] for s in scores) for m in methods},
    )


def write_card(
    folder: Path,
    prepared: Prepared,
    settings: Settings,
    done: Step,
    scores: Sequence[Score],
    about: Mapping[str, str],
) -> None:
    """Write the model card beside the model.

    Args:
        folder: of the model.
        prepared: what it was trained on.
        settings: how.
        done: the last step.
        scores: on held-out documents.
        about: `command`, `hardware`, `workers`, `versions`, as measured by the caller.
    """
    corpora = prepared.facts["corpora"]
    weighed = [corpus["tokens"] * corpus["weight"] for corpus in corpora]
    weights = _count_weights(folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    bits = {method: scores[-1].bits_per_byte(method) for method in scores[-1].nats}
    data = _table(
        ["corpus", "licence", "documents", "held out", "tokens", "weight", "share of training"],
        [
            [
                c["name"],
                c["licence"],
                f"{c['documents']:,}",
                c["held_out"],
                f"{c['tokens']:,}",
                c["weight"],
                f"{100 * w / sum(weighed):.1f} %",
            ]
            for c, w in zip(corpora, weighed, strict=True)
        ],
    )
    losses = _table(
        [
            "held-out documents of",
            "tokens",
            "model",
            "trigram",
            "unigram",
            "model, bits/byte",
        ],
        [
            [
                s.name,
                f"{s.tokens:,}",
                *(f"{s.per_token(m):.3f}" for m in ("model", "trigram", "unigram")),
                f"{s.bits_per_byte('model'):.3f}",
            ]
            for s in scores
        ],
    )
    chosen = ", ".join(f"{k} {v}" for k, v in asdict(settings).items() if v is not None)
    text = f"""---
language: [en, zh]
library_name: transformers
pipeline_tag: text-generation
---

# proxy: a very small bilingual language model

A causal language model of {weights / 1e6:.2f} million weights for English and Chinese (Llama
architecture, tied embeddings, bfloat16, {size / 1e6:.1f} MB with its tokenizer). It exists so that
many fine-tunes can be run in seconds each on a CPU, to learn how data and hyperparameters move the
score of a fine-tune. This card was written by the job that trained it, from what it measured.

## What it is for

Fine-tuning by the hundreds: demos, tests, and ranking datasets or settings by what they do to a
small model. It is a measuring instrument.

**What it is not for:** it does not know facts, cannot hold a conversation, and says nothing
reliable, harmless or unbiased by itself. Use it neither to inform people nor in a product. A
ranking that it gives is evidence about larger models only as far as it was checked against them.

## Data

{data}

One document in 100, chosen by a hash of its content, was held out and never trained on. Documents
that repeat were read once; documents that share a run of words with an evaluation set were left
out. Some of these texts are for research use only, or come without a stated licence; whoever wants
to use the weights for more than research should train them anew on other corpora.

## Training

| | |
|---|---|
| tokens | {done.tokens:,} ({done.tokens / sum(weighed):.1f} passes over the weighted documents) |
| optimizer steps | {done.step:,} |
| time | {done.seconds / 60:.0f} minutes, {done.tokens / done.seconds:,.0f} tokens a second |
| hardware | {about["hardware"]} |
| processes | {about["workers"]} |
| settings | {chosen} |
| versions | {about["versions"]} |

    {about["command"]}

## Validation

Cross-entropy in nats a token; the n-gram models (unigram: counts plus one; trigram: interpolated
Kneser-Ney) counted the same training documents and were scored on the same tokens.

{losses}

Over all, in bits a byte: model {bits["model"]:.3f}, trigram {bits["trigram"]:.3f}, unigram \
{bits["unigram"]:.3f}.
"""
    (folder / CARD).write_text(text, "utf-8")


def _count_weights(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
