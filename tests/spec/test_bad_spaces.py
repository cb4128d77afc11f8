"""Spaces that do not hold: each mistake is told once, where it was written, with its law."""

import pytest

from llmpred.errors import SpecError
from llmpred.spec.space import expand, load_run, load_space

HEADS = {"sentiment": ("label_scoring", "classifier"), "qa": ("causal_lm",)}


def problems(path, overrides=(), heads=HEADS) -> list[str]:
    with pytest.raises(SpecError) as caught:
        expand(load_space(path, overrides, heads))
    return [str(problem) for problem in caught.value.problems]


LR = "lr: {loguniform: [1e-5, 1e-3]}"

# What to replace in the small space, by what, and what each problem says, in order.
BAD = [
    ("name: small", "nmae: small", [["unknown key `nmae`", "space.yaml, nmae)", "`name`"]]),
    (
        LR,
        f"{LR}\n  class_weights: balanced",
        [["unknown key `optim.class_weights`", "Did you mean `method.class_weights`?"]],
    ),
    ("name: small", "name: 3", [["`name` must be text, but got 3", "quotes"]]),
    ("samples: 3", "samples: 0", [["`samples` must be at least 1, but got 0"]]),
    ("samples: 3", "samples: many", [["`samples` must be a whole number", '"many"']]),
    ("samples: 3", "samples: true", [["`samples` must be a whole number, but got true"]]),
    ("samples: 3", "samples: 2000000", [["at most 100,000 runs", "2,000,000"]]),
    ("samples: 3", "samples: {choice: [1, 2]}", [["takes no distributions"]]),
    ("samples: 3", "sampler: sobl", [["`sampler` must be", '"sobl"', "Did you mean `sobol`?"]]),
    (
        "samples: 3",
        "sampler: optuna",
        [["in `mode: collect` the sampler must be `grid` or `random` or `sobol`", "`optuna`"]],
    ),
    (
        "samples: 3",
        "sampler: grid",
        [
            ["`dataset.recipe[0].label_noise.share` is a `uniform`", "datasets[0].recipe[0]"],
            ["`optim.lr` is a `loguniform`"],
            ["`optim.max_steps` is a `randint`"],
            ["`optim.batch_size` is a `quniform`"],
        ],
    ),
    ("samples: 3", "search: {scheduler: asha}", [["`search` belongs to `mode: search`"]]),
    (
        "samples: 3",
        "mode: search\nseeds: [0, 1]",
        [["a trial is one run with one seed, but got [0, 1]", "space.yaml, seeds)"]],
    ),
    ("samples: 3", "seeds: []", [["`seeds` must have at least one seed"]]),
    ("samples: 3", "seeds: [0, one]", [["`seed` must be a whole number", "seeds[1]"]]),
    ("task: {name: sentiment}", "", [["`task` is missing"]]),
    ("task: {name: sentiment}", "task: sentiment", [["`task` must be a mapping"]]),
    ("task: {name: sentiment}", "task: {}", [["`task.name` is missing"]]),
    ("name: sentiment", "name: sentimnt", [["no task `sentimnt`", "`sentiment`?"]]),
    ("name: sentiment", "name: qa", [["task `qa` is done by `causal_lm`", "methods[0].head"]]),
    (
        "{name: sentiment}",
        "{name: sentiment, max_length: 4}",
        [["`task.max_length` must be at least 8"]],
    ),
    (
        "{name: sentiment}",
        "{name: sentiment, labels: {0: 1}}",
        [["`task.labels.0` must be text, but got 1"]],
    ),
    (
        "{name: a, source: a.tsv,",
        "{name: a,",
        [["`dataset.source` is missing", "datasets[0].source"]],
    ),
    (
        "source: a.tsv",
        "source: a.tsv, evalution: {}",
        [["unknown key `dataset.evalution`", "`evaluation`?"]],
    ),
    ("source: a.tsv", "source: a.tsv, task: qa", [["`datasets[0].task` must be a mapping"]]),
    (
        "source: a.tsv",
        "source: a.tsv, task: {nam: qa}",
        [["`task.nam`", "datasets[0].task.nam", "`name`?"]],
    ),
    ("source: a.tsv", "source: a.tsv, format: tvs", [["`dataset.format` must be", "`tsv`?"]]),
    (
        "[{label_noise: {share: {uniform: [0, 0.5]}}}]",
        "[{}]",
        [["exactly one key", "datasets[0].recipe[0])"]],
    ),
    ("{share: {uniform: [0, 0.5]}}", "{share: {uniform: [0, 1.5]}}", [["at most 1, but got 1.5"]]),
    ("{uniform: [0, 0.5]}", "{uniform: [0.5, 0]}", [["`uniform` must have low < high", "share"]]),
    (
        "label_noise: {share: {uniform: [0,",
        "subsample: {n: 5, share: {uniform: [0.1,",
        [["exactly one of `n` and `share`"]],
    ),
    (
        "[{label_noise: {share: {uniform: [0, 0.5]}}}]",
        "3",
        [["`dataset.recipe` must be a list, but got 3"]],
    ),
    ("bases: [base-one]", "bases: []", [["`bases` must be a list with at least one entry"]]),
    ("bases: [base-one]", "bases: base-one", [["`bases` must be a list"]]),
    ("bases: [base-one]", "bases: [3]", [["`bases[0]` must be a mapping, but got 3"]]),
    (
        "bases: [base-one]",
        "bases: [{name: x, quantization: nf8}]",
        [["`base.quantization`", "bases[0]", "`nf4`?"]],
    ),
    ("head: label_scoring", "head: classifer", [["`method.head` must be", "`classifier`?"]]),
    (
        "r: {choice: [4, 8]}",
        "r: {choice: [8, 0]}",
        [["`method.adapter.r` must be at least 1, but got 0", "methods[0].adapter.r"]],
    ),
    ("r: {choice: [4, 8]}", "r: {choice: []}", [["`choice` must have at least one option"]]),
    (
        "r: {choice: [4, 8]}",
        "r: {choice: 4}",
        [["`method.adapter.r` must be a whole number", "takes a list"]],
    ),
    (
        "r: {choice: [4, 8]}",
        "rank: 4",
        [["names `method.adapter.r`, which the run does not set"], ["unknown key", "`r`?"]],
    ),
    (LR, "lr: {times: [optim.lr, 2]}", [["a circle", "space.yaml, optim.lr)"]]),
    (
        LR,
        "lr: {times: [optim.weight_decay, 2]}\n  weight_decay: {times: [optim.lr, 1]}",
        [["a circle", "optim.lr)"], ["a circle", "optim.weight_decay)"]],
    ),
    (LR, "lr: {times: [[], 2]}", [["`times` takes the path"]]),
    (
        "[method.adapter.r, {",
        "[method.adapter.kind, {",
        [["is no number: 'lora'", "adapter.alpha)"]],
    ),
    (
        "kind: lora",
        "kind: lora\n      target_modules: atention",
        [["`attention` or `all_linear` or a list", "`attention`?"]],
    ),
    (
        "kind: lora",
        "kind: lora\n      target_modules: [1]",
        [["`method.adapter.target_modules[0]` must be text"]],
    ),
    (
        "head: label_scoring\n    adapter:\n      kind: lora",
        "adapter:\n      kind: none",
        [["which `auto` does not tell", "methods[0].head"]],
    ),
    (
        "head: label_scoring",
        "head: classifier\n    length_normalization: true",
        [["belongs to head `label_scoring`"]],
    ),
    (LR, "lr: -1e-4", [["`optim.lr` must be above 0, but got -0.0001"]]),
    (LR, "lr: 1e-4f", [["`optim.lr` must be a number", "quotes"]]),
    (LR, "lr: '1e-4'", [["`optim.lr` must be a number", "without quotes"]]),
    (LR, "lr: {logunifrom: [1e-5, 1e-3]}", [["logunifrom", "Did you mean `loguniform`?"]]),
    (LR, "lr: {loguniform: [0, 1e-3]}", [["`loguniform` must have low > 0, but got"]]),
    (LR, "lr: {loguniform: [1e-5, 1e-3], base: 10}", [["`optim.lr` must be a number"]]),
    (LR, "lerning_rate: 1e-4", [["unknown key `optim.lerning_rate`", "Did you mean `lr`?"]]),
    (LR, "lr: 1e-4\n  betas: [0.9]", [["`optim.betas[1]` is missing"]]),
    (LR, "lr: 1e-4\n  warmup: 25", [["`optim.warmup` must be at most max_steps (10), but got 25"]]),
    (LR, "lr: 1e-4\n  warmup: 1.5", [["below 1 or a whole number of steps"]]),
    (
        LR,
        "lr: 1e-4\n  epochs: 1",
        [["exactly one of `epochs`, `max_steps` and `stages`", "space.yaml, optim)"]],
    ),
    ("max_steps: {randint: [10, 30]}", "max_steps: 0", [["`optim.max_steps` must be at least 1"]]),
    ("quniform: [8, 32, 8]", "quniform: [8, 30, 8]", [["multiples of q"]]),
    ("{data: {source: e.tsv}}", "{}", [["exactly one of `data` and `holdout`"]]),
    ("{source: e.tsv}}", "{source: e.tsv}, select: best}", [["`evaluation.select`", "`last`"]]),
    (
        "{source: e.tsv}}",
        "{source: e.tsv}, select: best_on_validation}",
        [["needs `dataset.validation`"]],
    ),
    ("{data: {source: e.tsv}}", "{holdout: 1.0}", [["`evaluation.holdout` must be below 1"]]),
    (
        "samples: 3",
        "execution: {gpus: 2}",
        [["unknown key `execution.gpus`", "Valid names"]],
    ),
    ("samples: 3", "execution: {micro_batch: {choice: [1, 2]}}", [["takes no distributions"]]),
]


@pytest.mark.parametrize(("old", "new", "parts"), BAD, ids=[f"{b[1][:40]}" for b in BAD])
def test_bad_space(write, small: str, old: str, new: str, parts: list[list[str]]) -> None:
    assert small.count(old) == 1
    found = problems(write(small.replace(old, new)))
    assert len(found) == len(parts), found
    for problem, wanted in zip(found, parts, strict=True):
        assert not [part for part in wanted if part not in problem], problem


def test_all_at_once_and_once_each(write, small: str) -> None:
    text = small.replace("max_steps", "steps").replace("[0, 0.5]", "[0, 2]")
    text += "seed: x\noptm: 3\nseeds: [0, 1]\n"
    overrides = ["optim.lr=0", "bases=[a, {nam: b}]", "foo.bar=1", "optim.lr.x=1", "=", "task=["]
    found = problems(write(text), overrides)
    wanted = [
        ["unknown key `foo`", "(--set foo.bar=1)"],
        ["`optim.lr` has no `x`", "(--set optim.lr.x=1)"],
        ["`path=value`", "(--set =)"],
        ["not valid YAML", "--set task=["],
        ["unknown key `optm`", "`optim`?"],
        ["`seed` must be a whole number", "space.yaml, seed)"],
        ["at most 1, but got 2", "datasets[0].recipe[0].label_noise.share)"],
        ["unknown key `base.nam`", "(--set bases=[a, {nam: b}])"],
        ["`optim.lr` must be above 0", "(--set optim.lr=0)"],
        ["unknown key `optim.steps`", "`max_steps`?"],
        ["`base.name` is missing", "(--set bases=[a, {nam: b}])"],
    ]
    assert len(found) == len(wanted), "\n".join(found)
    for parts in wanted:
        assert any(all(part in problem for part in parts) for problem in found), (parts, found)


BAD_RUN = [
    ("seed: x", ["`seed` must be a whole number", "run.yaml, seed)"]),
    ("seed: {choice: [0, 1]}", ["Only a search space has distributions"]),
    ("datasets: []", ["one run is wanted, but `datasets`", "Write `dataset`"]),
    ("execution: {engin: reference}", ["`execution.engin`", "Did you mean `engine`?"]),
    ("base: {name: b, quantization: int8}", ["INT8 with full fine-tuning", "method.adapter.kind"]),
    (
        "optim: {max_steps: 1, name: adamw_8bit}\nexecution: {device: cpu}",
        ["needs a CUDA device", "optim.name)"],
    ),
    (
        "execution: {distributed: {workers: 2, offload: optimizer}}",
        ["strategy `ddp` offloads `none`", "execution.distributed.offload)"],
    ),
    (
        "execution: {distributed: {workers: 2, strategy: zero2, offload: all}}",
        ["offloads `none` or `optimizer`, but offload is `all`"],
    ),
    (
        "execution: {distributed: {workers: 2, strategy: fsdp2, offload: optimizer}}",
        ["offloads `none` or `all`, but offload is `optimizer`"],
    ),
    (
        "base: {name: b, quantization: int8}\nmethod: {head: label_scoring}\n"
        "execution: {distributed: {workers: 2, strategy: fsdp2}}",
        ["cannot split weights of 8 bits", "execution.distributed.strategy)", "Take `zero3`"],
    ),
    (
        "optim: {max_steps: 1, name: paged_adamw_8bit}\n"
        "execution: {distributed: {workers: 2, strategy: fsdp2}}",
        ["does not know the slices", "optim.name)"],
    ),
]
RUN = {
    "task": "{name: sentiment}",
    "dataset": "{source: a.tsv}",
    "base": "base-one",
    "method": "{head: label_scoring, adapter: {kind: full}}",
    "optim": "{max_steps: 1}",
    "evaluation": "{holdout: 0.5}",
}


def run_file(write, change: str = ""):
    keys = [line.partition(":")[0] for line in change.splitlines()]
    kept = [f"{key}: {value}" for key, value in RUN.items() if key not in keys]
    return write("\n".join([*kept, change]), "run.yaml")


@pytest.mark.parametrize(("change", "parts"), BAD_RUN)
def test_bad_run(write, change: str, parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_run(run_file(write, change))
    assert len(caught.value.problems) == 1
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)


def test_run(write) -> None:
    run = load_run(run_file(write))
    assert run.base.name == "base-one"
    assert run.method.adapter.kind == "full"
