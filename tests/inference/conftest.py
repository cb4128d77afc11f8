from __future__ import annotations

from pathlib import Path

import pytest

from tests.quick import quick
from tests.runs import carry_out, run_spec

__all__ = ["quick"]


@pytest.fixture(scope="module")
def trained(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the kept weights of a LoRA run by label scoring."""
    outcome = carry_out(
        run_spec(tiny_causal, optim={"lr": 1e-2}),
        tmp_path_factory.mktemp("trained"),
        keep_adapter=True,
    )
    assert outcome.adapter is not None
    return outcome.adapter
