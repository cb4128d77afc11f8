"""What a probe costs of the time of its run, by part: on the shipped proxy, one run a task.

    OMP_NUM_THREADS=1 python benchmarks/probe_cost.py [--steps 200] [--task sentiment,qa]

Each run is a task's first dataset of search_spaces/world.yaml, all 1,000 rows. It is probed, then
carried out from the probe's checkpoint, then probed twice more elsewhere; a part's seconds are the
median of the three. Seconds are of the processor, which other work on the machine disturbs less.
Shares are of what the run takes by itself: its data, steps and evaluation, but not the loading of
the base. `steps` are the probe's steps, as long as the run's others; they cost nothing if the run
is then bought. `around` is the rest of training: the trainer, the checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from llmpred.bases.resolve import ResolvedSpec, resolve
from llmpred.engine.models import LoadedBases
from llmpred.engine.run import execute
from llmpred.features.base import compute
from llmpred.features.probe import FEATURES, probe, probe_steps
from llmpred.spec.run import RunSpec

WORLD = Path(__file__).resolve().parents[1] / "search_spaces" / "world.yaml"
TASKS = "sentiment,multiple_choice,qa,summarization"
METHOD = {"adapter": {"r": 8, "alpha": 16, "target_modules": "all_linear"}}
OPTIM = {"lr": 2e-3, "batch_size": 16, "warmup": 0.1}
PROBES = 3


def run_of(task: str, steps: int) -> ResolvedSpec:
    """Return the run of a task."""
    space: dict[str, Any] = yaml.safe_load(WORLD.read_text("utf-8"))
    data = next(d for d in space["datasets"] if d["task"]["name"] == task)
    spec = {
        "task": space["task"] | data["task"],
        "dataset": {k: v for k, v in data.items() if k not in ("task", "evaluation", "recipe")},
        "base": {"name": "proxy"},
        "method": METHOD,
        "optim": OPTIM | {"max_steps": steps},
        "evaluation": space["evaluation"] | data["evaluation"],
        "execution": space["execution"],
    }
    return resolve(RunSpec.model_validate(spec))


def probed(run: ResolvedSpec, bases: LoadedBases, folder: Path) -> dict[str, float]:
    """Probe a run; return the seconds of the whole and of its parts."""
    wall, processor = time.perf_counter(), time.process_time()
    trace = probe(run, bases, folder)
    compute(FEATURES, trace, trace.facts)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    parts = {k.split(".")[1]: v for k, v in trace.facts.items() if k.startswith("seconds.")}
    return {part: value * processor / wall for part, value in {"probe": wall, **parts}.items()}


def measure(task: str, steps: int) -> None:
    """Print what the parts of a task's probe cost."""
    run, bases = run_of(task, steps), LoadedBases()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe(run, bases, folder / "warm-up", steps=1)
        found = [probed(run, bases, folder / "run")]
        processor = time.process_time()
        wall = execute(run, bases, folder / "run").record.wall_seconds
        processor = time.process_time() - processor
        found += [probed(run, bases, folder / str(i)) for i in range(1, PROBES)]
    seconds = {part: statistics.median(f[part] for f in found) for part in found[0]}
    taken = probe_steps(steps)
    bought = processor * (1 - wall["evaluate"] / wall["total"])  # encoding is a small part of it
    step = bought / (steps - taken)
    own = processor + taken * step
    whole, train = seconds.pop("probe"), seconds.pop("train")
    parts = {"steps": taken * step, "around": train - taken * step, **seconds}
    parts |= {"other": whole - sum(parts.values()), "probe": whole, "bought": whole - taken * step}
    print(f"{task}: a run of {own:.1f} s, {step * 1000:.0f} ms a step", flush=True)
    for part, value in parts.items():
        print(f"  {part:20} {value:6.2f} s  {value / own:6.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--task", default=TASKS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for task in args.task.split(","):
        measure(task, args.steps)


if __name__ == "__main__":
    main()
