"""What stored predictions cannot say, asked of the models: latency and robustness."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmpred.data.fields import Example
from llmpred.errors import InputError, LlmpredError
from llmpred.report.comparison import Group, Latency, Scheme, long_texts
from llmpred.report.comparison_folder import Asked
from llmpred.report.latency import measure

if TYPE_CHECKING:
    from llmpred.inference import Predictor

Device = Literal["auto", "cpu", "cuda"]
ROOM = 0.6  # share of the free memory that models may take together


@dataclass(frozen=True)
class Perturbing:
    """How robustness is asked for.

    Attributes:
        kinds: of perturbations; None takes all of the language's.
        strengths: shares of the places that change; None takes the usual ones.
        limit: at most this many rows, drawn by `seed`.
        seed: of the perturbations.
    """

    kinds: tuple[str, ...] | None = None
    strengths: tuple[float, ...] | None = None
    limit: int | None = None
    seed: int = 0


def ask(
    group: Group,
    storage: str,
    *,
    texts: int = 0,
    perturbing: Perturbing | None = None,
    device: Device | None = None,
) -> Asked:
    """Load the models of a group's schemes, as many at once as there is memory for, and ask them.

    Args:
        group: the schemes.
        storage: root of the ledger that has their weights.
        texts: how many to take the latency on; 0 for none.
        perturbing: how to ask for robustness; None for none.
        device: where; None asks each where its run says.
    """
    if not texts and perturbing is None:
        return Asked()
    if group.examples is None:
        return Asked(warnings=("Nothing was asked of the models: the data are not there.",))
    latency: dict[str, Latency] = {}
    robust: dict[str, Mapping[str, Any]] = {}
    said: list[str] = []
    scored = [scheme for scheme in group.schemes if scheme.scored]
    batches = [*_batches(scored, device)] if scored else []
    if len(batches) > 1 and texts:
        said.append(
            f"The models do not fit into memory together: latency was taken in {len(batches)} "
            "parts, one after the other, so other load on the machine need not hit all alike."
        )
    for batch in batches:  # by a function, so that one's models are gone when the next one's come
        found = _ask_batch(batch, group.examples, storage, texts, perturbing, device)
        latency |= found.latency
        robust |= found.robustness
        said += found.warnings
    return Asked(latency, robust, tuple(dict.fromkeys(said)))


def _ask_batch(
    schemes: Sequence[Scheme],
    examples: Sequence[Example],
    storage: str,
    texts: int,
    perturbing: Perturbing | None,
    device: Device | None,
) -> Asked:
    """Load the models of schemes together, and ask them."""
    said: list[str] = []
    latency: dict[str, Latency] = {}
    robust: dict[str, dict[str, Any]] = {}
    loaded = dict(_loaded(schemes, storage, device, said))
    if texts and loaded:
        answers = {name: _answering(one) for name, one in loaded.items()}
        try:
            latency = measure(answers, examples[:texts])
        except LlmpredError as error:
            said.append(f"Latency is not known: {_law(error)}.")
    for name, predictor in loaded.items() if perturbing is not None else ():
        assert perturbing is not None
        try:
            robust[name] = robustness_of(predictor, examples, perturbing)
        except LlmpredError as error:
            said.append(f"Robustness of {name} is not known: {_law(error)}.")
    return Asked(latency, robust, tuple(said))


def _law(error: LlmpredError) -> str:
    law = error.problems[0].law if isinstance(error, InputError) else str(error)
    return law.rstrip(".")


def _loaded(
    schemes: Sequence[Scheme], storage: str, device: Device | None, said: list[str]
) -> Iterator[tuple[str, Predictor]]:
    """Yield a model of each scheme that has one; why others have none goes to `said`."""
    from llmpred.inference import Predictor

    for scheme in schemes:
        key = scheme.scored[0].record.key
        try:
            where = device or scheme.spec.execution.device
            yield scheme.name, Predictor.load(key, storage=storage, device=where)
        except LlmpredError as error:
            said.append(f"{scheme.name} could not be asked: {_law(error)}.")


def _batches(schemes: Sequence[Scheme], device: Device | None) -> Iterator[list[Scheme]]:
    """Yield schemes whose models fit into memory together."""
    room = ROOM * min(_free_bytes(device or s.spec.execution.device) for s in schemes)
    batch: list[Scheme] = []
    used = 0.0
    for scheme in schemes:
        needed = _bytes(scheme)
        if batch and used + needed > room:
            yield batch
            batch, used = [], 0.0
        batch.append(scheme)
        used += needed
    if batch:
        yield batch


def _bytes(scheme: Scheme) -> float:
    spec = scheme.spec
    total = scheme.scored[0].record.parameters.get("total", 0)
    quantized = {"nf4": 0.6, "int8": 1.1}.get(spec.base.quantization)
    each = quantized or (2 if spec.optim.precision == "bf16" else 4)
    return each * total


def _free_bytes(device: Device) -> float:
    import psutil
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)


def _answering(predictor: Predictor) -> Callable[[Example], Any]:
    """Return what answers one evaluation row, of which only the inputs are read."""
    names = [field.name for field in predictor.fields]

    def answer(example: Example) -> Any:
        return predictor.predict({n: example[n] for n in names if n in example})

    return answer


def robustness_of(
    predictor: Predictor, examples: Sequence[Example], perturbing: Perturbing
) -> dict[str, Any]:
    """Return how a classifier's accuracy holds when the texts of examples are changed.

    Raises:
        InputError: if the task is no classification of one text, or kinds or strengths are wrong.
    """
    from llmpred.errors import Problem
    from llmpred.evaluation.perturbations import STRENGTHS
    from llmpred.evaluation.robustness import robustness

    task, spec = predictor.task, predictor.spec.task
    if task.classes(spec) is None or len(predictor.fields) != 1:
        law = f"robustness is that of a classification of one text, but the task is {task.name}"
        raise InputError(Problem(law, fix="Leave `robustness` out of --suite."))
    assert spec.language != "auto"  # the run is settled
    labels = task.classes(spec) or ()
    rows = sampled(examples, perturbing.limit, perturbing.seed)

    def answer(texts: list[str]) -> list[str] | tuple[list[str], list[float]]:
        found = predictor.predict_batch(texts)
        said = [one.label for one in found]
        sure = [one.confidence for one in found if one.confidence is not None]
        return (said, sure) if len(sure) == len(said) else said

    return robustness(
        long_texts([example for _, example in rows], task),
        [str(task.gold(example, spec)) for _, example in rows],
        answer,
        language=spec.language,
        kinds=perturbing.kinds,
        strengths=perturbing.strengths or STRENGTHS,
        seed=perturbing.seed,
        opposite=dict(zip(labels, labels[::-1], strict=True)) if len(labels) == 2 else {},
        ids=[str(example.get("id", i)) for i, example in rows],
    )


def sampled(examples: Sequence[Example], limit: int | None, seed: int) -> list[tuple[int, Example]]:
    """Return at most `limit` examples with their places, in their order, drawn by `seed`."""
    places = range(len(examples))
    if limit is not None and limit < len(examples):
        places = sorted(random.Random(seed).sample(places, limit))  # type: ignore[assignment]
    return [(i, examples[i]) for i in places]
