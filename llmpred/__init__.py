"""llmpred: how a fine-tune will score, before you pay for it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmpred.inference import Answer as Answer
    from llmpred.inference import Predictor as Predictor

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what answers when it is asked for: importing the package takes milliseconds."""
    if name in ("Answer", "Predictor"):
        return getattr(import_module("llmpred.inference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
