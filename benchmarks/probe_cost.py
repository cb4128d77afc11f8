"""What a probe and the other meta-features cost of the time of their run, on the shipped proxy.

    OMP_NUM_THREADS=1 python benchmarks/probe_cost.py [--steps 200] [--task sentiment,qa]

Runs are those of search_spaces/world.yaml, one a dataset, all of the same steps. Each is probed,
then carried out from the probe's checkpoint, then probed twice more elsewhere; a part's seconds are
the median of the three. The other measurements are taken once for all runs on a dataset, so their
share is printed for a dataset with one run and for one with six, as in that space.

Seconds are of the processor, which other work on the machine disturbs less. Shares are of what the
run takes by itself: its data, steps and evaluation, but not the loading of the base. `steps` are
the probe's steps, as long as the run's others; they cost nothing if the run is then bought.
`around` is the rest of training: the trainer, the checkpoint.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from llmpred.bases.resolve import ResolvedSpec, resolve
from llmpred.engine.models import LoadedBases
from llmpred.engine.run import execute
from llmpred.features.base import compute
from llmpred.features.measurements import BY_NAME, Tools
from llmpred.features.probe import FEATURES, probe, probe_steps
from llmpred.spec.space import expand, load_space

WORLD = Path(__file__).resolve().parents[1] / "search_spaces" / "world.yaml"
TASKS = "sentiment,multiple_choice,qa,summarization"
PROBES = 3
SHARED = 6  # runs on a dataset, as `samples` of the space has it
ONCE = ("text", "tokens", "embedding", "likelihood")


def runs(steps: int, tasks: list[str]) -> list[ResolvedSpec]:
    """Return the space's runs, one a dataset, of as many steps."""
    space: dict[str, Any] = yaml.safe_load(WORLD.read_text("utf-8"))
    space |= {"samples": 1, "zero_shot": False}
    for part in (space, *space["datasets"]):
        if "optim" in part:
            part["optim"] = part["optim"] | {"max_steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WORLD.name
        path.write_text(yaml.safe_dump(space, allow_unicode=True), "utf-8")
        found = expand(load_space(path))
    return [resolve(run) for run in found if run.task.name in tasks]


def probed(run: ResolvedSpec, bases: LoadedBases, folder: Path) -> dict[str, float]:
    """Probe a run; return the seconds of the whole and of its parts."""
    wall, processor = time.perf_counter(), time.process_time()
    trace = probe(run, bases, folder)
    compute(FEATURES, trace, trace.facts)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    parts = {k.split(".")[1]: v for k, v in trace.facts.items() if k.startswith("seconds.")}
    return {part: value * processor / wall for part, value in {"probe": wall, **parts}.items()}


def processor_seconds() -> float:
    """Return what this process and those it has started have had of the processor."""
    return sum(os.times()[:4])


def described(run: ResolvedSpec, bases: LoadedBases, folder: Path) -> dict[str, float]:
    """Take all that is measured once a dataset; return the seconds of each."""
    folder.mkdir()
    tools = Tools(bases, scratch=folder, checkpoints=folder)
    seconds = {}
    for name in ONCE:
        start = processor_seconds()
        BY_NAME[name].take(run, tools)
        seconds[name] = processor_seconds() - start
    return seconds


def measure(run: ResolvedSpec, bases: LoadedBases) -> dict[str, float]:
    """Print what a run's probe and features cost; return the shares of its time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe(run, bases, folder / "warm-up", steps=1)
        found = [probed(run, bases, folder / "run")]
        processor = time.process_time()
        wall = execute(run, bases, folder / "run").record.wall_seconds
        processor = time.process_time() - processor
        found += [probed(run, bases, folder / str(i)) for i in range(1, PROBES)]
        once = described(run, bases, folder / "once")
    seconds = {part: statistics.median(f[part] for f in found) for part in found[0]}
    total = run.spec.optim.max_steps
    assert total is not None
    taken = probe_steps(total)
    trained = processor * (1 - wall["evaluate"] / wall["total"])  # encoding is a small part of it
    step = trained / (total - taken)
    own = processor + taken * step
    whole, train = seconds.pop("probe"), seconds.pop("train")
    parts = {"steps": taken * step, "around": train - taken * step, **seconds}
    parts |= {"other": whole - sum(parts.values()), **once}
    print(f"{run.spec.dataset.name}: a run of {own:.1f} s, {step * 1000:.0f} ms a step")
    for part, value in parts.items():
        print(f"  {part:20} {value:6.2f} s  {value / own:6.2%}", flush=True)
    bought, features = whole - taken * step, sum(once.values())
    return {
        "seconds": own,
        "probe": whole / own,
        "if bought": bought / own,
        "features": features / own,
        f"all, {SHARED} runs a dataset": (whole + features / SHARED) / own,
        "the same if bought": (bought + features / SHARED) / own,
        "all, one run a dataset": (whole + features) / own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--task", default=TASKS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bases = LoadedBases()
    found = [(run, measure(run, bases)) for run in runs(args.steps, args.task.split(","))]
    table = pd.DataFrame([{"task": run.spec.task.name, **shares} for run, shares in found])
    medians = table.groupby("task", sort=False).median().T
    print(medians.assign(all=table.median(numeric_only=True)).round(3).to_string())


if __name__ == "__main__":
    main()
