"""Perturbations of texts: changes after which a classifier should answer as before.

All but `negation` keep the label. Each is a pure function of the text, the strength and a generator
that is seeded by (seed, kind, strength, text): a text is perturbed in the same way in any order and
any company.
"""

from __future__ import annotations

from llmpred.data.text import Language
from llmpred.errors import InputError, Problem, nearest
from llmpred.evaluation.perturbations.base import Perturbation, Place, generator
from llmpred.evaluation.perturbations.casing import CASING
from llmpred.evaluation.perturbations.emoji import EMOJI
from llmpred.evaluation.perturbations.filler import FILLER
from llmpred.evaluation.perturbations.negation import NEGATION
from llmpred.evaluation.perturbations.punctuation import PUNCTUATION_CHANGE
from llmpred.evaluation.perturbations.script import SCRIPT
from llmpred.evaluation.perturbations.synonyms import SYNONYM_REPLACE
from llmpred.evaluation.perturbations.typos import TYPO_INSERTION
from llmpred.evaluation.perturbations.whitespace import WHITESPACE
from llmpred.evaluation.perturbations.width import WIDTH

__all__ = ["PERTURBATIONS", "STRENGTHS", "Perturbation", "Place", "get", "kinds_of", "perturb"]

PERTURBATIONS: dict[str, Perturbation] = {
    perturbation.name: perturbation
    for perturbation in (
        SYNONYM_REPLACE,
        TYPO_INSERTION,
        PUNCTUATION_CHANGE,
        CASING,
        WIDTH,
        SCRIPT,
        EMOJI,
        WHITESPACE,
        FILLER,
        NEGATION,
    )
}
STRENGTHS = (0.1, 0.3, 0.5)


def kinds_of(language: Language) -> tuple[str, ...]:
    """Return the names of the perturbations for texts of a language."""
    return tuple(n for n, found in PERTURBATIONS.items() if language in found.languages)


def get(kind: str) -> Perturbation:
    """Return the perturbation of that name.

    Raises:
        InputError: if there is none.
    """
    if kind not in PERTURBATIONS:
        law = f"a perturbation must be a registered one, but got {kind!r}"
        raise InputError(Problem(law, "kinds", nearest(kind, [*PERTURBATIONS])))
    return PERTURBATIONS[kind]


def perturb(text: str, kind: str, strength: float, *, seed: int = 0) -> str | None:
    """Return the text perturbed.

    Args:
        text: in any language; each of its words is treated as what it is.
        kind: name of a perturbation.
        strength: share of the places that can change which do, in (0, 1].
        seed: another one chooses other places, and other changes.

    Returns:
        The text itself where nothing can change; None where `negation` has no sure rule.

    Raises:
        InputError: for an unknown kind or a strength outside (0, 1].
    """
    perturbation = get(kind)
    if not 0 < strength <= 1:
        law = f"a strength must be above 0 and at most 1, but got {strength!r}"
        raise InputError(Problem(law, "strengths", "Give the share of places that shall change."))
    return perturbation.fn(text, strength, generator(seed, kind, strength, text))
