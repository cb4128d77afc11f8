"""`llmpred predict`, `screen` and `recommend`: how runs will score, and which to make."""

from __future__ import annotations

from typing import Annotated

import typer

from llmpred.cli.candidates import (
    Address,
    Base,
    Evaluation,
    Level,
    Lower,
    Model,
    Question,
    Source,
    ask,
    end,
    finite,
    parse_duration,
    show,
)
from llmpred.cli.common import DEFAULT_STORAGE, Json, Set, Storage, line, print_json
from llmpred.cli.data import Columns, TaskName
from llmpred.errors import InputError, Problem


def predict(
    source: Source,
    model: Model = None,
    level: Level = 0.9,
    lower_is_better: Lower = False,
    task: TaskName = None,
    columns: Columns = None,
    base: Base = None,
    eval_: Evaluation = None,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Rank runs that nobody has made by their predicted score, with intervals."""
    asked = ask(
        source, model, storage, level, lower_is_better,
        of_file={"task": task, "columns": columns, "base": base, "eval_": eval_},
        set_=set_, address=address, quiet=json,
    )  # fmt: skip
    rows = sorted(asked.rows(), key=lambda row: row["predicted"] * (1 if lower_is_better else -1))
    rows = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    if json:
        print_json({**asked.told(), "level": level, "candidates": rows})
        return
    show(rows, asked, f"{level:.0%} interval")
    end(asked, rows)


def screen(
    source: Source,
    threshold: Annotated[float, typer.Option(help="Score that makes a run worth it.")],
    model: Model = None,
    risk: Annotated[
        float, typer.Option(help="Probability of being wrong that a decision may carry.")
    ] = 0.1,
    lower_is_better: Lower = False,
    task: TaskName = None,
    columns: Columns = None,
    base: Base = None,
    eval_: Evaluation = None,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Say go, no-go or probe-more for every run, what that saves, and what it risks."""
    import numpy as np

    from llmpred.meta import decisions
    from llmpred.sweep.progress import duration

    if not 0 < risk < 0.5:
        law = f"`--risk` must be above 0 and below 0.5, but got {risk:g}"
        raise InputError(Problem(law, fix="Such as 0.1."))
    asked = ask(
        source, model, storage, 1 - 2 * risk, lower_is_better,
        of_file={"task": task, "columns": columns, "base": base, "eval_": eval_},
        set_=set_, address=address, quiet=json,
    )  # fmt: skip
    said = asked.forecast
    seconds = said.seconds
    found = said.quantiles
    if lower_is_better:
        found, threshold = decisions.mirrored(found), -threshold
    made = decisions.screen(
        found,
        threshold,
        np.ones(len(said.outside)) if seconds is None else seconds,
        risk=risk,
        known=[not columns for columns in said.outside],
    )
    rows = [
        {**row, "decision": decision, "chance": float(chance)}
        for row, decision, chance in zip(asked.rows(), made.decisions, made.chances, strict=True)
    ]
    rows.sort(key=lambda row: -row["chance"])
    counts = {kind: made.decisions.count(kind) for kind in decisions.KINDS}
    told = {
        "threshold": abs(threshold) if lower_is_better else threshold,
        "risk": risk,
        "decisions": counts,
        "seconds_saved": None if seconds is None else made.saved_seconds,
        "share_saved": made.saved_share,
        "good_runs_lost": made.lost,
        "good_runs_lost_share": finite(made.lost_share),
        "runs_wasted": made.wasted,
    }
    if json:
        print_json({**asked.told(), **told, "candidates": rows})
        return
    show(rows, asked, f"{1 - 2 * risk:.0%} interval", extra=("decision", "chance"))
    line(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    what = "of the runs" if seconds is None else f"of the compute ({duration(made.saved_seconds)})"
    line(f"saved, not starting the no-go: {made.saved_share:.0%} {what}")
    line(
        f"risk: {made.lost:.2g} good runs expected among the no-go"
        + ("" if np.isnan(made.lost_share) else f" ({made.lost_share:.1%} of all good ones)")
        + f", {made.wasted:.2g} that miss the threshold among the go"
    )
    end(asked, rows)


def recommend(
    source: Source,
    budget: Annotated[str, typer.Option(help="Compute to spend: 4h, 90m, 1h30m, 2d.")],
    model: Model = None,
    question: Question = None,
    lower_is_better: Lower = False,
    task: TaskName = None,
    columns: Columns = None,
    base: Base = None,
    eval_: Evaluation = None,
    storage: Storage = DEFAULT_STORAGE,
    set_: Set = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Choose the runs with the highest expected best score that a budget allows."""
    import numpy as np

    from llmpred.meta import decisions
    from llmpred.sweep.progress import duration

    seconds = parse_duration(budget)
    asked = ask(
        source, model, storage, 0.9, lower_is_better,
        of_file={"task": task, "columns": columns, "base": base, "eval_": eval_},
        set_=set_, address=address, quiet=json, question=question,
    )  # fmt: skip
    said, runs = asked.forecast, asked.candidates
    if said.seconds is None:
        law = "a budget needs to know what runs take, but the model was not told"
        fix = "Train it with --cost COLUMN, or on a ledger, which knows."
        raise InputError(Problem(law, model or "", fix))
    found, so_far, known = said.quantiles, runs.so_far, asked.trained.sample.target
    if lower_is_better:
        found, so_far, known = decisions.mirrored(found), -so_far, -known
    made = decisions.recommend(
        found,
        said.seconds,
        seconds,
        questions=runs.questions,
        so_far=np.where(np.isnan(so_far), known.min(), so_far),
    )
    sign = -1 if lower_is_better else 1
    every = asked.rows()
    rows = [
        {"order": order, **every[row], "expected_best": float(sign * best)}
        for order, (row, best) in enumerate(zip(made.rows, made.best, strict=True), 1)
    ]
    if json:
        told = {
            "budget_seconds": seconds,
            "seconds": made.seconds,
            "expected_best": rows[-1]["expected_best"] if rows else None,
            "candidates": len(every),
            "chosen": rows,
        }
        print_json({**asked.told(), **told})
        return
    show(rows, asked, "90% interval", extra=("expected_best",))
    if rows:
        line(
            f"{len(rows)} of {len(every)} runs, {duration(made.seconds)} of "
            f"{duration(seconds)}; expected best {asked.trained.schema.target}: "
            f"{rows[-1]['expected_best']:.4g}"
        )
    else:
        shortest = duration(float(said.seconds.min()))
        line(f"no run is worth it, or fits: the shortest takes {shortest}")
    end(asked, rows)
