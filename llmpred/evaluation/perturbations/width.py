"""Full-width and half-width forms of Latin letters, digits and punctuation (Unicode UAX 11)."""

from __future__ import annotations

import re

from llmpred.evaluation.perturbations.base import Perturbation, Place, one_of

_HALF = "".join(map(chr, range(0x21, 0x7F)))
_FULL = "".join(map(chr, range(0xFF01, 0xFF5F)))
_SWAP = str.maketrans(_HALF + _FULL, _FULL + _HALF)
# A word or number whole, with what stands within it; a sign with its like: `...`.
_RUN = re.compile(
    r"[A-Za-z0-9]+(?:['.,:-][A-Za-z0-9]+)*|[Ａ-Ｚａ-ｚ０-９]+(?:[＇．，：－][Ａ-Ｚａ-ｚ０-９]+)*"
    r"|([!-~！-～])\1*"
)


def _places(text: str) -> list[Place]:
    return [
        Place(*found.span(), one_of(found[0].translate(_SWAP))) for found in _RUN.finditer(text)
    ]


WIDTH = Perturbation(
    "width",
    "Latin words, numbers and punctuation in their full-width form, and full-width ones in their "
    "half-width form. Not marks that have one width only (。、「」), and no spaces.",
    ("en", "zh"),
    _places,
)
