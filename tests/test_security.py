"""What ARCHITECTURE.md says of trust, tried out: hostile data, hostile names, secrets, open ports.

Refusals that have a test beside their module are not repeated: YAML tags (spec/test_yaml.py), bases
and adapters of pickles alone (test_bad_inputs.py), paths in a storage (ledger/test_storage.py).
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmpred.data.hub import open_folder
from llmpred.engine.imported import adapter_problems
from llmpred.errors import DataError
from llmpred.ledger import safe_name
from llmpred.spec.run import SourceSpec
from llmpred.sweep.orders import sweep_id
from tests import services
from tests.conftest import ROOT
from tests.runs import run_spec
from tests.sweep.conftest import Sweep
from tests.sweep.conftest import sweep as sweep

MAIN = "from llmpred.cli import main; main()"
LOOPBACK = {"127.0.0.1", "::1"}


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


# --- data and adapters with something inside ---------------------------------------------------

ROWS = "text,label\nfine,1\ndull,0\n"


def saved(folder: Path, **changes: Any) -> None:
    """Save a small dataset as `datasets` does, and change its metadata."""
    import datasets

    datasets.Dataset.from_list([{"text": "fine"}]).save_to_disk(folder)
    for name, values in changes.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


def names_another_file(folder: Path) -> None:
    saved(folder.parent / "other")
    saved(folder, state={"_data_files": [{"filename": "../other/data-00000-of-00001.arrow"}]})


def names_another_folder(folder: Path) -> None:
    (folder / "dataset_dict.json").write_text('{"splits": ["../../other"]}')


def names_data_elsewhere(folder: Path) -> None:
    (folder.parent / "private.csv").write_text(ROWS)
    (folder / "train.csv").write_text(ROWS)
    metadata = "configs:\n- config_name: default\n  data_files: ../private.csv\n"
    (folder / "README.md").write_text(f"---\n{metadata}---\n")


def has_a_tag(folder: Path) -> None:
    touch = f"!!python/object/apply:os.system ['touch {folder.parent}/planted']"
    (folder / "README.md").write_text(f"---\nconfigs: {touch}\n---\n")
    (folder / "train.csv").write_text(ROWS)


def has_a_script(folder: Path) -> None:
    (folder / f"{folder.name}.py").write_text(f"open({str(folder.parent / 'planted')!r}, 'w')")
    (folder / "train.csv").write_text(ROWS)


def has_no_state(folder: Path) -> None:
    saved(folder)
    (folder / "state.json").write_text("[]")


def has_another_type(folder: Path) -> None:
    saved(folder, dataset_info={"features": {"text": {"_type": "os.system"}}})


def has_torch_weights(folder: Path) -> None:
    (folder / "train.csv").write_text(ROWS)
    with zipfile.ZipFile(folder / "extra.bin", "w") as archive:  # as torch.save writes
        archive.writestr("archive/data.pkl", pickle.dumps(Planted(folder.parent / "planted")))


def has_objects(folder: Path) -> None:
    import numpy as np

    (folder / "train.csv").write_text(ROWS)
    np.save(folder / "rows.npy", np.array([Planted(folder.parent / "planted")]), allow_pickle=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (names_another_file, "must name files of its own folder"),
        (names_another_folder, "must name files of its own folder"),
        (names_data_elsewhere, r"its README names .*private\.csv"),
        (has_a_tag, "could not determine a constructor"),
        (has_a_script, "scripts are no longer supported"),
        (has_no_state, "as `datasets` saves it"),
        (has_another_type, "'os.system' not found"),
        (has_torch_weights, r"no pickles.*extra\.bin"),
        (has_objects, r"no pickles.*rows\.npy"),
    ],
)
def test_a_hostile_data_folder_is_refused(
    make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError, match=said):
        list(open_folder(SourceSpec(source=str(folder)), folder)[1]()[0])
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("name", ["d.pkl", "d.pickle", "d.npy", "d.pt", "d.joblib", "d.pkl.gz"])
def test_a_pickle_is_no_data(name: str, llmpred: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Planted(tmp_path / "planted")))
    for options in ([], ["--format", "csv"]):
        ran = llmpred("data", "check", tmp_path / name, "--task", "sentiment", *options)
        assert ran.code == 2, ran.out
        assert "Traceback" not in ran.err
    assert not (tmp_path / "planted").exists()


NAMED = ["adapter_model.bin", "optimizer.pickle", "inner/rng_state.PTH", "unnamed"]


@pytest.mark.parametrize("name", NAMED)
def test_an_adapter_with_a_pickle_beside_its_weights_is_refused(name: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    save_file({}, tmp_path / "adapter_model.safetensors")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\x80\x04")
    [problem] = adapter_problems(tmp_path, run_spec("tiny"))
    assert Path(name).name in problem.law
    assert "code" in problem.fix


# --- names -------------------------------------------------------------------------------------

NAMES = (
    "../../etc/x",
    "/etc/passwd",
    "..",
    "a\0b",
    "a\nb",
    "C:\\x",
    "~root",
    "长" * 300,
    "x" * 3000,
    "' OR 1=1 --",
    "%2e%2e%2f",
    "\ud800",
    "",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    for part in (safe_name(name), sweep_id(name)):
        assert re.fullmatch(r"[\w.-]+", part)
        assert part.strip(".")
        assert len(part.encode()) <= 200
    assert len({safe_name(each) for each in NAMES}) == len(NAMES)


@pytest.mark.slow
def test_names_of_a_sweep_lead_nowhere(sweep: Sweep, tmp_path: Path) -> None:
    hostile = "../../../outside/'\0 " + "长" * 300
    sweep.space |= {"name": hostile, "seeds": [0]}
    sweep.space["optim"] |= {"lr": 1e-3, "max_steps": 2}
    sweep.space["datasets"][0]["name"] = hostile
    before = {path.name for path in tmp_path.iterdir()}
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert "not logged" not in done.stderr
    assert len(sweep.records()) == 1
    assert {path.name for path in tmp_path.iterdir()} - before == {"storage"}
    assert not (sweep.folder / "outside").exists()
    known = {"records", "predictions", "claims", "mlflow.db", "mlartifacts", "sweeps"}
    assert {path.name for path in Path(sweep.storage).iterdir()} - {".tmp"} <= known | {
        "checkpoints",
        "adapters",
    }


# --- secrets -----------------------------------------------------------------------------------

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary/aws+0123456789",
    "HF_TOKEN": "hf_canary0123456789abcdef",
    "SOME_API_KEY": "canary-api-0123456789",
}
PASSWORD = "canary-password-0123456789"

# In a worker, loading this base fails as a careless library might.
CARELESS = """
import os, sys

if "default_worker.py" in " ".join(sys.orig_argv):
    def leak(event, args):
        if event == "open" and "/careless/" in str(args[0]):
            raise RuntimeError(
                f"no answer from {os.environ['MLFLOW_TRACKING_URI']}\\n{dict(os.environ)}"
            )

    sys.addaudithook(leak)
"""


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("server", ["lives", "is dead"])
def test_no_secret_is_kept_logged_or_told(
    sweep: Sweep,
    server: str,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyarrow.parquet as parquet

    from tests.sweep import conftest, test_faults

    monkeypatch.setattr(conftest, "WATCH", conftest.WATCH + CARELESS)
    test_faults._copy_with_other_weights(tiny_encoder, sweep.folder / "careless")
    sweep.space["bases"] = [str(tiny_encoder), str(sweep.folder / "careless")]
    sweep.space["optim"] |= {"lr": 1e-3, "max_steps": 2}
    sweep.space["seeds"] = [0]
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    place = tmp_path / "mlflow"
    with services.mlflow_server(f"sqlite:///{tmp_path}/tracking.db", place) as mlflow:
        uri = mlflow.uri.replace("://", f"://me:{PASSWORD}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        if server == "is dead":
            mlflow.kill()
        done = sweep.run()
        said = [done.stdout, done.stderr]
        for command in ("doctor", "ledger ls --attempts", "ledger sync-mlflow --json"):
            ran = _command(*command.split(), "--storage", sweep.storage)
            said += [ran.stdout, ran.stderr]
    assert done.returncode == 1
    assert len(sweep.records()) == 1
    assert ("not logged (no answer from http://***@" in done.stderr) == (server == "is dead")
    attempts = sweep.ledger.table(attempts=True).to_pylist()
    [failed] = [row for row in attempts if row["state"] == "attempt"]
    [record] = sweep.ledger.attempts(failed["key"])
    assert "RuntimeError: no answer from http://***@" in (record.error or "")
    assert "'HF_TOKEN': '***'" in (record.error or "")

    for text in said:
        assert not leaks(text.encode()), text
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert not leaks(path.read_bytes()), path
        if path.suffix == ".parquet":  # compressed
            assert not leaks(str(parquet.read_table(path).to_pylist()).encode()), path


def leaks(content: bytes) -> list[str]:
    return [value for value in (*SECRETS.values(), PASSWORD) if value.encode() in content]


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- ports -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.cluster
def test_ui_listens_on_this_machine_alone_and_shows_no_password(tmp_path: Path) -> None:
    port = services.free_port()
    options = ["ui", "--json", "--port", str(port), "--storage", str(tmp_path)]
    with _postgres() as database, (tmp_path / "out").open("w") as out:
        ui = subprocess.Popen(
            [sys.executable, "-c", MAIN, *options],
            env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": database.uri},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 180
            while not services.answers(f"http://127.0.0.1:{port}/health"):
                late = ui.poll() is not None or time.monotonic() > deadline
                assert not late, (tmp_path / "out").read_text()
                time.sleep(0.3)
            process = psutil.Process(ui.pid)
            family = [process, *process.children(recursive=True)]
            assert services.listening(process)
            assert {address for address, _ in services.listening(process)} <= LOOPBACK
            commands = [" ".join(each.cmdline()) for each in family if each.is_running()]
            assert not [command for command in commands if database.password in command]
            assert database.password not in (tmp_path / "out").read_text()
        finally:
            end(ui)


@contextmanager
def _postgres() -> Iterator[services.Postgres]:
    try:
        with services.postgres() as server:
            yield server
    except services.Unavailable as why:
        pytest.skip(str(why))


# A method of each kind of Ray's services that says something or does something.
METHODS = (
    "/ray.rpc.NodeInfoGcsService/CheckAlive",
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
)
PATHS = ("/", "/metrics", "/api/job_agent/jobs/", "/get_or_create_runtime_env")


@pytest.mark.slow
def test_the_ray_of_a_sweep_answers_nobody_without_its_token(sweep: Sweep) -> None:
    sweep.space["optim"]["max_steps"] = 200
    job = sweep.start()
    sweep.wait_for_records(1)
    ports = services.listening(psutil.Process(job.pid))
    assert ports
    said = {place: ask(*place) for place in ports}
    assert not [place for place, answers in said.items() if "served" in answers], said
    # Silence would be no proof: the services are there, and refuse. Workers may have come and gone.
    lasting = ports & services.listening(psutil.Process(job.pid))
    assert len(lasting) >= 5
    assert not [place for place in lasting if "refused" not in said[place]], said


def ask(address: str, port: int) -> set[str]:
    """Return how a port answers somebody without a token: `served`, `refused` or neither."""
    import http.client

    import grpc

    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address, address)
    found = set()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method in METHODS:
            try:
                channel.unary_unary(method)(b"", timeout=3)
                found.add("served")
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    found.add("refused")
                elif error.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ):
                    break  # it speaks something else
    for path in PATHS:
        connection = http.client.HTTPConnection(host, port, timeout=3)
        try:
            connection.request("POST" if "create" in path else "GET", path, body=b"{}")
            status = connection.getresponse().status
            found.add("served" if status < 300 else "refused" if status in (401, 403) else "other")
        except (OSError, http.client.HTTPException):
            break
        finally:
            connection.close()
    return found


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("guarded", [False, True])
def test_doctor_asks_the_cluster_whether_it_wants_a_token(guarded: bool, tmp_path: Path) -> None:
    token = "canary0123456789" * 4
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if guarded else {}
    with head(tmp_path, mode) as address:
        for here in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}):
            ran = subprocess.run(
                [sys.executable, "-c", MAIN, "doctor", "--json", "--storage", str(tmp_path)],
                env=_without_ray(tmp_path) | here | {"RAY_ADDRESS": address},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            findings = {found["what"]: found for found in json.loads(ran.stdout)["findings"]}
            assert address in findings["ray"]["found"]
            said = findings.get("ray token", {"state": "ok", "found": ""})
            # What the environment here says of tokens does not hide what the cluster does.
            if not guarded:
                assert said["state"] == "warn"
                assert "is off" in said["found"]
            else:
                assert (said["state"], "none here" in said["found"]) == (
                    ("ok", False) if here else ("warn", True)
                )


def _without_ray(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "HOME": str(home),  # where Ray would look for a token, or leave one
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextmanager
def head(home: Path, mode: dict[str, str]) -> Iterator[str]:
    """Start a Ray head as a person does, with `ray start`, and end what it started."""
    port = services.free_port()
    temporary = f"/tmp/llmpred-ray-{os.getpid()}"  # sockets need a short path
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    command += [f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    command += [f"--temp-dir={temporary}", "--node-ip-address=127.0.0.1"]
    with (home / "ray.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=_without_ray(home) | mode,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (home / "ray.log").read_text():
            late = process.poll() is not None or time.monotonic() > deadline
            assert not late, (home / "ray.log").read_text()
            time.sleep(0.3)
        yield f"127.0.0.1:{port}"
    finally:
        end(process, temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def end(process: subprocess.Popen[Any], marked: str = "") -> None:
    """End a process, its descendants, and those whose command line has the mark."""
    family = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if marked:
        family += [
            each
            for each in psutil.process_iter(["cmdline"])
            if marked in " ".join(each.info["cmdline"] or [])
        ]
    for each in family:
        if each.is_running():
            each.kill()
    psutil.wait_procs(family, timeout=20)
