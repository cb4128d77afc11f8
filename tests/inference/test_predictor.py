"""A run's model answers as its evaluation did, wherever its weights lie, or says why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpred import Predictor
from llmpred.bases.resolve import resolve
from llmpred.engine import kept
from llmpred.engine.models import LoadedBases
from llmpred.engine.run import Outcome
from llmpred.errors import BaseError, DataError, InputError, SpecError, StorageError
from llmpred.inference.examples import EXAMPLES, examples
from llmpred.ledger import Ledger
from llmpred.spec.run import RunSpec
from llmpred.sweep.orders import Orders
from llmpred.sweep.worker import work
from llmpred.tasks.prepare import Examples, prepare
from tests.conftest import ROOT
from tests.runs import carry_out, lora, run_spec

WORDS = {"negative": "negative", "positive": "really very positive"}  # of different lengths
NONE = {"kind": "none"}
CALIBRATED = {"calibration": "contextual"}
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "label scoring": ("causal", {}),
    "normalised": ("causal", {"task": {"labels": WORDS}, "method": {"length_normalization": True}}),
    "calibrated": ("causal", {"task": {"labels": WORDS}, "evaluation": CALIBRATED}),
    "full": ("causal", {"method": {"adapter": {"kind": "full"}}}),
    "full classifier": ("causal", {"method": {"head": "classifier", "adapter": {"kind": "full"}}}),
    "causal classifier": ("causal", {"method": {"head": "classifier"}}),
    "adapter off": (
        "causal",
        {"method": {"head": "classifier"}, "evaluation": {"adapter_off": True}},
    ),
    "encoder": ("encoder", {"method": {"head": "classifier", "adapter": lora()}}),
    "head": ("encoder", {"method": {"head": "classifier", "adapter": NONE}}),
    "generation": (
        "causal",
        {"method": {"head": "causal_lm"}, "evaluation": {"max_new_tokens": 4}},
    ),
}


def texts(spec: RunSpec) -> list[str]:
    return [row["text"] for row in Examples(prepare(spec).evaluation)]


def agree(predictor: Predictor, outcome: Outcome, given: list[Any]) -> None:
    """Assert that answers are those that the run's evaluation stored, to the bit."""
    answers = predictor.predict_batch(given)
    stored = outcome.predictions.to_pylist()
    assert [answer.label for answer in answers] == [json.loads(p["prediction"]) for p in stored]
    for answer, row in zip(answers, stored, strict=True):
        assert list(answer.log_scores.values()) == (row["scores"] or [])
        if answer.scores:
            assert sum(answer.scores.values()) == pytest.approx(1)
            assert answer.confidence == max(answer.scores.values()) == answer.scores[answer.label]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_answers_are_those_of_the_evaluation(
    scheme: str, tiny_causal: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    kind, changes = SCHEMES[scheme]
    base = tiny_causal if kind == "causal" else tiny_encoder
    spec = run_spec(base, **changes, optim={"lr": 1e-2})
    outcome = carry_out(spec, tmp_path / "run", keep_adapter=True)
    assert outcome.adapter is not None
    copy = outcome.adapter.rename(tmp_path / "copy")
    predictor = Predictor.load(copy)
    assert predictor.key == outcome.record.key
    agree(predictor, outcome, texts(spec))
    alone = [predictor.predict(text) for text in texts(spec)[:3]]
    for answer, row in zip(alone, outcome.predictions["scores"].to_pylist(), strict=False):
        assert list(answer.log_scores.values()) == pytest.approx(row or [], abs=1e-5)
    if scheme == "calibrated":
        how = kept.read_label_scoring(copy)
        assert how.candidates == (" negative", " really very positive")
        assert how.offsets == dict(zip(WORDS, predictor._without_content or (), strict=True))
        assert min(how.offsets.values()) < -0.01
    assert (copy / kept.LABEL_SCORING).exists() == (spec.method.head == "label_scoring")


def test_a_whole_model_needs_no_base(tiny_causal: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_causal, tmp_path / "base"))
    spec = run_spec(base, method={"adapter": {"kind": "full"}})
    outcome = carry_out(spec, tmp_path / "run", keep_adapter=True)
    assert outcome.adapter is not None
    shutil.rmtree(base)
    agree(Predictor.load(outcome.adapter), outcome, texts(spec))
    agree(Predictor.load(outcome.adapter, base=tiny_causal), outcome, texts(spec))


def test_runs_of_a_ledger_answer_by_their_keys(tiny_causal: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    orders = Orders(str(tmp_path), "a-sweep", str(tmp_path))
    ledger.storage.write(orders.driver_file, b"")
    keep = {"execution": {"keep": "all", "eval_batch": 5}}
    specs = [
        run_spec(tiny_causal, **keep),
        run_spec(tiny_causal, method={"adapter": NONE}),
        run_spec(tiny_causal, seed=1),
    ]
    runs = [resolve(spec) for spec in specs]
    for run in runs:
        assert work(run, ledger, LoadedBases(), orders).state == "ok"
    for run, spec in zip(runs[:2], specs[:2], strict=True):
        record = ledger.get(run.key)
        outcome = Outcome(record, ledger.predictions(run.key), None)
        agree(Predictor.load(run.key[:8], storage=tmp_path), outcome, texts(spec))
    with pytest.raises(StorageError, match=r"must have kept its weights.*llmpred finetune"):
        Predictor.load(runs[2].key, storage=tmp_path)
    with pytest.raises(StorageError, match="no key begins with it"):
        Predictor.load("0000000000", storage=tmp_path)
    # A run's folder, as it lies in a storage: with the facts of its training beside it.
    folder = tmp_path / "run" / "lora_adapter"
    shutil.copytree(ledger.storage.local_path(ledger.get(runs[0].key).adapter or ""), folder)
    assert (folder / "adapter.json").exists()
    assert Predictor.load(folder.parent).key == runs[0].key
    weights = next((tmp_path / "adapters").rglob("adapter_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(StorageError, match="has another hash"):
        Predictor.load(runs[0].key, storage=tmp_path)
    shutil.rmtree(tmp_path / "adapters")
    with pytest.raises(StorageError, match="is gone"):
        Predictor.load(runs[0].key, storage=tmp_path)


CLEAN = """
import sys
import llmpred
assert not {"torch", "pydantic", "llmpred.inference"} & set(sys.modules)
predictor = llmpred.Predictor.load(sys.argv[1])
print(predictor.predict("a fine film").log_scores["positive"].hex())
assert "ray" not in sys.modules
"""


def test_a_clean_process_loads_a_copy_and_ends(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLEAN, str(copy)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
    )
    here = Predictor.load(trained).predict("a fine film").log_scores["positive"]
    assert done.stdout.strip() == here.hex()


def test_any_text_is_answered(trained: Path) -> None:
    predictor = Predictor.load(trained)
    empty, long = predictor.predict_batch(["", "good film " * 5000])
    assert (empty.truncated, long.truncated) == (False, True)
    assert set(empty.scores) == {"negative", "positive"}
    assert predictor.predict_batch([]) == []
    assert predictor.predict({"text": "fine"}) == predictor.predict("fine")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, r"must be a text, but got 5 \(int\)"),
        (None, r"must be a text, but got null"),
        ({"text": 5}, r"`text` must be text, but got 5"),
        ({}, r"`text` must be text"),
        ({"text": "a", "label": "b"}, r"has the fields text, but got 'label'"),
        ("a\0b", "null bytes"),
        ("a\ud800", "lone surrogates"),
    ],
)
def test_what_is_no_input_is_said(given: Any, said: str, trained: Path) -> None:
    predictor = Predictor.load(trained)
    with pytest.raises(DataError, match=said):
        predictor.predict(given)
    with pytest.raises(DataError, match=r"input 1"):
        predictor.predict_batch(["fine", given])
    with pytest.raises(DataError, match="takes a list of inputs"):
        predictor.predict_batch("fine")


def test_choices_come_with_their_question(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(
        tiny_causal,
        task={"name": "multiple_choice", "labels": None, "max_length": 200},
        dataset={"source": "synthetic:multiple_choice"},
        method={"adapter": NONE},
        evaluation={"data": {"source": "synthetic:multiple_choice", "options": {"n": 6}}},
    )
    outcome = carry_out(spec, tmp_path)
    ledger = Ledger(tmp_path / "ledger")
    ledger.put(outcome.record, outcome.predictions)
    predictor = Predictor.load(outcome.record.key, storage=tmp_path / "ledger")
    rows = [
        {"question": row["question"], "choices": row["choices"]}
        for row in Examples(prepare(spec).evaluation)
    ]
    for answer, row, stored in zip(
        predictor.predict_batch(rows), rows, outcome.predictions.to_pylist(), strict=True
    ):
        assert answer.label == row["choices"][json.loads(stored["prediction"])]
        assert list(answer.log_scores.values()) == stored["scores"]
    with pytest.raises(DataError, match="choices must differ"):
        predictor.predict({"question": "Which?", "choices": ["a", "a"]})
    with pytest.raises(DataError, match="`choices` is absent"):
        predictor.predict("Which?")


def test_built_in_examples_are_inputs_of_their_tasks() -> None:
    from llmpred.tasks import registry

    for name, languages in EXAMPLES.items():
        task = registry.get(name)
        required = {f.name for f in task.fields if f.role == "input" and f.required}
        for language in languages:
            found = examples(name, language)
            assert len(found) == 5
            assert all(required <= set(task.parse(row)) for row in found)
    with pytest.raises(SpecError, match="built in for the tasks of llmpred"):
        examples("toxicity", "en")


# --- what is refused -----------------------------------------------------------------------------


def pickled(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(b"\x80\x04")


def absent(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def damaged(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def no_run(folder: Path) -> None:
    (folder / kept.RUN).unlink()
    (folder / kept.LABEL_SCORING).unlink()


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        run = json.loads((folder / kept.RUN).read_text())
        change(run)
        (folder / kept.RUN).write_text(json.dumps(run))

    return tamper


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (pickled, r"must hold no pickles, but it holds training_args\.bin"),
    "absent": (absent, r"must hold adapter_model\.safetensors"),
    "damaged": (damaged, "was damaged or changed"),
    "no run": (no_run, r"must hold run\.json.*llmpred ledger import --adapter"),
    "not json": (lambda f: (f / kept.RUN).write_text("{"), r"run\.json must be JSON"),
    "other prompt": (
        changed(lambda run: run["spec"]["task"].update(prompt="{text}: ")),
        "the file was changed",
    ),
    "other weights": (
        changed(lambda run: run["hashes"].update(weights="0" * 64)),
        "the file was changed",
    ),
    "unknown key": (changed(lambda run: run.update(code="import os")), "unknown key `code`"),
    "no spec": (changed(lambda run: run.pop("spec")), "`spec` is missing"),
    "other format": (changed(lambda run: run.update(format=2)), "`format` must be"),
    "no hashes": (changed(lambda run: run["hashes"].clear()), "the file was changed"),
    "path outside": (
        changed(lambda run: run["files"].update({"../../secret": "0" * 64})),
        r"must hold \.\./\.\./secret, but does not",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_is_not_sound_is_refused(case: str, trained: Path, tmp_path: Path) -> None:
    spoil, said = REFUSED[case]
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    spoil(copy)
    with pytest.raises(InputError, match=said):
        Predictor.load(copy)


def test_the_base_must_be_the_runs(
    tiny_causal: Path, tiny_encoder: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(BaseError, match="is another model, or other weights of it"):
        Predictor.load(trained, base=tiny_encoder)
    with pytest.raises(BaseError, match=r"no-such-base.*\n.*--base"):
        Predictor.load(trained, base="no-such-base")
    copy = shutil.copytree(tiny_causal, tmp_path / "base")
    there = Predictor.load(trained, base=copy)
    assert there.predict("fine") == Predictor.load(trained).predict("fine")


def test_what_names_no_model_is_said(tmp_path: Path) -> None:
    for name in ("no-such-folder", str(tmp_path / "absent")):
        with pytest.raises(SpecError, match="folder of kept weights or by a run's key"):
            Predictor.load(name)
    with pytest.raises(SpecError, match=r"must hold run\.json"):
        Predictor.load(tmp_path)


def test_an_adapter_made_elsewhere_is_asked_as_its_folder_says(
    trained: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    (copy / kept.RUN).unlink()
    predictor = Predictor.load(copy)
    assert predictor.key is None
    assert predictor.predict("a fine film") == Predictor.load(trained).predict("a fine film")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(SpecError, match="only plain LoRA"):
        Predictor.load(copy)


def test_other_versions_are_said(trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    assert Predictor.load(trained).notes == ()
    monkeypatch.setattr("llmpred.spec.versions.ENGINE_VERSION", 2)
    assert "version 1 of its engine" in Predictor.load(trained).notes[0]
