from __future__ import annotations

from typing import Any

import pytest

from llmpred.ledger import Ledger, Storage


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Any) -> Storage:
    if request.param == "s3":
        return Storage(request.getfixturevalue("bucket"))
    return Storage(tmp_path / "ledger")


@pytest.fixture
def ledger(storage: Storage) -> Ledger:
    return Ledger(storage)
