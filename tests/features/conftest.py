import pytest

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBase, LoadedBases
from tests.features.worlds import world
from tests.quick import quick

__all__ = ["quick"]


@pytest.fixture(scope="session")
def proxy() -> LoadedBase:
    """The base that comes with llmpred, with its language-model head."""
    return LoadedBases().get(resolve(world("sentiment")), None)
