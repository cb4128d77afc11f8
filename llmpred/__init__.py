"""llmpred: how a fine-tune will score, before you pay for it."""

__version__ = "0.1.0"
