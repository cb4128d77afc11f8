"""Keys: what is the same run, what is another."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from llmpred.bases.resolve import ResolvedSpec, resolve, zero_shot_of
from llmpred.errors import SpecError, UnfitError
from llmpred.spec.run import RunSpec
from tests.runs import run_spec

ROWS = [
    {"text": f"a {word} film, number {i}", "label": label}
    for i, (word, label) in enumerate([("fine", "1"), ("dull", "0")] * 12)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[:6])))
    lines = [f"{row['text']}\t{row['label']}" for row in ROWS]
    (folder / "train.tsv").write_text("\n".join(["text\tlabel", *lines]))
    return folder


@pytest.fixture(scope="module")
def base(tiny_causal: Path) -> Path:
    return tiny_causal


def spec_of(base: Path, data: Path, **changes: Any) -> RunSpec:
    sections: dict[str, Any] = {
        "task": {"labels": None},
        "dataset": {"source": str(data / "train.jsonl"), "options": None},
        "evaluation": {"data": {"source": str(data / "test.jsonl")}},
    }
    for name, change in changes.items():
        merged = {**sections.get(name, {}), **change} if isinstance(change, dict) else change
        sections[name] = merged
    return run_spec(base, **sections)


def keys(spec: RunSpec) -> tuple[str, str, str | None]:
    """Return key, train_key and zero-shot key."""
    found = resolve(spec)
    return found.key, found.train_key, found.zero_shot_key


WHOLE = ("dataset.recipe", "evaluation.data", "task.target", "task.values")


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the path of every field of the spec, down to those that hold plain values."""
    for name, field in model.model_fields.items():
        inner = [field.annotation, *get_args(field.annotation)]
        models = [t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)]
        if models and path + name not in WHOLE:
            yield from fields(models[0], f"{path}{name}.")
        else:
            yield path + name


def changed(spec: RunSpec, path: str, value: Any) -> RunSpec:
    payload = spec.model_dump()
    *parents, last = path.split(".")
    place = payload
    for parent in parents:
        place = place[parent]
    place[last] = value
    return RunSpec.model_validate(payload)


# What a change of each field changes: `train` both keys, `run` the key alone, `nothing` neither.
# Values marked by a callable need the data's folder.
DECIDED: dict[str, tuple[str, Any]] = {
    "task.name": ("elsewhere", None),
    "task.language": ("train", "zh"),
    "task.prompt": ("train", "{text} ="),
    "task.labels": ("train", {"0": "bad", "1": "good"}),
    "task.chat_template": ("nothing", "auto"),  # this base has none; see below
    "task.max_length": ("train", 60),
    "task.truncation": ("train", "start"),
    "dataset.source": ("elsewhere", None),  # the content decides; see below
    "dataset.format": ("nothing", "jsonl"),
    "dataset.columns": ("nothing", {"text": "text"}),
    "dataset.encoding": ("nothing", "utf-8"),
    "dataset.on_bad_row": ("nothing", "skip"),
    "dataset.split": ("elsewhere", None),
    "dataset.subset": ("elsewhere", None),
    "dataset.revision": ("elsewhere", None),
    "dataset.options": ("elsewhere", None),
    "dataset.name": ("nothing", "another name"),
    "dataset.recipe": ("train", [{"label_noise": {"share": 0.5}}]),
    "dataset.recipe_seed": ("nothing", 1),  # without a recipe
    "dataset.limit": ("train", 10),
    "dataset.validation": ("train", 0.25),
    "base.name": ("elsewhere", None),  # the content decides; see below
    "base.revision": ("nothing", "main"),  # of a folder
    "base.quantization": ("train", "nf4"),
    "method.head": ("train", "causal_lm"),
    "method.adapter.kind": ("train", "full"),
    "method.adapter.r": ("train", 8),
    "method.adapter.alpha": ("train", 9.0),
    "method.adapter.dropout": ("train", 0.1),
    "method.adapter.target_modules": ("train", ["q_proj"]),
    "method.adapter.use_rslora": ("train", True),
    "method.loss": ("train", "candidates"),
    "method.length_normalization": ("train", True),
    "method.class_weights": ("train", "balanced"),
    "method.name": ("nothing", "LoRA"),
    "optim.name": ("elsewhere", None),  # needs a GPU
    "optim.lr": ("train", 2e-3),
    "optim.weight_decay": ("train", 0.1),
    "optim.betas": ("train", (0.9, 0.95)),
    "optim.schedule": ("train", "cosine"),
    "optim.warmup": ("train", 0.1),
    "optim.epochs": ("elsewhere", None),  # instead of max_steps
    "optim.max_steps": ("train", 7),
    "optim.batch_size": ("train", 8),
    "optim.grad_clip": ("train", None),
    "optim.precision": ("train", "bf16"),
    "evaluation.data": ("elsewhere", None),  # the content decides; see below
    "evaluation.holdout": ("elsewhere", None),  # instead of data
    "evaluation.limit": ("run", 3),
    "evaluation.select": ("elsewhere", None),  # with validation rows; see below
    "evaluation.metrics": ("elsewhere", None),  # needs a registered one
    "evaluation.max_new_tokens": ("nothing", 3),  # nothing is generated
    "evaluation.calibration": ("run", "contextual"),
    "evaluation.adapter_off": ("elsewhere", None),  # of a classifier; see below
    "seed": ("train", 1),
    **dict.fromkeys(  # tests/engine/test_parallel.py
        (f"execution.distributed.{name}" for name in ("workers", "strategy", "offload")),
        ("elsewhere", None),
    ),
    "method.head_form": ("elsewhere", None),  # of a classifier; tests/engine/test_counts.py
    "method.adapter.last_layers": ("elsewhere", None),  # of full fine-tuning; likewise
    "optim.stages": ("elsewhere", None),  # instead of max_steps; likewise
    "task.target": ("elsewhere", None),  # of task complexity; likewise
    "task.values": ("elsewhere", None),  # of task numeric; tests/engine/test_numbers.py
    "execution.engine": ("elsewhere", None),  # there is but one
    "execution.micro_batch": ("nothing", 3),
    "execution.eval_batch": ("nothing", 7),
    "execution.activation_checkpointing": ("nothing", True),
    "execution.checkpoints.every": ("nothing", 5),
    "execution.checkpoints.keep": ("nothing", 1),
    "execution.resume": ("nothing", "none"),
    "execution.keep": ("nothing", "all"),
    "execution.device": ("nothing", "auto"),
}


def test_every_field_is_decided() -> None:
    assert sorted(fields(RunSpec)) == sorted(DECIDED)


@pytest.mark.parametrize("path", [p for p, (effect, _) in DECIDED.items() if effect != "elsewhere"])
def test_what_a_field_changes(path: str, base: Path, data: Path) -> None:
    effect, value = DECIDED[path]
    spec = spec_of(base, data)
    key, train_key, zero_shot = keys(spec)
    new_key, new_train, new_zero = keys(changed(spec, path, value))
    assert (new_train != train_key) == (effect == "train")
    assert (new_key != key) == (effect in ("train", "run"))
    # The untouched base is scored the same whatever is trained on it.
    asked = path.startswith(("task.", "evaluation.")) or path in (
        "base.quantization",
        "method.head",
        "method.length_normalization",
        "optim.precision",
    )
    if effect == "nothing" or not asked:
        assert new_zero == zero_shot
    else:
        assert new_zero != zero_shot


def test_format_and_place_of_the_data_do_not_matter(base: Path, data: Path, tmp_path: Path) -> None:
    spec = spec_of(base, data)
    shutil.copytree(data, tmp_path / "elsewhere")
    assert keys(spec_of(base, tmp_path / "elsewhere")) == keys(spec)
    assert keys(spec_of(base, data, dataset={"source": str(data / "train.tsv")})) == keys(spec)
    renamed = [{"review": row["text"], "stars": row["label"]} for row in ROWS]
    (tmp_path / "renamed.json").write_text(json.dumps(renamed))
    columns = {"text": "review", "label": "stars"}
    mapped = {"source": str(tmp_path / "renamed.json"), "columns": columns}
    assert keys(spec_of(base, data, dataset=mapped)) == keys(spec)


def test_one_word_in_the_data_makes_another_run(base: Path, data: Path, tmp_path: Path) -> None:
    spec = spec_of(base, data)
    other = [*ROWS[:-1], {**ROWS[-1], "text": "a dull play"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, other)))
    shutil.copy(data / "test.jsonl", tmp_path)
    found = keys(spec_of(base, tmp_path))
    assert found[0] != keys(spec)[0]
    assert found[1] != keys(spec)[1]
    assert found[2] == keys(spec)[2]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, reversed(ROWS))))
    assert keys(spec_of(base, tmp_path))[1] != keys(spec)[1]  # the order is part of the content


def test_other_evaluation_rows_do_not_retrain(base: Path, data: Path, tmp_path: Path) -> None:
    rows = {"source": str(data / "train.jsonl")}
    one, other = keys(spec_of(base, data)), keys(spec_of(base, data, evaluation={"data": rows}))
    assert one[1] == other[1]
    assert one[0] != other[0]
    assert one[2] != other[2]


def test_a_copy_of_the_base_is_the_same_base(base: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "copy")
    assert keys(spec_of(tmp_path / "copy", data)) == keys(spec_of(base, data))


def test_the_selected_weights_are_part_of_what_is_trained(base: Path, data: Path) -> None:
    """Adapters are kept under train_key, and those of the best and the last step differ."""
    validation = {"validation": 0.25}
    last = spec_of(base, data, dataset=validation)
    best = changed(last, "evaluation.select", "best_on_validation")
    assert keys(best)[1] != keys(last)[1]
    assert keys(best)[2] == keys(last)[2]


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("method.adapter.use_rslora", None, False),
        ("method.length_normalization", None, False),
        ("method.adapter.target_modules", ["q_proj", "v_proj"], ["v_proj", "q_proj"]),
        ("evaluation.metrics", None, ()),
        ("optim.warmup", 0, 0.0),
        ("optim.precision", "auto", "fp32"),
        ("task.language", "auto", "en"),
        ("task.labels", None, {"0": "negative", "1": "positive"}),
        ("task.prompt", None, "Review: {text}\nSentiment:"),
    ],
)
def test_ways_to_say_the_same(path: str, one: Any, other: Any, base: Path, data: Path) -> None:
    spec = spec_of(base, data)
    assert keys(changed(spec, path, one)) == keys(changed(spec, path, other))


def test_what_does_not_apply_does_not_matter(base: Path, data: Path) -> None:
    full = spec_of(base, data, method={"adapter": {"kind": "full"}})
    ranked = spec_of(base, data, method={"adapter": {"kind": "full", "r": 64, "dropout": 0.5}})
    assert keys(full) == keys(ranked)
    zero = spec_of(base, data, method={"adapter": {"kind": "none"}})
    for path, value in {
        "seed": 7,
        "optim.lr": 1.0,
        "optim.max_steps": 99,
        "dataset.limit": 3,
        "dataset.source": str(data / "train.tsv"),
        "method.adapter.r": 64,
    }.items():
        assert keys(changed(zero, path, value)) == keys(zero), path


def test_without_its_adapter_a_training_is_the_same(base: Path, data: Path) -> None:
    head = spec_of(base, data, method={"head": "classifier"})
    key, train_key, _ = keys(head)
    off_key, off_train, _ = keys(changed(head, "evaluation.adapter_off", True))
    assert off_train == train_key
    assert off_key != key
    assert keys(changed(head, "evaluation.adapter_off", False))[0] == key


def test_class_weights_name_labels(base: Path, data: Path) -> None:
    wrong = spec_of(base, data, method={"class_weights": {"1": 2.0, "positive": 1.0}})
    with pytest.raises(SpecError, match="must name labels, but 'positive' is none"):
        resolve(wrong)


def test_an_encoder_does_not_fit_label_scoring(tiny_encoder: Path, data: Path) -> None:
    with pytest.raises(UnfitError, match="needs a causal language model"):
        resolve(spec_of(tiny_encoder, data))


def test_a_settled_spec_is_settled(base: Path, tiny_encoder: Path, data: Path) -> None:
    for spec in (
        spec_of(base, data),
        spec_of(base, data, method={"head": "causal_lm"}),
        spec_of(tiny_encoder, data, method={"head": "classifier"}),
    ):
        first = resolve(spec)
        again = resolve(first.spec)
        assert again == first
        assert again.spec.task.language == "en"
        assert again.spec.optim.precision == "fp32"


def test_the_zero_shot_key_is_the_key_of_that_run(
    base: Path, tiny_encoder: Path, data: Path
) -> None:
    spec = spec_of(base, data)
    zero_shot = zero_shot_of(spec)
    assert zero_shot is not None
    found = resolve(zero_shot)
    assert found.key == resolve(spec).zero_shot_key
    assert found.zero_shot_key is None
    assert "train" not in found.hashes
    assert resolve(spec_of(tiny_encoder, data, method={"head": "classifier"})).zero_shot_key is None


def test_a_chat_template_is_settled_by_the_base(base: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "chat")
    (tmp_path / "chat" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    auto = spec_of(tmp_path / "chat", data, task={"chat_template": "auto"})
    assert resolve(auto).spec.task.chat_template == "auto"
    assert resolve(spec_of(base, data, task={"chat_template": "auto"})).spec.task.chat_template == (
        "off"
    )
    assert keys(auto)[1] != keys(changed(auto, "task.chat_template", "off"))[1]


def test_all_problems_at_once(tiny_encoder: Path, data: Path) -> None:
    spec = spec_of(tiny_encoder, data, task={"max_length": 513, "labels": {"0": "no"}})
    with pytest.raises(SpecError) as error:
        resolve(spec)
    message = str(error.value)
    assert "needs a causal language model" in message
    assert "at most the 512 positions" in message
    assert "at least two labels" in message


def test_no_room_for_a_prompt(base: Path, data: Path) -> None:
    spec = spec_of(base, data, method={"head": "causal_lm"}, evaluation={"max_new_tokens": 64})
    with pytest.raises(SpecError, match="must leave room for a prompt"):
        resolve(spec)


PINNED = {
    "label_scoring": ("e51181c336e8086aa3dd56749820682d", "7cc9e5317ad7cf613bd15c02843a7aa3"),
    "causal_lm": ("67195d116ff181f2dd733bf8d0883433", "39342e76e1bfc2b174ccd18fb3669cfd"),
    "classifier": ("8bc204f4a6e1894cc8124b0313244291", "51b10f447fefb469c7dc84994d6c5115"),
}


@pytest.mark.parametrize("head", PINNED)
def test_keys_stay_what_they_are(head: str, base: Path, data: Path) -> None:
    """A change here makes every recorded run unpaid: bump a semantics version instead."""
    found: ResolvedSpec = resolve(
        spec_of(base, data, method={"head": head}, dataset={"validation": 0.25})
    )
    fixed = {**found.hashes, "weights": "0" * 64}  # as torch may draw other weights some day
    fixed_run = ResolvedSpec(
        **{**vars(found), "hashes": fixed, "versions": {"task": 1, "method": 1, "engine": 1}}
    )
    got = (fixed_run.key, fixed_run.train_key)
    assert got == PINNED[head]


def test_the_head_is_the_tasks_own_or_a_classifier_on_an_encoder(
    tiny_causal: Path, tiny_encoder: Path
) -> None:
    for base, head in ((tiny_causal, "label_scoring"), (tiny_encoder, "classifier")):
        settled = resolve(run_spec(base, method={"head": "auto"}))
        assert settled.spec.method.head == head
        assert settled.key == resolve(run_spec(base, method={"head": head})).key
