"""Will a run diverge? A question of its own: what diverged has no score to predict."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpred.meta.table import DIVERGED, Table, diverged, make_table, status_columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LEAST = 5  # so many runs of either kind; fewer say nothing of the next one


def divergence(
    source: pa.Table,
    target: str,
    *,
    group: Sequence[str] = (),
    ignore: Sequence[str] = (),
    log: Sequence[str] = (),
    where: str = "",
) -> tuple[Table, NDArray[np.int64]] | None:
    """Return the runs with 1 as target where they diverged and 0 where not, as `make_table` does.

    None without a status column, or with fewer than `LEAST` runs of either kind.

    Args:
        source: rows of runs.
        target: column that is predicted of runs that end; nothing to predict from.
        group: columns that name a row's group.
        ignore: columns to leave out.
        log: number columns to take as logarithms.
        where: file, for messages.
    """
    import numpy as np
    import pyarrow as pa

    status = status_columns(source)
    ended = diverged(source, status)
    if min(ended.sum(), (~ended).sum()) < LEAST:
        return None
    # What a run scored is known only after it, and so is how it ended.
    known = source.drop_columns(sorted({*status, target, DIVERGED} & set(source.column_names)))
    names = known.column_names
    ignored = [each for each in ignore if each in names or fnmatch.filter(names, each)]
    made = known.append_column(DIVERGED, pa.array(ended.astype(np.float64)))
    return make_table(
        made,
        DIVERGED,
        group=[name for name in group if name in names],
        ignore=ignored,
        log=[name for name in log if name in names],
        where=where,
    )
