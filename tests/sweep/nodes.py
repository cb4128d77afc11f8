"""Several Ray nodes on one machine, whose GPUs are only said to be there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def cluster(count: int, **resources: Any) -> Iterator[tuple[str, list[Any]]]:
    """Start a head and further nodes with equal resources; yield the address and the nodes.

    Args:
        count: nodes, the head included.
        resources: of each, such as `num_cpus` and `num_gpus`.
    """
    from ray.cluster_utils import Cluster

    # Without a token: the processes of a test have the same owner, and none outlives it.
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    made = Cluster()
    try:
        nodes = [made.add_node(**resources) for _ in range(count)]
        yield made.address, nodes
    finally:
        made.shutdown()
        if before is None:
            del os.environ["RAY_AUTH_MODE"]
        else:
            os.environ["RAY_AUTH_MODE"] = before
