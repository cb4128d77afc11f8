"""Where downloaded and derived files live on this machine; safe to delete at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return `$LLMPRED_CACHE`, or `~/.cache/llmpred`."""
    return Path(os.environ.get("LLMPRED_CACHE") or "~/.cache/llmpred").expanduser()
