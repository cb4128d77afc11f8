import dataclasses
import json
import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from llmpred.bases.pretraining import train
from llmpred.bases.pretraining.model import build
from llmpred.bases.pretraining.packing import Packed
from llmpred.bases.pretraining.tokenizer import train_tokenizer
from llmpred.errors import StorageError

TOKENIZER = train_tokenizer(["the cat sat on the mat"] * 3, 272, 20, 64)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmpred.bases.pretraining import model

    monkeypatch.setattr(model, "SHAPE", {**model.SHAPE, **SMALL})


def settings(**changes) -> train.Settings:
    usual = {"tokens": 2560, "batch": 256, "micro": 128, "length": 32, "long_length": 64}
    return train.Settings(**{**usual, "precision": "fp32", **changes})


def packed() -> Packed:
    rng = np.random.default_rng(0)
    ids = np.resize(rng.integers(2, 40, 37), 2000).astype(np.uint16)
    return Packed(ids, np.arange(20, 2001, 20), np.ones(100))


def run(how: train.Settings, folder: Path | None = None, stop: int | None = None):
    model = build(TOKENIZER, how.seed)
    tuned = train.optimizers(model, how)
    done = train.load_checkpoint(folder, model, tuned) if folder else None
    made = list(islice(train.steps(model, model, tuned, packed(), how, done=done), stop))
    return model, tuned, made


def test_schedule():
    how = settings(warmup=0.1, decay=0.4)
    shares = [train.lr_factor(how, p) for p in (0.0, 0.05, 0.1, 0.6, 0.8, 1.0)]
    assert 0 < shares[0] < 0.02
    assert shares[1] == pytest.approx(0.5, abs=0.01)
    assert shares[2:] == pytest.approx([1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resumed_equals_uninterrupted(tmp_path: Path, optimizer: str):
    how = settings(optimizer=optimizer)
    whole_model, _, whole = run(how)
    assert [s.step for s in whole] == list(range(1, 11))
    assert whole[-1].tokens == 2560
    model, tuned, first = run(how, stop=4)
    train.save_checkpoint(tmp_path, model, tuned, first[-1])
    resumed_model, _, rest = run(how, tmp_path)
    assert [s.loss for s in first + rest] == [s.loss for s in whole]
    for a, b in zip(whole_model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole[-1].loss < whole[0].loss


def test_micro_batches_do_not_matter():
    losses = [[s.loss for s in run(settings(micro=m))[2]] for m in (32, 256)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_muon_takes_the_matrices_of_the_blocks():
    model = build(TOKENIZER, 0)
    muon, adamw = train.optimizers(model, settings(optimizer="muon"))
    assert len(muon.param_groups[0]["params"]) == 2 * 7
    assert sum(len(group["params"]) for group in adamw.param_groups) == 1 + 2 * 2 + 1


def test_a_budget_of_time_ends_by_itself():
    made = run(settings(tokens=None, minutes=0.02))[2]
    assert made[-1].progress == 1.0
    assert 1.2 <= made[-1].seconds < 10


def test_divergence_is_said():
    with pytest.raises(FloatingPointError, match=r"the loss of step \d+ is .*: lower the lr"):
        run(settings(lr=math.inf, optimizer="adamw"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, tuned, made = run(settings(), stop=1)
    train.save_checkpoint(tmp_path, model, tuned, made[-1])
    assert json.loads((tmp_path / train.STATE).read_text()) == dataclasses.asdict(made[-1])
    from llmpred.bases.pretraining import model as shapes

    monkeypatch.setitem(shapes.SHAPE, "intermediate_size", 96)
    with pytest.raises(StorageError, match="its weights are others"):
        run(settings(), tmp_path)


def test_validation_is_the_mean_over_windows():
    model = build(TOKENIZER, 0)
    ids = packed().ids
    every = train.validate(model, ids, 32)
    assert every.shape == (62, 31)
    assert every.mean() == pytest.approx(math.log(272), abs=0.3)
    np.testing.assert_allclose(train.validate(model, ids, 32, 3), every[[0, 30, 61]], rtol=1e-4)
