"""`mode: search`: trials look for the best run of each combination of dataset, base and method.

A Tune trial is a run. Optuna proposes the values, ASHA (Li et al., 2020) stops trials whose
validation loss is weak, and what finishes is recorded like any other run: a key that is paid for is
answered from the ledger, so repeating a search costs only what it has not seen.

Each combination is searched by itself, one after the other. Scores of two datasets and losses of
two heads do not compare, and each method brings values of its own, so one search over all of them
would stop every trial of the harder dataset and model a space that is mostly absent.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpred.bases.resolve import ResolvedSpec, resolve
from llmpred.errors import Problem, SpecError
from llmpred.ledger import Ledger
from llmpred.ledger.record import best_first
from llmpred.spec.distributions import ENUMERABLE, Leaf
from llmpred.spec.run import RunSpec
from llmpred.spec.space import Combination, SearchSpec, Space, combinations, materialize
from llmpred.sweep.cluster import Workers, connected
from llmpred.sweep.collect import Limits, collect, stop_on_signal, told, workers_for
from llmpred.sweep.hung import killing_the_hung
from llmpred.sweep.orders import DEATHS, SCORED, Done, Orders, State, sweep_id
from llmpred.sweep.plan import examples_seen, make_plan
from llmpred.sweep.progress import Progress
from llmpred.wording import counted

LATER_THAN_ANY_STEP = 10**9
ANSWERED: tuple[State, ...] = (*SCORED, "paid")


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        combination: its place in `combinations(space)`.
        values: what Optuna proposed, by `Leaf.name`.
        key: of the run; empty if the values did not make one.
        state: what became of it; `paid` was answered from the ledger, `stopped` by ASHA.
        accuracy_r: the score, if there is one.
        validation_loss: the last one taken, if any.
        steps: optimizer steps done when that was taken.
        message: one line where something went wrong.
    """

    combination: int
    values: dict[str, Any]
    key: str
    state: State
    accuracy_r: float | None
    validation_loss: float | None
    steps: int
    message: str


@dataclass(frozen=True)
class Searched:
    """What a search did.

    Attributes:
        sweep: its id.
        trials: all of them, in the order in which they ended.
        zero_shot: what became of the zero-shot runs that were not paid for.
        interrupted: why it ended early, or None.
        seconds: wall time.
    """

    sweep: str
    trials: tuple[Trial, ...]
    zero_shot: dict[str, Done]
    interrupted: str | None
    seconds: float

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score; see `best_first` for equals."""
        scored = [trial for trial in self.trials if trial.accuracy_r is not None]
        return min(scored, key=lambda trial: best_first(trial.accuracy_r, trial.key), default=None)


def search(
    space: Space,
    ledger: Ledger,
    *,
    limits: Limits,
    address: str | None = None,
    cache: Path | None = None,
    quiet: bool = False,
    on_done: Callable[[Done], None] = lambda done: None,
) -> Searched:
    """Search every combination of a space, `space.samples` trials each, for its best run.

    Args:
        space: of `mode: search`.
        ledger: where outcomes go; workers write them themselves.
        limits: time, cost, concurrency.
        address: of a Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine.
        cache: where prepared data is kept.
        quiet: show no progress.
        on_done: called in this process for each run that is recorded or failed.

    Raises:
        SpecError: when ASHA has no validation data to look at, or a combination cannot run.
    """
    started = time.time()
    searched = combinations(space)
    specs = [(example(space, c), f"{space.path}, {c}") for c in searched]
    plan = make_plan(specs, ledger, zero_shot=space.zero_shot, cache=cache)
    examples = [resolve(spec, cache=cache) for spec, _ in specs]
    untouched = {key: run for key, run in plan.runs.items() if not run.spec.trains}
    first = collect(
        dataclasses.replace(plan, runs=untouched),
        ledger,
        name=space.name,
        limits=limits,
        address=address,
        cache=cache,
        quiet=quiet,
        on_done=on_done,
    )
    if first.interrupted:
        seconds = time.time() - started
        return Searched(first.sweep, (), first.done, first.interrupted, seconds)

    orders = Orders(ledger.storage.root, sweep_id(space.name), str(Path.cwd()), cache)
    counts = [space.samples if c.leaves else 1 for c in searched]
    progress = Progress(sum(counts), {}, quiet=quiet)
    trials: list[Trial] = []
    interrupted: str | None = None

    def take(trial: Trial) -> None:
        trials.append(trial)
        # Two trials may propose the same run, so progress counts trials, not keys.
        name = f"{trial.key[:10]} trial {len(trials)}"
        done = Done(name, trial.state, trial.accuracy_r, message=trial.message)
        progress.add(done)
        on_done(dataclasses.replace(done, key=trial.key))

    with (
        connected(address) as ray,
        progress,
        stop_on_signal(ledger, orders, progress) as asked,
        killing_the_hung(ray, ledger, orders, progress),
    ):
        workers = workers_for(ray, examples, max(counts), limits, ledger)
        orders = told(orders, workers, limits.deadline(started, workers))
        for place, (run, count) in enumerate(zip(examples, counts, strict=True)):
            progress.say(
                f"searching {searched[place]}: {run.dataset} {run.base}, {counted(count, 'trial')}"
            )
            fit(space, place, run, count, orders, workers, take)
            reasons = [trial.message for trial in trials if trial.state == "interrupted"]
            interrupted = asked() or next(iter(reasons), None)
            if interrupted:
                break
    return Searched(orders.sweep, tuple(trials), first.done, interrupted, time.time() - started)


def fit(
    space: Space,
    place: int,
    like: ResolvedSpec,
    count: int,
    orders: Orders,
    workers: Workers,
    take: Callable[[Trial], None],
) -> None:
    """Search one combination with Ray Tune; returns when every trial has ended.

    Args:
        space: the space.
        place: of the combination in `combinations(space)`.
        like: a run of it, for its length.
        count: trials.
        orders: for the workers.
        workers: how many side by side.
        take: called for each trial that ended.
    """
    import optuna
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search.optuna import OptunaSearch

    from llmpred.sweep.trainable import tell, trial_trainable

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    combination = combinations(space)[place]
    rungs = rung_steps(space.search, -(-examples_seen(like) // like.spec.optim.batch_size))
    samplers = optuna.samplers
    sampler = samplers.RandomSampler if space.sampler == "random" else samplers.TPESampler
    searcher = OptunaSearch(
        space=functools.partial(propose, combination.leaves),
        sampler=sampler(seed=space.seed),
        metric="objective",
        mode="max",
    )
    asha = tune.schedulers.ASHAScheduler(
        time_attr="steps",
        metric="validation_loss",
        mode="min",
        max_t=LATER_THAN_ANY_STEP,
        grace_period=rungs[0] if rungs else 1,
        reduction_factor=space.search.reduction_factor,
    )
    trainable = tune.with_resources(
        tune.with_parameters(
            trial_trainable(), space=space, place=place, rungs=rungs, orders=orders
        ),
        workers.resources,
    )

    def hear(result: dict[str, Any]) -> None:
        if result["done"]:
            take(_trial(place, result))

    with tempfile.TemporaryDirectory(prefix="llmpred-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=asha if rungs else FIFOScheduler(),
                num_samples=count,
                max_concurrent_trials=workers.count,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{orders.sweep}-{place}",
                storage_path=scratch,
                verbose=0,
                # Its place would have to be one that all nodes see; the ledger keeps what matters.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[tell(hear)],
                failure_config=tune.FailureConfig(max_failures=DEATHS),
            ),
        )
        for failed in tuner.fit():
            if failed.error is not None:
                why = str(failed.error).strip().splitlines()[-1]
                take(Trial(place, dict(failed.config or {}), "", "failed", None, None, 0, why))


def _trial(place: int, result: dict[str, Any]) -> Trial:
    """Return the trial that a last result tells of; one still running was stopped by ASHA."""
    done: dict[str, Any] = result["run"] or {"key": result["key"], "state": "stopped"}
    loss = result["validation_loss"]
    return Trial(
        combination=place,
        values=dict(result["config"]),
        key=done["key"],
        state=done["state"],
        accuracy_r=done.get("accuracy_r"),
        validation_loss=None if math.isnan(loss) else loss,
        steps=result["steps"],
        message=done.get("message", ""),
    )


def example(space: Space, combination: Combination) -> RunSpec:
    """Return the run of a combination whose values are all the first or the lowest.

    Raises:
        SpecError: if ASHA lacks validation data, or the values do not go together.
    """
    values = {leaf.name: _first(leaf) for leaf in combination.leaves}
    spec = materialize(space, combination, values)
    if space.search.scheduler == "asha" and spec.dataset.validation is None:
        raise SpecError(
            Problem(
                "ASHA compares trials by validation loss, but `dataset.validation` is not set",
                f"{space.path}, {combination}",
                "Set `validation: 0.1` in the dataset, or `search: {scheduler: none}`.",
            )
        )
    return spec


def rung_steps(search: SearchSpec, steps: int) -> tuple[int, ...]:
    """Return the optimizer steps at which ASHA may stop a trial of so many steps.

    They grow by the reduction factor from `grace_steps`, by default so that there are two, up to
    where a further rung would not fit: to stop a trial that is nearly done saves nothing.
    """
    if search.scheduler == "none":
        return ()
    factor = search.reduction_factor
    step = search.grace_steps or max(1, steps // factor**2)
    rungs = []
    while step * factor <= steps:
        rungs.append(step)
        step *= factor
    return tuple(rungs)


def propose(leaves: Sequence[Leaf], trial: Any) -> None:
    """Ask an Optuna trial for each leaf whose option is taken, outer ones first."""
    taken: dict[Any, Any] = {}
    for leaf in leaves:
        if all(taken.get(path) == index for path, index in leaf.within):
            taken[leaf.path] = leaf.taken(_suggest(trial, leaf))


def _suggest(trial: Any, leaf: Leaf) -> Any:
    if leaf.kind in ENUMERABLE:
        return trial.suggest_categorical(leaf.name, leaf.choices)
    low, high = leaf.args[:2]
    if leaf.kind == "randint":
        return trial.suggest_int(leaf.name, low, high - 1)
    step = leaf.args[2] if leaf.kind == "quniform" else None
    return trial.suggest_float(leaf.name, low, high, step=step, log=leaf.kind == "loguniform")


def _first(leaf: Leaf) -> Any:
    return leaf.choices[0] if leaf.kind in ENUMERABLE else leaf.args[0]
