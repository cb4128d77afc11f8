"""The base that comes with llmpred."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from llmpred.bases.fetch import add, is_here, known_folder
from llmpred.bases.locate import locate
from llmpred.bases.pretraining.ngram import unigram
from llmpred.bases.pretraining.train import next_token_loss
from llmpred.data.synthetic import generate
from llmpred.spec.run import BaseSpec

FOLDER = known_folder("proxy")
SENTENCES = (
    "The hotel was clean and the staff were friendly, but the room was too small.",
    "In 1998 the company opened a new factory in the north of the country.",
    "Write a short letter to a friend and tell him about your holiday.",
    "房间很干净，服务态度也不错，下次还会来住。",
    "这本书的内容很好，推荐大家都看一看。",
)


def card() -> str:
    return (FOLDER / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_it_is_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12e6
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "bfloat16"


def test_it_is_known_and_needs_no_download():
    assert is_here("proxy")
    assert add("proxy") == FOLDER
    found = locate(BaseSpec(name="proxy"))
    assert found.kind == "causal"
    assert found.parameters <= 4_000_000
    assert found.config["max_position_embeddings"] == 1024


def test_it_is_the_same_base_from_another_folder(tmp_path: Path):
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert (
        locate(BaseSpec(name=str(tmp_path))).weights_hash
        == locate(BaseSpec(name="proxy")).weights_hash
    )


@pytest.mark.parametrize("text", ["Hotel 123!", "服务很好", "😀 龘 ñ <0x41>\n\t  x", ""])
def test_its_tokenizer_returns_every_text(tokenizer, text: str):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_common_chinese_characters_have_tokens(tokenizer):
    text = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处理"  # noqa: E501
    assert len(tokenizer(text)["input_ids"]) <= len(text)


def test_it_knows_more_than_frequencies(model, tokenizer):
    documents = [
        row["text"]
        for language in ("en", "zh")
        for row in generate("documents", {"n": 300, "seed": 99, "language": language})
    ]
    ids = [tokenizer(f"{text}{tokenizer.eos_token}")["input_ids"] for text in documents]
    frequencies = unigram(np.concatenate(ids[::2]), len(tokenizer))
    others = ids[1::10]
    with torch.no_grad():
        losses = [next_token_loss(model, torch.tensor([row]), "fp32").sum() for row in others]
    by_frequency = -sum(frequencies[row[1:]].sum() for row in others)
    assert float(sum(losses)) < 0.8 * by_frequency


def test_it_has_read_real_text(model, tokenizer):
    row = re.search(r"^\| all \| [\d,]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) ", card(), re.MULTILINE)
    assert row
    own, trigram, by_frequency = map(float, row.groups())
    assert own < trigram < by_frequency
    ids = [tokenizer(f"{text}{tokenizer.eos_token}")["input_ids"] for text in SENTENCES]
    with torch.no_grad():
        losses = [next_token_loss(model, torch.tensor([row]), "fp32").mean() for row in ids]
    assert np.mean(losses) < by_frequency - 1


def test_late_positions_are_trained(model, tokenizer):
    text = " ".join(SENTENCES) * 20
    ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :1024]
    assert ids.shape == (1, 1024)
    with torch.no_grad():
        losses = next_token_loss(model, ids, "fp32")[0]
    assert losses[700:].mean() < losses[:200].mean() + 0.5
    assert torch.isfinite(losses).all()


def test_its_card_says_what_holds(model):
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million weights" in card()
    for part in ("What it is not for", "research use", "trigram", "optimizer steps", "hardware"):
        assert part in card()
