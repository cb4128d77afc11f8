"""A fixture for tests of tiny models; a folder's conftest imports it."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Tiny models are no work to share, and every run collects garbage among all modules."""
    import peft  # noqa: F401
    import torch
    import transformers.trainer  # noqa: F401

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)
