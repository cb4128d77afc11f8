"""Bad input gives one screen of plain words and exit code 2, and leaves nothing half-written.

Each row of the table is files, a command and what its message must say. `{here}` is a fresh folder
and the working directory; `store` in it is the storage; `{causal}` and `{encoder}` are tiny bases.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCREEN = 25  # lines
MAIN = "from llmpred.cli import main; main()"

REVIEWS = "text,label\n" + "".join(f"a film number {i},{i % 2}\n" for i in range(40))
JSONL = [json.dumps({"text": f"film {i}", "label": i % 2}) for i in range(20)]
CHECK = "data check data.csv --task sentiment"
PLAN = "plan space.yaml --storage store"
COLLECT = "collect --space space.yaml --storage store"

PARTS = {
    "task": "{name: sentiment}",
    "datasets": "[{source: data.csv}]",
    "bases": '["{encoder}"]',
    "methods": "[{head: classifier, adapter: {r: 4}}]",
    "optim": "{lr: 1e-3, max_steps: 2}",
    "evaluation": "{holdout: 0.5}",
}


def space(**changes: str) -> dict[str, str | bytes]:
    """Return the files of a small space with some parts changed; an empty part is left out."""
    parts = PARTS | changes
    text = "".join(f"{name}: {value}\n" for name, value in parts.items() if value)
    return {"space.yaml": text, "data.csv": REVIEWS}


def tensors(shapes: dict[str, list[int]]) -> bytes:
    """Return a safetensors file of zeros."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


ADAPTER = "base_model.model.model.layers.0.self_attn.{}_proj.lora_A.weight"
RUN = """
task: {name: sentiment}
dataset: {source: data.csv}
base: {name: "{causal}"}
method: {head: label_scoring, adapter: {r: 4}}
optim: {max_steps: 2}
evaluation: {holdout: 0.5}
"""


@dataclass(frozen=True)
class Bad:
    name: str
    command: str
    says: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


DATA = [
    Bad(
        "missing file",
        CHECK,
        ("data.csv", "no such file", "Did you mean", "dota.csv"),
        {"dota.csv": REVIEWS},
    ),
    Bad("missing folder", "data check no/data.csv --task sentiment", ("there is no folder", "no")),
    Bad("empty file", CHECK, ("must have rows", "empty"), {"data.csv": ""}),
    Bad("header alone", CHECK, ("must have rows",), {"data.csv": "text,label\n"}),
    Bad(
        "broken JSON at line 7",
        "data check data.jsonl --task sentiment",
        ("data.jsonl:7", "JSON", "on_bad_row"),
        {"data.jsonl": "\n".join([*JSONL[:6], JSONL[6][:-4], *JSONL[7:]])},
    ),
    Bad(
        "many broken lines",
        "data check data.jsonl --task sentiment",
        ("20 problems", "data.jsonl:1)", "data.jsonl:20)"),
        {"data.jsonl": "\n".join(["{"] * 500)},
    ),
    Bad(
        "JSON that is no object",
        "data check data.jsonl --task sentiment",
        ("data.jsonl:2", "object"),
        {"data.jsonl": JSONL[0] + "\n3\n"},
    ),
    Bad("wrong column", CHECK, ("`text`", "body", "columns"), {"data.csv": "body,label\nfine,1\n"}),
    Bad(
        "a mapping to no column",
        CHECK + " --columns text=txet",
        ("`txet`", "Did you mean `text`?"),
        {"data.csv": REVIEWS},
    ),
    Bad(
        "a mapping of no field",
        CHECK + " --columns txt=text",
        ("`txt`", "Did you mean `text`?"),
        {"data.csv": REVIEWS},
    ),
    Bad(
        "a mapping that is none",
        CHECK + " --columns text",
        ("FIELD=COLUMN", "'text'"),
        {"data.csv": REVIEWS},
    ),
    Bad(
        "label outside the set",
        CHECK + " --set 'task.labels={0: bad, 1: good}'",
        ("'2'", "'0', '1'"),
        {"data.csv": REVIEWS + "an odd film,2\n"},
    ),
    Bad(
        "one label alone",
        CHECK,
        ("at least two labels", "'1'"),
        {"data.csv": "text,label\nfine,1\nwarm,1\n"},
    ),
    Bad(
        "texts as labels",
        CHECK + " --columns label=text,text=id",
        ("at most 200 labels", "400"),
        {"data.csv": "id,text\n" + "".join(f"n {i},some text {i}\n" for i in range(400))},
    ),
    Bad(
        "NaN",
        "data check data.jsonl --task sentiment",
        ("data.jsonl:3", "`label`", "NaN"),
        {"data.jsonl": "\n".join([*JSONL[:2], '{"text": "film", "label": NaN}', *JSONL[3:]])},
    ),
    Bad(
        "empty text",
        CHECK,
        ("`text`", "empty", "data.csv:3"),
        {"data.csv": "text,label\nfine,1\n,0\n"},
    ),
    Bad(
        "not UTF-8",
        CHECK,
        ("data.csv:42", "0xff"),
        {"data.csv": REVIEWS.encode() + b"a \xff\xff\xfe film,1\n"},
    ),
    Bad("a binary file", CHECK, ("text", "null bytes"), {"data.csv": bytes(5000) + b"x"}),
    Bad(
        "a row of 10 MB",
        "data check data.jsonl --task sentiment",
        ("data.jsonl:2", "8 MB"),
        {"data.jsonl": JSONL[0] + "\n" + json.dumps({"text": "x" * 10**7, "label": 1}) + "\n"},
    ),
    Bad(
        "unknown suffix",
        "data check data.xlsx --task sentiment",
        ("data.xlsx", ".jsonl"),
        {"data.xlsx": "x"},
    ),
    Bad(
        "damaged gzip",
        "data check data.csv.gz --task sentiment",
        ("data.csv.gz",),
        {"data.csv.gz": gzip.compress(REVIEWS.encode())[:-20]},
    ),
    Bad(
        "damaged Parquet",
        "data check data.parquet --task sentiment",
        ("data.parquet", "Parquet"),
        {"data.parquet": b"PAR1" + bytes(100)},
    ),
    Bad(
        "unknown task",
        "data check data.csv --task sentimant",
        ("sentimant", "Did you mean `sentiment`?"),
        {"data.csv": REVIEWS},
    ),
    Bad("no task", "data check data.csv", ("--task", "sentiment"), {"data.csv": REVIEWS}),
    Bad(
        "a head that cannot",
        CHECK + " --head clasifier",
        ("clasifier", "classifier"),
        {"data.csv": REVIEWS},
    ),
    Bad(
        "missing evaluation file",
        CHECK + " --eval no.csv",
        ("no.csv", "no such file"),
        {"data.csv": REVIEWS},
    ),
    Bad(
        "a base that is none",
        CHECK + " --base minilmm",
        ("minilmm", "Did you mean `minilm`?"),
        {"data.csv": REVIEWS},
    ),
]

SPACES = [
    Bad("missing space", PLAN, ("space.yaml", "no file")),
    Bad("empty space", PLAN, ("space.yaml", "mapping"), {"space.yaml": ""}),
    Bad(
        "broken YAML",
        PLAN,
        ("space.yaml", "line 2", "brackets"),
        {"space.yaml": "task: {name: sentiment\n"},
    ),
    Bad(
        "YAML that makes objects",
        PLAN,
        ("space.yaml",),
        {"space.yaml": "name: !!python/object/apply:os.system [ls]\n"},
    ),
    Bad("unknown YAML key", PLAN, ("`optimizer_`", "space.yaml"), space(optimizer_="{lr: 1}")),
    Bad(
        "misspelt key",
        PLAN,
        ("lerning_rate", "optim"),
        space(optim="{lerning_rate: 1e-3, max_steps: 2}"),
    ),
    Bad(
        "r = 0",
        PLAN,
        ("methods[0].adapter.r", "at least 1", "0"),
        space(methods="[{head: classifier, adapter: {r: 0}}]"),
    ),
    Bad("zero steps", PLAN, ("optim.max_steps", "at least 1", "0"), space(optim="{max_steps: 0}")),
    Bad(
        "negative learning rate",
        PLAN,
        ("optim.lr", "above 0", "-0.001"),
        space(optim="{lr: -1e-3, max_steps: 2}"),
    ),
    Bad("NaN learning rate", PLAN, ("line 5", "finite"), space(optim="{lr: .nan, max_steps: 2}")),
    Bad(
        "text for a number",
        PLAN,
        ("optim.lr", "number", "fast"),
        space(optim="{lr: fast, max_steps: 2}"),
    ),
    Bad(
        "steps and epochs",
        PLAN,
        ("exactly one", "epochs", "max_steps"),
        space(optim="{max_steps: 2, epochs: 1}"),
    ),
    Bad(
        "a holdout of more than all",
        PLAN,
        ("evaluation.holdout", "below 1", "1.5"),
        space(evaluation="{holdout: 1.5}"),
    ),
    Bad("no evaluation", PLAN, ("`evaluation`", "missing"), space(evaluation="")),
    Bad(
        "unknown head",
        PLAN,
        ("methods[0].head", "clasifier", "classifier"),
        space(methods="[{head: clasifier}]"),
    ),
    Bad(
        "unknown task in a space", PLAN, ("sentimant", "sentiment"), space(task="{name: sentimant}")
    ),
    Bad(
        "a prompt of no field",
        PLAN,
        ("txt", "text"),
        space(task="{name: sentiment, prompt: 'Read {txt}:'}"),
    ),
    Bad("unknown base", PLAN, ("minilmm", "Did you mean `minilm`?"), space(bases="[minilmm]")),
    Bad(
        "a base not here",
        PLAN,
        ("minilm", "llmpred bases add minilm"),
        space(bases="[minilm]"),
        {"LLMPRED_CACHE": "{here}/cache"},
    ),
    Bad(
        "a base of pickles",
        PLAN,
        ("safetensors", "pytorch_model.bin"),
        space(bases="[./base]")
        | {"base/config.json": '{"architectures": ["BertModel"]}', "base/pytorch_model.bin": b"x"},
    ),
    Bad(
        "an encoder that should write",
        PLAN,
        ("label_scoring", "encoder"),
        space(methods="[{head: label_scoring}]"),
    ),
    Bad(
        "missing data in a space",
        PLAN,
        ("no.csv", "no such file"),
        space(datasets="[{source: no.csv}]"),
    ),
    Bad("a change that is none", PLAN + " --set optim.lr", ("path=value", "optim.lr"), space()),
    Bad(
        "a change of nothing",
        PLAN + " --set optm.lr=1",
        ("`optm`", "Did you mean `optim`?"),
        space(),
    ),
    Bad("too many runs", PLAN, ("100,000",), space(samples="99999", seeds="[0, 1]")),
    Bad(
        "bad rows in a collection",
        COLLECT,
        ("data.csv:42", "`text`"),
        space() | {"data.csv": REVIEWS + ",1\n"},
    ),
    Bad(
        "r = 0 in a collection",
        COLLECT,
        ("methods[0].adapter.r",),
        space(methods="[{head: classifier, adapter: {r: 0}}]"),
    ),
    Bad(
        "a cost without a price",
        COLLECT + " --max-cost 5",
        ("--max-cost", "--price-per-hour"),
        space(),
    ),
]

RUNS = [
    Bad("missing run", "finetune run.yaml --storage store", ("run.yaml", "no file")),
    Bad(
        "a space for a run",
        "finetune space.yaml --storage store",
        ("one run is wanted", "`datasets`"),
        space(),
    ),
    Bad(
        "a run of no record",
        "finetune abcdef --storage store",
        ("abcdef", "ledger ls"),
    ),
    Bad(
        "a strategy of none",
        "finetune run.yaml --storage store --workers 2 --strategy zero9",
        ("execution.distributed.strategy", "zero9", "zero3"),
        {"run.yaml": RUN, "data.csv": REVIEWS},
    ),
    Bad(
        "a change of many in a run",
        "finetune run.yaml --storage store --set seeds=[1]",
        ("`seeds`", "Did you mean `seed`?"),
        {"run.yaml": RUN, "data.csv": REVIEWS},
    ),
]

LEDGER = [
    Bad("a storage that is not there", "ledger ls --storage nowhere", ("nowhere", "--storage")),
    Bad(
        "a storage that is a file",
        "ledger ls --storage file",
        ("must be a folder", "file"),
        {"file": "x"},
    ),
    Bad("a storage of no kind", COLLECT.replace("store", "nope://x"), ("nope",), space()),
    Bad("no such run", "ledger show abcdef --storage .", ("abcdef", "ledger ls")),
    Bad("too little of a key", "ledger show a --storage .", ("at least 3",)),
    Bad(
        "no such column",
        "ledger ls --sort acuracy_r --storage .",
        ("acuracy_r", "Did you mean `accuracy_r`?"),
    ),
    Bad("a suffix of no table", "ledger export runs.xlsx --storage .", (".csv", ".xlsx")),
    Bad("no reason", "ledger retract abcdef --storage .", ("--why",)),
    Bad("nothing to import", "ledger import --storage store", ("either a table or --adapter",)),
    Bad(
        "scores in percent",
        "ledger import runs.csv --map accuracy_r=s,dataset=d,base=b --storage store",
        ("[0, 1]", "91.5", "--scale 100"),
        {"runs.csv": "s,d,b\n91.5,sst2,bert\n"},
    ),
    Bad(
        "a score that is none",
        "ledger import runs.csv --map accuracy_r=s,dataset=d,base=b --storage store",
        ("line 3", "number", "good"),
        {"runs.csv": "s,d,b\n0.9,sst2,bert\ngood,sst2,bert\n"},
    ),
    Bad(
        "an import without a map",
        "ledger import runs.csv --storage store",
        ("3 problems", "accuracy_r=COLUMN"),
        {"runs.csv": "s,d,b\n0.9,sst2,bert\n"},
    ),
    Bad(
        "an adapter without a spec",
        "ledger import --adapter a --storage store",
        ("--spec",),
        {"a/x": ""},
    ),
    Bad(
        "an adapter of pickles",
        "ledger import --adapter a --spec run.yaml --storage store",
        ("adapter_model.safetensors", "adapter_model.bin", "code"),
        {"a/adapter_model.bin": b"x", "run.yaml": RUN},
    ),
    Bad(
        "an adapter of another rank",
        "ledger import --adapter a --spec run.yaml --storage store",
        ("r must be that of the spec, 4, but got 8", "rank 4, but have 8", "lora_alpha"),
        {
            "a/adapter_model.safetensors": tensors({ADAPTER.format("q"): [8, 32]}),
            "a/adapter_config.json": '{"peft_type": "LORA", "r": 8, "lora_alpha": 8}',
            "run.yaml": RUN,
        },
    ),
    Bad(
        "an adapter of another base",
        "ledger import --adapter a --spec run.yaml --storage store",
        ("does not fit",),
        {
            "a/adapter_model.safetensors": tensors({ADAPTER.format("q"): [4, 32]}),
            "a/adapter_config.json": '{"peft_type": "LORA", "r": 4, "lora_alpha": 16}',
            "run.yaml": RUN,
            "data.csv": REVIEWS,
        },
    ),
    Bad(
        "a space where a run is wanted",
        "ledger import --adapter a --spec space.yaml --storage store",
        ("one run is wanted", "datasets"),
        {"a/x": "", **space()},
    ),
    Bad("an unknown option", "ledger ls --sorted x", ("--sorted",)),
    Bad("an unknown command", "ledgers", ("ledgers",)),
]


@pytest.mark.parametrize("bad", [*DATA, *SPACES, *RUNS, *LEDGER], ids=lambda bad: bad.name)
def test_bad_input(
    bad: Bad,
    llmpred: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_causal: Path,
    tiny_encoder: Path,
):
    def filled(text: str) -> str:
        named = {"{here}": tmp_path, "{causal}": tiny_causal, "{encoder}": tiny_encoder}
        for name, path in named.items():
            text = text.replace(name, str(path))
        return text

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    for name, value in bad.environment.items():
        monkeypatch.setenv(name, filled(value))
    for name, content in bad.files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else filled(content).encode())

    ran = llmpred(*shlex.split(bad.command))

    assert ran.code == 2, ran.out + ran.err
    assert_one_screen(ran.err, bad.says)
    left = [p for p in tmp_path.rglob("*") if p.is_file() and ".part" in p.name]
    written = [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert not left + written


def assert_one_screen(text: str, says: tuple[str, ...]) -> None:
    assert "Traceback" not in text
    assert len(text.splitlines()) <= SCREEN, text
    assert max(map(len, text.splitlines())) < 600, text
    for part in says:
        assert part in text, text


def test_there_are_enough_of_them():
    names = [bad.name for bad in [*DATA, *SPACES, *RUNS, *LEDGER]]
    assert len(set(names)) == len(names) >= 40


# --- the same through real processes -----------------------------------------------------------


def command_line(*args: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LLMPRED_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "bad", [DATA[0], DATA[4], SPACES[6], LEDGER[0], LEDGER[9]], ids=lambda bad: bad.name
)
def test_bad_input_to_a_process(bad: Bad, tmp_path: Path):
    for name, content in bad.files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = command_line(*shlex.split(bad.command), folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert_one_screen(done.stderr, bad.says)


@pytest.mark.parametrize(
    "job", [pytest.param(path, id=path.stem) for path in sorted((ROOT / "jobs").glob("*.py"))]
)
def test_bad_input_to_a_job(job: Path, tmp_path: Path):
    options = {
        "collect_ground_truth": ["--space", "no.yaml", "--storage", "store"],
        "extract_meta_features": ["no.yaml", "--storage", "store"],
        "train_meta_model": ["--table", "no.csv", "--storage", "store"],
        "finetune": ["no.yaml"],
        "pretrain_proxy": ["--corpora", "no.yaml", "--tokens", "1", "--out", "made"],
    }
    done = subprocess.run(
        [sys.executable, str(job), *options[job.stem]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    missing = next(option for option in options[job.stem] if option.startswith("no."))
    assert_one_screen(done.stderr, (missing,))


# --- storages that cannot be written -----------------------------------------------------------


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory at `folder`; skip the test where that is refused."""
    if shutil.which("mount") is None:
        pytest.skip("needs `mount`")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "llmpred-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting a file system is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write to `path` until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_runs(folder: Path, count: int) -> None:
    rows = [f"0.5,set {i},bert,{'n' * 200}" for i in range(count)]
    (folder / "runs.csv").write_text("s,d,b,note\n" + "\n".join(rows) + "\n")


IMPORT = "ledger import runs.csv --map accuracy_r=s,dataset=d,base=b --storage"


def test_no_space_left(
    tmp_path: Path, llmpred: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path, 200)
    with mounted(tmp_path / "small", "size=256k") as small:
        ran = llmpred(*IMPORT.split(), small / "store")
        assert ran.code == 2, ran.out + ran.err
        assert_one_screen(ran.err, ("space", "No space left on device", str(small)))
        # What was written before the disk was full is whole; nothing else is there.
        paths = files(small)
        assert 0 < len(paths) < 200
        assert all(json.loads(path.read_bytes())["checksum"] for path in paths)
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        again = llmpred(*IMPORT.split(), small / "store")
        assert again.code == 0, again.err
        assert len(files(small)) == 200


def test_no_space_for_a_collection(
    tmp_path: Path,
    llmpred: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder: Path,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data.csv").write_text(REVIEWS)
    text = str(space()["space.yaml"]).replace("{encoder}", str(tiny_encoder))
    (tmp_path / "space.yaml").write_text(text)
    with mounted(tmp_path / "full", "size=64k") as full:
        fill(full / "filler")
        ran = llmpred("collect", "--space", "space.yaml", "--storage", full / "store")
        assert ran.code == 2, ran.out + ran.err
        assert_one_screen(ran.err, ("No space left on device",))
        assert files(full) == [full / "filler"]


def test_no_space_for_the_cache(
    tmp_path: Path, llmpred: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "data.csv").write_text("text,label\n" + f"{'film ' * 100},1\nfine,0\n" * 500)
    with mounted(tmp_path / "small", "size=64k") as small:
        monkeypatch.setenv("LLMPRED_CACHE", str(small / "cache"))
        ran = llmpred("data", "check", tmp_path / "data.csv", "--task", "sentiment")
        assert ran.code == 2, ran.out + ran.err
        assert_one_screen(ran.err, ("cache", "LLMPRED_CACHE"))
        assert not files(small)


@pytest.mark.parametrize("command", [IMPORT, "collect --space space.yaml --storage"])
def test_read_only_storage(
    command: str,
    tmp_path: Path,
    llmpred: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder: Path,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    write_runs(tmp_path, 3)
    (tmp_path / "data.csv").write_text(REVIEWS)
    text = str(space()["space.yaml"]).replace("{encoder}", str(tiny_encoder))
    (tmp_path / "space.yaml").write_text(text)
    with mounted(tmp_path / "fixed", "ro,size=64k") as fixed:
        ran = llmpred(*command.split(), fixed)
        assert ran.code == 2, ran.out + ran.err
        assert_one_screen(ran.err, ("Read-only file system", str(fixed)))


def test_export_to_a_folder_that_is_not_there(
    tmp_path: Path, llmpred: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path, 3)
    assert llmpred(*IMPORT.split(), "store").code == 0
    ran = llmpred("ledger", "export", "no/runs.csv", "--storage", "store")
    assert ran.code == 2
    assert_one_screen(ran.err, ("no/runs.csv", "folder that exists"))
