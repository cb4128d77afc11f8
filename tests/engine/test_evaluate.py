"""Scores and answers against the model itself, asked one example at a time, unpadded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PretrainedConfig,
)

from llmpred.bases.resolve import resolve
from llmpred.engine.evaluate import predict
from llmpred.engine.models import LoadedBase, candidate_scores, forward, in_batches
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import prepare
from tests.runs import encoded, loaded, run_spec

WORDS = {"negative": "negative", "positive": "really very positive"}  # of different lengths
NONE = {"kind": "none"}


def predictions(spec: RunSpec, base: LoadedBase) -> list[Any]:
    settled = resolve(spec).spec
    data = prepare(settled)
    found, _ = predict(base.model, base, data.task, settled, data.evaluation)
    return found


def brute_force(model: Any, prompt: list[int], candidate: list[int]) -> float:
    ids = torch.tensor([prompt + candidate])
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
    places = range(len(prompt), ids.shape[1])
    return sum(float(logs[place - 1, ids[0, place]]) for place in places)


@pytest.mark.parametrize("length_normalization", [False, True])
@pytest.mark.parametrize("eval_batch", [1, 5, 64])
def test_candidates_score_the_sum_of_their_tokens_log_probabilities(
    length_normalization: bool, eval_batch: int, tiny_causal: Path
) -> None:
    spec = run_spec(
        tiny_causal,
        task={"labels": WORDS},
        method={"adapter": NONE, "length_normalization": length_normalization},
        execution={"eval_batch": eval_batch},
    )
    base = loaded(spec)
    for got, example in zip(
        predictions(spec, base), encoded(spec, base, training=False), strict=True
    ):
        wanted = [brute_force(base.model, example.prompt, ids) for ids in example.candidates]
        if length_normalization:
            sizes = [len(ids) for ids in example.candidates]
            assert sizes[0] != sizes[1]
            wanted = [score / size for score, size in zip(wanted, sizes, strict=True)]
        assert got.scores == pytest.approx(wanted, abs=1e-4)
        assert got.prediction == sorted(WORDS)[wanted.index(max(wanted))]
        assert got.lengths == (len("negative"), len("really very positive"))


def test_calibrated_scores_are_divided_by_those_without_content(tiny_causal: Path) -> None:
    """Zhao et al., 2021: p(label | text) / mean over empty inputs of p(label | empty), rescaled."""
    spec = run_spec(tiny_causal, task={"labels": WORDS}, method={"adapter": NONE})
    base = loaded(spec)
    plain = predictions(spec, base)
    calibrated = run_spec(
        tiny_causal,
        task={"labels": WORDS},
        method={"adapter": NONE},
        evaluation={"calibration": "contextual"},
    )
    ids = encoded(spec, base, training=False)[0].candidates
    given = []
    for text in ("N/A", "[MASK]", ""):
        prompt = base.tokenizer(f"Review: {text}\nSentiment:")["input_ids"]
        scores = torch.tensor([brute_force(base.model, prompt, each) for each in ids])
        given.append(scores.softmax(0))
    mean = torch.stack(given).mean(0)
    for one, other in zip(plain, predictions(calibrated, base), strict=True):
        wanted = torch.tensor(one.scores).softmax(0) / mean
        got = torch.tensor(other.scores).softmax(0)
        assert torch.allclose(got, wanted / wanted.sum(), atol=1e-4)


def test_single_tokens_take_a_quicker_path_to_the_same_scores(tiny_causal: Path) -> None:
    # A prompt that ends in white space is followed by the bare word.
    task = {"labels": {"negative": "a", "positive": "d"}, "prompt": "{text}\n"}
    spec = run_spec(tiny_causal, task=task, method={"adapter": NONE})
    base = loaded(spec)
    examples = encoded(spec, base, training=False)
    assert all(len(ids) == 1 for e in examples for ids in e.candidates)
    rows: list[int] = []
    base.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    found = predictions(spec, base)
    assert sum(rows) == len(examples)
    for got, example in zip(found, examples, strict=True):
        wanted = [brute_force(base.model, example.prompt, ids) for ids in example.candidates]
        assert got.scores == pytest.approx(wanted, abs=1e-4)


def test_generated_answers_are_those_of_the_model_asked_one_by_one(tiny_causal: Path) -> None:
    spec = run_spec(
        tiny_causal,
        method={"head": "causal_lm", "adapter": NONE},
        evaluation={"max_new_tokens": 9},
    )
    base = loaded(spec)
    plain = AutoModelForCausalLM.from_pretrained(tiny_causal)
    greedy = GenerationConfig(do_sample=False, max_new_tokens=9, eos_token_id=2, pad_token_id=0)
    task = prepare(resolve(spec).spec).task
    for got, example in zip(
        predictions(spec, base), encoded(spec, base, training=False), strict=True
    ):
        made = plain.generate(torch.tensor([example.prompt]), generation_config=greedy)
        text = base.tokenizer.decode(made[0, len(example.prompt) :], skip_special_tokens=True)
        assert got.prediction == task.read(text, resolve(spec).spec.task)
        assert text


def test_generation_settings_of_the_base_are_left_aside(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(
        tiny_causal, method={"head": "causal_lm", "adapter": NONE}, evaluation={"max_new_tokens": 9}
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_causal)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=1.8, no_repeat_ngram_size=1
    )
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_causal / name).read_bytes())
    other = run_spec(
        tmp_path, method={"head": "causal_lm", "adapter": NONE}, evaluation={"max_new_tokens": 9}
    )
    assert resolve(other).key == resolve(spec).key
    assert predictions(other, loaded(other)) == predictions(spec, loaded(spec))


def test_class_scores_are_log_probabilities(tiny_encoder: Path) -> None:
    spec = run_spec(tiny_encoder, method={"head": "classifier", "adapter": NONE})
    base = loaded(spec)
    for got, example in zip(
        predictions(spec, base), encoded(spec, base, training=False), strict=True
    ):
        with torch.no_grad():
            logits = base.model(input_ids=torch.tensor([example.prompt])).logits[0]
        assert got.scores == pytest.approx(torch.log_softmax(logits, -1).tolist(), abs=1e-5)


def config_of(kind: str) -> PretrainedConfig:
    import transformers

    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {**sizes, "intermediate_size": 64}
    configs: dict[str, Any] = {
        "llama": lambda: transformers.LlamaConfig(**wide),
        "qwen2": lambda: transformers.Qwen2Config(**wide, num_key_value_heads=4),
        "mistral": lambda: transformers.MistralConfig(**wide, num_key_value_heads=2),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**wide),
        "opt": lambda: transformers.OPTConfig(
            **sizes, ffn_dim=64, word_embed_proj_dim=32, dropout=0.0
        ),
        "phi": lambda: transformers.PhiConfig(**wide),
        "sliding": lambda: transformers.MistralConfig(
            **wide, num_key_value_heads=2, sliding_window=4
        ),
        "mamba_hybrid": lambda: transformers.BambaConfig(
            **wide, num_key_value_heads=2, mamba_n_heads=8, mamba_d_head=8, attn_layer_indices=[1]
        ),
    }
    config: PretrainedConfig = configs[kind]()
    config.pad_token_id = 0
    return config


class Padded:
    """What `forward` needs of a tokenizer."""

    def __init__(self, side: str) -> None:
        self.padding_side = side
        self.pad_token_id = 0


def around(model: Any, side: str) -> LoadedBase:
    return LoadedBase(None, Padded(side), model.eval(), torch.device("cpu"))  # type: ignore[arg-type]


SEQUENCES = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17]]
ARCHITECTURES = ["llama", "qwen2", "mistral", "gpt2", "gpt_neox", "opt", "phi"]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_padding_and_kept_positions_do_not_change_logits(kind: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind))
    with torch.no_grad():
        together = forward(model.eval(), around(model, "left"), SEQUENCES, 3)
        for row, ids in zip(together, SEQUENCES, strict=True):
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            kept = min(3, len(ids))
            assert torch.allclose(row[-kept:], alone[-kept:], atol=1e-5)


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "sliding", "mamba_hybrid"])
@pytest.mark.parametrize("train", [False, True])
def test_candidates_share_the_pass_of_their_prompt(kind: str, train: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind))
    base = around(model, "left")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train(train)
    candidates = [[[20], [21, 22, 23]], [[24, 25]], [[26], [27], [28]], [[29, 30, 31], [32, 33]]]
    scores = candidate_scores(model, base, SEQUENCES, candidates, length_normalization=False)
    loss = torch.stack([row[0] for row in scores]).sum()
    gradients = torch.autograd.grad(loss, model.get_output_embeddings().weight)
    alone = torch.stack(
        [
            torch.log_softmax(model(input_ids=torch.tensor([prompt + ids[:-1]])).logits[0], -1)[
                range(len(prompt) - 1, len(prompt) + len(ids) - 1), ids
            ].sum()
            for prompt, (ids, *_) in zip(SEQUENCES, candidates, strict=True)
        ]
    )
    assert torch.allclose(loss, alone.sum(), atol=1e-4)
    wanted = torch.autograd.grad(alone.sum(), model.get_output_embeddings().weight)
    assert torch.allclose(gradients[0], wanted[0], atol=1e-4)
    assert [len(row) for row in scores] == [2, 1, 3, 2]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "opt"])
def test_padding_does_not_change_the_classes_of_a_causal_base(kind: str) -> None:
    torch.manual_seed(0)
    config = config_of(kind)
    config.num_labels = 3
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        together = forward(model.eval(), around(model, "left"), SEQUENCES, None)
        for row, ids in zip(together, SEQUENCES, strict=True):
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            assert torch.allclose(row, alone, atol=1e-5)


def test_padding_does_not_change_the_classes_of_an_encoder(tiny_encoder: Path) -> None:
    base = loaded(run_spec(tiny_encoder, method={"head": "classifier", "adapter": NONE}))
    with torch.no_grad():
        together = forward(base.model, base, SEQUENCES, None)
        for row, ids in zip(together, SEQUENCES, strict=True):
            alone = base.model(input_ids=torch.tensor([ids])).logits[0]
            assert torch.allclose(row, alone, atol=1e-5)


def test_in_batches_halves_and_goes_on() -> None:
    sizes: list[int] = []

    def run(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return [2 * item for item in batch]

    assert list(in_batches(list(range(9)), 8, run)) == [2 * i for i in range(9)]  # type: ignore[arg-type]
    assert sizes == [8, 4, 2, 2, 2, 2, 1]


def test_predictions_are_in_the_order_of_the_rows(tiny_causal: Path, tmp_path: Path) -> None:
    rows = [
        {"id": f"r{i}", "text": "good " * (20 - 2 * i) + "film", "label": str(i % 2)}
        for i in range(8)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    spec = run_spec(
        tiny_causal,
        task={"labels": None},
        method={"adapter": NONE},
        evaluation={"data": {"source": str(path)}},
    )
    found = predictions(spec, loaded(spec))
    assert [p.id for p in found] == [row["id"] for row in rows]
    assert [p.target for p in found] == [row["label"] for row in rows]
