"""Runs of task numeric: numbers as one token and their values, each loss and form of the head."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from llmpred import Predictor
from llmpred.bases.load import load_tokenizer
from llmpred.bases.locate import locate
from llmpred.bases.resolve import resolve, zero_shot_of
from llmpred.engine import numbers, semantics
from llmpred.engine.check import check
from llmpred.engine.encoding import encode
from llmpred.engine.models import Interrupted, LoadedBases
from llmpred.engine.run import Outcome
from llmpred.errors import DataError, SpecError
from llmpred.ledger import Ledger
from llmpred.methods import adapters
from llmpred.methods.numeric import FEATURES, NumericHead, features
from llmpred.spec.checks import VALUE_LOSSES, impossible
from llmpred.spec.run import BaseSpec, MethodSpec, RunSpec
from llmpred.sweep.orders import Orders
from llmpred.sweep.worker import work
from llmpred.tasks.base import LEVELS
from llmpred.tasks.numeric import scale
from llmpred.tasks.prepare import Examples, prepare
from tests.runs import carry_out, lora, losses, run_spec

NUMBERS = "synthetic:quantities"


def numeric_spec(base: Path | str, method: dict[str, Any] | None = None, **more: Any) -> RunSpec:
    """Return a small run of task numeric."""
    sections: dict[str, Any] = {
        "task": {"name": "numeric", "labels": None, "max_length": 128},
        "dataset": {"source": NUMBERS, "options": {"n": 60, "seed": 1, "part": "train"}},
        "method": {"head": "numeric", "adapter": lora(), **(method or {})},
        "evaluation": {
            "data": {"source": NUMBERS, "options": {"n": 24, "seed": 2, "part": "test"}}
        },
    }
    for name, change in more.items():
        sections[name] = {**sections.get(name, {}), **change}
    return run_spec(base, **sections)


def answers(outcome: Outcome) -> list[Any]:
    return [json.loads(text) for text in outcome.predictions["prediction"].to_pylist()]


def wrote(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return {"source": str(path), "options": None}


WAYS: dict[str, dict[str, Any]] = {
    "cauchy": {},
    "cauchy, mlp": {"head_form": "mlp"},
    "pointer": {"head_form": "pointer"},
    "log1p": {"loss": "log1p"},
    "mse, mlp": {"loss": "mse", "head_form": "mlp"},
    "pinball": {"loss": "pinball"},
    "full": {"head_form": "pointer", "adapter": {"kind": "full"}},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_runs_is_kept_and_answers_as_it_was_evaluated(
    way: str, tiny_causal: Path, tmp_path: Path
) -> None:
    spec = numeric_spec(tiny_causal, WAYS[way], dataset={"validation": 0.2}, optim={"lr": 1e-2})
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.record.status == "ok"
    assert losses(outcome)[-1] < losses(outcome)[0]
    assert outcome.adapter is not None
    base = None if way == "full" else spec.base.name
    predictor = Predictor.load(outcome.adapter, base)
    assert outcome.record.spec is not None
    again, _ = predictor.evaluate(prepare(outcome.record.spec).evaluation)
    assert [p.prediction for p in again] == answers(outcome)
    for answer in answers(outcome):
        assert math.isfinite(answer["value"])
        assert answer["quantiles"] == sorted(answer["quantiles"])
        assert answer["due"] == (answer["rank"] == 1)
    trained = carry_out(spec, tmp_path / "again", trained=outcome.adapter)
    assert answers(trained) == answers(outcome)


def test_a_cut_run_goes_on_as_if_nothing_had_been(tiny_causal: Path, tmp_path: Path) -> None:
    spec = numeric_spec(tiny_causal, {"head_form": "pointer"})
    whole = carry_out(spec, tmp_path / "whole", keep_adapter=True)
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        carry_out(spec, tmp_path / "cut", stop=lambda: "enough" if next(steps) == 2 else None)
    cut = carry_out(spec, tmp_path / "cut", keep_adapter=True)
    assert whole.record.loss_curve == cut.record.loss_curve
    assert whole.predictions.equals(cut.predictions)


@pytest.mark.parametrize(
    "adapter",
    [
        {**lora(), "target_modules": "all_linear"},
        {**lora(), "target_modules": ("q_proj", "v_proj")},
        {"kind": "full", "last_layers": 1},
    ],
)
def test_the_whole_head_is_trained_and_not_adapted(
    adapter: dict[str, Any], tiny_causal: Path
) -> None:
    way = {"head_form": "pointer", "adapter": adapter}
    resolved = resolve(numeric_spec(tiny_causal, way))
    base = LoadedBases().get(resolved, None)
    with adapters.attached(base.model, resolved.spec.method, 0) as model:
        own = NumericHead(base.model.config.hidden_size, resolved.spec.method).state_dict()
        found = {n.rpartition("numeric.")[2] for n in adapters.trainable(model) if "numeric." in n}
        assert found == own.keys()


def test_the_base_is_left_as_it_was(tiny_causal: Path, tmp_path: Path) -> None:
    bases = LoadedBases()
    first = carry_out(numeric_spec(tiny_causal), tmp_path / "a", bases)
    carry_out(numeric_spec(tiny_causal, {"head_form": "pointer"}), tmp_path / "b", bases)
    again = carry_out(numeric_spec(tiny_causal), tmp_path / "c", bases)
    assert first.record.loss_curve == again.record.loss_curve
    assert first.predictions.equals(again.predictions)


def test_micro_batches_change_nothing(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmpred.methods.numeric.DROPOUT", 0.0)  # drawn for each micro-batch
    one, other = (
        carry_out(
            numeric_spec(
                tiny_causal,
                {"head_form": "pointer"},
                execution={"micro_batch": size, "eval_batch": 3 * size},
            ),
            tmp_path / str(size),
        )
        for size in (2, 16)
    )
    assert losses(one) == pytest.approx(losses(other), abs=1e-4)


def test_the_untouched_base_is_scored_by_one_run(tiny_causal: Path, tmp_path: Path) -> None:
    resolved = [resolve(numeric_spec(tiny_causal, way)) for way in WAYS.values()]
    keys = {each.zero_shot_key for each in resolved}
    assert len(keys) == 1
    before = zero_shot_of(resolved[0].spec)
    assert before is not None
    assert resolve(before).key in keys
    listed = numeric_spec(tiny_causal, {"adapter": {"kind": "none"}})
    assert resolve(listed).key in keys
    outcome = carry_out(before, tmp_path)
    assert outcome.record.metrics["accuracy"] == 0.0
    assert outcome.record.metrics["mean_rank"] > 2
    assert outcome.record.parameters["trainable"] == 0


def test_the_untouched_base_is_asked_by_its_key(tiny_causal: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    orders = Orders(str(tmp_path), "a-sweep", str(tmp_path))
    ledger.storage.write(orders.driver_file, b"")
    run = resolve(numeric_spec(tiny_causal, {"adapter": {"kind": "none"}}))
    assert work(run, ledger, LoadedBases(), orders).state == "ok"
    stored = ledger.predictions(run.key)["prediction"].to_pylist()
    found, _ = Predictor.load(run.key, storage=tmp_path).evaluate(prepare(run.spec).evaluation)
    assert [p.prediction for p in found] == [json.loads(text) for text in stored]


# --- the token and its value -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens", "values"),
    [
        ("the box has 1,200 of -3.5e2", 2, (1200.0, -350.0)),
        ("三百五十 和 4%", 2, (350.0, 4.0)),
        ("no number in B2B", 0, ()),
        ("<NUM> is text here, 7 is none", 1, (7.0,)),
    ],
)
def test_each_number_of_a_text_is_one_token(
    text: str, tokens: int, values: tuple[float, ...], tiny_causal: Path, tmp_path: Path
) -> None:
    rows = [{"text": text, "value": 5, "next": "of 6"}, {"text": "it is", "next": "late"}]
    spec = numeric_spec(
        tiny_causal, dataset=wrote(tmp_path, rows), evaluation={"data": wrote(tmp_path, rows)}
    )
    settled = resolve(spec).spec
    data = prepare(settled)
    tokenizer = load_tokenizer(locate(settled.base), numbers=True)
    token = tokenizer.convert_tokens_to_ids("<NUM>")
    first, second = encode(Examples(data.train), data.task, settled, tokenizer, training=True)
    assert first.prompt.count(token) == tokens
    assert first.target[0] == token
    assert first.target.count(token) == 2
    assert first.values == (*values, 5.0, 6.0)
    assert (second.target.count(token), second.values) == (0, ())


def test_cut_texts_keep_the_values_of_the_numbers_that_stay(
    tiny_causal: Path, tmp_path: Path
) -> None:
    text = " ".join(f"then {10 * n} more" for n in range(1, 60)) + " makes"
    rows = [{"text": text, "value": 1}, {"text": text + " about", "value": 2}]
    for side, there in (("end", [10.0, 20.0]), ("start", [580.0, 590.0])):
        spec = numeric_spec(
            tiny_causal,
            task={"truncation": side, "max_length": 40},
            dataset=wrote(tmp_path, rows),
            evaluation={"data": wrote(tmp_path, rows)},
        )
        settled = resolve(spec).spec
        data = prepare(settled)
        tokenizer = load_tokenizer(locate(settled.base), numbers=True)
        (one, _) = encode(Examples(data.train), data.task, settled, tokenizer, training=True)
        assert one.truncated
        token = tokenizer.convert_tokens_to_ids("<NUM>")
        assert len(one.values) == (one.prompt + one.target).count(token)
        found = one.values[:-1]
        kept = found[:2] if side == "end" else found[-2:]
        assert list(kept) == there


@pytest.mark.parametrize("side", ["end", "start"])
def test_no_number_is_cut_in_two(side: str, tiny_causal: Path, tmp_path: Path) -> None:
    text = " ".join(["1234567890.125"] * 12)
    row = {"text": text, "value": 1.0}
    for length in range(16, 48):
        spec = numeric_spec(
            tiny_causal,
            task={"truncation": side, "max_length": length},
            dataset=wrote(tmp_path, [row]),
            evaluation={"data": wrote(tmp_path, [row])},
        )
        settled = resolve(spec).spec
        data = prepare(settled)
        tokenizer = load_tokenizer(locate(settled.base), numbers=True)
        (one,) = encode(Examples(data.train), data.task, settled, tokenizer, training=True)
        assert set(one.values[:-1]) <= {1234567890.125}


def test_a_check_tells_of_targets_that_are_cut(tiny_causal: Path, tmp_path: Path) -> None:
    rows = [{"text": "it is", "value": 1.0, "next": "of all " * n} for n in (1, 40)]
    spec = numeric_spec(
        tiny_causal, dataset=wrote(tmp_path, rows), evaluation={"data": wrote(tmp_path, rows)}
    )
    settled = resolve(spec).spec
    data = prepare(settled)
    tokenizer = load_tokenizer(locate(settled.base), numbers=True)
    cut = [
        e.truncated
        for e in encode(Examples(data.train), data.task, settled, tokenizer, training=True)
    ]
    assert cut == [False, True]
    found = check("rows", data.task, settled, data.train, None, tokenizer)
    assert found.lengths.maximum <= settled.task.max_length
    assert found.truncated == 0.5


def test_weights_that_are_no_numbers_predict_no_number(tiny_causal: Path) -> None:
    resolved = resolve(numeric_spec(tiny_causal, {"head_form": "pointer"}))
    base = LoadedBases().get(resolved, None)
    data = prepare(resolved.spec)
    batch = encode(
        Examples(data.evaluation), data.task, resolved.spec, base.tokenizer, training=False
    )
    with adapters.attached(base.model, resolved.spec.method, 0) as model, torch.no_grad():
        base.model.numeric.says[0].weight.fill_(math.nan)
        base.model.model.norm.weight.fill_(math.nan)
        found = numbers.scores(model, base, resolved.spec, batch[:2])
    for answer in data.task.answers([{}] * 2, resolved.spec.task, found, {"loss": "cauchy"}):
        assert not answer["due"]
        assert math.isfinite(answer["value"])


def test_what_the_head_reads_is_what_the_language_model_head_reads(tiny_causal: Path) -> None:
    spec = resolve(numeric_spec(tiny_causal)).spec
    base = LoadedBases().get(resolve(numeric_spec(tiny_causal)), None)
    data = prepare(spec)
    batch = encode(Examples(data.train), data.task, spec, base.tokenizer, training=True)[:4]
    with adapters.attached(base.model, spec.method, 0) as model, torch.no_grad():
        read = numbers._read(model, base, [e.prompt for e in batch], [e.values for e in batch], 3)
        logits = base.model.get_output_embeddings()(read.states[:, -3:])
    torch.testing.assert_close(logits, read.logits)


def test_the_row_of_the_token_is_the_mean_of_all_others(tiny_causal: Path) -> None:
    base = LoadedBases().get(resolve(numeric_spec(tiny_causal)), None)
    own = load_file(tiny_causal / "model.safetensors")
    token = base.tokenizer.convert_tokens_to_ids("<NUM>")
    for name, table in (
        ("model.embed_tokens.weight", base.model.get_input_embeddings()),
        ("lm_head.weight", base.model.get_output_embeddings()),
    ):
        torch.testing.assert_close(table.weight[token], own[name].mean(0))
        torch.testing.assert_close(table.weight[:token], own[name][:token])


def test_another_value_in_a_text_is_another_answer(tiny_causal: Path, tmp_path: Path) -> None:
    outcome = carry_out(
        numeric_spec(tiny_causal, {"head_form": "pointer"}), tmp_path, keep_adapter=True
    )
    assert outcome.adapter is not None
    predictor = Predictor.load(outcome.adapter, tiny_causal)
    said = [predictor.predict(f"the box has {n} kg. It has").number for n in (3, 4, 4e9)]
    assert len({json.dumps(one) for one in said}) == 3


def test_an_empty_text_and_a_long_number_are_answered(tiny_causal: Path, tmp_path: Path) -> None:
    spec = numeric_spec(tiny_causal, {"head_form": "pointer"}, optim={"lr": 1e-2, "max_steps": 20})
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    predictor = Predictor.load(outcome.adapter, tiny_causal)
    texts = ["", "the box has 1234567 kg. It has"]
    alone = [predictor.predict(text).number for text in texts]
    together = predictor.predict_batch(texts)
    for one, answer in zip(alone, together, strict=True):
        assert one is not None
        assert answer.number is not None
        assert answer.number["value"] == pytest.approx(one["value"], rel=1e-3)
        assert answer.number["probability"] == pytest.approx(one["probability"], rel=1e-3)
        # All digits are in the label.
        assert (answer.label == "") != answer.number["due"]
        assert not answer.label or float(answer.label) == answer.number["value"]
    assert any(answer.label for answer in together)


# --- in another process ----------------------------------------------------------------------

ELSEWHERE = """
import json, sys
from llmpred import Predictor
predictor = Predictor.load(sys.argv[1], sys.argv[2])
texts = json.loads(sys.argv[3])
print(json.dumps([one.number for one in predictor.predict_batch(texts)]))
"""
BY_PEFT = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, base = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base)
model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
model = PeftModel.from_pretrained(model, folder).eval()
ids = tokenizer(sys.argv[3], return_tensors="pt")
token = tokenizer.convert_tokens_to_ids("<NUM>")
with torch.no_grad():
    print(json.dumps(model(**ids).logits[0, -1].softmax(-1)[token].item()))
"""


def test_a_clean_process_gives_the_same_answers(tiny_causal: Path, tmp_path: Path) -> None:
    spec = numeric_spec(tiny_causal, {"head_form": "pointer"}, optim={"lr": 1e-2})
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.adapter is not None
    texts = ["the box has 12.5 kg. It has", "气温是-4度。它是", "no number here, it is"]

    def elsewhere(code: str, last: str) -> Any:
        found = subprocess.run(
            [sys.executable, "-c", code, str(outcome.adapter), str(tiny_causal), last],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(found.stdout.splitlines()[-1])

    predictor = Predictor.load(outcome.adapter, tiny_causal)
    here = [one.number for one in predictor.predict_batch(texts)]
    assert elsewhere(ELSEWHERE, json.dumps(texts)) == here
    # Of a text without numbers nothing but the adapter is read, which PEFT alone can load.
    assert here[-1] is not None
    assert elsewhere(BY_PEFT, texts[-1]) == pytest.approx(here[-1]["probability"], rel=1e-4)


@pytest.mark.parametrize("case", ["gone", "torn", "shape", "names"])
def test_a_head_that_does_not_fit_is_refused(case: str, tiny_causal: Path, tmp_path: Path) -> None:
    resolved = resolve(numeric_spec(tiny_causal))
    base, method = LoadedBases().get(resolved, None), resolved.spec.method
    with adapters.attached(base.model, method, 0) as model:
        adapters.save(model, method, tmp_path)
        adapters.load(model, method, tmp_path)
        path = tmp_path / adapters.NUMERIC_FILE
        weights = load_file(path)
        if case == "gone":
            path.unlink()
        elif case == "torn":
            path.write_bytes(path.read_bytes()[:99])
        elif case == "shape":
            save_file({**weights, "says.bias": weights["says.bias"][:1]}, path)
        else:
            save_file({**weights, "query.bias": torch.zeros(64)}, path)
        with pytest.raises(SpecError, match=r"numeric\.safetensors"):
            adapters.load(model, method, tmp_path)


# --- losses ----------------------------------------------------------------------------------


def test_the_loss_of_a_mixture_is_its_negative_log_likelihood() -> None:
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(5, 3, generator=draw).double().log_softmax(1)
    places, scales = torch.randn(2, 5, 3, generator=draw).double()
    values = torch.randn(5, generator=draw).double()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=weights),
        torch.distributions.Cauchy(places, scales.exp()),
    )
    found = semantics.number_loss(torch.stack([weights, places, scales], 1), values, "cauchy", 7)
    assert float(found) == pytest.approx(-float(mixture.log_prob(values).sum()) / 7)


def test_a_number_that_is_not_there_has_no_weight() -> None:
    torch.manual_seed(0)
    head = NumericHead(8, MethodSpec(head="numeric", loss="cauchy", head_form="pointer")).eval()
    states, sources = torch.randn(2, 8), torch.randn(2, 3, 16)
    known = torch.tensor([[1.0, 2.0, 3.0]] * 2, dtype=torch.float64)
    there = torch.tensor([[True, False, True], [False, False, False]])
    weights, places, _ = head(states, sources, known, there).unbind(1)
    shares = weights.exp()
    assert shares.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert shares[0, [4, 5, 6]].tolist() == [0.0, 0.0, 0.0]
    assert shares[1].tolist() == [1.0, *[0.0] * 9]
    assert places[0, [1, 7]].tolist() == [1.0, 3.0]  # copies are exact
    assert places[0, [2, 3]].tolist() == [1.5, 0.5]  # shifts begin up and down from there


def test_what_is_read_of_a_value_tells_values_apart_and_does_not_saturate() -> None:
    values = [0.0, 1e-300, 1e-9, 1.0, 1.05, -1.0, 3e5, 3.1e5, 1e18, 1e300, -1e300]
    found = features(torch.tensor(values, dtype=torch.float64))
    assert found.shape == (len(values), FEATURES)
    assert torch.isfinite(found).all()
    apart = torch.cdist(found, found) + 9 * torch.eye(len(values))
    assert float(apart.min()) > 0.02


@pytest.mark.parametrize("loss", ["log1p", "mse"])
def test_values_come_back_from_their_scale(loss: str) -> None:
    values = np.array([0.0, 12.5, -3.0, 1e-9, 6.02e23, -1e300, 255.0, 1 / 3])
    own = scale.learnt([1.0, -20.0, 300.0, 1e-3])
    back = scale.said(scale.taught(values, own, loss), own, loss)
    for value, again in zip(values, back, strict=True):
        # What is far below `linear`, or beside a large mean, loses digits.
        assert again == pytest.approx(value, rel=1e-8, abs=1e-9 if loss == "mse" else 0)
    if loss == "log1p":
        assert back[:3].tolist() == [0.0, 12.5, -3.0]


def test_the_scale_is_that_of_training_rows_alone(tiny_causal: Path) -> None:
    one = resolve(numeric_spec(tiny_causal))
    other = resolve(
        numeric_spec(
            tiny_causal,
            evaluation={
                "data": {"source": NUMBERS, "options": {"n": 9, "seed": 5, "part": "test"}}
            },
        )
    )
    assert one.spec.task.values == other.spec.task.values is not None
    assert one.train_key == other.train_key


def test_digits_are_taught_by_the_number_token_loss(tiny_causal: Path, tmp_path: Path) -> None:
    digits = {"head": "causal_lm", "loss": "number_token"}
    spec = numeric_spec("proxy", digits, optim={"max_steps": 2})
    plain = numeric_spec("proxy", {**digits, "loss": None}, optim={"max_steps": 2})
    with_it, without = (
        carry_out(one, tmp_path / name) for name, one in {"with": spec, "without": plain}.items()
    )
    # To the same first loss something is added that is never negative.
    assert losses(with_it)[0] > losses(without)[0]
    assert {"without_value", "accuracy"} <= with_it.record.metrics.keys()


def test_a_base_without_tokens_for_digits_cannot_be_taught_them() -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "seven": 1, "7": 2}, unk_token="[UNK]"))
    with pytest.raises(SpecError, match="a token for each digit"):
        numbers._number_token(PreTrainedTokenizerFast(tokenizer_object=words), 3)


# --- what does not go together ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"method": {"loss": "ordinal"}}, "is taught by"),
        ({"method": {"loss": "number_token"}}, "teaches digits"),
        ({"method": {"loss": "mse", "head_form": "pointer"}}, "with loss `cauchy`"),
        ({"method": {"head": "causal_lm", "loss": "cauchy"}}, "belongs to head `numeric`"),
        ({"method": {"class_weights": "balanced"}}, "class_weights"),
        ({"execution": {"distributed": {"workers": 2}}}, "one process"),
    ],
)
def test_what_does_not_go_together_is_refused(
    change: dict[str, Any], law: str, tiny_causal: Path
) -> None:
    method = change.pop("method", {})
    with pytest.raises(SpecError, match=law):
        resolve(numeric_spec(tiny_causal, method, **change))


@pytest.mark.parametrize("loss", VALUE_LOSSES)
def test_the_head_need_not_be_named(loss: str) -> None:
    spec = numeric_spec("proxy", {"head": "auto", "loss": loss})
    assert not list(impossible(spec))


def test_an_encoder_says_no_numbers(tiny_encoder: Path) -> None:
    with pytest.raises(SpecError, match="causal"):
        resolve(numeric_spec(tiny_encoder))


@pytest.mark.parametrize(
    ("rows", "law"),
    [
        ([{"text": "it is", "next": "5 kg"}, {"text": "it has", "value": 3}], "open with a number"),
        ([{"text": "it is", "next": "late"}, {"text": "it has", "next": "a"}], "has a `value`"),
        ([{"text": "it is"}, {"text": "it has", "value": 3}], "`value` or `next`"),
    ],
)
def test_rows_that_teach_nothing_are_refused(
    rows: list[dict[str, Any]], law: str, tiny_causal: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=law):
        resolve(numeric_spec(tiny_causal, dataset=wrote(tmp_path, rows)))


def test_a_base_that_has_the_token_keeps_its_size(tiny_causal: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    tokenizer.add_tokens(["<NUM>"])
    model = AutoModelForCausalLM.from_pretrained(tiny_causal)
    model.resize_token_embeddings(len(tokenizer) + 3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    base = LoadedBases().get(resolve(numeric_spec(tmp_path)), None)
    assert len(base.model.get_input_embeddings().weight) == len(tokenizer) + 3
    assert base.model.config.number_token == len(tokenizer) - 1
    assert locate(BaseSpec(name=str(tmp_path))).kind == "causal"


def test_quantiles_of_a_mixture_hold() -> None:
    from llmpred.tasks.numeric import mixture

    one = [0.0, 2.0, math.log(0.5)]  # a single Cauchy distribution
    two = [math.log(0.7), math.log(0.3), -1.0, 4.0, math.log(0.1), math.log(0.2)]
    best, quantiles = mixture.read([one, two], LEVELS)
    assert best.tolist() == [2.0, -1.0]
    expected = [2 + 0.5 * math.tan(math.pi * (level - 0.5)) for level in LEVELS]
    assert quantiles[0].tolist() == pytest.approx(expected)
    for level, at in zip(LEVELS, quantiles[1], strict=True):
        below = 0.7 * _cdf((at + 1) / 0.1) + 0.3 * _cdf((at - 4) / 0.2)
        assert below == pytest.approx(level, abs=1e-9)


def _cdf(x: float) -> float:
    return 0.5 + math.atan(x) / math.pi


def test_a_chat_template_with_the_token_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    spec = numeric_spec(tiny_causal, task={"chat_template": "auto"})
    tokenizer = load_tokenizer(locate(spec.base), numbers=True)
    tokenizer.chat_template = "<NUM>{{ messages[0]['content'] }}"
    settled = resolve(spec).spec
    spec = settled.model_copy(
        update={"task": settled.task.model_copy(update={"chat_template": "auto"})}
    )
    data = prepare(settled)
    with pytest.raises(DataError, match="of its own"):
        encode(Examples(data.train)[:2], data.task, spec, tokenizer, training=True)
