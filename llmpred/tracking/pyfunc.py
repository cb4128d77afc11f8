"""A trained meta-model as MLflow loads it: `mlflow.pyfunc.load_model("models:/NAME/1")`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.meta import store
from llmpred.meta.trained import Trained

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.9  # of intervals, unless the parameter `level` says otherwise


class ServedModel:
    """Predicts for data frames."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the columns `mean`, `lower` and `upper`, a row for each of `rows`."""
        import pandas as pd
        import pyarrow as pa

        # MLflow's signature lets clients leave out what they do not know.
        rows = rows.reindex(columns=list(self.trained.schema.columns))
        level = float((params or {}).get("level", LEVEL))
        found = self.trained.predict(pa.Table.from_pandas(rows, preserve_index=False), level)
        return pd.DataFrame({"mean": found.mean, "lower": found.lower, "upper": found.upper})


def _load_pyfunc(path: str) -> ServedModel:
    """Return the model of a folder; MLflow calls this by name."""
    return ServedModel(store.load(Path(path)))
