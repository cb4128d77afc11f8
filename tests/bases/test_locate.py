"""Bases found in folders, in the hub's cache and on a hub: one identity."""

import http.server
import json
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from llmpred.bases import locate as module
from llmpred.bases.locate import Located, identity_files, locate
from llmpred.cache import forget
from llmpred.errors import BaseError
from llmpred.spec.run import BaseSpec

REVISION = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny"


def found(name: str | Path, revision: str | None = None) -> Located:
    return locate(BaseSpec(name=str(name), revision=revision))


@pytest.fixture(autouse=True)
def no_memory() -> None:
    forget()


@pytest.fixture
def copy(tiny_causal: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_causal, folder)
    return folder


def test_what_a_base_is(tiny_causal: Path, tiny_encoder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    causal, encoder = found(tiny_causal), found(tiny_encoder)
    assert (causal.kind, encoder.kind) == ("causal", "encoder")
    assert (causal.name, causal.path, causal.revision) == (str(tiny_causal), str(tiny_causal), None)
    for base, auto in ((causal, AutoModelForCausalLM), (encoder, AutoModel)):
        model: torch.nn.Module = auto.from_pretrained(base.path)
        assert base.parameters == sum(p.numel() for p in model.parameters())
    assert causal.config["hidden_size"] == 32
    assert not causal.chat_template


def test_a_copy_is_the_same_base(tiny_causal: Path, copy: Path) -> None:
    assert found(copy).weights_hash == found(tiny_causal).weights_hash


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_another_byte_is_another_base(name: str, copy: Path) -> None:
    before = found(copy).weights_hash
    path = copy / name
    path.write_text(path.read_text() + " ")
    assert found(copy).weights_hash != before  # in the same process, too


def test_another_weight_is_another_base(copy: Path) -> None:
    before = found(copy).weights_hash
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert found(copy).weights_hash != before


def test_what_loading_does_not_read_does_not_matter(copy: Path) -> None:
    before = found(copy).weights_hash
    for name in ("generation_config.json", "README.md", "vocab.json", "merges.txt", "notes.bin"):
        (copy / name).write_text("{}")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "model.safetensors").write_text("")
    assert found(copy).weights_hash == before


def test_identity_files() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    settings = ["config.json", "tokenizer_config.json"]
    slow = ["merges.txt", "vocab.json"]
    extra = ["consolidated.safetensors", "README.md", "model.safetensors.index.json", "a/b.model"]
    assert identity_files([*shards, *settings, *slow, *extra]) == sorted(
        [*shards, *settings, *slow]
    )
    assert identity_files(
        [*shards, "model.safetensors", "tokenizer.json", *slow, "config.json"]
    ) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert identity_files(["spiece.model", "config.json"]) == ["config.json", "spiece.model"]


def test_large_files_are_hashed_once(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SMALL", 1000)
    before = found(copy).weights_hash
    notes = list((tmp_path / "cache" / "hashes").iterdir())
    assert len(notes) >= 2
    module._read_folder.cache_clear()
    for note in notes:
        note.write_text("0" * 64)
    assert found(copy).weights_hash != before  # the notes were believed
    module._read_folder.cache_clear()
    for note in notes:
        note.write_text("torn")
    assert found(copy).weights_hash == before  # and these were not


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("LlamaForCausalLM", "causal"),
        ("GPT2LMHeadModel", "causal"),
        ("BertModel", "encoder"),
        ("BertForMaskedLM", "encoder"),
        ("LlamaModel", "encoder"),
    ],
)
def test_kinds(architecture: str, kind: str, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    assert found(copy).kind == kind


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def written(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def configured(**fields: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))

    return write


def huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


def half_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])


def lost_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (without("config.json"), "must hold config.json"),
        (without("model.safetensors"), "there is none"),
        (pickled, r"there is pytorch_model.bin.*Pickled weights can run code"),
        (written("adapter_config.json", "{}"), "holds, an adapter"),
        (written("config.json", "{"), "config.json must be JSON"),
        (written("config.json", "[]"), "config.json must hold a mapping"),
        (written("tokenizer_config.json", "{"), "tokenizer_config.json must be JSON"),
        (configured(architectures=None), "must name the model's `architectures`"),
        (configured(architectures=[]), "must name the model's `architectures`"),
        (configured(is_encoder_decoder=True), "must be a causal language model or an encoder"),
        (written("model.safetensors", "abc"), "model.safetensors is damaged"),
        (written("model.safetensors", "x" * 100), "model.safetensors is damaged"),
        (huge_header, "is damaged: a header of"),
        (half_header, "is damaged"),
        (lost_shard, "model-00002-of-00002.safetensors is missing"),
    ],
)
def test_folders_that_are_no_base(break_it: Callable[[Path], None], said: str, copy: Path) -> None:
    break_it(copy)
    with pytest.raises(BaseError, match=said):
        found(copy)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smollm2-135", "Did you mean `smollm2-135m`"),
        ("minilmm", "Did you mean `minilm`"),
        ("/no/such/folder", "neither a known name"),
        ("./folder", "neither a known name"),
        ("../up", "neither a known name"),
    ],
)
def test_unknown_names(name: str, said: str) -> None:
    with pytest.raises(BaseError, match=said):
        found(name)


def test_a_known_base_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path))
    with pytest.raises(BaseError, match="Run: llmpred bases add minilm"):
        found("minilm")


# --- the hub -----------------------------------------------------------------------------------


LARGE = ("model.safetensors", "tokenizer.json")  # kept by content, as the hub keeps large files


def blob(path: Path) -> str:
    content = path.read_bytes()
    if path.name in LARGE:
        return sha256(content).hexdigest()
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names it


def fill_cache(folder: Path, cache: Path, names: set[str]) -> None:
    """Lay files out as the hub's client does: blobs by hash, snapshots that link to them."""
    root = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = root / "snapshots" / REVISION
    for part in (root / "blobs", root / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(REVISION)
    for name in names:
        target = root / "blobs" / blob(folder / name)
        shutil.copyfile(folder / name, target)
        (snapshot / name).symlink_to(target)


class Hub(http.server.BaseHTTPRequestHandler):
    """The few endpoints of a hub that a look at a model needs."""

    def __init__(self, folder: Path, sent: list[tuple[str, int]], *args: Any) -> None:
        self.folder, self.sent = folder, sent
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, head: bool = False) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{NAME}"):
            self.answer(json.dumps(self.info()).encode(), head, {})
            return
        file = self.folder / path.rsplit("/", 1)[-1]
        if not path.startswith(f"/{NAME}/resolve/") or not file.is_file():
            self.answer(b"", head, {"X-Error-Code": self.why(path)}, 404)
            return
        headers = {"ETag": f'"{blob(file)}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        content, code = file.read_bytes(), 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            end = min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            content, code = content[int(first) : end + 1], 206
        self.answer(content, head, headers, code)

    def why(self, path: str) -> str:
        return "EntryNotFound" if path.startswith(f"/{NAME}/") else "RepoNotFound"

    def info(self) -> dict[str, Any]:
        files: list[dict[str, Any]] = []
        for file in sorted(self.folder.iterdir()):
            size = file.stat().st_size
            entry: dict[str, Any] = {"rfilename": file.name, "size": size, "blobId": blob(file)}
            if file.name in LARGE:
                entry["lfs"] = {"sha256": blob(file), "size": size, "pointerSize": 130}
            files.append(entry)
        return {"id": NAME, "modelId": NAME, "sha": REVISION, "siblings": files, "tags": []}

    def answer(self, body: bytes, head: bool, headers: dict[str, str], code: int = 200) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)
            self.sent.append((self.path, len(body)))


@pytest.fixture
def hub(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[str, int]]]:
    """A hub on this machine that holds the copy; gives what it sent."""
    sent: list[tuple[str, int]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, copy, sent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "hub")
    yield sent
    server.shutdown()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """Point the hub's client, which reads its environment once, to an endpoint and a cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )


def test_a_hub_model_is_known_by_its_metadata(
    copy: Path, hub: list[tuple[str, int]], tmp_path: Path
) -> None:
    there, here = found(NAME), found(copy)
    assert there.weights_hash == here.weights_hash
    assert (there.kind, there.parameters, there.config) == (
        here.kind,
        here.parameters,
        here.config,
    )
    assert (there.name, there.path, there.revision) == (NAME, NAME, REVISION)
    weights = sum(size for path, size in hub if path.endswith("model.safetensors"))
    assert weights < (copy / "model.safetensors").stat().st_size  # at most its header
    assert not any(path.endswith("tokenizer.json") for path, _ in hub)
    # And again when everything is in the cache.
    forget()
    fill_cache(copy, tmp_path / "hub", set(LARGE))
    asked = len(hub)
    cached = found(NAME)
    assert len(hub) == asked
    assert cached.weights_hash == here.weights_hash
    assert cached.revision == REVISION
    assert Path(cached.path) == tmp_path / "hub" / "models--someone--tiny" / "snapshots" / REVISION


@pytest.mark.parametrize("extra", [set(), {"generation_config.json"}])
def test_a_hub_cache_and_a_folder_agree(
    extra: set[str], copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    needed = set(identity_files(p.name for p in copy.iterdir()))
    fill_cache(copy, tmp_path / "hub", needed | extra)
    for revision in (None, "main", REVISION):
        cached = found(NAME, revision)
        assert cached.weights_hash == found(copy).weights_hash
        assert cached.revision == REVISION


def test_a_cache_with_half_a_model_is_not_the_model(
    copy: Path, hub: list[tuple[str, int]], tmp_path: Path
) -> None:
    fill_cache(copy, tmp_path / "hub", {"config.json", "tokenizer.json", "tokenizer_config.json"})
    assert found(NAME).path == NAME
    assert found(NAME).weights_hash == found(copy).weights_hash


def test_a_pickled_hub_model_is_refused(copy: Path, hub: list[tuple[str, int]]) -> None:
    pickled(copy)
    with pytest.raises(BaseError, match="Pickled weights can run code"):
        found(NAME)


def test_a_model_that_the_hub_does_not_have(hub: list[tuple[str, int]]) -> None:
    with pytest.raises(BaseError, match="it is not there, or not public"):
        found("someone/else")


def test_a_hub_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    with pytest.raises(BaseError, match=r"cannot be reached.*Check the name, the network"):
        found(NAME)
