import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmpred.engine.encoding import encode
from llmpred.engine.models import LoadedBase, LoadedBases
from llmpred.errors import DataError
from llmpred.features.base import compute
from llmpred.features.likelihood import (
    FEATURES,
    Likelihoods,
    Losses,
    facts,
    measure_likelihood,
    token_losses,
)
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import Examples
from tests.features.worlds import settled, world


def measured(base: LoadedBase, spec: RunSpec, **how: Any) -> Likelihoods:
    resolved, prepared = settled(spec)
    return measure_likelihood(prepared, resolved.spec, base, **how)


def values(found: Likelihoods) -> dict[str, float]:
    return compute(FEATURES, found).values


def by_transformers(base: LoadedBase, ids: list[int], learnt: int) -> tuple[float, int]:
    """Return transformers' own loss of the last `learnt` tokens, summed, and their number."""
    labels = [-100] * (len(ids) - learnt) + ids[len(ids) - learnt :]
    model = AutoModelForCausalLM.from_pretrained(base.located.path, dtype=torch.float32).eval()
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    return float(loss) * learnt, learnt


@pytest.fixture(scope="module")
def plain(proxy: LoadedBase) -> dict[str, dict[str, float]]:
    """Features of the data that the directed tests change, by task."""
    return {kind: values(measured(proxy, world(kind))) for kind in ("sentiment", "qa")}


# --- against transformers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("sentiment", {}),
        ("qa", {"language": "zh"}),
        ("multiple_choice", {}),
        ("summarization", {}),
    ],
)
def test_perplexity_is_that_of_transformers_loss(
    proxy: LoadedBase, kind: str, how: dict[str, Any]
) -> None:
    resolved, prepared = settled(world(kind, n=6, evaluation={"n": 5}, **how))
    found = values(measure_likelihood(prepared, resolved.spec, proxy))
    rows = encode(
        Examples(prepared.train), prepared.task, resolved.spec, proxy.tokenizer, training=True
    )
    asked = encode(
        Examples(prepared.evaluation), prepared.task, resolved.spec, proxy.tokenizer, training=False
    )
    by_part = {
        "output_perplexity": [(e.prompt + e.target, len(e.target)) for e in rows],
        "text_perplexity": [(e.prompt + e.target, e.length - 1) for e in rows],
        "eval_input_perplexity": [(e.prompt, len(e.prompt) - 1) for e in asked],
    }
    for name, parts in by_part.items():
        losses = [by_transformers(proxy, ids, learnt) for ids, learnt in parts]
        mean = sum(loss for loss, _ in losses) / sum(count for _, count in losses)
        assert math.log(found[name]) == pytest.approx(mean, abs=1e-4), name


def test_gain_is_what_the_input_saves(proxy: LoadedBase) -> None:
    resolved, prepared = settled(world("qa", n=4))
    found = values(measure_likelihood(prepared, resolved.spec, proxy))
    lost = tokens = 0.0
    for example in Examples(prepared.train):
        bare = {**example, "context": "", "question": ""}
        for row, sign in ((bare, 1), (example, -1)):
            (e,) = encode([row], prepared.task, resolved.spec, proxy.tokenizer, training=True)
            loss, count = by_transformers(proxy, e.prompt + e.target, len(e.target))
            lost += sign * loss
        tokens += count
    assert found["conditional_gain"] == pytest.approx(lost / tokens, abs=1e-4)


def test_base_without_opinions_has_its_vocabulary_as_perplexity(tiny_causal: Path) -> None:
    spec = world("qa", base=tiny_causal, n=5, language="zh", evaluation={"n": 5})
    base = LoadedBases().get(settled(spec)[0], None)
    with torch.no_grad():
        base.model.get_output_embeddings().weight.zero_()
    found = values(measured(base, spec))
    vocabulary = base.located.config["vocab_size"]
    for name in ("output_perplexity", "text_perplexity", "eval_input_perplexity"):
        assert found[name] == pytest.approx(vocabulary, rel=1e-5)
    for name in ("output_nll_p10", "output_nll_p90", "text_nll_p10", "text_nll_p90"):
        assert found[name] == pytest.approx(math.log(vocabulary), rel=1e-5)
    for name in ("output_nll_sd", "text_nll_sd", "conditional_gain"):
        assert found[name] == pytest.approx(0, abs=1e-5)


def test_batches_do_not_matter(proxy: LoadedBase) -> None:
    resolved, prepared = settled(world("qa", n=9))
    single = resolved.spec.model_copy(
        update={"execution": resolved.spec.execution.model_copy(update={"eval_batch": 1})}
    )
    apart, together = (
        values(measure_likelihood(prepared, spec, proxy)) for spec in (single, resolved.spec)
    )
    assert together == pytest.approx(apart, rel=1e-4, abs=1e-4)


# --- definitions by hand ---------------------------------------------------------------------


def by_hand(sums: list[float], counts: list[float], rows: int = 10**9) -> Losses:
    return Losses(np.array(sums), np.array(counts), rows)


def test_mean_is_over_tokens_and_tails_over_rows() -> None:
    outputs = by_hand([2.0, 12.0], [2, 4])
    found = values(Likelihoods(outputs, by_hand([8.0, 18.0], [2, 4]), None, None, {}, 0.0, 0.0))
    assert found["output_perplexity"] == pytest.approx(math.exp(14 / 6))
    assert found["output_nll_sd"] == pytest.approx(math.sqrt(2))  # of 1 and 3 nats a token
    assert found["output_nll_p10"] == pytest.approx(1.2)
    assert found["output_nll_p90"] == pytest.approx(2.8)
    assert found["conditional_gain"] == pytest.approx(12 / 6)


def test_sampling_error_covers_what_samples_do() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 30, 500).astype(float)
    sums = counts * rng.gamma(4.0, 0.7, 500)
    draws = [rng.choice(500, 100, replace=False) for _ in range(400)]
    losses = [Losses(sums[d], counts[d], 500) for d in draws]
    spread = np.std([sample.per_token for sample in losses])
    assert np.mean([sample.error for sample in losses]) == pytest.approx(spread, rel=0.1)
    assert Losses(sums, counts, 500).error == 0.0


# --- data made to move a feature move it -----------------------------------------------------


def rewritten(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_answers_of_other_questions_are_less_likely(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    mixed = values(measured(proxy, world("qa", {"shuffle_answers": {"share": 1.0}})))
    for name in ("output_perplexity", "output_nll_p10", "output_nll_p90"):
        assert mixed[name] > plain["qa"][name], name
    assert mixed["conditional_gain"] < plain["qa"]["conditional_gain"] - 0.5


def test_texts_of_scrambled_words_are_less_likely(
    proxy: LoadedBase, plain: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    rng = random.Random(0)
    rows = settled(world("sentiment"))[1].train.to_pylist()
    half = []
    for i, row in enumerate(rows):
        words = row["text"].split()
        rng.shuffle(words)
        half.append({**row, "text": " ".join(words) if i % 2 else row["text"]})
    found = values(
        measured(proxy, world("sentiment", source=rewritten(tmp_path / "a.jsonl", half)))
    )
    for name in ("text_perplexity", "text_nll_sd", "text_nll_p90"):
        assert found[name] > 1.1 * plain["sentiment"][name], name
    for row in half:
        row["text"] = " ".join(reversed(row["text"].split()))
    worse = values(
        measured(proxy, world("sentiment", source=rewritten(tmp_path / "b.jsonl", half)))
    )
    assert worse["text_nll_p10"] > 1.1 * plain["sentiment"]["text_nll_p10"]


def test_outputs_of_two_kinds_spread_more(
    proxy: LoadedBase, plain: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    rows = settled(world("qa"))[1].train.to_pylist()
    for row in rows[::2]:
        row["answers"] = ["zq xv kj " * 3]
    found = values(measured(proxy, world("qa", source=rewritten(tmp_path / "a.jsonl", rows))))
    assert found["output_nll_sd"] > plain["qa"]["output_nll_sd"]


def test_evaluation_prompts_in_other_words_are_less_likely(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    shifted = values(measured(proxy, world("qa", evaluation={"shift": 1.0})))
    assert shifted["eval_input_perplexity"] > 1.1 * plain["qa"]["eval_input_perplexity"]
    assert shifted["text_perplexity"] == plain["qa"]["text_perplexity"]


def test_evaluation_answers_are_not_read(proxy: LoadedBase) -> None:
    resolved, prepared = settled(world("qa"))
    wrong = prepared.evaluation.to_pylist()
    answers = pa.array([["something else"]] * len(wrong))
    place = prepared.evaluation.column_names.index("answers")
    other = replace(prepared, evaluation=prepared.evaluation.set_column(place, "answers", answers))
    assert values(measure_likelihood(other, resolved.spec, proxy)) == values(
        measure_likelihood(prepared, resolved.spec, proxy)
    )


# --- edges -----------------------------------------------------------------------------------


def test_measurement_is_the_same_again_and_another_for_another_seed(proxy: LoadedBase) -> None:
    spec = world("qa", n=30)
    first, again = (values(measured(proxy, spec, sample=10)) for _ in range(2))
    assert first == again
    assert values(measured(proxy, spec, sample=10, seed=1)) != first


def test_facts_tell_the_sample_and_its_errors(proxy: LoadedBase) -> None:
    spec = world("qa")
    sampled, whole = measured(proxy, spec, sample=15), measured(proxy, spec)
    made, exact = facts(sampled), facts(whole)
    assert made["output_likelihood_rows"] == made["eval_input_likelihood_rows"] == 15
    assert exact["output_likelihood_rows"] == 60
    for name in ("output", "text", "eval_input"):
        error = made[f"log_{name}_perplexity_se"]
        one, all_of_it = (math.log(values(m)[f"{name}_perplexity"]) for m in (sampled, whole))
        assert 0 < abs(one - all_of_it) < 4 * error
        assert exact[f"log_{name}_perplexity_se"] == 0


def test_long_rows_keep_their_end(proxy: LoadedBase) -> None:
    spec = world("qa", n=6)
    resolved, prepared = settled(spec)
    cut = measure_likelihood(prepared, resolved.spec, proxy, tokens=24)
    whole = measure_likelihood(prepared, resolved.spec, proxy)
    assert cut.outputs is not None
    assert whole.outputs is not None
    assert cut.texts is not None
    assert cut.cut == 1.0
    assert whole.cut == 0.0
    assert set(cut.texts.counts) == {23.0}  # all but the first
    assert (cut.outputs.counts == whole.outputs.counts).all()
    (first, *_) = encode(
        Examples(prepared.train), prepared.task, resolved.spec, proxy.tokenizer, training=True
    )
    room = 24 - len(first.target)
    prompt = [first.prompt[0], *first.prompt[1 - room :]]
    assert cut.outputs.sums[0] == pytest.approx(
        by_transformers(proxy, prompt + first.target, len(first.target))[0], rel=1e-4
    )


def test_chinese_has_all_features(proxy: LoadedBase) -> None:
    row = compute(FEATURES, measured(proxy, world("qa", n=8, language="zh")))
    assert not row.warnings
    assert all(map(math.isfinite, row.values.values()))


def test_one_row_has_no_spread(proxy: LoadedBase) -> None:
    found = measured(proxy, world("sentiment", limit=1, evaluation={"n": 1}))
    row = compute(FEATURES, found)
    assert set(row.warnings) == {"output_nll_sd", "text_nll_sd"}
    assert row.values["output_nll_p10"] == row.values["output_nll_p90"]
    assert "log_output_perplexity_se" not in facts(found)


def test_prompt_without_words_starts_with_the_start_token(proxy: LoadedBase) -> None:
    spec = world("sentiment", n=4)
    spec = spec.model_copy(update={"task": spec.task.model_copy(update={"prompt": "{text}"})})
    found = measured(proxy, spec)
    (bad, good) = (
        token_losses([((0,), tuple(proxy.tokenizer(f" {word}")["input_ids"]))], spec, proxy)[
            0
        ].sum()
        for word in ("bad", "good")
    )
    assert found.alone is not None
    assert set(found.alone.sums.round(4)) <= {round(bad, 4), round(good, 4)}


def test_classifier_head_gives_outputs_no_likelihood(proxy: LoadedBase) -> None:
    row = compute(FEATURES, measured(proxy, world("sentiment", n=8, head="classifier")))
    unknown = {name for name, value in row.values.items() if math.isnan(value)}
    known = {"text_perplexity", "text_nll_sd", "text_nll_p10", "text_nll_p90"}
    assert row.values.keys() - unknown == known | {"eval_input_perplexity"}
    assert "the head classifier" in row.warnings["output_perplexity"]


@pytest.mark.parametrize("base", ["tiny_encoder", "proxy"])
def test_base_without_a_language_model_head_gives_none(
    base: str, request: pytest.FixtureRequest
) -> None:
    name = base if base == "proxy" else str(request.getfixturevalue(base))
    spec = world("sentiment", n=4, base=name, head="classifier")
    row = compute(FEATURES, measured(LoadedBases().get(settled(spec)[0], 2), spec))
    assert all(map(math.isnan, row.values.values()))
    reason = "without its language-model head" if base == "proxy" else "is an encoder"
    assert all(reason in warning for warning in row.warnings.values())


def test_data_without_training_rows_are_refused(proxy: LoadedBase) -> None:
    resolved, prepared = settled(world("qa", n=4))
    with pytest.raises(DataError, match="need training rows"):
        measure_likelihood(
            replace(prepared, train=prepared.train.slice(0, 0)), resolved.spec, proxy
        )
