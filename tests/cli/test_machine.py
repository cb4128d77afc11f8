from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


def findings(ran: Any) -> dict[str, dict[str, str]]:
    return {finding["what"]: finding for finding in json.loads(ran.out)["findings"]}


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray-tmp"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "no-token"))


def test_a_fit_machine(llmpred: Run, tmp_path: Path):
    ran = llmpred("doctor", "--storage", tmp_path / "store", "--json")
    found = findings(ran)
    assert ran.code == 0, ran.out
    for what in (
        "python",
        "packages",
        "cuda",
        "memory",
        "disk",
        "storage",
        "mlflow",
        "ray",
        "jieba",
    ):
        assert found[what]["state"] in ("ok", "warn"), found[what]
    assert not (tmp_path / "store").exists()
    assert "will be made" in found["storage"]["found"]


def test_a_storage_that_is_a_file_fails(llmpred: Run, tmp_path: Path):
    (tmp_path / "store").write_text("")
    ran = llmpred("doctor", "--storage", tmp_path / "store")
    assert ran.code == 1
    assert "fail storage" in ran.out


def test_bases_to_be_had_are_told_and_a_silent_mlflow_is_a_warning(
    llmpred: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    ran = llmpred("doctor", "--storage", tmp_path, "--json")
    found = findings(ran)
    assert found["mlflow"]["state"] == "warn"
    assert found["bases"]["found"] == "proxy; `llmpred bases add` brings smollm2-135m, minilm"
    assert "secret" not in ran.out


def test_a_cluster_that_will_not_say_whether_it_asks_for_a_token(llmpred: Run, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        note = tmp_path / "ray-tmp" / "ray" / "ray_current_cluster"
        note.parent.mkdir(parents=True)
        note.write_text(f"127.0.0.1:{listening.getsockname()[1]}")
        found = findings(llmpred("doctor", "--storage", tmp_path, "--json"))
        assert found["ray token"]["state"] == "warn"
        assert "cannot be told" in found["ray token"]["found"]
    found = findings(llmpred("doctor", "--storage", tmp_path, "--json"))
    assert "no cluster" in found["ray"]["found"]  # the note of a cluster that is gone


def test_ui_on_a_port_in_use(llmpred: Run, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = llmpred("ui", "--port", port, "--storage", tmp_path)
    assert ran.code == 2
    assert f"{port} says: Address already in use" in ran.err
    assert "another: --port" in ran.err


@pytest.mark.slow
def test_ui_serves_mlflow_on_this_machine(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from llmpred.cli import main; main()", "ui"]
    command += ["--port", str(port), "--storage", str(tmp_path)]
    server = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except (URLError, OSError):
                assert time.monotonic() < deadline, "MLflow did not come up"
                time.sleep(0.5)
    finally:
        server.terminate()
        server.wait(30)


def test_bases_are_listed(llmpred: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--owner--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x")
    rows = {row["name"]: row for row in json.loads(llmpred("bases", "ls", "--json").out)}
    assert not rows["minilm"]["present"]
    assert rows["owner/tiny"]["present"]
    ran = llmpred("bases", "ls")
    assert "llmpred bases add" in ran.out


def test_a_base_that_is_not_known_cannot_be_added(llmpred: Run):
    ran = llmpred("bases", "add", "minilmm")
    assert ran.code == 2
    assert "Did you mean `minilm`?" in ran.err
