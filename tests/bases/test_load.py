"""Loading: no code of the folder, the head that is asked for, a token to pad with."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from llmpred.bases.load import load_model, load_tokenizer
from llmpred.bases.locate import locate
from llmpred.errors import BaseError
from llmpred.spec.run import BaseSpec


def load(folder: Path, classes: int | None = None) -> Any:
    return load_model(
        locate(BaseSpec(name=str(folder))),
        classes=classes,
        quantization="none",
        dtype=torch.float32,
        device=torch.device("cpu"),
        pad_token_id=0,
    )


def test_a_classification_head_has_the_classes_asked_for(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    assert load(tiny_causal, 3).score.out_features == 3
    assert load(tiny_encoder, 4).classifier.out_features == 4
    shutil.copytree(tiny_encoder, tmp_path / "own")
    theirs = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=7)
    theirs.save_pretrained(tmp_path / "own")
    assert load(tmp_path / "own", 2).classifier.out_features == 2


def test_peft_on_a_loaded_model_warns_of_nothing(tiny_causal: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        get_peft_model(load(tiny_causal), LoraConfig(target_modules=["q_proj"]))
        with pytest.raises(FutureWarning):
            warnings.warn("another", FutureWarning, stacklevel=1)


def test_code_in_the_folder_does_not_run(tiny_causal: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(tiny_causal, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert type(load(folder)).__name__ == "LlamaForCausalLM"  # the library's own
    assert not mark.exists()


def test_a_tokenizer_without_a_pad_token_pads_with_its_end(
    tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_causal, folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    tokenizer = load_tokenizer(locate(BaseSpec(name=str(folder))))
    assert tokenizer.pad_token == tokenizer.eos_token == "</s>"
    assert load_tokenizer(locate(BaseSpec(name=str(tiny_encoder)))).padding_side == "right"
    del settings["eos_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(BaseError, match="no token to pad with"):
        load_tokenizer(locate(BaseSpec(name=str(folder))))


def test_attention_is_the_fused_one(tiny_causal: Path, tiny_encoder: Path) -> None:
    for model in (load(tiny_causal), load(tiny_encoder, 2)):
        assert model.config._attn_implementation == "sdpa"
        assert not model.training
