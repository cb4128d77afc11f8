"""How a classifier's answers hold when texts change and their labels do not.

Accuracy on perturbed texts beside accuracy on the same texts as they were, as TextFlint (Wang et
al., 2021) and CheckList (Ribeiro et al., 2020) report it. Differences are paired: a bootstrap draw
takes an example with both of its answers.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmpred.data.text import Language
from llmpred.errors import InputError, Problem, nearest
from llmpred.evaluation.perturbations import PERTURBATIONS, STRENGTHS, kinds_of, perturb
from llmpred.evaluation.perturbations.negation import NEGATION

# Predicted labels of a batch of texts, or those and how sure each is, in [0, 1].
Answers = Sequence[str] | tuple[Sequence[str], Sequence[float]]
Answer = Callable[[list[str]], Answers]

WORST = 5  # examples shown of each kind and strength


@dataclass(frozen=True)
class _Said:
    """What was answered to a text."""

    label: str
    confidence: float | None


@dataclass(frozen=True)
class _Changed:
    """An example that a perturbation touched: its place among the texts, its new text and label."""

    index: int
    text: str
    target: str


def robustness(
    texts: Sequence[str],
    targets: Sequence[str],
    answer: Answer,
    *,
    language: Language,
    kinds: Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    opposite: Mapping[str, str] | None = None,
    batch_size: int = 256,
    draws: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return how a classifier's accuracy holds under perturbations of its texts.

    Each distinct text is asked about once, however many perturbations lead to it.

    Args:
        texts: [examples].
        targets: [examples], their labels.
        answer: takes up to `batch_size` texts and returns their labels, or a pair of labels and
            confidences in [0, 1].
        language: of the texts; decides which kinds there are.
        kinds: names of perturbations, all of the language's if None; `negation` then only where
            there are two labels.
        strengths: shares of the places that can change which do, each in (0, 1].
        seed: of the perturbations and the bootstrap.
        ids: [examples], names for the examples shown; their numbers if None.
        opposite: label -> the opposite one, for `negation`; if None, two labels are each other's.
        batch_size: texts asked about at once, at most.
        draws: bootstrap samples.
        level: of the intervals.

    Returns:
        What JSON can hold:

        - `n`, `language`, `seed`, `strengths`, `asked` (distinct texts);
        - `original_accuracy`, and `majority_share`: the accuracy of always giving the commonest
          label;
        - `perturbed_accuracy`: mean over label-preserving kinds and strengths of the accuracy over
          all examples, where one that a perturbation could not touch counts as it was;
        - `robustness_score`: perturbed over original accuracy, and its `interval`; None, with the
          `reason`, where the original accuracy is 0 or nothing was changed;
        - `perturbation_tests`: kind -> `about`, `keeps_label`, the figures of a block over all its
          strengths (`n` then counts texts, not examples), and `strengths`: strength -> block.
          `negation` knows no strength and has one block, `all`.

        A block is about the `n` examples that the perturbation touched, a share `changed` of all:
        `accuracy`; `baseline_accuracy` of the same examples unperturbed; `score`, the one over the
        other, with its bootstrap `interval`; `flip_rate`, the share whose answer changed;
        `confidence` and `baseline_confidence`, means, where they were given; `worst`, at most five
        examples that went from right to wrong, those first in which the least was changed. What
        cannot be said is None, and `reason` says why: nothing was changed, or all the baseline was
        wrong.

        Under `negation` the target is the opposite label, but for the baseline. There a classifier
        that reads the negation has a score near 1 and a `flip_rate` near 1, and one that does not
        has both near 0.

    Raises:
        InputError: for lengths that differ, no examples, unknown kinds, kinds of another language,
            strengths outside (0, 1], labels without an opposite where `negation` was asked for, or
            an answer that has not one label for each text.
    """
    opposite = _opposites(targets) if opposite is None else opposite
    chosen = _chosen(texts, targets, ids, language, kinds, strengths, opposite)
    examples = [*zip(texts, targets, strict=True)]
    changes = _changes(examples, chosen, strengths, seed, opposite)
    perturbed = (one.text for found in changes.values() for one in found)
    said = _ask([*dict.fromkeys([*texts, *perturbed])], answer, batch_size)

    names = [str(i) for i in range(len(texts))] if ids is None else [*map(str, ids)]
    tests: dict[str, Any] = {}
    for kind in chosen:
        found = {k[1]: change for k, change in changes.items() if k[0] == kind}
        figures = partial(
            _figures, examples, said, seed=_seed(seed, kind), draws=draws, level=level
        )
        blocks = {
            _shown(kind, strength): {
                **figures(change),
                "changed": len(change) / len(texts),
                "worst": _worst(examples, said, change, names),
            }
            for strength, change in found.items()
        }
        together = figures([one for change in found.values() for one in change])
        perturbation = PERTURBATIONS[kind]
        tests[kind] = {
            "about": perturbation.about,
            "keeps_label": perturbation.keeps_label,
            **together,
            "changed": statistics.fmean(block["changed"] for block in blocks.values()),
            "strengths": blocks,
        }
    keeping = [found for (kind, _), found in changes.items() if PERTURBATIONS[kind].keeps_label]
    return {
        "n": len(texts),
        "language": language,
        "seed": seed,
        "strengths": [float(strength) for strength in strengths],
        "asked": len(said),
        **_summary(examples, said, keeping, seed, draws, level),
        "perturbation_tests": tests,
    }


def _chosen(
    texts: Sequence[str],
    targets: Sequence[str],
    ids: Sequence[str] | None,
    language: Language,
    kinds: Sequence[str] | None,
    strengths: Sequence[float],
    opposite: Mapping[str, str],
) -> list[str]:
    """Return the kinds to take; raise every problem of the arguments at once."""
    problems = []
    if not texts:
        problems.append(Problem("robustness needs at least one text, but got none", "texts"))
    for name, given in (("targets", targets), ("ids", texts if ids is None else ids)):
        if len(given) != len(texts):
            law = f"each text needs one of `{name}`, but there are {len(given)} for {len(texts)}"
            problems.append(Problem(law, name, "Give as many as there are texts."))
    problems += [
        Problem(
            f"a strength must be above 0 and at most 1, but got {strength!r}",
            "strengths",
            "Give the share of places that shall change.",
        )
        for strength in strengths
        if not 0 < strength <= 1
    ]
    if not strengths:
        problems.append(Problem("at least one strength is needed, but got none", "strengths"))
    offered = kinds_of(language)
    for kind in kinds or ():
        if kind not in offered:
            law = f"a perturbation must be one for {language!r}, but got {kind!r}"
            problems.append(Problem(law, "kinds", nearest(kind, offered)))
    without = sorted({target for target in targets if target not in opposite})
    if without and kinds is not None and NEGATION.name in kinds:
        law = f"negation needs the opposite of each label, but has none of {without[0]!r}"
        problems.append(Problem(law, "opposite", "Give `opposite`, or leave negation out."))
    if problems:
        raise InputError(problems)
    asked = offered if kinds is None else dict.fromkeys(kinds)
    return [kind for kind in asked if kind != NEGATION.name or not without]


def _opposites(targets: Sequence[str]) -> dict[str, str]:
    """Return two labels as each other's opposites; more have none."""
    labels = sorted(set(targets))
    return dict(zip(labels, reversed(labels), strict=True)) if len(labels) == 2 else {}


def _changes(
    examples: Sequence[tuple[str, str]],
    kinds: Sequence[str],
    strengths: Sequence[float],
    seed: int,
    opposite: Mapping[str, str],
) -> dict[tuple[str, float], list[_Changed]]:
    """Return the examples that each kind and strength touches, as they are afterwards."""
    found: dict[tuple[str, float], list[_Changed]] = {
        (kind, strength): []
        for kind in kinds
        for strength in (strengths if PERTURBATIONS[kind].keeps_label else (1.0,))
    }
    for index, (text, target) in enumerate(examples):
        for (kind, strength), changed in found.items():
            other = perturb(text, kind, strength, seed=seed)
            if other is not None and other != text:
                keeps = PERTURBATIONS[kind].keeps_label
                changed.append(_Changed(index, other, target if keeps else opposite[target]))
    return found


def _shown(kind: str, strength: float) -> str:
    return f"{strength:g}" if PERTURBATIONS[kind].keeps_label else "all"


def _seed(seed: int, name: str) -> int:
    """Return a seed of the bootstrap that other kinds have no say in."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8])


def _ask(texts: Sequence[str], answer: Answer, batch_size: int) -> dict[str, _Said]:
    said: dict[str, _Said] = {}
    for start in range(0, len(texts), batch_size):
        batch = [*texts[start : start + batch_size]]
        given = answer(batch)
        labels, sure = given if isinstance(given, tuple) else (given, None)
        for name, values in (("label", labels), ("confidence", labels if sure is None else sure)):
            if len(values) != len(batch):
                law = f"an answer needs one {name} a text, but has {len(values)} for {len(batch)}"
                fix = "Return a list of labels, or a pair of lists, in the order of the texts."
                raise InputError(Problem(law, "answer", fix))
        confidences = [None] * len(batch) if sure is None else [float(c) for c in sure]
        for text, label, confidence in zip(batch, labels, confidences, strict=True):
            said[text] = _Said(label, confidence)
    return said


def _figures(
    examples: Sequence[tuple[str, str]],
    said: Mapping[str, _Said],
    changed: Sequence[_Changed],
    *,
    seed: int,
    draws: int,
    level: float,
) -> dict[str, Any]:
    """Return what changed examples say: the figures of a block."""
    before = [said[examples[one.index][0]] for one in changed]
    after = [said[one.text] for one in changed]
    was = [old.label == examples[one.index][1] for one, old in zip(changed, before, strict=True)]
    held = [new.label == one.target for one, new in zip(changed, after, strict=True)]
    right: dict[int, tuple[int, int]] = {}  # by example, whose texts stand and fall together
    for one, new, old in zip(changed, held, was, strict=True):
        sums = right.get(one.index, (0, 0))
        right[one.index] = (sums[0] + new, sums[1] + old)
    score, interval = _score([*right.values()], seed, draws, level)
    figures: dict[str, Any] = {
        "n": len(changed),
        "accuracy": _mean(held),
        "baseline_accuracy": _mean(was),
        "score": score,
        "interval": interval,
        "flip_rate": _mean(
            [old.label != new.label for old, new in zip(before, after, strict=True)]
        ),
    }
    if any(one.confidence is not None for one in said.values()):
        figures["confidence"] = _mean([s.confidence for s in after if s.confidence is not None])
        figures["baseline_confidence"] = _mean(
            [s.confidence for s in before if s.confidence is not None]
        )
    if not changed:
        figures["reason"] = "no text has a place for this change"
    elif score is None:
        figures["reason"] = "no unperturbed text was answered right"
    return figures


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _score(
    right: Sequence[tuple[int, int]], seed: int, draws: int, level: float
) -> tuple[float | None, list[float] | None]:
    """Return right answers after over right answers before, with its percentile interval.

    Args:
        right: [examples], how many of its answers are right after and before.
        seed: of the bootstrap over examples (Efron & Tibshirani, 1993, ch. 13).
        draws: samples; one without a right answer before has no ratio and is left out.
        level: of the interval.
    """
    import numpy as np

    total = sum(before for _, before in right)
    if not total:
        return None, None
    # Examples with the same counts are alike: to draw examples is to draw how many are of a sort.
    sorts = Counter(right)
    sizes = np.array([*sorts.values()])
    drawn = np.random.default_rng(seed).multinomial(len(right), sizes / len(right), draws)
    after, before = (drawn @ np.array([*sorts], dtype=float)).T
    some = before > 0
    ends = np.quantile(after[some] / before[some], [(1 - level) / 2, (1 + level) / 2])
    return sum(after for after, _ in right) / total, [float(end) for end in ends]


def _worst(
    examples: Sequence[tuple[str, str]],
    said: Mapping[str, _Said],
    changed: Sequence[_Changed],
    names: Sequence[str],
) -> list[dict[str, str]]:
    """Return examples that went from right to wrong, those first in which the least was changed."""
    lost = []
    for one in changed:
        text, target = examples[one.index]
        before, after = said[text].label, said[one.text].label
        if before == target and after != one.target:
            old, new = Counter(text), Counter(one.text)
            row = (names[one.index], text, one.text, one.target, before, after)
            lost.append((((old - new) | (new - old)).total(), one.index, row))
    keys = ("id", "original", "perturbed", "target", "before", "after")
    return [dict(zip(keys, row, strict=True)) for *_, row in sorted(lost)[:WORST]]


def _summary(
    examples: Sequence[tuple[str, str]],
    said: Mapping[str, _Said],
    keeping: Sequence[Sequence[_Changed]],
    seed: int,
    draws: int,
    level: float,
) -> dict[str, Any]:
    """Return the figures over all examples and all label-preserving kinds and strengths."""
    right = [said[text].label == target for text, target in examples]
    commonest = max(Counter(target for _, target in examples).values())
    summary: dict[str, Any] = {
        "original_accuracy": _mean(right),
        "majority_share": commonest / len(examples),
        "perturbed_accuracy": None,
        "robustness_score": None,
        "interval": None,
    }
    if not any(keeping):
        return {**summary, "reason": "no label-preserving kind changed a text"}
    held = [len(keeping) * answer for answer in right]
    for one in (one for changed in keeping for one in changed):
        held[one.index] += (said[one.text].label == one.target) - right[one.index]
    summary["perturbed_accuracy"] = sum(held) / (len(keeping) * len(examples))
    pairs = [(h, len(keeping) * answer) for h, answer in zip(held, right, strict=True)]
    score, interval = _score(pairs, _seed(seed, "all"), draws, level)
    if score is None:
        return {**summary, "reason": "no unperturbed text was answered right"}
    return {**summary, "robustness_score": score, "interval": interval}
