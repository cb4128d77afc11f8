"""Semantics versions: bump one when the same spec would train or score differently than before.

They are part of the keys, so a bump makes new runs; old rows stay in the table with their version.
Task versions live beside each task (`Task.version`).
"""

ENGINE_VERSION = 1
METHOD_VERSIONS: dict[str, int] = {"lora": 1, "full": 1, "none": 1}
