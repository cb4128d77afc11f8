"""Data: read sources into tables of examples, change them by recipes, name them by content."""

from llmpred.data.content import content_hash, holdout, sample, split_validation
from llmpred.data.duplicates import DuplicateStats, duplicates
from llmpred.data.fields import Example, Field
from llmpred.data.recipes import apply_recipe
from llmpred.data.sources import Loaded, load
from llmpred.data.text import characters, language, words

__all__ = [
    "DuplicateStats",
    "Example",
    "Field",
    "Loaded",
    "apply_recipe",
    "characters",
    "content_hash",
    "duplicates",
    "holdout",
    "language",
    "load",
    "sample",
    "split_validation",
    "words",
]
