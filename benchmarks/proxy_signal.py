"""Is there anything to predict on the shipped proxy, and does it rank data as a real model does?

    python benchmarks/proxy_signal.py --storage ~/llmpred-signal [--part signal,noise,knobs]

Runs fine-tunes through the job and prints, from the ledger alone:

- signal: per task of search_spaces/world.yaml, the spread of accuracy_r, the best run against
  zero-shot, and the seconds a run;
- noise: the standard deviation of accuracy_r over 5 seeds, at each of the space's steps and at the
  quarter points of its learning rates;
- knobs: Spearman's correlation of each knob's 6 levels with the score, mean of 3 seeds;
- real: LoRA on 2,000 sentences of SST-2 and 2,000 reviews of ChnSentiCorp;
- rank: 12 sentiment datasets made of SST-2, run on the proxy and on smollm2-135m: Spearman, and
  what is lost by taking the proxy's choice.

The last two need --data and are left out without it. Everything is kept in --storage: what is
paid for is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import spearmanr

from llmpred.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
WORLD = ROOT / "search_spaces" / "world.yaml"
HEADS = {
    "sentiment": "label_scoring",
    "multiple_choice": "label_scoring",
    "qa": "causal_lm",
    "summarization": "causal_lm",
}
TASKS = tuple(HEADS)
SEEDS = 5
RATES = (1.5e-3, 3.3e-3)  # a quarter and three quarters up the space's, in logarithms
GOOD = {"r": 8, "alpha": 16, "target_modules": "all_linear"}
OPTIM = {"lr": 5e-3, "max_steps": 75, "batch_size": 8, "warmup": 0.1}

Row = dict[str, Any]


def collect(space: dict[str, Any], storage: Path) -> list[Row]:
    """Run a space through the job; return the ledger's rows of its runs, zero-shot ones too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{space['name']}.yaml"
        path.write_text(yaml.safe_dump(space, sort_keys=False, allow_unicode=True), "utf-8")
        command = [sys.executable, str(ROOT / "jobs/collect_ground_truth.py"), "--json"]
        command += ["--space", str(path), "--storage", str(storage), "--no-tracking"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    rows = {row["key"]: row for row in Ledger(storage).table().to_pylist()}
    # A run that another space paid for has its dataset's name from there.
    runs = json.loads(done.stdout)["run_list"]
    return [rows[run["key"]] | {"dataset": run["dataset"]} for run in runs]


def trained(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("tokens.steps")]


def world() -> dict[str, Any]:
    return yaml.safe_load(WORLD.read_text("utf-8"))


def of_task(space: dict[str, Any], task: str) -> list[dict[str, Any]]:
    return [data for data in space["datasets"] if data["task"]["name"] == task]


def first_of(task: str) -> tuple[dict[str, Any], list[int]]:
    """Return a task's first dataset, without steps of its own, and the steps of its space."""
    space = world()
    dataset = of_task(space, task)[0]
    optim = {**space["optim"], **dataset.pop("optim", {})}
    return dataset, optim["max_steps"]["choice"]


def untouched(storage: Path) -> dict[str, float]:
    """Return what the base scores before any training, by task; classifiers as label scoring."""
    space = world()
    space |= {
        "name": "untouched",
        "sampler": "grid",
        "datasets": [
            first_of(task)[0] | {"recipe": [], "method": {"head": HEADS[task]}} for task in TASKS
        ],
        "methods": [{"adapter": {"kind": "none"}}],
    }
    del space["samples"], space["optim"]["lr"]
    space["optim"]["max_steps"] = 1
    return {row["task"]: row["accuracy_r"] for row in collect(space, storage)}


def spread(rows: list[Row]) -> float:
    return statistics.stdev(row["accuracy_r"] for row in rows)


def signal(storage: Path) -> None:
    """Print the spread of each task's default space, and its best run against zero-shot."""
    rows, zero_shot = collect(world(), storage), untouched(storage)
    print(f"{'task':16} runs  sd     zero-shot  best   gain   seconds a run (median)")
    for task in TASKS:
        mine = trained([row for row in rows if row["task"] == task])
        # Others have an evaluation set of their own, such as Chinese.
        like = [row for row in mine if row["hash.evaluation"] == mine[0]["hash.evaluation"]]
        best = max(row["accuracy_r"] for row in like)
        seconds = statistics.median(row["wall.total"] for row in mine)
        print(
            f"{task:16} {len(mine):4}  {spread(mine):.3f}  {zero_shot[task]:9.3f}  {best:.3f}  "
            f"{best - zero_shot[task]:+.3f}  {seconds:.1f}"
        )
    for pair in (TASKS[:2], TASKS[2:]):
        seconds = statistics.median(r["wall.total"] for r in trained(rows) if r["task"] in pair)
        print(f"{' and '.join(pair)}: median {seconds:.1f} s")


def noise(storage: Path) -> None:
    """Print how much the seed alone moves runs from the middle of each task's space."""
    print(f"{'task':16} sd over {SEEDS} seeds, lr {RATES[0]:g} and then {RATES[1]:g}")
    for task in TASKS:
        dataset, steps = first_of(task)
        dataset["recipe"] = [{"subsample": {"n": 200}}]
        space = world()
        space |= {"name": f"noise-{task}", "datasets": [dataset], "sampler": "grid"}
        del space["samples"]
        space |= {
            "seeds": list(range(SEEDS)),
            "methods": [{"adapter": GOOD}],
            "optim": OPTIM | {"lr": {"grid": list(RATES)}, "max_steps": {"grid": steps}},
        }
        rows = trained(collect(space, storage))
        alone = [
            spread([r for r in rows if (r["optim.lr"], r["optim.max_steps"]) == (lr, n)])
            for lr in RATES
            for n in steps
        ]
        rms = statistics.fmean(sd**2 for sd in alone) ** 0.5
        shown = ", ".join(f"{n}: {sd:.3f}" for n, sd in zip(steps * 2, alone, strict=True))
        print(f"{task:16} {shown} (by steps); RMS {rms:.3f}", flush=True)


# Knob -> (whether more should help, levels, how a level changes a dataset).
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
SIZES = (10, 25, 60, 150, 400, 1000)
# More rows help only where training is long enough to need them.
LONGER = {(task, "distinct examples"): 150 for task in ("sentiment", "summarization")}
KNOBS: dict[str, tuple[int, tuple[float, ...], Any]] = {
    "label noise": (-1, NOISE, lambda x: {"recipe": [{"label_noise": {"share": x}}]}),
    "mismatch": (-1, LEVELS, lambda x: {"recipe": [{"shuffle_answers": {"share": x}}]}),
    "distinct examples": (1, SIZES, lambda x: {"recipe": [{"subsample": {"n": x}}]}),
}


def knobs(storage: Path) -> None:
    """Print how each knob's levels move the score."""
    for task in TASKS:
        for name, (sign, levels, change) in KNOBS.items():
            if task in ("qa", "summarization") and name == "label noise":
                continue  # of a text it is what mismatch is
            space = world()
            first, _ = first_of(task)
            datasets = [first | {"name": f"{x:g}"} | change(x) for x in levels]
            for data in datasets:
                if name != "distinct examples":
                    data["recipe"] = [{"subsample": {"n": 400}}, *data["recipe"]]
            del space["samples"]
            space |= {
                "name": f"knob-{task}-{name.replace(' ', '-')}",
                "sampler": "grid",
                "datasets": datasets,
                "seeds": [0, 1, 2],
                "methods": [{"adapter": GOOD}],
                "optim": OPTIM | {"max_steps": LONGER.get((task, name), OPTIM["max_steps"])},
            }
            rows = trained(collect(space, storage))
            means = [
                statistics.fmean(r["accuracy_r"] for r in rows if r["dataset"] == f"{x:g}")
                for x in levels
            ]
            rho = spearmanr(levels, means).statistic
            held = "as it should" if rho * sign >= 0.8 else "NOT as it should"
            scores = " ".join(f"{mean:.3f}" for mean in means)
            print(f"{task:16} {name:18} {scores}  rho {rho:+.2f}  {held}", flush=True)


def real(storage: Path, data: Path) -> None:
    """Print what the proxy learns from real sentences, English and Chinese."""
    sources = {
        "SST-2": ("sst2_train.tsv", "sst2_test.tsv", "sentence", "en", ["bad", "good"]),
        "ChnSentiCorp": (
            "chnsenticorp_train.tsv",
            "chnsenticorp_dev.tsv",
            "text_a",
            "zh",
            ["差", "好"],
        ),
    }
    for name, (train, test, column, language, words) in sources.items():
        space = {
            "name": f"real-{name}",
            "sampler": "grid",
            "task": {
                "name": "sentiment",
                "language": language,
                "labels": dict(enumerate(words)),
                "max_length": 160,
            },
            "datasets": [
                {
                    "name": name,
                    "source": str(data / "sentiment" / train),
                    "columns": {"text": column},
                    "recipe": [{"subsample": {"n": 2000}}],
                }
            ],
            "bases": ["proxy"],
            "methods": [
                {"head": head, "adapter": {"r": 16, "alpha": 32, "target_modules": "all_linear"}}
                | loss
                for head, loss in (("label_scoring", {"loss": "candidates"}), ("classifier", {}))
            ],
            "optim": {"lr": {"grid": [2e-3, 5e-3]}, "epochs": 3, "batch_size": 16, "warmup": 0.1},
            "evaluation": {
                "data": {
                    "source": str(data / "sentiment" / test),
                    "columns": {"text": column},
                }
            },
            "execution": {"micro_batch": 16, "eval_batch": 64},
        }
        for row in collect(space, storage):
            how = f"{row['method.head']} lr {row['optim.lr']:g}" if trained([row]) else "zero-shot"
            print(f"{name:14} {how:28} {row['accuracy_r']:.3f}  {row['wall.total']:.0f} s")


def rank(storage: Path, data: Path) -> None:
    """Print how the proxy ranks 12 datasets against how smollm2-135m does."""
    recipes: dict[str, list[dict[str, Any]]] = {
        "n600": [{"subsample": {"n": 600}}],
        "n40": [{"subsample": {"n": 40}}],
        "n10": [{"subsample": {"n": 10}}],
        "noise15": [{"subsample": {"n": 600}}, {"label_noise": {"share": 0.15}}],
        "noise30": [{"subsample": {"n": 600}}, {"label_noise": {"share": 0.3}}],
        "noise45": [{"subsample": {"n": 600}}, {"label_noise": {"share": 0.45}}],
        "mismatch50": [{"subsample": {"n": 600}}, {"shuffle_answers": {"share": 0.5}}],
        "mismatch100": [{"subsample": {"n": 600}}, {"shuffle_answers": {"share": 1.0}}],
        "near_duplicates": [{"subsample": {"n": 40}}, {"near_duplicate": {"share": 1.0}}],
        "words3": [{"subsample": {"n": 600}}, {"truncate": {"words": 3}}],
        "words6": [{"subsample": {"n": 600}}, {"truncate": {"words": 6}}],
        "noise60": [{"subsample": {"n": 600}}, {"label_noise": {"share": 0.6}}],
    }
    columns = {"text": "sentence"}
    scores = {}
    # Beside the same steps, as many as let the proxy learn: it still takes a third of the time.
    for base, lr, steps in (("proxy", 5e-3, 25), ("proxy", 5e-3, 250), ("smollm2-135m", 1e-3, 25)):
        space = {
            "name": f"rank-{base}-{steps}",
            "sampler": "grid",
            "task": {
                "name": "sentiment",
                "language": "en",
                "labels": {0: "bad", 1: "good"},
                "max_length": 96,
            },
            "datasets": [
                {
                    "name": name,
                    "source": str(data / "sentiment/sst2_train.tsv"),
                    "columns": columns,
                    "recipe": recipe,
                }
                for name, recipe in recipes.items()
            ],
            "bases": [base],
            "methods": [{"head": "label_scoring", "loss": "candidates", "adapter": GOOD}],
            "optim": {"lr": lr, "max_steps": steps, "batch_size": 16, "warmup": 0.1},
            "evaluation": {
                "data": {"source": str(data / "sentiment/sst2_test.tsv"), "columns": columns},
                "limit": 300,
            },
            "execution": {"micro_batch": 16, "eval_batch": 64},
        }
        scores[base, steps] = {
            r["dataset"]: r["accuracy_r"] for r in trained(collect(space, storage))
        }
    real_one = scores.pop(("smollm2-135m", 25))
    for name in sorted(recipes, key=lambda name: -real_one[name]):
        shown = ", ".join(f"proxy {n} steps {of[name]:.3f}" for (_, n), of in scores.items())
        print(f"{name:16} smollm2-135m 25 steps {real_one[name]:.3f}, {shown}")
    for (_, steps), proxy in scores.items():
        rho = spearmanr([proxy[n] for n in recipes], [real_one[n] for n in recipes]).statistic
        chosen = max(recipes, key=lambda name, proxy=proxy: proxy[name])  # type: ignore[misc]
        regret = max(real_one.values()) - real_one[chosen]
        print(f"proxy, {steps} steps: Spearman {rho:+.2f}; its choice {chosen} costs {regret:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--part", default="signal,noise,knobs,real,rank")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    args = parser.parse_args()
    for part in args.part.split(","):
        print(f"== {part}", flush=True)
        if part in ("real", "rank"):
            if (args.data / "sentiment").is_dir():
                {"real": real, "rank": rank}[part](args.storage, args.data.resolve())
            else:
                print(f"skipped: {args.data} has no folder `sentiment`")
        else:
            {"signal": signal, "noise": noise, "knobs": knobs}[part](args.storage)


if __name__ == "__main__":
    main()
