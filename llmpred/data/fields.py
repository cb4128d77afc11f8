"""What a task's examples consist of: the contract between readers, recipes and tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# A mapped row: field name -> JSON value (str, int, list of str). Every value has a canonical form.
Example = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One field of a task's examples.

    Attributes:
        name: the field's name, used in prompts, column mappings and messages.
        kind: `text`; `texts`, a list of strings; `label`, a string or integer kept as a string;
            `index`, an integer; `number`, a finite one.
        role: `input` is what the model reads, `target` what it must produce, `id` names the row.
        required: whether a row without it is bad.
        aliases: column names taken for this field when no mapping is given, most telling first.
    """

    name: str
    kind: Literal["text", "texts", "label", "index", "number"]
    role: Literal["input", "target", "id"]
    required: bool = True
    aliases: tuple[str, ...] = ()
