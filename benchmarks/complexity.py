"""Seventeen ways to predict how long a model thinks, on generated or real thoughts.

    python benchmarks/complexity.py --storage DIR
    python benchmarks/complexity.py --storage DIR --traces traces.jsonl.gz --base minilm

`search_spaces/complexity_methods.yaml` is collected as it is, or on a file of traces of which a
share is held out, for each unit of counting that is asked for; then each of ours is compared with
each of the twelve published methods on the same rows: Spearman, pinball loss and MAE in counts, by
a paired bootstrap over rows. Published classifiers are read by their likeliest label and by the
mixture of their labels, as ours are. `--storage` keeps the runs: a second call goes on.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmpred.bases.resolve import resolve
from llmpred.evaluation.common_ground import (
    Answers,
    Resampled,
    answers,
    compare_paired,
    figures,
    resampled,
)
from llmpred.evaluation.significance import Difference, holm
from llmpred.ledger import opened
from llmpred.report import complexity
from llmpred.report.comparison import Scheme, Scored
from llmpred.report.groups import groups_of
from llmpred.report.stored import training_of
from llmpred.spec.run import TargetSpec
from llmpred.spec.space import expand, load_space
from llmpred.tasks import registry
from llmpred.tasks.complexity import mapping

SPACE = Path(__file__).parents[1] / "search_spaces" / "complexity_methods.yaml"
OURS = ("ordinal", "quantiles", "LightGBM")
STATISTICS = ("spearman", "pinball", "mae")
DRAWS = 20_000  # so many that a p-value can be small after Holm's correction for 78 differences


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--storage", required=True, type=Path)
    parser.add_argument("--traces", type=Path, help="rows with prompt and response (or counts)")
    parser.add_argument("--response", default="reasoning", help="column of the traces")
    parser.add_argument("--base", default="proxy")
    parser.add_argument("--train", type=int, default=2000, help="training rows of the traces")
    parser.add_argument("--test", type=int, default=1000, help="evaluation rows of the traces")
    parser.add_argument("--max-length", type=int, help="tokens of a prompt; default: the space's")
    parser.add_argument("--seeds", default="[0, 1, 2]")
    parser.add_argument("--counts", nargs="*", default=[], help="all methods on this unit alone")
    given = parser.parse_args()
    changes = [f"base={given.base}", f"seeds={given.seeds}"]
    if given.traces:
        changes += [
            f"dataset.source={given.traces}",
            f"dataset.columns={{response: {given.response}}}",
            f"dataset.name={given.traces.name.split('.')[0]}",
            f"dataset.limit={given.train}",
            "evaluation.holdout=0.2",
            f"evaluation.limit={given.test}",
        ]
    if given.max_length:
        changes.append(f"task.max_length={given.max_length}")
    for unit in given.counts or [None]:
        own = [*changes, *([f"task.target.counts={unit}"] if unit else [])]
        sets = [word for change in own for word in ("--set", change)]
        command = [sys.executable, "-c", "from llmpred.cli import main; main()", "collect"]
        options = ["--space", str(SPACE), "--storage", str(given.storage), "--no-tracking", *sets]
        subprocess.run([*command, *options], check=True)
        tell(own, given.storage)


def tell(changes: list[str], storage: Path) -> None:
    """Print the common ground of each unit of counting, and ours less each published method."""
    cache = storage / "cache"
    runs = [resolve(run, cache=cache) for run in expand(load_space(SPACE, changes))]
    for group in groups_of(runs, opened(storage)):
        told: dict[str, list[Answers]] = {}
        for scheme in group.schemes:
            if scheme.scored:
                told[scheme.name] = [complexity.read(run.predictions) for run in scheme.scored]
                if scheme.name not in OURS and not _target(scheme).is_regression:
                    told[f"{scheme.name}, mixture"] = [_mixed(run) for run in scheme.scored]
        if not told:
            continue
        rows = len(next(iter(told.values()))[0].actual)
        print(f"\n{group.title}: {rows:,} rows\n")
        print("| method | seeds | Spearman | pinball | MAE | 10–90 % holds |")
        print("| --- | --- | --- | --- | --- | --- |")
        drawn = {name: resampled(found, draws=DRAWS) for name, found in told.items()}
        for name, found in told.items():
            holds = statistics.fmean(
                figures(one.actual, one.mean, one.quantiles, None)["coverage"] for one in found
            )
            cells = [
                f"{drawn[name].values[statistic]:.3f} ({{:.3f}} to {{:.3f}})".format(
                    *drawn[name].interval(statistic)
                )
                for statistic in STATISTICS
            ]
            print(f"| {name} | {len(found)} | {' | '.join(cells)} | {holds:.2f} |")
        _against(drawn)


def _against(drawn: dict[str, Resampled]) -> None:
    """Print ours less each other method, p-values corrected for all of them (Holm)."""
    pairs = [(m, o) for m in OURS for o in drawn if m in drawn and o not in OURS]
    if not pairs:
        return
    found = [compare_paired(drawn[mine], drawn[other]) for mine, other in pairs]
    adjusted = {name: holm([f[name].p for f in found]).tolist() for name in STATISTICS}
    print("\n| ours | less | Spearman | pinball | MAE |\n| --- | --- | --- | --- | --- |")
    for i, (mine, other) in enumerate(pairs):
        cells = [
            f"{found[i][name].difference:+.3f} ({found[i][name].lower:+.3f} to "
            f"{found[i][name].upper:+.3f}; p {adjusted[name][i]:.3f})"
            for name in STATISTICS
        ]
        print(f"| {mine} | {other} | {' | '.join(cells)} |")
    print()
    for mine in dict.fromkeys(mine for mine, _ in pairs):
        print(f"- {mine} is clearly better (p < 0.05) than {_beaten(mine, pairs, found, adjusted)}")


def _beaten(
    mine: str,
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Mapping[str, Difference]],
    adjusted: Mapping[str, Sequence[float]],
) -> str:
    """Return on each statistic than how many of the others one of ours is better."""
    own = [i for i, pair in enumerate(pairs) if pair[0] == mine]
    said = []
    for name in STATISTICS:
        sign = 1 if name == "spearman" else -1  # losses are better the lower
        better = [
            i for i in own if adjusted[name][i] < 0.05 and sign * found[i][name].difference > 0
        ]
        worse = [
            pairs[i][1]
            for i in own
            if adjusted[name][i] < 0.05 and sign * found[i][name].difference < 0
        ]
        told = f"{name} {len(better)} of {len(own)}"
        said.append(told + (f" (worse than {', '.join(worse)})" if worse else ""))
    return "; ".join(said)


def _mixed(run: Scored) -> Answers:
    """Return what a run's probabilities of labels say in counts, rather than its likeliest label.

    As ours are read: so that no method loses by how it is read.
    """
    spec = run.record.spec
    assert spec is not None
    task = registry.get("complexity")
    rows, why = training_of(run.record)
    assert rows, why
    labels = np.array([task.answer_index(row, spec.task) for row in rows])
    counts = np.array([row["counts"] for row in rows])
    scores = np.array([prediction.scores for prediction in run.predictions])
    table = mapping.counts_by_label(labels, counts, scores.shape[1])
    mean, quantiles = mapping.expected(np.exp(scores), table)
    return answers([p.target["counts"] for p in run.predictions], mean, quantiles)


def _target(scheme: Scheme) -> TargetSpec:
    target = scheme.spec.task.target
    assert target is not None  # settled
    return target


if __name__ == "__main__":
    main()
