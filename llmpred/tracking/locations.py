"""Where MLflow keeps its database and artifacts, and how it is served."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from llmpred.errors import InputError, Problem
from llmpred.redaction import redact

# MLflow retries for minutes by default; a sweep would stand still meanwhile. What the user set
# stays.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
}


def settle_environment() -> None:
    """Put the settings that the user left open into this process's environment."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def quieten() -> None:
    """Keep MLflow's talk about its own steps off the screen, unless the user asked for it."""
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


def local_folder(storage_root: str | Path) -> Path:
    """Return the folder of the storage if it is local, the user's data folder if it is a bucket."""
    root = str(storage_root).removeprefix("file://")
    if "://" in root:
        return Path("~/.local/share/llmpred").expanduser()
    return Path(root).expanduser().absolute()


def default_uri(storage_root: str | Path) -> str:
    """Return `MLFLOW_TRACKING_URI` if set, else the sqlite database beside the ledger."""
    database = local_folder(storage_root) / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database.as_posix()}"


def artifact_folder(storage_root: str | Path) -> Path:
    """Return where artifacts go when no server decides."""
    return local_folder(storage_root) / "mlartifacts"


def ui(storage_root: str | Path, port: int = 5000) -> list[str]:
    """Return the command that serves MLflow on this machine alone; also settles its environment,
    which is where the command finds the database.

    Raises:
        InputError: if `MLFLOW_TRACKING_URI` names a server: there is one already.
    """
    uri = default_uri(storage_root)
    if re.match(r"https?://", uri):
        raise InputError(
            Problem(
                f"MLflow is already served at {redact(uri)}, so there is nothing to start",
                "MLFLOW_TRACKING_URI",
                "Open that address in a browser, or unset the variable to see the local runs.",
            )
        )
    settle_environment()
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # a command line with a password can be read
    local_folder(storage_root).mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", str(artifact_folder(storage_root))),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]
