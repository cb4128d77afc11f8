from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from llmpred.ledger import Ledger, RunRecord, Storage
from llmpred.spec.run import RunSpec


def key_of(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()[:32]


def make_spec(lr: float = 2e-4, **changes: Any) -> RunSpec:
    spec: dict[str, Any] = {
        "task": {"name": "sentiment", "labels": {"0": "negative", "1": "positive"}},
        "dataset": {"source": "reviews.jsonl", "recipe": [{"subsample": {"n": 300}}]},
        "base": {"name": "minilm"},
        "method": {"head": "classifier", "adapter": {"r": 8, "alpha": 16}},
        "optim": {"lr": lr, "max_steps": 20},
        "evaluation": {"holdout": 0.2},
    }
    return RunSpec.model_validate(spec | changes)


def make_record(name: object = "a", **changes: Any) -> RunRecord:
    key = key_of(name)
    fields: dict[str, Any] = {
        "key": key,
        "train_key": key_of(f"train {name}"),
        "dataset": "reviews",
        "base": "minilm",
        "spec": make_spec(),
        "hashes": {"train": "t" * 32, "evaluation": "e" * 32},
        "versions": {"task": 1, "engine": 1},
        "status": "ok",
        "accuracy_r": 0.875,
        "metrics": {"accuracy": 0.875, "macro_f1": 0.87},
        "wall_seconds": {"train": 12.5, "total": 15.0},
        "peak_memory_bytes": 1 << 30,
        "tokens": {"train": 1000, "target": 300},
        "counts": {"train": 300, "evaluation": 60},
        "provenance": {"git_commit": "abc", "created": "2026-01-01T00:00:00.000+00:00"},
    }
    return RunRecord(**(fields | changes))


def make_predictions(rows: int = 3) -> pa.Table:
    return pa.table(
        {
            "id": [str(i) for i in range(rows)],
            "target": ["positive"] * rows,
            "prediction": ["positive"] * rows,
            "score": [0.5 + i / 100 for i in range(rows)],
        }
    )


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A local S3 server whose requests run one after another.

    moto checks `If-None-Match` and stores the object in two steps, so its threads could let two
    conditional puts through; real S3 does both at once, and so does a server behind one lock.
    """
    pytest.importorskip("s3fs")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.server import create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with lock:
            return list(app(environ, start_response))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield settings["AWS_ENDPOINT_URL"]
    server.shutdown()
    thread.join()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


_buckets = iter(range(10**6))


@pytest.fixture
def bucket(s3_server: str) -> str:
    import s3fs

    name = f"runs-{next(_buckets)}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    return f"s3://{name}/ledger"


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Any) -> Storage:
    if request.param == "s3":
        return Storage(request.getfixturevalue("bucket"))
    return Storage(tmp_path / "ledger")


@pytest.fixture
def ledger(storage: Storage) -> Ledger:
    return Ledger(storage)
