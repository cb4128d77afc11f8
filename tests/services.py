"""Real services, private to whoever starts them: PostgreSQL, and an MLflow server upon it.

Both listen on 127.0.0.1 alone and keep port and data for as long as they live, so that they can be
stopped or killed, and started again, under clients that go on.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_SECONDS = 180.0  # MLflow on a fresh database makes some eighty tables first
STOP_SECONDS = 30.0
# Its queue of jobs, which no run needs, is a dozen processes.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class Unavailable(Exception):  # noqa: N818, it is no error
    """This machine lacks the service; says what would bring it."""


@dataclass
class Postgres:
    """A PostgreSQL server with one database, `mlflow`, whose password nothing else knows.

    Attributes:
        folder: its data and log.
        port: on 127.0.0.1.
        password: of its only user, `mlflow`.
        account: of the machine that it runs as: it refuses root. None if we are somebody else.
    """

    folder: Path
    port: int
    password: str
    account: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The database as SQLAlchemy names it."""
        return f"postgresql+psycopg://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        """Start, or start again, and wait until it takes queries."""
        command = [str(_postgres_tools() / "postgres"), "-D", str(self.folder / "data")]
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on",  # it is killed, and must then have what it said it had
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        deadline = time.monotonic() + START_SECONDS
        while True:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*command, *options],
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **_as(self.account),
                )
            while self.process.poll() is None and time.monotonic() < deadline:
                if self._answers():
                    return
                time.sleep(0.1)
            # The children of a killed server may hold its memory for a moment longer.
            if time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut down in order; whoever is connected is cut off."""
        _end(self.process, signal.SIGINT)

    def kill(self) -> None:
        """End it and all its children at once, as a power cut does."""
        _kill(self.process)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.uri.replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class MlflowServer:
    """`mlflow server` on a database, as a team runs it.

    Attributes:
        backend: SQLAlchemy URL of the database.
        folder: its log and the artifacts.
        port: on 127.0.0.1.
    """

    backend: str
    folder: Path
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """What clients give as MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or start again, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {n: v for n, v in os.environ.items() if not n.startswith("MLFLOW_")}
        command = [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--backend-store-uri", self.backend),
            *("--artifacts-destination", str(self.folder / "artifacts")),
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | QUIET,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process, deadline = self.process, time.monotonic() + START_SECONDS
        while not answers(f"{self.uri}/health"):
            late = process.poll() is not None or time.monotonic() > deadline
            assert not late, (self.folder / "log").read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        _end(self.process, signal.SIGTERM)

    def kill(self) -> None:
        """End it and all its children at once."""
        _kill(self.process)

    def pause(self) -> None:
        """Let it hang: it takes connections, and answers nothing."""
        for each in _family(self.process):
            each.suspend()

    def resume(self) -> None:
        """Let it go on."""
        for each in _family(self.process):
            each.resume()


Service = Postgres | MlflowServer


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start PostgreSQL in a folder of its own, and leave nothing behind.

    Raises:
        Unavailable: if it is not installed, or may not be run.
    """
    tools = _postgres_tools()
    account = _unprivileged()
    # Not in pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="llmpred-postgres-"))
    server = Postgres(folder, free_port(), secrets.token_hex(12), account)
    try:
        (folder / "password").write_text(server.password)
        if account is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, account)
        made = subprocess.run(
            [
                *(tools / "initdb", "-D", folder / "data", "--username=mlflow", "--no-sync"),
                *("--auth=scram-sha-256", f"--pwfile={folder / 'password'}"),
                *("--encoding=UTF8", "--locale=C"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **_as(account),
        )
        assert made.returncode == 0, made.stderr
        _create_database(server)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(backend: str, folder: Path) -> Iterator[MlflowServer]:
    """Start an MLflow server on a database, and end it."""
    server = MlflowServer(backend, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def answers(url: str) -> bool:
    """Whether a server answers at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Return address and port of everything that a process and its descendants listen on."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        try:
            connections = each.net_connections(kind="inet")
        except psutil.Error:  # it has ended
            continue
        found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == "LISTEN"}
    return found


def _postgres_tools() -> Path:
    """Return the folder of `postgres` and `initdb`, which Debian keeps out of the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    places += [Path(found).parent] if found else []
    for place in places:
        if all((place / tool).is_file() for tool in ("postgres", "initdb")):
            return place
    raise Unavailable("PostgreSQL is not installed; `make services` installs it")


def _unprivileged() -> str | None:
    """Return the account that PostgreSQL may run as, or None for our own."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    raise Unavailable("PostgreSQL refuses to run as root, and there is no account `nobody`")


def _as(account: str | None) -> dict[str, object]:
    """Return the options of subprocess that run a command as `account`."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _create_database(server: Postgres) -> None:
    """Create the database while the server is not up: PostgreSQL's single-user mode."""
    command = [_postgres_tools() / "postgres", "--single", "-D", server.folder / "data", "postgres"]
    subprocess.run(
        command,
        cwd=server.folder,
        input=b"CREATE DATABASE mlflow\n",
        capture_output=True,
        check=True,
        **_as(server.account),
    )


def _end(process: subprocess.Popen[bytes] | None, number: int) -> None:
    if process is None or process.poll() is not None:
        return
    family = _family(process)
    process.send_signal(number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _kill_all(family)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    _kill_all(_family(process))
    process.wait()


def _family(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    assert process is not None, "it was never started"
    mine = psutil.Process(process.pid)
    return [mine, *mine.children(recursive=True)]


def _kill_all(family: list[psutil.Process]) -> None:
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs([each for each in family if each.is_running()], timeout=STOP_SECONDS)


def end_ray(head: subprocess.Popen[bytes], temporary: str) -> None:
    """End a `ray start --head --block` with all of its processes, and delete its folder."""
    family = [] if head.poll() is not None else _family(head)
    family += [
        each
        for each in psutil.process_iter(["cmdline"])
        if temporary in " ".join(each.info["cmdline"] or [])
    ]
    if head.poll() is None:
        os.killpg(head.pid, signal.SIGTERM)
    psutil.wait_procs(family, timeout=20)
    _kill_all(family)
    head.wait(30)
    shutil.rmtree(temporary, ignore_errors=True)
