"""What is trained, and that nothing else changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from llmpred.errors import SpecError
from llmpred.methods import adapters
from llmpred.spec.run import MethodSpec
from tests.conftest import ROOT
from tests.runs import fingerprint, loaded, lora, run_spec

IDS = torch.tensor([[1, 9, 17, 33, 52]])


def method(head: str = "label_scoring", **adapter: Any) -> MethodSpec:
    return MethodSpec.model_validate({"head": head, "adapter": adapter or lora()})


def base_model(folder: Path, head: str = "label_scoring", **base: Any) -> Any:
    spec = run_spec(folder, method={"head": head, "adapter": {"kind": "none"}}, base=base)
    return loaded(spec).model


def names(model: nn.Module) -> set[str]:
    return {name.removeprefix("base_model.model.") for name in adapters.trainable(model)}


def changed(model: nn.Module) -> None:
    """Do what training does: change all trainable weights."""
    with torch.no_grad():
        for number, weight in enumerate(adapters.trainable(model).values()):
            weight.add_(torch.randn(weight.shape, generator=torch.manual_seed(number)) / 10)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("adapter", [lora(), lora(target_modules="all_linear"), {"kind": "none"}])
@pytest.mark.parametrize(
    ("kind", "head"),
    [("causal", "label_scoring"), ("causal", "classifier"), ("encoder", "classifier")],
)
def test_the_base_comes_back_bit_by_bit(
    kind: str, adapter: dict[str, Any], head: str, tiny_causal: Path, tiny_encoder: Path
) -> None:
    model = base_model(tiny_causal if kind == "causal" else tiny_encoder, head)
    before, attributes = fingerprint(model), set(vars(model))
    for seed in (0, 1):
        with adapters.attached(model, method(head, **adapter), seed) as tuned:
            changed(tuned)
        assert fingerprint(model) == before
        assert set(vars(model)) == attributes
        assert not any(hasattr(module, "lora_A") for module in model.modules())


def test_the_base_comes_back_after_a_failure(tiny_encoder: Path) -> None:
    model = base_model(tiny_encoder, "classifier")
    before = fingerprint(model)
    with pytest.raises(KeyError), adapters.attached(model, method("classifier"), 0):
        raise KeyError
    assert fingerprint(model) == before


@pytest.mark.parametrize("adapter", [lora(), lora(dropout=0.1), {"kind": "none"}])
def test_the_first_weights_depend_on_the_seed_alone(
    adapter: dict[str, Any], tiny_encoder: Path
) -> None:
    def first(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
        with adapters.attached(model, method("classifier", **adapter), seed) as tuned:
            return {name: weight.clone() for name, weight in adapters.trainable(tuned).items()}

    model = base_model(tiny_encoder, "classifier")
    one = first(model, 1)
    torch.rand(10)
    first(model, 2)
    for again in (first(model, 1), first(base_model(tiny_encoder, "classifier"), 1)):
        assert one.keys() == again.keys()
        assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], weight) for name, weight in first(model, 2).items())


def test_lora_trains_its_matrices_alone(tiny_causal: Path) -> None:
    model = base_model(tiny_causal)
    layers = ("q_proj", "k_proj", "v_proj", "o_proj")
    with adapters.attached(model, method(), 0) as tuned:
        assert names(tuned) == {
            f"model.layers.{i}.self_attn.{layer}.lora_{ab}.default.weight"
            for i in (0, 1)
            for layer in layers
            for ab in "AB"
        }
    with adapters.attached(model, method(**lora(target_modules="all_linear")), 0) as tuned:
        trained = {name.split(".lora")[0].rsplit(".", 1)[-1] for name in names(tuned)}
        assert trained == {*layers, "gate_proj", "up_proj", "down_proj"}
    with adapters.attached(model, method(**lora(target_modules=["v_proj"])), 0) as tuned:
        assert {name.split(".")[4] for name in names(tuned)} == {"v_proj"}


def test_a_classifier_trains_its_head_too(tiny_encoder: Path) -> None:
    model = base_model(tiny_encoder, "classifier")
    head = {"classifier.weight", "classifier.bias"}
    with adapters.attached(model, method("classifier", kind="none"), 0) as tuned:
        assert names(tuned) == head
        assert float(model.classifier.weight.std()) == pytest.approx(0.02, rel=0.3)
        assert not model.classifier.bias.any()
    with adapters.attached(model, method("classifier"), 0) as tuned:
        rest = {name for name in names(tuned) if "lora_" not in name}
        assert rest == {f"classifier.modules_to_save.default.{n}" for n in ("weight", "bias")}
        trained = {name.split(".lora")[0].rsplit(".", 1)[-1] for name in names(tuned) - rest}
        assert trained == {"query", "key", "value", "dense"}  # dense: the attention's output
        assert all("attention" in name for name in names(tuned) - rest)


def test_full_trains_everything(tiny_causal: Path) -> None:
    model = base_model(tiny_causal)
    with adapters.attached(model, method(kind="full"), 0) as tuned:
        assert names(tuned) == {name for name, _ in model.named_parameters()}


def test_none_trains_nothing(tiny_causal: Path) -> None:
    with adapters.attached(base_model(tiny_causal), method(kind="none"), 0) as tuned:
        assert names(tuned) == set()


def test_what_is_trained_is_in_float32_whatever_the_base_is_in(tiny_encoder: Path) -> None:
    for adapter in (lora(), {"kind": "none"}):
        model = base_model(tiny_encoder, "classifier").bfloat16()
        with adapters.attached(model, method("classifier", **adapter), 0) as tuned:
            assert {w.dtype for w in adapters.trainable(tuned).values()} == {torch.float32}
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_target_modules_that_are_not_there_are_said(tiny_causal: Path) -> None:
    model = base_model(tiny_causal)
    wrong = method(**lora(target_modules=["q_proj", "query_key_value", "norm"]))
    said = r"query_key_value, norm is not .*This base has: down_proj"
    with pytest.raises(SpecError, match=said), adapters.attached(model, wrong, 0):
        pass
    with pytest.raises(SpecError, match="no attention layers were recognised"):
        adapters.target_modules(nn.Sequential(nn.Linear(2, 2)), method())


@pytest.mark.parametrize(
    "kind", ["gpt2", "opt", "gpt_neox", "phi", "bert", "distilbert", "roberta"]
)
def test_attention_is_recognised_in_many_architectures(kind: str) -> None:
    import transformers

    small = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 2}
    wide = {**small, "hidden_size": 16, "intermediate_size": 16}
    configs: dict[str, Any] = {
        "gpt2": lambda: transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2),
        "opt": lambda: transformers.OPTConfig(**small, hidden_size=16, ffn_dim=16),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**wide),
        "phi": lambda: transformers.PhiConfig(**wide),
        "bert": lambda: transformers.BertConfig(**wide),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16
        ),
        "roberta": lambda: transformers.RobertaConfig(**wide),
    }
    expected = {
        "gpt2": {"c_attn", "c_proj"},
        "opt": {"k_proj", "v_proj", "q_proj", "out_proj"},
        "gpt_neox": {"query_key_value", "dense"},
        "phi": {"q_proj", "k_proj", "v_proj", "dense"},
        "bert": {"query", "key", "value", "dense"},
        "distilbert": {"q_lin", "k_lin", "v_lin", "out_lin"},
        "roberta": {"query", "key", "value", "dense"},
    }
    causal = kind in ("gpt2", "opt", "gpt_neox", "phi")
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    found = adapters.target_modules(auto.from_config(configs[kind]()), method())
    assert {name.rsplit(".", 1)[-1] for name in found} == expected[kind]


@pytest.mark.parametrize(
    ("kind", "head", "adapter"),
    [
        ("causal", "label_scoring", lora()),
        ("causal", "label_scoring", lora(use_rslora=True, target_modules="all_linear")),
        ("causal", "label_scoring", {"kind": "full"}),
        ("causal", "classifier", lora()),
        ("encoder", "classifier", lora()),
        ("encoder", "classifier", {"kind": "full"}),
        ("encoder", "classifier", {"kind": "none"}),
    ],
)
def test_saved_weights_come_back(
    kind: str,
    head: str,
    adapter: dict[str, Any],
    tiny_causal: Path,
    tiny_encoder: Path,
    tmp_path: Path,
) -> None:
    folder = tiny_causal if kind == "causal" else tiny_encoder
    spec = method(head, **adapter)
    with adapters.attached(base_model(folder, head), spec, 0) as tuned:
        changed(tuned)
        wanted = logits(tuned)
        adapters.save(tuned, spec, tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.suffix in {".bin", ".pt", ".pkl"}]
    with adapters.attached(base_model(folder, head), spec, 1) as tuned:
        assert not torch.equal(logits(tuned), wanted)
        adapters.load(tuned, spec, tmp_path)
        assert torch.equal(logits(tuned), wanted)


CLEAN = """
import sys, torch
from peft import PeftModel
import transformers
auto = transformers.AutoModelForCausalLM
more = {}
if sys.argv[1] == "classifier":
    auto, more = transformers.AutoModelForSequenceClassification, {"num_labels": 2}
model = PeftModel.from_pretrained(auto.from_pretrained(sys.argv[2], **more), sys.argv[3]).eval()
with torch.no_grad():
    found = model(input_ids=torch.tensor([[1, 9, 17, 33, 52]])).logits
torch.save(found, sys.argv[4])
"""


@pytest.mark.parametrize(
    "head", ["label_scoring", pytest.param("classifier", marks=pytest.mark.slow)]
)
def test_peft_alone_loads_what_was_saved(
    head: str, tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = tiny_causal if head == "label_scoring" else tiny_encoder
    with adapters.attached(base_model(folder, head), method(head), 0) as tuned:
        changed(tuned)
        wanted = logits(tuned)
        adapters.save(tuned, method(head), tmp_path / "adapter")
    there = [head, str(folder), str(tmp_path / "adapter"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", CLEAN, *there], check=True, cwd=tmp_path)
    found = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_an_adapter_that_peft_made_is_loaded(tiny_causal: Path, tmp_path: Path) -> None:
    theirs: Any = get_peft_model(
        base_model(tiny_causal),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    changed(theirs)
    theirs.save_pretrained(tmp_path)
    spec = method(**lora(target_modules=["q_proj"]))
    with adapters.attached(base_model(tiny_causal), spec, 0) as tuned:
        adapters.load(tuned, spec, tmp_path)
        assert torch.equal(logits(tuned), logits(theirs))


@pytest.fixture
def saved(tiny_causal: Path, tmp_path: Path) -> Path:
    with adapters.attached(base_model(tiny_causal), method(), 0) as tuned:
        adapters.save(tuned, method(), tmp_path / "saved")
    return tmp_path / "saved"


def refused(folder: Path, base: Path, spec: MethodSpec) -> str:
    model = base_model(base, spec.head)
    with pytest.raises(SpecError) as error, adapters.attached(model, spec, 0) as tuned:
        adapters.load(tuned, spec, folder)
    return str(error.value)


def test_pickled_weights_are_not_read(saved: Path, tiny_causal: Path) -> None:
    torch.save(load_file(saved / "adapter_model.safetensors"), saved / "adapter_model.bin")
    (saved / "adapter_model.safetensors").unlink()
    message = refused(saved, tiny_causal, method())
    assert "must hold adapter_model.safetensors" in message
    assert "safetensors only" in message


@pytest.mark.parametrize(
    "other", [lora(r=8), lora(target_modules="all_linear"), lora(target_modules=["q_proj"])]
)
def test_weights_of_another_method_are_refused(
    other: dict[str, Any], saved: Path, tiny_causal: Path
) -> None:
    assert "does not fit this base and method" in refused(saved, tiny_causal, method(**other))


def test_damaged_weights_are_said(saved: Path, tiny_causal: Path) -> None:
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    assert "is damaged" in refused(saved, tiny_causal, method())


def test_full_and_head_weights_of_another_model_are_refused(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_encoder / "model.safetensors", tmp_path)
    assert "does not fit" in refused(tmp_path, tiny_causal, method(kind="full"))
    weights = load_file(tiny_causal / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, tmp_path / "model.safetensors")
    assert "model.norm.weight" in refused(tmp_path, tiny_causal, method(kind="full"))
    save_file({"classifier.weight": torch.zeros(3, 32)}, tmp_path / "head.safetensors")
    head = method("classifier", kind="none")
    assert "another method or base" in refused(tmp_path, tiny_encoder, head)


def test_importing_the_package_needs_no_torch() -> None:
    code = "import sys, llmpred.methods.adapters; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
