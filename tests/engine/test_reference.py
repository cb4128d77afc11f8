"""The reference engine against computations of our own: losses, accumulation, selection."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmpred.engine import reference, semantics
from llmpred.engine.encoding import Encoded
from llmpred.engine.models import LoadedBases, OutOfMemory, in_batches
from tests.runs import carry_out, encoded, fingerprint, loaded, lora, losses, run_spec

GENERATION = {"head": "causal_lm", "adapter": lora()}
CLASSIFIER = {"head": "classifier", "adapter": lora()}


def mean_loss(model: Any, batch: list[Encoded]) -> float:
    """Return the mean cross-entropy of the targets' tokens, one example after the other."""
    total, count = 0.0, 0
    for example in batch:
        ids = torch.tensor([example.prompt + example.target])
        logs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
        for place in range(len(example.prompt), ids.shape[1]):
            total -= float(logs[place - 1, ids[0, place]])
            count += 1
    return total / count


def first_batch(spec: Any, examples: list[Encoded]) -> list[Encoded]:
    order = semantics.batches([e.length for e in examples], spec.optim.batch_size, spec.seed)
    return [examples[i] for i in next(order)]


@pytest.mark.parametrize("head", ["causal_lm", "label_scoring"])
def test_the_loss_is_that_of_the_target_tokens_alone(
    head: str, tiny_causal: Path, tmp_path: Path
) -> None:
    """The adapter starts at zero, so the first loss is the untouched base's."""
    words = {"negative": "negative", "positive": "really very positive"}  # of different lengths
    spec = run_spec(
        tiny_causal,
        method={"head": head},
        task={"labels": words},
        optim={"max_steps": 1},
    )
    base = loaded(spec)
    batch = first_batch(spec, encoded(spec, base, training=True))
    assert len({len(e.target) for e in batch}) > 1
    plain = AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    with torch.no_grad():
        by_hand = mean_loss(plain, batch)
    assert losses(carry_out(spec, tmp_path)) == pytest.approx([by_hand], abs=1e-5)


@pytest.mark.parametrize("word", ["positive", "really very positive"])
@pytest.mark.parametrize("normalized", [None, True])
def test_the_loss_among_candidates_is_cross_entropy_of_their_scores(
    word: str, normalized: bool | None, tiny_causal: Path, tmp_path: Path
) -> None:
    """The first loss is the untouched base's, each candidate scored by itself."""
    spec = run_spec(
        tiny_causal,
        method={"loss": "candidates", "length_normalization": normalized},
        task={"labels": {"negative": "negative", "positive": word}},
        optim={"max_steps": 1},
    )
    base = loaded(spec)
    plain = AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    by_hand = []
    for example in first_batch(spec, encoded(spec, base, training=True)):
        scores = []
        for ids in example.candidates:
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([example.prompt + ids])).logits[0]
            logs = torch.log_softmax(logits.double(), -1)
            start = len(example.prompt) - 1
            score = sum(float(logs[start + i, token]) for i, token in enumerate(ids))
            scores.append(score / (len(ids) if normalized else 1))
        by_hand.append(-float(torch.tensor(scores).log_softmax(0)[example.label]))
    assert losses(carry_out(spec, tmp_path)) == pytest.approx(
        [sum(by_hand) / len(by_hand)], abs=1e-5
    )


def test_one_step_is_adamw_with_clipping_at_the_schedules_rate(
    tiny_causal: Path, tmp_path: Path
) -> None:
    """Two steps of full fine-tuning, done again with torch alone on unpadded sequences."""
    spec = run_spec(
        tiny_causal,
        method={"adapter": {"kind": "full"}},
        optim={"max_steps": 3, "lr": 1e-2, "warmup": 1, "weight_decay": 0.1, "grad_clip": 0.5},
    )
    examples = encoded(spec, loaded(spec), training=True)
    order = semantics.batches([e.length for e in examples], 16, spec.seed)
    model = AutoModelForCausalLM.from_pretrained(tiny_causal)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    )
    wanted = []
    for lr in (0.5e-2, 1e-2, 0.5e-2):
        batch = [examples[i] for i in next(order)]
        adam.zero_grad()
        loss = torch.zeros(())
        for e in batch:
            logits = model(input_ids=torch.tensor([e.prompt + e.target])).logits[0]
            loss = loss + torch.nn.functional.cross_entropy(
                logits[len(e.prompt) - 1 : -1], torch.tensor(e.target), reduction="sum"
            )
        loss = loss / sum(len(e.target) for e in batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in adam.param_groups:
            group["lr"] = lr
        adam.step()
        wanted.append([float(loss.detach()), lr, float(norm)])
    curve = carry_out(spec, tmp_path).record.loss_curve
    got = [[row["loss"], row["lr"], row["grad_norm"]] for row in curve]
    assert [row["step"] for row in curve] == [1, 2, 3]
    for step, reference_step in zip(got, wanted, strict=True):
        assert step == pytest.approx(reference_step, rel=1e-3)


@pytest.mark.parametrize(
    "method", [{"head": "label_scoring"}, {"loss": "candidates"}, GENERATION, CLASSIFIER]
)
def test_micro_batches_do_not_change_the_run(
    method: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    def curve(size: int) -> list[float]:
        spec = run_spec(tiny_causal, method=method, execution={"micro_batch": size})
        return losses(carry_out(spec, tmp_path / str(size)))

    whole = curve(16)
    assert whole[0] != whole[-1]
    for size in (1, 3):
        assert curve(size) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("loss", [None, "candidates"])
def test_activation_checkpointing_does_not_change_the_run(
    loss: str | None, tiny_causal: Path, tmp_path: Path
) -> None:
    bases = LoadedBases()
    method = {"loss": loss}
    spec = run_spec(tiny_causal, method=method)
    plain = losses(carry_out(spec, tmp_path / "a", bases))
    saving = run_spec(tiny_causal, method=method, execution={"activation_checkpointing": True})
    assert losses(carry_out(saving, tmp_path / "b", bases)) == pytest.approx(plain, abs=1e-6)
    assert losses(carry_out(spec, tmp_path / "c", bases)) == plain


class Scarce:
    """A forward hook that runs out of memory when a batch has more than `rows` rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.seen: list[int] = []

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows = kwargs["input_ids"].shape[0]
        self.seen.append(rows)
        if rows > self.rows:
            torch.rand(7)  # a pass that fails half-way has drawn already
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def starved(spec: Any, rows: int) -> tuple[LoadedBases, Scarce]:
    from llmpred.bases.resolve import resolve

    bases = LoadedBases()
    hook = Scarce(rows)
    bases.get(resolve(spec), None).model.register_forward_pre_hook(hook, with_kwargs=True)
    return bases, hook


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    dropout: float, tiny_causal: Path, tmp_path: Path
) -> None:
    method = {"adapter": lora(dropout=dropout)}
    spec = run_spec(tiny_causal, method=method, execution={"micro_batch": 16, "eval_batch": 16})
    small = run_spec(tiny_causal, method=method, execution={"micro_batch": 2, "eval_batch": 2})
    plain = carry_out(small, tmp_path / "a")
    bases, hook = starved(spec, rows=2)
    outcome = carry_out(spec, tmp_path / "b", bases)
    assert losses(outcome) == losses(plain)
    assert outcome.predictions.equals(plain.predictions)
    assert hook.seen[:4] == [16, 8, 4, 2]
    assert sum(rows > 2 for rows in hook.seen) == 6  # three in training, three in evaluation


def test_out_of_memory_with_one_example_is_said(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(tiny_causal)
    with pytest.raises(OutOfMemory, match="one training example"):
        carry_out(spec, tmp_path, starved(spec, rows=0)[0])
    zero_shot = run_spec(tiny_causal, method={"adapter": {"kind": "none"}})
    with pytest.raises(OutOfMemory, match="one example in evaluation"):
        carry_out(zero_shot, tmp_path, starved(zero_shot, rows=0)[0])


def test_other_errors_are_not_taken_for_lack_of_memory(tiny_causal: Path, tmp_path: Path) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    from llmpred.bases.resolve import resolve

    spec = run_spec(tiny_causal)
    bases = LoadedBases()
    bases.get(resolve(spec), None).model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes"):
        carry_out(spec, tmp_path, bases)


def test_a_run_with_an_absurd_rate_diverges(tiny_causal: Path, tmp_path: Path) -> None:
    spec = run_spec(
        tiny_causal,
        method={"adapter": {"kind": "full"}},
        optim={"lr": 10.0, "grad_clip": None, "max_steps": 12},
    )
    outcome = carry_out(spec, tmp_path, keep_adapter=True)
    assert outcome.record.status == "diverged"
    assert type(outcome.record).model_validate_json(outcome.record.model_dump_json())
    assert outcome.adapter is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(
    value: float, tiny_causal: Path, tmp_path: Path
) -> None:
    from llmpred.bases.resolve import resolve

    spec = run_spec(tiny_causal, method={"adapter": {"kind": "full"}})
    bases = LoadedBases()
    model = bases.get(resolve(spec), None).model
    steps = []

    def spoil(module: Any, args: Any, output: Any) -> Any:
        steps.append(1)
        return output * value if len(steps) > 8 else output  # from the third step on

    model.lm_head.register_forward_hook(spoil)
    outcome = carry_out(spec, tmp_path, bases)
    record = outcome.record
    assert (record.status, record.accuracy_r, record.metrics) == ("diverged", None, {})
    assert len(record.loss_curve) == 3
    assert record.loss_curve[-1]["loss"] is None
    assert record.tokens["steps"] == 3
    assert outcome.predictions.num_rows == 0
    assert type(record).model_validate_json(record.model_dump_json()).loss_curve[-1]["loss"] is None


def test_gradients_that_overflow_are_divergence(tiny_causal: Path, tmp_path: Path) -> None:
    from llmpred.bases.resolve import resolve

    spec = run_spec(tiny_causal, method={"adapter": {"kind": "full"}})
    bases = LoadedBases()
    weight = bases.get(resolve(spec), None).model.lm_head.weight
    weight.register_hook(lambda grad: grad * math.inf)
    record = carry_out(spec, tmp_path, bases).record
    assert record.status == "diverged"
    assert record.accuracy_r is None
    assert len(record.loss_curve) == 1


class Looks:
    """Collects what a run reports, and the weights at that moment."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def __call__(self, step: int, loss: float) -> None:
        self.losses[step] = loss


def selecting(base: Path, **execution: Any) -> Any:
    """A run whose validation loss is not lowest at its end: few rows, a high rate."""
    return run_spec(
        base,
        dataset={"validation": 0.5, "limit": 24},
        method={"adapter": {"kind": "full"}},
        optim={"lr": 0.1, "max_steps": 16, "batch_size": 4, "schedule": "constant"},
        evaluation={"select": "best_on_validation"},
        execution={"micro_batch": 4, **execution},
    )


def test_best_on_validation_keeps_the_weights_of_the_lowest_loss(
    tiny_causal: Path, tmp_path: Path
) -> None:
    spec = selecting(tiny_causal)
    looks = Looks()
    outcome = carry_out(
        spec, tmp_path / "best", keep_adapter=True, report=looks, report_at=range(1, 17)
    )
    at_looks = {round(1.6 * k): looks.losses[round(1.6 * k)] for k in range(1, 11)}
    best = min(at_looks, key=at_looks.__getitem__)
    assert best < 16  # otherwise this shows nothing
    shorter = spec.model_copy(
        update={
            "optim": spec.optim.model_copy(update={"max_steps": best}),
            "evaluation": spec.evaluation.model_copy(update={"select": "last"}),
        }
    )
    there = carry_out(shorter, tmp_path / "short", keep_adapter=True)
    assert outcome.adapter is not None
    assert there.adapter is not None
    kept = AutoModelForCausalLM.from_pretrained(outcome.adapter)
    stopped = AutoModelForCausalLM.from_pretrained(there.adapter)
    assert fingerprint(kept) == fingerprint(stopped)
    assert outcome.predictions.equals(there.predictions)
    assert len(outcome.record.loss_curve) == 16


def test_reports_do_not_change_the_run_and_can_end_it(tiny_causal: Path, tmp_path: Path) -> None:
    method = {"adapter": lora(dropout=0.1)}
    spec = run_spec(tiny_causal, dataset={"validation": 0.25}, method=method)
    plain = carry_out(spec, tmp_path / "a")
    looks = Looks()
    told = carry_out(spec, tmp_path / "b", report=looks, report_at=[2, 6])
    assert losses(told) == losses(plain)
    assert list(looks.losses) == [2, 6]

    class Enough(Exception):  # noqa: N818
        pass

    def enough(step: int, loss: float) -> None:
        raise Enough

    bases = LoadedBases()
    with pytest.raises(Enough):
        carry_out(spec, tmp_path / "c", bases, report=enough, report_at=[3])
    assert losses(carry_out(spec, tmp_path / "d", bases)) == losses(plain)


def test_validation_loss_is_the_mean_per_target_token(tiny_causal: Path) -> None:
    words = {"negative": "negative", "positive": "really very positive"}
    spec = run_spec(tiny_causal, task={"labels": words})
    base = loaded(spec)
    examples = encoded(spec, base, training=True)[:11]
    with torch.no_grad():
        by_hand = mean_loss(base.model, examples)
    got = reference.validation_loss(base.model, base, spec, examples, 4)
    assert got == pytest.approx(by_hand, abs=1e-5)


def test_one_of_several_processes_takes_no_smaller_batch_alone() -> None:
    sizes = []

    def run(batch: Any) -> Any:
        sizes.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(OutOfMemory, match="4 examples in evaluation"):
        list(in_batches(range(8), 4, run, together=True))
    assert sizes == [4]
