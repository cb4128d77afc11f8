import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llmpred.bases.fetch import is_here
from llmpred.engine.models import LoadedBase, LoadedBases
from llmpred.errors import BaseError, DataError
from llmpred.features.base import compute
from llmpred.features.embedding import (
    FEATURES,
    SAMPLE,
    Embeddings,
    confident_noise,
    embed,
    embed_texts,
    facts,
    io_sim_error,
    load_embedder,
    mean_cosine,
    of_base,
    out_sem_div_error,
    paired_excess,
    vendi_score,
)
from tests.features.worlds import settled, world


def units(n: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, width)) + 0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(
    proxy: LoadedBase, kind: str, *recipe: Any, sample: int = SAMPLE, **how: Any
) -> Embeddings:
    return embed(settled(world(kind, *recipe, **how))[1], proxy, sample=sample)


def values(embeddings: Embeddings) -> dict[str, float]:
    return compute(FEATURES, embeddings).values


@pytest.fixture(scope="module")
def plain(proxy: LoadedBase) -> dict[str, dict[str, float]]:
    """Features of the data that the directed tests change, by task."""
    return {kind: values(found(proxy, kind)) for kind in ("sentiment", "qa", "summarization")}


# --- against definitions ---------------------------------------------------------------------


def test_mean_cosine_is_that_of_all_pairs() -> None:
    vectors = units(23, 7)
    pairs = [vectors[i] @ vectors[j] for i in range(23) for j in range(23) if i != j]
    assert mean_cosine(vectors) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_paired_excess_is_the_mean_over_all_shuffles() -> None:
    x, y = units(19, 5), units(19, 5, seed=1)
    others = [x[i] @ y[j] for i in range(19) for j in range(19) if i != j]
    brute = np.mean([x[i] @ y[i] for i in range(19)]) - np.mean(others)
    assert paired_excess(x, y) == pytest.approx(brute, abs=1e-12)
    rng = np.random.default_rng(0)
    draws = []
    while len(draws) < 4000:  # shuffles that leave no pair in its place
        order = rng.permutation(19)
        if (order != np.arange(19)).all():
            draws.append((x * y).sum(1).mean() - (x * y[order]).sum(1).mean())
    assert np.mean(draws) == pytest.approx(brute, abs=4 * np.std(draws) / math.sqrt(4000))


def test_vendi_score_counts_what_is_different() -> None:
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.tile(units(1, 9), (8, 1))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(4), 5, axis=0)) == pytest.approx(4)
    shares = np.array([0.75, 0.25])  # of two orthogonal kinds: exp of their entropy
    lopsided = np.repeat(np.eye(2), [3, 1], axis=0)
    assert vendi_score(lopsided) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize(("n", "width"), [(5, 40), (40, 5)])
def test_vendi_score_follows_its_definition(n: int, width: int) -> None:
    vectors = units(n, width)
    eigenvalues = np.linalg.eigvals(vectors @ vectors.T / n).real.clip(1e-300)
    expected = math.exp(-(eigenvalues * np.log(eigenvalues)).sum())
    assert vendi_score(vectors) == pytest.approx(expected, rel=1e-9)


def test_sampling_errors_are_the_jackknife() -> None:
    x, y = units(12, 4), units(12, 4, seed=1)
    rest = [np.delete(np.arange(12), i) for i in range(12)]
    for error, replicates in (
        (out_sem_div_error(y, 10**12), [-mean_cosine(y[r]) for r in rest]),
        (io_sim_error(x, y, 10**12), [paired_excess(x[r], y[r]) for r in rest]),
    ):
        expected = math.sqrt(11 / 12 * ((replicates - np.mean(replicates)) ** 2).sum())
        assert error == pytest.approx(expected, rel=1e-6)
    assert out_sem_div_error(y, 12) == 0.0  # every row was drawn


def test_sampling_errors_cover_what_samples_do() -> None:
    """Against the standard deviation over many samples of a finite population."""
    x, y = units(400, 6), units(400, 6, seed=1)
    x = x + 0.5 * y
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rng = np.random.default_rng(3)
    draws = [rng.choice(400, 100, replace=False) for _ in range(300)]
    for statistic, error in (
        ([mean_cosine(y[d]) for d in draws], [out_sem_div_error(y[d], 400) for d in draws]),
        (
            [paired_excess(x[d], y[d]) for d in draws],
            [io_sim_error(x[d], y[d], 400) for d in draws],
        ),
    ):
        assert np.mean(error) == pytest.approx(np.std(statistic), rel=0.15)


def test_confident_noise_counts_what_is_sure_and_given_otherwise() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    sure = np.array([0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1])  # of class 0; the fourth is wrong
    # Thresholds 0.7 and 0.9: all rows pass one of them, and one in four of class 0 speaks for 1.
    assert confident_noise(labels, np.stack([sure, 1 - sure], 1)) == pytest.approx(1 / 8)
    unsure = np.array([0.9, 0.9, 0.9, 0.4, 0.1, 0.1, 0.1, 0.1])
    # The fourth passes neither 0.775 nor 0.9: it speaks for none.
    assert confident_noise(labels, np.stack([unsure, 1 - unsure], 1)) == 0.0


# --- embedding -------------------------------------------------------------------------------


def test_base_embeds_by_the_mean_of_its_last_states(tiny_causal: Path) -> None:
    """Against transformers itself, one text at a time; the start token is not in the mean."""
    base = LoadedBases().get(settled(world("sentiment", base=tiny_causal))[0], None)
    given = ["a fine film", "房间很干净", "one of the best of the year, warm and funny", "a"]
    vectors = embed_texts(given, of_base(base))
    model = AutoModel.from_pretrained(tiny_causal, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    for text, vector in zip(given, vectors, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, 0] == tokenizer.bos_token_id
        with torch.inference_mode():
            mean = model(ids).last_hidden_state[0, 1:].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def save_pooling(folder: Path, *modules: str, **modes: Any) -> None:
    """Write a model's folder as sentence-transformers does."""
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    listed = [
        {"idx": i, "path": paths[m], "type": f"sentence_transformers.models.{m}"}
        for i, m in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({}, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
    ],
)
def test_embedder_pools_as_its_settings_say(
    tiny_encoder: Path, tmp_path: Path, modes: dict[str, Any], pooling: str
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    if modes:
        save_pooling(folder, "Transformer", "Pooling", **modes)
    embedder = load_embedder(str(folder), device="cpu")
    assert embedder.pooling == pooling
    given = ["a dull film", "a fine film, one of the best of the year"]
    vectors = embed_texts(given, embedder)
    for text, vector in zip(given, vectors, strict=True):
        ids = embedder.base.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            states = embedder.base.model(ids).last_hidden_state[0]
        wanted = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        assert vector == pytest.approx((wanted / wanted.norm()).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("modules", "modes"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode_mean_tokens": True}),
        (("Transformer", "Pooling"), {"pooling_mode_max_tokens": True}),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        ),
    ],
)
def test_embedder_that_does_more_is_refused(
    tiny_encoder: Path, tmp_path: Path, modules: tuple[str, ...], modes: dict[str, bool]
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    save_pooling(folder, *modules, **modes)
    with pytest.raises(BaseError, match="must be pooled by"):
        load_embedder(str(folder))


def test_minilm_knows_what_means_the_same_and_says_what_it_does_not_know() -> None:
    if not is_here("minilm"):
        pytest.skip("minilm is not on this machine")
    embedder = load_embedder("minilm", device="cpu")
    a, b, c = embed_texts(["A man is eating food.", "A man eats.", "The sky is blue."], embedder)
    assert a @ b > 0.7 > 0.3 > a @ c
    english = embed(settled(world("sentiment", n=8))[1], embedder, sample=8)
    chinese = embed(settled(world("sentiment", n=8, language="zh"))[1], embedder, sample=8)
    assert english.notes == ()
    assert "made for English" in chinese.notes[0]
    assert english.embedder == "minilm"


def test_measurement_is_the_same_again_and_another_for_another_seed(proxy: LoadedBase) -> None:
    prepared = settled(world("qa", n=40))[1]
    first, again = (embed(prepared, proxy, sample=16) for _ in range(2))
    assert (first.inputs == again.inputs).all()
    assert first.inputs.shape == first.outputs.shape == first.evaluation.shape == (16, 192)
    assert first.rows == 40
    other = embed(prepared, proxy, sample=16, seed=1)
    assert (first.inputs != other.inputs).any()
    for vectors in (first.inputs, first.outputs, first.evaluation):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(16))


def test_facts_tell_the_sample_and_its_errors(proxy: LoadedBase) -> None:
    prepared = settled(world("qa"))[1]
    sampled, whole = embed(prepared, proxy, sample=20), embed(prepared, proxy)
    made, exact = facts(sampled), facts(whole)
    assert (made["embedding_rows"], made["embedding_evaluation_rows"]) == (20, 20)
    assert made["embedding_class_rows"] == 0
    assert made["out_sem_div_se"] > 0 < made["io_sim_se"]
    assert exact["out_sem_div_se"] == exact["io_sim_se"] == 0
    for name in ("out_sem_div", "io_sim"):
        away = abs(values(sampled)[name] - values(whole)[name])
        assert away < 4 * made[f"{name}_se"]


# --- data made to move a feature move it -----------------------------------------------------


def test_the_same_answer_everywhere_has_no_diversity(
    proxy: LoadedBase, plain: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    rows = settled(world("qa"))[1].train.to_pylist()
    one = tmp_path / "one.jsonl"
    one.write_text("\n".join(json.dumps({**row, "answers": ["Paris"]}) for row in rows))
    same = values(found(proxy, "qa", source=one))
    assert same["out_sem_div"] == pytest.approx(0, abs=1e-9)
    assert same["out_vendi"] == pytest.approx(1)
    assert plain["qa"]["out_sem_div"] > 0.2
    assert plain["qa"]["out_vendi"] > 2


def test_answers_of_other_questions_are_less_like_their_inputs(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    for kind in ("qa", "summarization"):
        mixed = values(found(proxy, kind, {"shuffle_answers": {"share": 1.0}}))
        assert plain[kind]["io_sim"] > mixed["io_sim"] + 0.01


def test_two_languages_are_more_diverse_than_one(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    mixed = values(found(proxy, "sentiment", foreign=0.5))
    assert mixed["in_sem_div"] > plain["sentiment"]["in_sem_div"] + 0.2


def test_a_few_rows_in_another_language_are_outliers(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    strange = values(found(proxy, "sentiment", foreign=0.1))
    assert strange["embedding_outlier_share"] >= 0.1
    assert plain["sentiment"]["embedding_outlier_share"] <= 0.05


def test_outliers_among_equal_rows_are_those_that_differ() -> None:
    inputs = np.repeat(np.eye(3)[:2], [9, 1], axis=0)
    assert values(by_hand(inputs))["embedding_outlier_share"] == pytest.approx(0.1)
    assert values(by_hand(inputs[:9]))["embedding_outlier_share"] == 0


def test_label_noise_is_seen(proxy: LoadedBase) -> None:
    shares = [0.0, 0.2, 0.4]
    noisy = [
        values(found(proxy, "sentiment", {"label_noise": {"share": s}}, n=400)) for s in shares
    ]
    estimates = [row["label_noise_estimate"] for row in noisy]
    assert estimates == sorted(estimates)
    assert estimates[-1] > estimates[0] + 0.15
    separate = [row["class_separability"] for row in noisy]
    assert separate[0] > separate[1] > separate[2]


def test_training_on_the_evaluation_inputs_is_seen(
    proxy: LoadedBase, plain: dict[str, dict[str, float]]
) -> None:
    same = values(found(proxy, "qa", evaluation={"n": 60, "seed": 1, "part": "train"}))
    assert same["eval_similarity"] == pytest.approx(1)
    # The same rows twice: the estimate without bias is just below 0.
    assert -0.05 < same["eval_domain_gap"] < 0.01
    assert plain["qa"]["eval_similarity"] < 0.97


def test_another_domain_is_seen(proxy: LoadedBase, plain: dict[str, dict[str, float]]) -> None:
    away = values(found(proxy, "qa", shift=1.0))
    assert away["eval_domain_gap"] > plain["qa"]["eval_domain_gap"] + 0.1
    assert away["eval_similarity"] < plain["qa"]["eval_similarity"]


# --- edges -----------------------------------------------------------------------------------


def by_hand(inputs: np.ndarray) -> Embeddings:
    return Embeddings(inputs, inputs, inputs, None, "no classes", len(inputs), "hand", "", (), 0.0)


def test_chinese_has_all_features(proxy: LoadedBase) -> None:
    row = compute(FEATURES, found(proxy, "sentiment", language="zh"))
    assert not row.warnings
    assert all(map(math.isfinite, row.values.values()))


def test_one_row_has_what_one_row_can_tell(proxy: LoadedBase) -> None:
    single = found(proxy, "sentiment", limit=1)
    row = compute(FEATURES, single)
    known = {name for name, value in row.values.items() if math.isfinite(value)}
    assert known == {"out_vendi", "eval_similarity"}
    assert row.values["out_vendi"] == pytest.approx(1)
    assert row.warnings.keys() == row.values.keys() - known
    assert row.warnings["io_sim"] == "ValueError: it takes 2 rows, but there are 1"
    assert "out_sem_div_se" not in facts(single)


def test_open_answers_have_no_classes(proxy: LoadedBase) -> None:
    for kind in ("qa", "multiple_choice"):
        row = compute(FEATURES, found(proxy, kind, n=12))
        assert set(row.warnings) == {"label_noise_estimate", "class_separability"}
        assert "no classes in common" in row.warnings["label_noise_estimate"]


def test_choices_that_all_rows_share_are_classes(proxy: LoadedBase, tmp_path: Path) -> None:
    file = tmp_path / "yes_no.jsonl"
    lines = [
        {
            "question": f"Is {i} {'even' if i % 3 else 'odd'}?",
            "choices": ["yes", "no"],
            "answer": i % 2,
        }
        for i in range(20)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    classified = found(proxy, "multiple_choice", source=file).classified
    assert classified is not None
    assert list(classified.labels) == [i % 2 for i in range(20)]
    assert classified.probabilities.sum(1) == pytest.approx(np.ones(20))


def test_rare_classes_are_left_out(proxy: LoadedBase, tmp_path: Path) -> None:
    names = ["a"] * 6 + ["b"] * 6 + ["c"] * 2
    file = tmp_path / "rare.jsonl"
    lines = [{"text": f"the text of {i} and {n}", "label": n} for i, n in enumerate(names)]
    file.write_text("\n".join(map(json.dumps, lines)))
    spec = world("sentiment", source=file)
    spec = spec.model_copy(
        update={
            "task": spec.task.model_copy(update={"labels": None}),
            "evaluation": spec.evaluation.model_copy(
                update={"data": spec.dataset.model_copy(update={"recipe": ()})}
            ),
        }
    )
    prepared = settled(spec)[1]
    classified = embed(prepared, proxy).classified
    assert classified is not None
    assert [names[i] for i in classified.places] == ["a"] * 6 + ["b"] * 6
    few = embed(replace(prepared, train=prepared.train.slice(0, 8)), proxy)
    assert few.classified is None
    assert few.unclassified == "fewer than two classes have 5 rows in the sample"


def test_data_without_training_rows_are_refused(proxy: LoadedBase) -> None:
    prepared = settled(world("qa", n=4))[1]
    with pytest.raises(DataError, match="need training rows"):
        embed(replace(prepared, train=prepared.train.slice(0, 0)), proxy)
