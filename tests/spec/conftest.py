from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """\
name: small
samples: 3
task: {name: sentiment}
datasets:
  - {name: a, source: a.tsv, recipe: [{label_noise: {share: {uniform: [0, 0.5]}}}]}
bases: [base-one]
methods:
  - head: label_scoring
    adapter:
      kind: lora
      r: {choice: [4, 8]}
      alpha: {times: [method.adapter.r, {choice: [2, 4]}]}
optim:
  lr: {loguniform: [1e-5, 1e-3]}
  max_steps: {randint: [10, 30]}
  batch_size: {quniform: [8, 32, 8]}
evaluation: {data: {source: e.tsv}}
"""


@pytest.fixture
def small() -> str:
    """A small space with every kind of real and integer distribution."""
    return SPACE


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file and return its path; without text, the small space."""

    def write(text: str | bytes = SPACE, name: str = "space.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
