import random
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpred.errors import SpecError
from llmpred.spec.canonical import digest
from llmpred.spec.run import RunSpec
from llmpred.spec.space import (
    changed_run,
    combinations,
    expand,
    load_space,
    materialize,
    planned_runs,
)


def identity(run: RunSpec) -> dict[str, object]:
    return run.model_dump(mode="json", exclude={"execution"})


def digests(runs: list[RunSpec]) -> list[str]:
    return [digest(identity(run)) for run in runs]


def trained(runs: list[RunSpec]) -> list[RunSpec]:
    return [run for run in runs if run.trains]


# --- what a space stands for -------------------------------------------------------------------


# What these spaces stood for when keys were settled. A change here changes the keys of everybody's
# runs, who would pay for them again: it needs a reason, and a line in the change log.
GOLDEN = {
    "random": "c68bc63628196c91f875b3d89a9c95fe",
    "sobol": "916b0cd9fde34cfa721ed3ab240d6d22",
    "grid": "ddcf8f5fc792e5009d25e8370b7b597d",
}
GRID = ["optim.lr={grid: [1e-4, 1e-3]}", "optim.max_steps=20", "optim.batch_size=8"]
GRID += ["dataset.recipe=[]", "sampler=grid"]


@pytest.mark.parametrize("sampler", GOLDEN)
def test_golden(write, sampler: str) -> None:
    overrides = GRID if sampler == "grid" else [f"sampler={sampler}"]
    runs = expand(load_space(write(), overrides))
    assert digest(digests(runs)) == GOLDEN[sampler]


def test_golden_run(write) -> None:
    assert identity(trained(expand(load_space(write())))[0]) == {
        "task": {
            "name": "sentiment",
            "language": "auto",
            "prompt": None,
            "labels": None,
            "chat_template": "off",
            "max_length": 512,
            "truncation": "end",
            "target": None,
            "values": None,
        },
        "dataset": {
            "name": "a",
            "source": "a.tsv",
            "format": "auto",
            "columns": {},
            "encoding": "auto",
            "on_bad_row": "error",
            "split": None,
            "subset": None,
            "revision": None,
            "options": None,
            "recipe": [
                {
                    "subsample": None,
                    "label_noise": {"share": 0.0256159},
                    "duplicate": None,
                    "near_duplicate": None,
                    "truncate": None,
                    "shuffle_answers": None,
                    "balance": None,
                    "mix": None,
                }
            ],
            "recipe_seed": 0,
            "limit": None,
            "validation": None,
        },
        "base": {"name": "base-one", "revision": None, "quantization": "none"},
        "method": {
            "head": "label_scoring",
            "adapter": {
                "kind": "lora",
                "r": 8,
                "alpha": 16.0,
                "dropout": 0.0,
                "target_modules": "attention",
                "use_rslora": None,
                "last_layers": None,
            },
            "loss": None,
            "head_form": None,
            "length_normalization": None,
            "class_weights": None,
            "name": None,
        },
        "optim": {
            "name": "adamw",
            "lr": 0.000578168,
            "weight_decay": 0.0,
            "betas": [0.9, 0.999],
            "schedule": "linear",
            "warmup": 0.0,
            "epochs": None,
            "max_steps": 12,
            "stages": None,
            "batch_size": 8,
            "grad_clip": 1.0,
            "precision": "auto",
        },
        "evaluation": {
            "data": {
                "source": "e.tsv",
                "format": "auto",
                "columns": {},
                "encoding": "auto",
                "on_bad_row": "error",
                "split": None,
                "subset": None,
                "revision": None,
                "options": None,
            },
            "holdout": None,
            "limit": None,
            "select": "last",
            "metrics": None,
            "max_new_tokens": None,
            "calibration": None,
            "adapter_off": None,
        },
        "seed": 0,
    }


def test_same_in_another_process(write) -> None:
    path = write()
    for sampler in ("random", "sobol"):
        code = (
            "import sys; from llmpred.spec.space import expand, load_space;"
            "print([r.model_dump_json() for r in"
            f" expand(load_space(sys.argv[1], ['sampler={sampler}']))])"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        here = [r.model_dump_json() for r in expand(load_space(path, [f"sampler={sampler}"]))]
        assert other.stdout.strip() == str(here)


def test_draws_stand_by_themselves(write) -> None:
    """More samples, datasets, bases, seeds and distributions change no draw that was there."""
    small = trained(expand(load_space(write())))
    changes = {
        "samples=9": small,
        "seeds=[0, 5]": small,
        "datasets=[{name: b, source: b.tsv}, {name: a, source: a.tsv,"
        " recipe: [{label_noise: {share: {uniform: [0, 0.5]}}}]}]": small,
        "bases=[other, base-one]": small,
    }
    for change, runs in changes.items():
        assert set(digests(runs)) < set(digests(expand(load_space(write(), [change])))), change
    more = trained(expand(load_space(write(), ["method.adapter.dropout={uniform: [0, 0.2]}"])))
    for before, after in zip(small, more, strict=True):
        assert (before.optim, before.dataset) == (after.optim, after.dataset)
        assert before.method.adapter.r == after.method.adapter.r


def test_key_order_does_not_matter(write, small: str) -> None:
    swapped = small.replace(
        "  lr: {loguniform: [1e-5, 1e-3]}\n  max_steps: {randint: [10, 30]}\n",
        "  max_steps: {randint: [10, 30]}\n  lr: {loguniform: [1e-5, 1e-3]}\n",
    )
    assert swapped != small
    for sampler in ("random", "sobol"):
        one = expand(load_space(write(), [f"sampler={sampler}"]))
        assert one == expand(load_space(write(swapped), [f"sampler={sampler}"]))


def test_grid_points_and_seeds_share_their_draws(write) -> None:
    runs = trained(
        expand(load_space(write(), ["optim.schedule={grid: [linear, cosine]}", "seeds=[0, 1]"]))
    )
    assert len(runs) == 3 * 2 * 2
    assert set(Counter(run.optim.lr for run in runs).values()) == {4}


def test_sampler_grid_takes_every_choice_once(write) -> None:
    runs = trained(expand(load_space(write(), GRID)))
    points = {(r.optim.lr, r.method.adapter.r, r.method.adapter.alpha) for r in runs}
    assert points == {
        (lr, r, r * factor) for lr in (1e-4, 1e-3) for r in (4, 8) for factor in (2, 4)
    }
    assert len(runs) == 8


def test_choice_of_mappings(write) -> None:
    change = "optim={choice: [{lr: {choice: [1e-4, 2e-4]}, max_steps: 5}, {lr: 1e-3, epochs: 2}]}"
    runs = trained(expand(load_space(write(), [change, "sampler=grid", "dataset.recipe=[]"])))
    found = {(r.optim.lr, r.optim.max_steps, r.optim.epochs) for r in runs}
    assert found == {(1e-4, 5, None), (2e-4, 5, None), (1e-3, None, 2.0)}


def test_distributions_anywhere(write) -> None:
    changes = [
        "base.quantization={grid: [none, nf4]}",
        "task.max_length={grid: [64, 128]}",
        "seeds={randint: [0, 1000000]}",
        "evaluation.limit={grid: [10, 20]}",
        "bases[0].revision={choice: [main]}",
    ]
    runs = trained(expand(load_space(write(), changes)))
    assert len(runs) == 2 * 2 * 2 * 3
    assert len({run.seed for run in runs}) == 3


def test_sobol_is_even(write) -> None:
    """Each dimension of 64 points has one in every 64th: no random draw of 64 comes close."""
    space = load_space(write(), ["sampler=sobol", "samples=64", "optim.lr={uniform: [0.1, 0.74]}"])
    lrs = [run.optim.lr for run in trained(expand(space))]
    assert sorted(int((lr - 0.1) * 100 + 1e-6) for lr in lrs) == list(range(64))


def test_equal_runs_count_once(write) -> None:
    overrides = ["samples=50", "optim.lr=1e-4", "optim.max_steps=5", "optim.batch_size=8"]
    runs = expand(load_space(write(), [*overrides, "dataset.recipe=[]"]))
    assert len(trained(runs)) == 4
    assert len(set(digests(runs))) == len(runs)


def test_what_has_no_effect_makes_no_runs(write) -> None:
    kinds = "method.adapter.kind={grid: [lora, full, none]}"
    runs = expand(load_space(write(), [*GRID, kinds]))
    assert Counter(run.method.adapter.kind for run in runs) == {"lora": 8, "full": 2, "none": 1}


def test_zero_shot_once_a_base_and_evaluation(write) -> None:
    changes = [
        "bases=[one, two]",
        "datasets=[{source: a, name: a}, {source: b, evaluation: {limit: 5}}, {source: c}]",
    ]
    runs = expand(load_space(write(), changes))
    zero = [run for run in runs if not run.trains]
    assert runs[: len(zero)] == zero
    assert {(run.base.name, run.evaluation.limit) for run in zero} == {
        (base, limit) for base in ("one", "two") for limit in (None, 5)
    }
    assert len(zero) == 4
    assert len(expand(load_space(write(), [*changes, "zero_shot=false"]))) == len(runs) - 4
    no_head = expand(load_space(write(), [*changes, "method.head=classifier"]))
    assert all(run.trains for run in no_head)
    held_out = expand(load_space(write(), [changes[1], "evaluation.holdout=0.2"]))
    assert len([run for run in held_out if not run.trains]) == 3  # each has rows of its own


def test_a_dataset_may_change_the_method(write) -> None:
    labels = "task.labels={negative: bad, positive: good}"
    change = "datasets=[{source: a}, {source: b, method: {loss: candidates}}]"
    runs = expand(load_space(write(), [labels, change]))
    assert {(r.dataset.source, r.method.loss) for r in trained(runs)} == {
        ("a", None),
        ("b", "candidates"),
    }
    assert len(runs) - len(trained(runs)) == 1, "the loss is nothing to an untouched base"
    wrong = "datasets=[{source: a, method: {loss: nonsense}}]"
    with pytest.raises(SpecError, match=r"`method\.loss` must be `candidates`"):
        expand(load_space(write(), [labels, wrong]))


def test_a_dataset_may_change_its_steps(write) -> None:
    own = "{source: b, optim: {max_steps: 7}}, {source: c, optim: {epochs: 2}}"
    change = f"datasets=[{{source: a}}, {own}]"
    runs = trained(expand(load_space(write(), [change, "optim.max_steps=20"])))
    assert {(r.dataset.source, r.optim.max_steps, r.optim.epochs) for r in runs} == {
        ("a", 20, None),
        ("b", 7, None),
        ("c", None, 2),
    }


def test_a_dataset_may_change_task_and_evaluation(write) -> None:
    change = "datasets=[{source: a}, {source: b, task: {language: zh}, evaluation: {holdout: 0.1}}]"
    runs = trained(expand(load_space(write(), [change])))
    seen = {(r.dataset.source, r.task.language, r.evaluation.holdout) for r in runs}
    assert seen == {("a", "auto", None), ("b", "zh", 0.1)}
    runs = trained(expand(load_space(write(), [change, "evaluation.data.source=x.tsv"])))
    assert {(r.evaluation.data and r.evaluation.data.source) for r in runs} == {"x.tsv"}
    runs = trained(expand(load_space(write(), [change, "task.language=en"])))
    assert {r.task.language for r in runs} == {"en"}


def test_a_method_has_the_last_word(write) -> None:
    changes = [
        "datasets=[{source: a, optim: {lr: 5e-3}, evaluation: {limit: 5}}]",
        "methods=[{head: classifier, name: off, optim: {max_steps: 7}, evaluation: "
        "{adapter_off: true}, execution: {micro_batch: 2}}, {head: label_scoring}]",
        "optim={lr: 1e-4, epochs: 3}",
        "samples=1",
    ]
    off, plain = trained(expand(load_space(write(), changes)))
    assert (off.method.name, off.optim.lr, off.optim.max_steps, off.optim.epochs) == (
        "off",
        5e-3,
        7,
        None,
    )
    assert (off.evaluation.limit, off.evaluation.adapter_off) == (5, True)
    assert (off.execution.micro_batch, plain.execution.micro_batch) == (2, 8)
    assert (plain.optim.max_steps, plain.optim.epochs, plain.evaluation.adapter_off) == (
        None,
        3.0,
        None,
    )
    runs = trained(expand(load_space(write(), [*changes, "optim.epochs=2"])))
    assert {(run.optim.max_steps, run.optim.epochs) for run in runs} == {(None, 2.0)}
    with pytest.raises(SpecError, match=r"methods\[0\]\.optim\.lr"):
        expand(load_space(write(), [*changes, "methods[0].optim.lr=-1"]))
    with pytest.raises(SpecError, match=r"unknown key `method\.optm`.*Did you mean `optim`"):
        expand(load_space(write(), [*changes, "methods[1].optm={lr: 1}"]))


def test_names_of_methods_make_no_runs(write) -> None:
    same = "methods=[{head: label_scoring, name: one}, {head: label_scoring, name: two}]"
    assert len(trained(expand(load_space(write(), [same, "samples=2"])))) == 2


def test_origins(write) -> None:
    planned = planned_runs(load_space(write(), ["bases=[one, two]"]))
    assert planned[0].origin == "datasets[0], bases[0], methods[0], zero-shot"
    assert planned[-1].origin == "datasets[0], bases[1], methods[0], sample 2"
    assert planned[-1].run.base.name == "two"


# --- changes from the command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "get", "value"),
    [
        (["base=Qwen/Qwen2.5-0.5B"], lambda r: r.base.name, "Qwen/Qwen2.5-0.5B"),
        (["base={name: b, revision: '1'}"], lambda r: r.base.revision, "1"),
        (["base.quantization=nf4"], lambda r: r.base.quantization, "nf4"),
        (["bases[0]=b", "base.revision=x"], lambda r: (r.base.name, r.base.revision), ("b", "x")),
        (["optim.lr=1e-4"], lambda r: r.optim.lr, 1e-4),
        (["optim.epochs=3"], lambda r: (r.optim.epochs, r.optim.max_steps), (3.0, None)),
        (["optim.grad_clip=null"], lambda r: r.optim.grad_clip, None),
        (["evaluation.holdout=0.1"], lambda r: r.evaluation.data, None),
        (["dataset.source=b.csv"], lambda r: r.dataset.source, "b.csv"),
        (["datasets[0].limit=7"], lambda r: r.dataset.limit, 7),
        (["method.adapter.r=2"], lambda r: r.method.adapter.r, 2),
        (["execution.device=cpu"], lambda r: r.execution.device, "cpu"),
        (["seeds=5"], lambda r: r.seed, 5),
        (["task.prompt='{text} It was'"], lambda r: r.task.prompt, "{text} It was"),
        (["optim.lr=1e-4", "optim.lr=2e-4"], lambda r: r.optim.lr, 2e-4),
        (
            ["dataset.split=train", "dataset.source=hub/id"],
            lambda r: r.dataset.split,
            "train",
        ),
        (["dataset.split=train", "dataset.source=x.jsonl.gz"], lambda r: r.dataset.split, None),
        (["dataset.options={n: 5}", "dataset.source=x.csv"], lambda r: r.dataset.options, None),
        (
            ["dataset.options={n: 5}", "dataset.source=synthetic:sentiment"],
            lambda r: r.dataset.options,
            {"n": 5},
        ),
    ],
)
def test_overrides(write, overrides, get, value) -> None:
    runs = trained(expand(load_space(write(), overrides)))
    assert {str(get(run)) for run in runs} == {str(value)}


TWO = ["datasets=[{name: one, source: a.csv}, {name: two, source: b.csv}]"]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["dataset.source=mine.csv"], [None]),
        (["dataset.source=mine.csv", "dataset.name=mine"], ["mine"]),
        (["dataset.name=mine", "dataset.source=mine.csv"], ["mine"]),
        ([*TWO, "datasets[1].source=c.csv"], ["one", None]),
        ([*TWO, "dataset.source=c.csv"], ["one", "two"]),  # they differ in what the names say
    ],
)
def test_another_source_drops_the_name_of_the_old_one(write, overrides, names) -> None:
    space = load_space(write(), ["dataset.name=theirs"])
    assert [dataset["name"] for dataset in space.parts["datasets"]] == ["theirs"]
    space = load_space(write(), overrides)
    assert [dataset.get("name") for dataset in space.parts["datasets"]] == names


def test_another_source_drops_the_name_of_a_run() -> None:
    run = {
        "task": {"name": "sentiment"},
        "dataset": {"name": "theirs", "source": "a.csv"},
        "base": "b",
        "method": {"head": "label_scoring"},
        "optim": {"max_steps": 1},
        "evaluation": {"holdout": 0.2},
    }
    assert changed_run(run, ["dataset.source=mine.csv"]).dataset.name is None


@pytest.mark.parametrize(
    ("overrides", "own"),
    [
        ([], True),
        (["dataset.limit=9", "optim.max_steps=3"], True),
        (["dataset.source=mine.csv"], False),
        (["dataset.source=mine.csv", "dataset.name=mine"], False),
        (["evaluation.data.source=mine.csv"], False),
        (["evaluation.holdout=0.2"], False),
    ],
)
def test_datasets_are_the_files_own_until_they_are_others(write, overrides, own) -> None:
    path = write()
    [name] = load_space(path).own
    assert load_space(path, overrides).own == ({name} if own else set())
    here = [*overrides, f"dataset.name={name}"]  # a copy of the same data, says who gives its name
    assert load_space(path, here).own == {name}


# --- search ------------------------------------------------------------------------------------

CONDITIONAL = "optim={choice: [{lr: {loguniform: [1e-5, 1e-3]}, max_steps: 5}, {epochs: 2}]}"


def test_search_hands_out_leaves_and_takes_values(write) -> None:
    overrides = ["mode=search", CONDITIONAL]
    space = load_space(write(), overrides)
    assert space.sampler == "optuna"
    assert space.search.scheduler == "asha"
    [combination] = combinations(space)
    assert {leaf.name: (leaf.kind, leaf.choices) for leaf in combination.leaves} == {
        "dataset.recipe[0].label_noise.share": ("uniform", (0, 0.5)),
        "method.adapter.r": ("choice", (4, 8)),
        "method.adapter.alpha.times[1]": ("choice", (2, 4)),
        "optim": ("choice", (0, 1)),
        "optim.choice[0].lr": ("loguniform", (1e-5, 1e-3)),
    }
    values = {
        "dataset.recipe[0].label_noise.share": 0.12345678,
        "method.adapter.r": 8,
        "method.adapter.alpha.times[1]": 4,
        "optim": 1,
    }
    run = materialize(space, combination, values)
    assert run.dataset.recipe[0].label_noise.share == 0.123457
    assert (run.method.adapter.alpha, run.optim.epochs) == (32.0, 2.0)
    run = materialize(
        space, combination, {**values, "optim": 0, "optim.choice[0].lr": 1.23456789e-4}
    )
    assert run.optim.lr == 1.23457e-4
    assert [run.trains for run in expand(space)] == [False]


def test_search_by_drawing_is_what_random_draws(write) -> None:
    """The leaves are all there is: drawing each gives the runs that `random` gives."""
    space = load_space(write(), ["zero_shot=false"])
    [combination] = combinations(space)
    run = expand(space)[0]
    drawn = {
        "dataset.recipe[0].label_noise.share": run.dataset.recipe[0].label_noise.share,
        "method.adapter.r": run.method.adapter.r,
        "method.adapter.alpha.times[1]": int(run.method.adapter.alpha / run.method.adapter.r),
        "optim.lr": run.optim.lr,
        "optim.max_steps": run.optim.max_steps,
        "optim.batch_size": float(run.optim.batch_size),
    }
    assert materialize(space, combination, drawn) == run


# --- properties --------------------------------------------------------------------------------

OPTIONS = st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ranks=OPTIONS,
    batches=OPTIONS,
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    samples=st.integers(1, 6),
    bases=st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
    sampler=st.sampled_from(["random", "sobol"]),
    seed=st.integers(-(2**70), 2**70),
)
def test_any_space(write, ranks, batches, seeds, samples, bases, sampler, seed) -> None:
    path = write()
    overrides = [
        f"method.adapter.r={{choice: {ranks}}}",
        f"optim.batch_size={{grid: {batches}}}",
        f"seeds={seeds}",
        f"samples={samples}",
        f"bases={bases}",
        f"sampler={sampler}",
        f"seed={seed}",
    ]
    runs = expand(load_space(path, overrides))
    assert runs == expand(load_space(path, random.Random(0).sample(overrides, len(overrides))))
    assert len([run for run in runs if not run.trains]) == len(bases)
    assert len(trained(runs)) == len(bases) * len(batches) * samples * len(seeds)
    for run in trained(runs):
        assert RunSpec.model_validate(run.model_dump()) == run
        assert run.method.adapter.r in ranks
        assert run.method.adapter.alpha in (run.method.adapter.r * 2, run.method.adapter.r * 4)
        assert 1e-5 <= run.optim.lr <= 1e-3
        assert float(f"{run.optim.lr:.6g}") == run.optim.lr


def test_import_is_light() -> None:
    code = (
        "import sys, llmpred.spec.space; print({'torch', 'ray', 'scipy', 'numpy'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_a_zero_shot_method_keeps_its_name_beside_those_it_is_the_base_of(tmp_path):
    methods = [
        {"name": "tuned", "head": "label_scoring", "adapter": {"r": 4}},
        {"name": "untouched", "head": "label_scoring", "adapter": {"kind": "none"}},
    ]
    path = tmp_path / "space.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "task": {"name": "sentiment"},
                "datasets": [{"source": "a.tsv"}],
                "bases": ["tiny"],
                "methods": methods,
                "optim": {"max_steps": 1},
                "evaluation": {"data": {"source": "b.tsv"}},
            }
        )
    )
    names = [(one.run.method.name, one.sample) for one in planned_runs(load_space(path))]
    assert names == [("untouched", 0), ("tuned", 0)]
    path.write_text(path.read_text().replace("untouched", "tuned").replace("kind: none", "r: 8"))
    names = [(one.run.method.name, one.sample) for one in planned_runs(load_space(path))]
    assert names == [(None, None), ("tuned", 0), ("tuned", 0)]
