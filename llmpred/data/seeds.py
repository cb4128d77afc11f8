"""Random draws that are the same on every machine and under every numpy release.

Only the generator's uniform doubles are used: their stream is fixed by PCG64, while numpy may
change how `choice` or `permutation` consume it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def generator(*path: Any) -> np.random.Generator:
    """Return a generator seeded by SHA-256 of the words of `path`; a prefix is another seed."""
    words = "/".join(repr(word) for word in path)
    seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(seed))


def permutation(rng: np.random.Generator, n: int) -> Indices:
    """Return 0 … n-1 in random order."""
    return np.argsort(rng.random(n), kind="stable").astype(np.int64)


def draw(rng: np.random.Generator, n: int, count: int) -> Indices:
    """Return `count` of 0 … n-1 without replacement, ascending."""
    return np.sort(permutation(rng, n)[:count])


def below(rng: np.random.Generator, n: int) -> int:
    """Return one of 0 … n-1."""
    return int(rng.random() * n)
