"""What clusters are made from: each file passes what reads it, and broken copies of it do not."""

import base64
import copy
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import yaml

from llmpred.sweep.cluster import NODES
from tests.rayjob_schema import RAYJOB

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|KEY_ID)", re.IGNORECASE)
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


# --- cluster.yaml ------------------------------------------------------------------------------


def aws() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text("utf-8"))


def on_premise() -> dict[str, Any]:
    """Return what the command in the file makes of its commented lines."""
    text = (ROOT / "cluster.yaml").read_text("utf-8")
    [command] = re.findall(r"^# +(sed -n .*) > on_premise.yaml$", text, re.MULTILINE)
    done = subprocess.run(
        shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return yaml.safe_load(done.stdout)


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Do what `ray up` does with a configuration before it reaches for a cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("made", [aws, on_premise])
def test_ray_takes_the_configuration(made: Callable[[], dict[str, Any]]) -> None:
    prepared = check(made())
    assert prepared["head_node_type"] in prepared["available_node_types"]


def _unknown(config: dict[str, Any]) -> None:
    config["idle_timeout"] = 10


def _text_for_a_number(config: dict[str, Any]) -> None:
    config["idle_timeout_minutes"] = "ten"


def _no_list(config: dict[str, Any]) -> None:
    config["setup_commands"] = ["pip install .", {"pip": "install"}]


def _no_provider(config: dict[str, Any]) -> None:
    del config["provider"]["type"]


@pytest.mark.parametrize("harm", [_unknown, _text_for_a_number, _no_list, _no_provider])
@pytest.mark.parametrize("made", [aws, on_premise])
def test_ray_refuses_a_broken_configuration(
    made: Callable[[], dict[str, Any]], harm: Callable[[dict[str, Any]], None]
) -> None:
    config = made()
    harm(config)
    with pytest.raises((jsonschema.ValidationError, KeyError, TypeError, ValueError)):
        check(config)


def test_too_few_workers_allowed_are_refused() -> None:
    config = aws()
    config["available_node_types"]["l4"]["min_workers"] = config["max_workers"] + 1
    with pytest.raises(ValueError, match="max_workers"):
        check(config)


def test_workers_are_spot_gpus_that_scale_to_zero_and_the_head_stays() -> None:
    config = check(aws())
    head = config["available_node_types"].pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert 0 < config["idle_timeout_minutes"] <= 15
    assert config["available_node_types"]
    for worker in config["available_node_types"].values():
        assert worker["min_workers"] == 0
        assert worker["resources"]["GPU"] == 1
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert worker["node_config"]["IamInstanceProfile"] == {"Name": "llmpred-worker"}
    most = sum(worker["max_workers"] for worker in config["available_node_types"].values())
    assert most == config["max_workers"]


def kinds(text: str) -> list[tuple[int, dict[str, int]]]:
    """Return what a value of LLMPRED_AUTOSCALER promises: how many nodes of which resources."""
    found = [NODES.fullmatch(kind) for kind in text.split()]
    return [
        (int(match[1]), {n: int(v) for n, v in (p.split("=") for p in match[2].split(","))})
        for match in found
        if match
    ]


def test_llmpred_is_told_what_the_autoscaler_may_start() -> None:
    config = aws()
    start = config["head_start_ray_commands"][-1]
    [told] = re.findall(r"LLMPRED_AUTOSCALER='([^']*)'", start)
    workers = [t for n, t in config["available_node_types"].items() if n != "head"]
    assert kinds(told) == [(w["max_workers"], w["resources"]) for w in workers]


@pytest.mark.parametrize("made", [aws, on_premise])
def test_nodes_get_what_an_installation_needs(made: Callable[[], dict[str, Any]]) -> None:
    mounts = dict(made()["file_mounts"])
    tokens = [source for target, source in mounts.items() if target.endswith("/.ray/auth_token")]
    assert tokens == ["~/.ray/auth_token"]
    sources = [source for source in mounts.values() if not source.startswith("~")]
    assert all((ROOT / source).exists() for source in sources)
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "llmpred"} == set(sources)
    setup = " ".join(made()["setup_commands"])
    assert re.search(r"pip install .*--constraint constraints\.txt '\.\[s3\]'", setup)


@pytest.mark.parametrize("made", [aws, on_premise])
def test_ray_asks_for_a_token_and_its_dashboard_is_not_for_others(
    made: Callable[[], dict[str, Any]],
) -> None:
    config = made()
    head, worker = (config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))
    for command in (head, worker):
        assert "export" in command.split("RAY_AUTH_MODE=token")[0]
        assert "ray start" in command.split("RAY_AUTH_MODE=token")[1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    commands = [c for key in config if key.endswith("commands") for c in config[key]]
    for command in commands:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
        assert done.returncode == 0, command


def test_only_ssh_comes_in_from_outside() -> None:
    [rule] = aws()["provider"]["security_group"]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)


def test_images_have_the_ray_of_the_pins() -> None:
    images = [aws()["docker"]["head_image"], aws()["docker"]["worker_image"]]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images += [f"rayproject/ray:{tag}" for tag in re.findall(r"RAY=(\S+)", dockerfile)]
    assert len(images) == 4
    assert all(image.startswith(f"rayproject/ray:{PINS['ray']}-py311-") for image in images)
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", dockerfile, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())


def test_access_is_given_to_one_bucket_and_the_workers_role_alone() -> None:
    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: Loader, suffix: str, node: yaml.Node) -> str:
        return f"{suffix} {node.value}"

    Loader.add_multi_constructor("!", tagged)
    text = (DEPLOY / "aws" / "access.yaml").read_text("utf-8")
    assert "&" not in text, "CloudFormation knows no YAML aliases"
    resources = yaml.load(text, Loader)["Resources"]
    assert all(resources["Runs"]["Properties"]["PublicAccessBlockConfiguration"].values())
    assert resources["Runs"]["DeletionPolicy"] == "Retain"
    names = {r["Properties"].get("InstanceProfileName") for r in resources.values()} - {None}
    nodes = aws()["available_node_types"].values()
    assert names == {node["node_config"]["IamInstanceProfile"]["Name"] for node in nodes}
    for statement in resources["UseRuns"]["Properties"]["PolicyDocument"]["Statement"]:
        assert statement["Resource"].startswith("Sub arn:aws:s3:::${Bucket}")
        assert not any("*" in action for action in statement["Action"])
    passing = resources["ScaleCluster"]["Properties"]["PolicyDocument"]["Statement"][-1]
    assert passing["Resource"] == "GetAtt WorkerRole.Arn"


def test_what_ray_uploads_leaves_out_environments_and_secrets() -> None:
    ignored = (ROOT / ".rayignore").read_text().split()
    assert {".venv", ".git", ".env", "storage", "runs"} <= set(ignored)
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    for config in (aws(), on_premise()):
        assert {".venv", ".git", "__pycache__"} <= set(config["rsync_exclude"])


# --- Kubernetes --------------------------------------------------------------------------------


def rayjob() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "kuberay.yaml").read_text("utf-8"))


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def check_rayjob(job: dict[str, Any]) -> None:
    """Validate by KubeRay's fields, and its pods by Kubernetes' own schema."""
    import kubernetes_validate

    jsonschema.validate(job, RAYJOB)
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)


def test_the_rayjob_is_valid() -> None:
    check_rayjob(rayjob())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.entryPoint", "llmpred"),
        ("spec.backoffLimit", "3"),
        ("spec.rayClusterSpec.authOptions.mode", "on"),
        ("spec.rayClusterSpec.autoscalerOptions.version", "2"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", -1),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resource", {}),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.envFrom.0", {"secret": {}}),
    ],
)
def test_a_broken_rayjob_is_refused(path: str, value: Any) -> None:
    import kubernetes_validate

    job = copy.deepcopy(rayjob())
    at: Any = job
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    at[last] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check_rayjob(job)


def test_the_rayjob_scales_to_zero_and_keeps_its_secrets_to_itself() -> None:
    job = rayjob()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    told = ""
    for group in groups(job):
        [container] = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "llmpred-storage"}}]
        assert not any(SECRET.search(entry["name"]) for entry in container.get("env", []))
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        for name, least in container["resources"]["requests"].items():
            assert name in container["resources"]["limits"], least
        env = {entry["name"]: entry["value"] for entry in container.get("env", [])}
        told = told or env.get("LLMPRED_AUTOSCALER", "")
    [workers] = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    may = {"CPU": int(limits["cpu"]), "GPU": int(limits["nvidia.com/gpu"])}
    assert kinds(told) == [(workers["maxReplicas"], may)]


def test_the_rayjob_runs_a_command_that_there_is(llmpred: Any) -> None:
    words = shlex.split(rayjob()["spec"]["entrypoint"])
    assert words[:2] == ["llmpred", "collect"]
    told = llmpred("collect", "--help").out
    assert all(word in told for word in words if word.startswith("--"))


# --- Slurm -------------------------------------------------------------------------------------


def test_the_slurm_script_is_sound() -> None:
    script = DEPLOY / "slurm.sh"
    assert os.access(script, os.X_OK)
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    text = script.read_text("utf-8")
    assert text.index("#SBATCH --requeue") < text.index("set -euo pipefail")
    assert (ROOT / re.findall(r"LLMPRED_JOB:-(\S+)}", text)[0]).is_file()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """An allocation of two nodes that are this machine; yields what starts a batch script on it."""
    tools, home = tmp_path / "bin", tmp_path / "home"
    for folder in (tools, home):
        folder.mkdir()
    (tools / "srun").write_text(
        '#!/bin/sh\nwhile case $1 in --*) true ;; *) false ;; esac; do shift; done\nexec "$@"\n'
    )
    (tools / "scontrol").write_text(
        "#!/bin/sh\n"
        'if [ "$2" = hostnames ]; then printf "one\\ntwo\\n"; else echo "$*" >> "$CALLS"; fi\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    number = os.getpid() % 10000
    scratch = f"/tmp/llmpred-ray-{number}"
    environment = os.environ | {
        "HOME": str(home),
        "PATH": f"{tools}:{BIN}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_ON_NODE": "1",
        "LLMPRED_JOB": "job.py",
    }
    started: list[subprocess.Popen[str]] = []

    def start(job: str, *arguments: str) -> subprocess.Popen[str]:
        work = tmp_path / "work"
        work.mkdir()
        (work / "job.py").write_text(job)
        process = subprocess.Popen(
            ["bash", DEPLOY / "slurm.sh", *arguments],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for process in psutil.process_iter(["cmdline"]):
        if scratch in " ".join(process.info["cmdline"] or []):
            process.kill()


@pytest.mark.slow
@pytest.mark.cluster
def test_slurm_submits_the_job_to_a_cluster_of_all_nodes(slurm: Any, tmp_path: Path) -> None:
    batch = slurm(
        "import os, stat, sys, ray\n"
        "ray.init(logging_level='ERROR')\n"
        "print('nodes', sum(node['Alive'] for node in ray.nodes()), sys.argv[1:])\n"
        "token = os.environ['RAY_AUTH_TOKEN_PATH']\n"
        "print('token', os.environ['RAY_AUTH_MODE'], oct(stat.S_IMODE(os.stat(token).st_mode)))\n",
        "--space",
        "a b.yaml",
    )
    out, _ = batch.communicate(timeout=240)
    assert batch.returncode == 0, out
    assert "nodes 2 ['--space', 'a b.yaml']" in out
    assert "token token 0o600" in out
    assert not list((tmp_path / "home").rglob("token")), "the token outlives its cluster"
    assert not (tmp_path / "calls").exists()
    assert not Path(f"/tmp/llmpred-ray-{os.getpid() % 10000}").exists()


@pytest.mark.slow
@pytest.mark.cluster
def test_slurm_stops_the_job_before_the_time_limit_and_queues_it_again(
    slurm: Any, tmp_path: Path
) -> None:
    batch = slurm(
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(4)  # longer than Ray's own 3 seconds: a step takes what it takes\n"
        "    print('stopped at a step', flush=True)\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(tmp_path / 'began')!r}, 'w').close()\n"
        "time.sleep(300)\n"
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / "began").exists():
        assert batch.poll() is None, batch.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(1)
    batch.send_signal(signal.SIGUSR1)
    out, _ = batch.communicate(timeout=120)
    assert batch.returncode == 1, out
    assert "stopped at a step" in out
    assert (tmp_path / "calls").read_text().startswith("requeue ")


# --- the MLflow server -------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "mlflow" / "docker-compose.yml").read_text("utf-8"))


def filled(text: str, environment: dict[str, str]) -> str:
    """Put variables into a value as Compose does; KeyError is where it would refuse to start."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if environment.get(name):
            return environment[name]
        if kind == ":-":
            return rest
        raise KeyError(name)

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text)


def test_the_servers_ports_are_this_machines_own() -> None:
    ports = [
        port for service in compose()["services"].values() for port in service.get("ports", [])
    ]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in compose()["services"].values())


def test_the_servers_secrets_come_from_outside_and_may_not_be_empty() -> None:
    example = (DEPLOY / "mlflow" / ".env.example").read_text("utf-8")
    names = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert names
    assert not any(names.values())
    values = [
        (name, str(value))
        for service in compose()["services"].values()
        for name, value in service.get("environment", {}).items()
    ]
    secrets = [(name, value) for name, value in values if SECRET.search(name)]
    assert len(secrets) >= 6
    for name, value in secrets:
        with pytest.raises(KeyError):
            filled(value, names)  # .env.example as it is: nothing starts
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name} is written down"
    asked = {name for _, value in values for name in re.findall(r"\$\{(\w+):\?", value)}
    assert asked == set(names)
    known = set(re.findall(r"\$\{(\w+)", (DEPLOY / "mlflow" / "docker-compose.yml").read_text()))
    assert set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)) == known


def test_the_servers_services_are_whole() -> None:
    document = compose()
    named = {
        volume.split(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", [])
    }
    assert named == set(document["volumes"])
    for service in document["services"].values():
        assert re.search(r":[\w.-]*\d", service["image"]), "an image without its version"
        for other, how in service.get("depends_on", {}).items():
            needed = document["services"][other]
            assert how["condition"] == "service_completed_successfully" or "healthcheck" in needed
    assert f"mlflow[auth]=={PINS['mlflow']}" in (DEPLOY / "mlflow" / "Dockerfile").read_text()
    assert document["services"]["mlflow"]["image"].endswith(f":{PINS['mlflow']}")
    assert f"boto3=={PINS['boto3']}" in (DEPLOY / "mlflow" / "Dockerfile").read_text()


@pytest.fixture
def mlflow_server(
    tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """The command of the compose file, on sqlite; yields its address and the admin's password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    password = "a-password-of-a-test"
    service = compose()["services"]["mlflow"]
    given = {
        "POSTGRES_PASSWORD": "p",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "s" * 32,
        "MLFLOW_ADMIN_PASSWORD": password,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "S3_ENDPOINT_URL": s3_server,
    }
    settings = {name: filled(value, given) for name, value in service["environment"].items()}
    users = (DEPLOY / "mlflow" / "basic_auth.ini").read_text("utf-8")
    (tmp_path / "basic_auth.ini").write_text(users.replace("/mlflow/users", str(tmp_path)))
    settings |= {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini"),
    }
    command = filled(service["command"], given)
    for old, new in (("--host 0.0.0.0", "--host 127.0.0.1"), ("--port 5000", f"--port {port}")):
        assert old in command
        command = command.replace(old, new)
    monkeypatch.setenv("BUCKET", "mlflow")
    made = subprocess.run([sys.executable, DEPLOY / "mlflow" / "bucket.py"], check=False)
    again = subprocess.run([sys.executable, DEPLOY / "mlflow" / "bucket.py"], check=False)
    assert (made.returncode, again.returncode) == (0, 0)
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [BIN / command.split()[0], *command.split()[1:]],
            cwd=tmp_path,
            env=os.environ | settings | {"PATH": f"{BIN}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    try:
        while status(f"{address}/health") != 200:
            assert server.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()[-3000:]
            time.sleep(1)
        yield address, password
    finally:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        os.killpg(server.pid, signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=20)
        for process in left:
            process.kill()
        server.wait()


def status(url: str, user: str = "", host: str = "") -> int:
    """Return the status with which a search of experiments, or another page, is answered."""
    headers = {"Host": host} if host else {}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    body = json.dumps({"max_results": 1}).encode() if "/api/" in url else None
    headers |= {"Content-Type": "application/json"} if body else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.cluster
def test_the_server_asks_who_one_is_and_keeps_what_sweeps_log(
    mlflow_server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address, password = mlflow_server
    search = f"{address}/api/2.0/mlflow/experiments/search"
    assert status(search) == 401
    assert status(search, "admin:password1234") == 401
    assert status(search, f"admin:{password}") == 200
    assert status(search, f"admin:{password}", "elsewhere.example") == 403
    with pytest.raises(MlflowException, match="401"):
        MlflowClient(address).create_experiment("nobody")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    # Sweeps wait for seconds; a server that is only just warm, beside other tests, may take longer.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "90")
    client = MlflowClient(address)
    run = client.create_run(client.create_experiment("sweeps")).info.run_id
    client.log_metric(run, "accuracy_r", 0.75)
    note = tmp_path / "note.txt"
    note.write_text("kept in the bucket")
    client.log_artifact(run, str(note))
    assert client.get_run(run).data.metrics == {"accuracy_r": 0.75}
    assert Path(client.download_artifacts(run, "note.txt")).read_text() == "kept in the bucket"

    import s3fs

    files = s3fs.S3FileSystem(use_listings_cache=False).find("mlflow/artifacts")
    assert [name.rpartition("/")[2] for name in files] == ["note.txt"]
