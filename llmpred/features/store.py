"""Measured features in a storage: `features/<measurement>/<ab>/<key>.json`, written once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

from llmpred.features.base import Values
from llmpred.ledger import Storage


def path_of(measurement: str, key: str) -> str:
    """Return where the values of a measurement are kept."""
    return f"features/{measurement}/{key[:2]}/{key}.json"


def put(storage: Storage, measurement: str, key: str, values: Values) -> None:
    """Keep values; unknown ones are null, since JSON has no NaN."""
    known = {n: v if math.isfinite(v) else None for n, v in values.values.items()}
    facts = {n: v for n, v in values.facts.items() if math.isfinite(v)}
    document = {"values": known, "warnings": values.warnings, "facts": facts}
    storage.write(path_of(measurement, key), json.dumps(document, ensure_ascii=False).encode())


def get_many(
    storage: Storage, wanted: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], Values]:
    """Return what is kept of the (measurement, key) pairs `wanted`; a torn file is not there."""
    paths = {path_of(*each): each for each in wanted}
    found: dict[tuple[str, str], Values] = {}
    for path, content in storage.read_many(list(paths)).items():
        try:
            document = json.loads(content)
            values = {n: math.nan if v is None else float(v) for n, v in document["values"].items()}
            found[paths[path]] = Values(values, document["warnings"], document["facts"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # it is measured again
    return found
