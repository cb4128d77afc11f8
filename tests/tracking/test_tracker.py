import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from llmpred.errors import InputError
from llmpred.tracking import Tracker, default_uri, sync, ui


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "存储 with space"


def logged(tracker_or_uri: str, experiment: str = "llmpred") -> list:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracker_or_uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], max_results=1000))


def children(uri: str) -> dict[str, list]:
    by_key: dict[str, list] = {}
    for run in logged(uri):
        if "llmpred.key" in run.data.tags:
            by_key.setdefault(run.data.tags["llmpred.key"], []).append(run)
    return by_key


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_sweep_is_a_parent_and_its_runs(storage, a_record, tmp_path):
    from mlflow.tracking import MlflowClient

    space = tmp_path / "space.yaml"
    space.write_text("task: sentiment\n")
    adapter = tmp_path / "kept"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")

    tracker = Tracker(storage_root=storage)
    tracker.start_sweep("sentiment-abc", space)
    assert tracker.log_run(a_record(1), adapter) == "logged"
    assert tracker.log_run(a_record(2, status="diverged", accuracy_r=None)) == "logged"
    tracker.end_sweep()
    assert tracker.summary() is None

    client = MlflowClient(tracker.uri)
    [parent] = [r for r in logged(tracker.uri) if "llmpred.sweep" in r.data.tags]
    assert parent.info.status == "FINISHED"
    assert [f.path for f in client.list_artifacts(parent.info.run_id)] == ["space.yaml"]

    [run] = children(tracker.uri)[a_record(1).key]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    expected = {"dataset": "评论 reviews", "base": "minilm", "task": "sentiment", "status": "ok"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.metrics["accuracy_r"] == 0.875
    assert run.data.metrics["eval/macro_f1"] == 0.87
    assert run.data.params["optim.max_steps"] == "20"
    assert run.info.end_time - run.info.start_time == 12_500
    assert run.info.end_time == 1767323045_000
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, 1 / s) for s in range(1, 21)]
    files = client.list_artifacts(run.info.run_id, "adapter")
    assert [f.path for f in files] == ["adapter/adapter_config.json"]
    assert (storage / "mlartifacts").is_dir()


def test_a_run_is_logged_once_however_often_it_is_told(storage, a_record):
    first = Tracker(storage_root=storage)
    first.start_sweep("s")
    assert [first.log_run(a_record(1)), first.log_run(a_record(1))] == ["logged", "already"]

    again = Tracker(storage_root=storage)
    again.start_sweep("s")
    assert again.log_run(a_record(1)) == "already"
    assert again.log_run(a_record(1, revision=1)) == "logged"
    assert again.log_run(a_record(3, status="failed", error="disk full")) == "logged"
    assert again.log_run(a_record(3)) == "logged"  # the retry that came through
    assert len([r for r in logged(again.uri) if "llmpred.sweep" in r.data.tags]) == 1

    everything = [a_record(n) for n in range(6)]
    assert sync(everything, Tracker(storage_root=storage)) == (4, 2, 0)
    assert sync(everything, Tracker(storage_root=storage)) == (0, 6, 0)


def test_sync_brings_adapters_kept_in_the_storage_and_nothing_from_outside(
    storage, a_record, tmp_path
):
    for folder in (storage / "adapters" / "a", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "f").touch()
    tracker = Tracker(storage_root=storage)
    assert tracker.adapter_of(a_record(1, adapter="adapters/a")) == storage / "adapters" / "a"
    assert tracker.adapter_of(a_record(1, adapter="../outside")) is None
    assert tracker.adapter_of(a_record(1, adapter="adapters/gone")) is None
    assert tracker.adapter_of(a_record(1)) is None


def test_a_run_cut_off_while_being_logged_is_completed(storage, a_record, tmp_path):
    records = [a_record(n) for n in range(300)]
    file = tmp_path / "records.json"
    file.write_text(json.dumps([r.model_dump(mode="json") for r in records]))
    code = """
import json, sys
from llmpred.ledger.record import RunRecord
from llmpred.tracking import Tracker
tracker = Tracker(storage_root=sys.argv[1])
tracker.start_sweep("s")
for row in json.load(open(sys.argv[2])):
    tracker.log_run(RunRecord.model_validate(row))
    print(row["key"], flush=True)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(storage), str(file)], stdout=subprocess.PIPE
    )
    for _ in range(3):
        assert driver.stdout.readline()
    time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()

    tracker = Tracker(storage_root=storage)
    before = len(children(tracker.uri))
    assert before < 40
    tracker.start_sweep("s")
    outcomes = [tracker.log_run(r) for r in records[:40]]
    assert set(outcomes) == {"logged", "already"}
    runs = children(tracker.uri)
    assert len(runs) == 40
    assert all(len(r) == 1 and r[0].info.status == "FINISHED" for r in runs.values())
    assert len([r for r in logged(tracker.uri) if "llmpred.sweep" in r.data.tags]) == 1


def test_a_run_whose_adapter_could_not_be_kept_is_completed_later(storage, a_record, tmp_path):
    from mlflow.tracking import MlflowClient

    tracker = Tracker(storage_root=storage)
    assert tracker.log_run(a_record(1), tmp_path / "gone") == "failed"
    assert "gone" in tracker.summary()
    assert tracker.log_run(a_record(1)) == "logged"
    [run] = children(tracker.uri)[a_record(1).key]
    assert run.info.status == "FINISHED"
    history = MlflowClient(tracker.uri).get_metric_history(run.info.run_id, "loss")
    assert len(history) == 20


@pytest.mark.slow
def test_two_drivers_may_start_the_same_sweep_at_once(storage, a_record):
    code = """
import sys
from llmpred.tracking import Tracker
tracker = Tracker(storage_root=sys.argv[1])
sys.stdin.readline()
tracker.start_sweep("s")
print(tracker.summary())
"""
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(storage)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [d.communicate("go\n")[0] for d in drivers] == ["None\n"] * 3
    assert len(logged(default_uri(storage))) == 1


def test_threads_may_log_at_once(storage, a_record):
    tracker = Tracker(storage_root=storage)
    tracker.start_sweep("s")
    # Every run is told twice, by different threads.
    threads = [
        threading.Thread(target=lambda n=n: [tracker.log_run(a_record(i)) for i in range(n, n + 6)])
        for n in range(0, 12, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, children(tracker.uri).values())) == [1] * 15


def test_a_dead_server_costs_seconds_and_is_reported(monkeypatch, storage, a_record):
    import mlflow.tracking  # noqa: F401, its import is not what is timed

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@127.0.0.1:{free_port()}")
    started = time.monotonic()
    tracker = Tracker(storage_root=storage)
    tracker.start_sweep("s")
    assert [tracker.log_run(a_record(n)) for n in range(50)] == ["failed"] * 50
    tracker.end_sweep("KILLED")
    assert time.monotonic() - started < 10
    assert list(tracker.unlogged) == [a_record(n).key for n in range(50)]
    assert "50 of 50 runs were not logged (no answer from http://***@" in tracker.summary()
    assert "llmpred ledger sync-mlflow" in tracker.summary()
    assert "s3cr3t" not in tracker.summary()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    late = Tracker(storage_root=storage)
    assert sync([a_record(n) for n in range(50)], late) == (50, 0, 0)


def test_a_silent_server_is_left_alone(monkeypatch, storage, a_record):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", storage_root=storage)
        started = time.monotonic()
        tracker.start_sweep("s")
        for n in range(30):
            tracker.log_run(a_record(n))
        assert time.monotonic() - started < 10
    assert len(tracker.unlogged) == 30


def test_a_database_lost_on_the_way_is_noticed_and_found_again(storage, a_record):
    tracker = Tracker(storage_root=storage)
    tracker.start_sweep("s")
    tracker.log_run(a_record(0))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("llmpred").experiment_id
    client.delete_experiment(experiment)
    assert tracker.log_run(a_record(1)) == "failed"
    assert "active" in tracker.unlogged[a_record(1).key]
    client.restore_experiment(experiment)
    assert tracker.log_run(a_record(1)) == "logged"
    assert tracker.summary() is None


def test_one_bad_run_does_not_keep_others_out(storage, a_record):
    tracker = Tracker(storage_root=storage)
    bad = [a_record(n, metrics={"..": 1.0}) for n in range(5)]
    good = [a_record(n) for n in range(5, 8)]
    assert [tracker.log_run(r) for r in bad + good] == ["failed"] * 5 + ["logged"] * 3
    assert "5 of 8 runs were not logged" in tracker.summary()


def test_default_place(monkeypatch, tmp_path):
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert default_uri(f"file://{tmp_path}") == f"sqlite:///{tmp_path}/mlflow.db"
    home = Path.home().as_posix()
    assert default_uri("s3://bucket/x") == f"sqlite:///{home}/.local/share/llmpred/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.lan")
    assert default_uri(tmp_path) == "http://mlflow.lan"
    with pytest.raises(InputError, match=r"already served at http://mlflow\.lan"):
        ui(tmp_path)


@pytest.mark.cluster
def test_a_real_server(storage, a_record, tmp_path):
    adapter = tmp_path / "kept"
    adapter.mkdir()
    (adapter / "weights").write_text("w")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            ui(storage, port), stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        tracker = Tracker(address, storage_root=storage)
        tracker.start_sweep("s")
        started = time.monotonic()
        assert [tracker.log_run(a_record(n), adapter) for n in range(10)] == ["logged"] * 10
        assert (time.monotonic() - started) / 10 < 5
        tracker.end_sweep()
        assert tracker.summary() is None
        assert sync([a_record(n) for n in range(12)], Tracker(address)) == (2, 10, 0)

        # The server goes away in the middle of a sweep, and comes back.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        tracker.start_sweep("t")
        assert tracker.log_run(a_record(20)) == "failed"
        assert "no answer" in tracker.summary()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    # What went through the server is where the embedded default finds it.
    assert len(children(default_uri(storage))) == 12
