"""What a space asks for, what of it is paid for, and what the rest will take. Starts nothing."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmpred.bases.resolve import ResolvedSpec, resolve, zero_shot_of
from llmpred.engine import semantics
from llmpred.errors import InputError, Problem, SpecError, UnfitError
from llmpred.ledger import Ledger
from llmpred.spec.run import RunSpec
from llmpred.sweep.memory import Memory, memory_of
from llmpred.wording import counted

PACKS_A_WORKER = 4  # small enough that no worker idles long at the end


@dataclass(frozen=True)
class Plan:
    """The runs of a space.

    Attributes:
        runs: all of them by key, in the space's order, zero-shot runs first.
        paid: keys that the ledger has.
        notes: what the data's readers had to say, once each.
    """

    runs: dict[str, ResolvedSpec]
    paid: frozenset[str]
    notes: tuple[str, ...]

    @property
    def todo(self) -> list[ResolvedSpec]:
        """Return the runs that are not paid for, in order."""
        return [run for key, run in self.runs.items() if key not in self.paid]


def make_plan(
    specs: Sequence[tuple[RunSpec, str]],
    ledger: Ledger,
    *,
    zero_shot: bool,
    unfit: Literal["error", "skip"] = "error",
    cache: Path | None = None,
) -> Plan:
    """Resolve every run of a space and see which the ledger has.

    Args:
        specs: the space's runs, each with its place in the space, for error messages.
        ledger: the ground truth so far.
        zero_shot: also score each untouched base on each evaluation set, once.
        unfit: whether methods that a base cannot be used with are errors, or left out and noted.
        cache: where prepared data is kept.

    Raises:
        SpecError: with the problems of all runs together.
    """
    problems: list[Problem] = []
    resolved: dict[str, ResolvedSpec] = {}
    untouched: dict[str, ResolvedSpec] = {}
    left_out: Counter[str] = Counter()
    for spec, where in specs:
        try:
            run = resolve(spec, cache=cache)
            if zero_shot and run.zero_shot_key is not None and run.zero_shot_key not in untouched:
                base_run = zero_shot_of(run.spec)
                assert base_run is not None  # it has a key
                untouched[run.zero_shot_key] = resolve(base_run, cache=cache)
        except InputError as error:
            if isinstance(error, UnfitError) and unfit == "skip":
                left_out[error.problems[0].law] += 1
                continue
            problems += [
                problem if problem.where else Problem(problem.law, where, problem.fix)
                for problem in error.problems
            ]
            continue
        resolved.setdefault(run.key, run)
    if left_out and not resolved and not problems:
        problems = [Problem(law, fix="Choose another base.") for law in left_out]
    if problems:
        raise SpecError(_merged(problems))
    runs = {**untouched, **resolved}
    paid = frozenset(runs.keys() & ledger.keys())
    notes = dict.fromkeys(note for run in runs.values() for note in run.notes)
    for law, count in left_out.items():
        notes[f"{counted(count, 'run')} left out: {law}"] = None
    for finding in ledger.damaged:
        if finding.key in runs and finding.key not in paid:
            notes[f"{finding.key[:10]} is run again: {finding}"] = None
    return Plan(runs, paid, tuple(notes))


def _merged(problems: Sequence[Problem]) -> list[Problem]:
    """Say each problem once, with its first place and in how many others it stands."""
    places: dict[tuple[str, str], list[str]] = {}
    for problem in dict.fromkeys(problems):
        places.setdefault((problem.law, problem.fix), []).append(problem.where)
    return [
        Problem(law, f"{where[0]} and {len(where) - 1} more" if where[1:] else where[0], fix)
        for (law, fix), where in places.items()
    ]


def packs(runs: Sequence[ResolvedSpec], workers: int) -> list[list[ResolvedSpec]]:
    """Group runs that share a loaded base, and cut the groups so that all workers stay busy.

    A pack is what one Tune trial works off: an empty trial costs about a second, loading a base
    many.
    """
    groups: dict[tuple[Any, ...], list[ResolvedSpec]] = {}
    for run in runs:
        identity = (
            run.hashes["weights"],
            run.spec.base.quantization,
            run.spec.method.has_head,
            run.spec.method.reads_numbers,
            run.spec.optim.precision,
            run.spec.execution.device,
        )
        groups.setdefault(identity, []).append(run)
    size = max(1, -(-len(runs) // (workers * PACKS_A_WORKER)))
    return [pack for group in groups.values() for pack in _cut(group, size)]


def _cut(runs: Sequence[ResolvedSpec], size: int) -> list[list[ResolvedSpec]]:
    """Cut runs into packs of at least `size`; evaluations of one training stay in one pack.

    So the first of them trains and the others use its weights, if they are kept.
    """
    trainings: dict[str, list[ResolvedSpec]] = {}
    for run in runs:
        trainings.setdefault(run.train_key, []).append(run)
    cut: list[list[ResolvedSpec]] = [[]]
    for siblings in trainings.values():
        if len(cut[-1]) >= size:
            cut.append([])
        cut[-1] += siblings
    return cut


@dataclass(frozen=True)
class Estimate:
    """What runs will take.

    Attributes:
        seconds: wall seconds of each run by key; missing where nothing is known.
        memory: peak of one process, of the run that needs most.
        processes: of each run.
        disk_bytes: of records, predictions and kept adapters.
        basis: where the seconds come from, for people.
    """

    seconds: dict[str, float]
    memory: Memory
    processes: int
    disk_bytes: int
    basis: str


def estimate(plan: Plan, history: Sequence[dict[str, Any]]) -> Estimate:
    """Estimate the runs that are left, from what finished runs took.

    Seconds are those of finished runs of the same base, quantisation and head, scaled by the
    examples trained on and evaluated; without any such run there is no estimate of time.

    Args:
        plan: the runs.
        history: rows of the ledger's table.
    """
    rates: dict[tuple[str, str, str], list[float]] = {}
    for row in history:
        if row.get("origin") != "run" or not row.get("wall.total"):
            continue
        name = (
            str(row.get("hash.weights")),
            str(row.get("base.quantization")),
            str(row.get("method.head")),
        )
        work = _work(
            row.get("tokens.examples_seen") or 0,
            row.get("count.evaluation") or 0,
        )
        rates.setdefault(name, []).append(float(row["wall.total"]) / work)
    seconds = {}
    for run in plan.todo:
        name = (run.hashes["weights"], run.spec.base.quantization, run.spec.method.head)
        if name in rates:
            work = _work(examples_seen(run), run.counts.get("evaluation", 0))
            seconds[run.key] = statistics.median(rates[name]) * work
    known = sum(len(v) for v in rates.values())
    basis = (
        f"from {counted(known, 'finished run')}"
        if seconds
        else "no finished run of these bases yet: `llmpred collect --dry-run 1` measures one"
    )
    return Estimate(
        seconds,
        max(map(memory_of, plan.todo), key=lambda m: m.total, default=Memory(0, 0, 0, 0)),
        max((_processes(run) for run in plan.todo), default=1),
        sum(disk_bytes(run) for run in plan.todo),
        basis,
    )


def _processes(run: ResolvedSpec) -> int:
    distributed = run.spec.execution.distributed
    return distributed.workers if distributed else 1


def examples_seen(run: ResolvedSpec) -> int:
    """Return the examples that training goes through, repeats included."""
    if not run.spec.trains:
        return 0
    if run.spec.method.head == "boosted":
        return run.counts["train"]  # each passes the base once
    return sum(
        part.max_steps * part.batch_size
        if part.max_steps is not None
        else round((part.epochs or 0.0) * run.counts["train"])
        for part, _ in semantics.stages(run.spec.optim, run.counts["train"])
    )


def _work(trained: float, evaluated: float) -> float:
    # A training example costs a forward and two backward passes' worth, an evaluated one a forward.
    return max(1.0, 3.0 * trained + evaluated)


def disk_bytes(run: ResolvedSpec) -> int:
    """Estimate what a run leaves in the storage."""
    kept = run.spec.execution.keep != "none" and run.spec.trains
    adapter = 4 * run.parameters if run.spec.method.adapter.kind == "full" else 4_000_000
    return 20_000 + 200 * run.counts.get("evaluation", 0) + (adapter if kept else 0)
