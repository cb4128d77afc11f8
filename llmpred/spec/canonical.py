"""Canonical JSON and the hashes made of it: the identity of everything that has a key."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

KEY_LENGTH = 32  # hex digits: 128 bits, far beyond any collision among runs


def canonical(value: Any) -> Any:
    """Reduce `value` to what JSON can hold without ambiguity.

    Mappings lose their `None` values, so a field added later with the default `None` changes no
    existing key. Floats that are whole stay floats: types are settled by the spec models.

    Raises:
        TypeError: if a value has no stable identity (an object, a set, NaN, a non-string key).
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} has no canonical form: numbers must be finite")
        return value
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{key!r} has no canonical form: keys must be strings")
        return {k: canonical(v) for k, v in sorted(value.items()) if v is not None}
    raise TypeError(f"a {type(value).__name__} has no canonical form: {value!r}")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8, finite numbers."""
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Return the first 128 bits of the SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_LENGTH]
