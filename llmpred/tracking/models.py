"""Trained meta-models in MLflow: figures, plots and the model itself, registered under a name."""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpred.errors import LlmpredError
from llmpred.meta.trained import Trained
from llmpred.redaction import redact
from llmpred.tracking.locations import (
    artifact_folder,
    default_uri,
    quieten,
    settle_environment,
)
from llmpred.tracking.pyfunc import LEVEL, ServedModel

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT = "llmpred-meta"
EXAMPLE = 5  # training rows shown as input example
NEEDED = ("lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy")


@dataclass(frozen=True)
class LoggedModel:
    """Where a model went in MLflow; `uri` is what `mlflow.pyfunc.load_model` takes."""

    run_id: str
    name: str
    version: int
    uri: str


class UnloggedError(LlmpredError):
    """MLflow did not take a model; the folder has it."""


def log_model(
    trained: Trained,
    folder: Path,
    name: str,
    *,
    storage_root: str | Path,
    uri: str | None = None,
) -> LoggedModel:
    """Log a trained model with its figures, plots and table hash, and register it.

    Args:
        trained: the model.
        folder: where `meta.store.save` wrote it, plots in its `plots/`.
        name: registered name; each call makes a new version.
        storage_root: beside which MLflow's database lies unless `MLFLOW_TRACKING_URI` is set.
        uri: where MLflow listens or keeps its database; by default `default_uri(storage_root)`.

    Raises:
        UnloggedError: whatever MLflow says.
    """
    settle_environment()
    quieten()
    import mlflow

    at = uri or default_uri(storage_root)
    try:
        with _tracking_at(at):
            return _log(mlflow, trained, folder, name, at, storage_root)
    except Exception as error:  # MLflow lets through whatever its drivers and plugins raise
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnloggedError(f"MLflow did not take the model: {redact(line)}") from error


@contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    """Point MLflow's global functions at `uri`, and back at what the environment says."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # which also sets the variable; the registry follows
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _log(
    mlflow: Any, trained: Trained, folder: Path, name: str, uri: str, storage_root: str | Path
) -> LoggedModel:
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        served = uri.startswith(("http://", "https://"))
        place = None if served else str(artifact_folder(storage_root) / "meta")
        experiment_id = mlflow.create_experiment(EXPERIMENT, artifact_location=place)
    else:
        experiment_id = experiment.experiment_id
    with mlflow.start_run(experiment_id=experiment_id, run_name=name) as run:
        about = trained.about
        mlflow.set_tags({"mlflow.source.name": "llmpred", "llmpred.target": about["target"]})
        mlflow.log_params(
            {key: about[key] for key in ("source", "target", "rows", "groups", "table_sha256")}
            | {"group": ", ".join(about["group"]), "features": len(trained.schema.columns)}
        )
        mlflow.log_metrics(figures(about))
        if (folder / "plots").is_dir():
            mlflow.log_artifacts(str(folder / "plots"), "plots")
        example = _example(trained)
        made = mlflow.pyfunc.log_model(
            name="model",
            loader_module="llmpred.tracking.pyfunc",
            data_path=str(folder),
            signature=_signature(trained, ServedModel(trained).predict(example)),
            input_example=example,
            registered_model_name=name,
            pip_requirements=[
                "llmpred",
                *(f"{each}=={importlib.metadata.version(each)}" for each in NEEDED),
            ],
        )
    version = int(made.registered_model_version)
    return LoggedModel(run.info.run_id, name, version, f"models:/{name}/{version}")


def figures(about: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a model as MLflow's metrics: `group/rmse`, `group/ridge/rmse`, …."""
    found: dict[str, float | None] = {}
    for split, predictors in about["benchmark"]["splits"].items():
        for predictor, scores in predictors.items():
            prefix = split if predictor == "llmpred" else f"{split}/{predictor}"
            found |= {f"{prefix}/{figure}": value for figure, value in scores.items()}
    found["noise_floor"] = about["benchmark"]["noise_floor"]
    return {
        key: float(value)
        for key, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _example(trained: Trained) -> pd.DataFrame:
    import pandas as pd

    features = trained.sample.features
    return pd.DataFrame({name: features[name][:EXAMPLE] for name in trained.schema.columns})


def _signature(trained: Trained, predicted: pd.DataFrame) -> Any:
    """Return the signature; any cell may be empty, which counts as unknown."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    kinds = dict.fromkeys(trained.schema.numbers, "double")
    kinds |= dict.fromkeys(trained.schema.texts, "string")
    return ModelSignature(
        Schema([ColSpec(kind, name, required=False) for name, kind in kinds.items()]),
        Schema([ColSpec("double", name) for name in predicted.columns]),
        ParamSchema([ParamSpec("level", "double", LEVEL)]),
    )
