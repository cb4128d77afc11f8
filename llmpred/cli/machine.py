"""`llmpred doctor` and `llmpred ui`: is this machine fit, and the runs in a browser."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    EXIT_FAILED,
    Json,
    Storage,
    line,
    print_json,
    size,
)
from llmpred.errors import InputError, LlmpredError, Problem
from llmpred.wording import counted

GB = 10**9
TOLD = ("torch", "transformers", "peft", "ray", "mlflow")
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing about this machine: what was found, and what to do about it."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""


def doctor(storage: Storage = DEFAULT_STORAGE, json: Json = False) -> None:
    """Say whether this machine can do the work, and what to mend."""
    findings = [
        *_python(),
        *_packages(),
        *_accelerator(),
        *_memory(),
        *_storage(storage),
        *_mlflow(storage),
        *_ray(),
        *_bases(),
    ]
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        print_json({"fit": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            line(f"{finding.state:<5}", style=STYLES[finding.state], end="")
            line(f"{finding.what:<14}{finding.found}")
            if finding.fix:
                line(f"{'':<19}→ {finding.fix}")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def ui(
    storage: Storage = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    json: Json = False,
) -> None:
    """Start MLflow on this machine alone, to see the runs in a browser; Ctrl-C stops it."""
    from llmpred.tracking import ui as command_of

    root = storage if "://" in storage else str(Path(storage).expanduser())
    with socket.socket() as probe:
        # As servers bind: a port that a stopped server has just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            law = f"the port must be free, but {port} says: {error.strerror}"
            fix = f"Stop what listens there, or take another: --port {port % 65535 + 1}."
            raise InputError(Problem(law, "--port", fix)) from error
    command = command_of(root, port)
    url = f"http://127.0.0.1:{port}"
    if json:
        print_json({"url": url, "command": command})
    else:
        typer.echo(f"MLflow at {url} (Ctrl-C stops it)")
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606  (our own interpreter; Ctrl-C reaches MLflow itself)


# --- Python and packages -----------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "python", f"{version} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    """Compare what is installed with the ranges that the project asks for."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    sound = {}
    for text in _requirements():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            got = version(needed.name)
        except PackageNotFoundError:
            fix = f"Run: pip install '{needed.name}{needed.specifier}'."
            yield Finding("fail", needed.name, f"not installed, needs {needed.specifier}", fix)
            continue
        if needed.specifier.contains(got, prereleases=True):
            sound[needed.name] = got
        else:
            fix = f"Run: pip install '{needed.name}{needed.specifier}'."
            yield Finding("fail", needed.name, f"{got}, needs {needed.specifier}", fix)
    told = ", ".join(f"{name} {sound[name]}" for name in TOLD if name in sound)
    yield Finding("ok", "packages", f"{len(sound)} as asked for, with {told}")


def _requirements() -> list[str]:
    """Return the project's requirements: as installed, or of the checkout that is running."""
    from importlib.metadata import PackageNotFoundError, requires

    import llmpred

    checkout = Path(llmpred.__file__).parents[1] / "pyproject.toml"
    if checkout.is_file():
        import tomllib

        project = tomllib.loads(checkout.read_text("utf-8"))["project"]
        return list(project["dependencies"])
    try:
        return requires("llmpred") or []
    except PackageNotFoundError:
        return []


def _accelerator() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a CUDA build without its libraries: OSError
        yield Finding("fail", "torch", f"cannot be imported: {error}", "Install torch anew.")
        return
    if torch.cuda.is_available():
        devices = [
            f"{torch.cuda.get_device_name(i)} "
            f"({size(torch.cuda.get_device_properties(i).total_memory)})"
            for i in range(torch.cuda.device_count())
        ]
        yield Finding("ok", "cuda", ", ".join(devices))
    else:
        threads = torch.get_num_threads()
        yield Finding("ok", "cuda", f"none: runs go on the CPU, {threads} threads")
    if sys.platform == "darwin":
        return
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # faster kernels are optional
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        fix = "Install bitsandbytes, or keep base.quantization at none."
        yield Finding("warn", "bitsandbytes", f"cannot be imported: {error}", fix)
    else:
        yield Finding("ok", "bitsandbytes", f"{bitsandbytes.__version__}: nf4 and int8 work")


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{size(memory.available)} free of {size(memory.total)}, {psutil.cpu_count()} CPUs"
    if memory.available < 2 * GB:
        fix = "Close other programs, or take --max-concurrent 1 and a small base."
        yield Finding("warn", "memory", found, fix)
    else:
        yield Finding("ok", "memory", found)


# --- storage and MLflow ------------------------------------------------------------------------


def _storage(storage: str) -> Iterator[Finding]:
    if "://" in storage:
        yield from _bucket(storage)
        return
    root = Path(storage).expanduser().absolute()
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < GB // 10:
        yield Finding("fail", "disk", f"{size(free)} free at {parent}", "Free some space.")
    elif free < 5 * GB:
        yield Finding(
            "warn", "disk", f"{size(free)} free at {parent}", "Bases and adapters are big."
        )
    else:
        yield Finding("ok", "disk", f"{size(free)} free at {parent}")
    if parent != root:
        if os.access(parent, os.W_OK):
            yield Finding("ok", "storage", f"{root}: will be made by the first run")
        else:
            fix = "Choose another --storage."
            yield Finding("fail", "storage", f"{root} cannot be made in {parent}", fix)
        return
    yield from _writable(storage)


def _bucket(storage: str) -> Iterator[Finding]:
    scheme = storage.partition("://")[0]
    packages = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
    package = packages.get(scheme)
    if package is not None:
        from importlib.util import find_spec

        if find_spec(package) is None:
            extra = "s3" if package == "s3fs" else "gcs"
            fix = f"Run: pip install 'llmpred[{extra}]'."
            yield Finding("fail", package, f"not installed, but the storage is {storage}", fix)
            return
        yield Finding("ok", package, "installed")
    yield from _writable(storage)


def _writable(storage: str) -> Iterator[Finding]:
    from llmpred.cli.common import open_ledger

    try:
        ledger = open_ledger(storage)
        ledger.storage.check_writable()
        yield Finding("ok", "storage", f"{storage}: writable, {counted(len(ledger.keys()), 'run')}")
    except LlmpredError as error:
        yield Finding("fail", "storage", str(error))


def _mlflow(storage: str) -> Iterator[Finding]:
    from llmpred.redaction import redact
    from llmpred.tracking import default_uri

    uri = default_uri(storage)
    if not uri.startswith(("http://", "https://")):
        yield Finding("ok", "mlflow", f"{redact(uri)}; `llmpred ui` shows it")
        return
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:  # noqa: S310  (http, above)
            yield Finding("ok", "mlflow", f"{redact(uri)} answers {answer.status}")
    except (URLError, OSError, ValueError) as error:
        fix = "Start it, or unset MLFLOW_TRACKING_URI; sweeps run without it too."
        yield Finding("warn", "mlflow", f"{redact(uri)} does not answer: {error}", fix)


# --- Ray ---------------------------------------------------------------------------------------


def _ray() -> Iterator[Finding]:
    """Say whether a cluster runs, and whether strangers could use it. Does not import Ray."""
    address = os.environ.get("RAY_ADDRESS") or _local_cluster()
    if not address:
        yield Finding("ok", "ray", "no cluster runs: sweeps start one for themselves")
        return
    if not _answers(address):
        fix = "Start it with `ray start --head`, or unset RAY_ADDRESS."
        yield Finding("warn", "ray", f"nothing answers at {address}", fix)
        return
    yield Finding("ok", "ray", f"a cluster runs at {address}")
    asks = _asks_for_a_token(address)
    if asks is None:
        found = f"whether {address} asks for a token cannot be told from here"
        yield Finding("warn", "ray token", found, "Look on its head: `echo $RAY_AUTH_MODE`.")
    elif not asks:
        yield Finding(
            "warn",
            "ray token",
            "token authentication is off: whoever reaches the cluster can run code on it",
            "Run `ray get-auth-token --generate`, then start the cluster with RAY_AUTH_MODE=token.",
        )
    elif not _has_token():
        yield Finding(
            "warn",
            "ray token",
            "the cluster asks for a token, but there is none here",
            "Copy ~/.ray/auth_token from its head, or set RAY_AUTH_TOKEN.",
        )


def _local_cluster() -> str:
    """Return the address that `ray start` noted on this machine; empty if there is none."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # noqa: S108
    try:
        address = note.read_text().strip()
    except OSError:
        return ""
    return address if _answers(address) else ""  # the note outlives a cluster that was killed


def _answers(address: str) -> bool:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return True  # `auto`, or a URL without a port: Ray itself will say
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


def _asks_for_a_token(address: str) -> bool | None:
    """Ask a cluster's control store something without a token; None if it answers neither way.

    The environment here says nothing of how the cluster was started.
    """
    import grpc

    host = address.rpartition("://")[2]
    try:
        with grpc.insecure_channel(host) as channel:
            ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
            ask(b"", timeout=5)
    except grpc.RpcError as error:
        return True if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return False


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    return Path(path).expanduser().is_file()


# --- bases and text ----------------------------------------------------------------------------


def _bases() -> Iterator[Finding]:
    from llmpred.bases.fetch import is_here
    from llmpred.bases.registry import KNOWN

    absent = [name for name in KNOWN if not is_here(name)]
    more = f"; `llmpred bases add` brings {', '.join(absent)}" if absent else ""
    yield Finding("ok", "bases", ", ".join(filter(is_here, KNOWN)) + more)
    offline = [
        name
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
    ]
    cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    found = f"cache at {Path(cache).expanduser()}"
    if offline:
        found += f"; offline by {', '.join(offline)}: only what is cached can be used"
    yield Finding("ok", "hub", found)
    yield _chinese()


def _chinese() -> Finding:
    from llmpred.data.text import words

    try:
        found: Any = words("房间很干净", "zh")
    except ImportError as error:
        fix = "Run: pip install jieba."
        return Finding("fail", "jieba", f"cannot be imported: {error}", fix)
    return Finding("ok", "jieba", f"Chinese words are segmented: {' '.join(found)}")
