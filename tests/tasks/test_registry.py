"""Own tasks and metrics come from real, installed-looking packages on the path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmpred.errors import DataError, SpecError
from llmpred.spec.run import TaskSpec
from llmpred.tasks import registry
from llmpred.tasks.base import Prediction
from llmpred.tasks.testing import check_task

Install = Callable[..., None]

TASK = """
from llmpred.data.fields import Field
from llmpred.tasks.base import Task, mean

class Shout(Task):
    name = "{name}"
    fields = (Field("text", "text", "input"), Field("loud", "text", "target"))
    long_field = "text"
    heads = ("causal_lm",)
    metric = "accuracy"
    prompts = {{"en": "{{text}}!", "zh": "{{text}}！"}}

    def target(self, example, spec):
        return example["loud"]

    def gold(self, example, spec):
        return example["loud"]

    def score(self, predictions, spec):
        return {{"accuracy": mean([float(p.prediction == p.target) for p in predictions])}}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with entry points on the path."""

    def place(package: str, code: str, **groups: str) -> None:
        site = tmp_path / package
        info = site / f"{package}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        entries = "".join(f"[llmpred.{group}]\n{line}\n" for group, line in groups.items())
        (info / "entry_points.txt").write_text(entries)
        (site / f"{package}.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))

    return place


def test_built_in() -> None:
    assert registry.names()[:4] == ("sentiment", "qa", "summarization", "multiple_choice")
    assert all(registry.get(name).name == name for name in registry.names())


def test_unknown_task() -> None:
    with pytest.raises(SpecError, match="Did you mean `summarization`") as error:
        registry.get("summarisation")
    assert error.value.problems[0].where == "task.name"


def test_own_task(install: Install) -> None:
    install("shouting", TASK.format(name="shout"), tasks="shout = shouting:Shout")
    assert "shouting" not in sys.modules
    assert "shout" in registry.names()
    assert "shouting" not in sys.modules  # listed without being loaded
    task = registry.get("shout")
    assert task is registry.get("shout")
    check_task(task, [{"text": "a", "loud": "A"}, {"text": "b", "loud": "B"}])


def test_built_in_names_cannot_be_taken(install: Install) -> None:
    install("greedy", "raise RuntimeError", tasks="qa = greedy:QA")
    assert type(registry.get("qa")).__module__ == "llmpred.tasks.qa"


@pytest.mark.parametrize(
    ("package", "code", "law"),
    [
        ("raises", "raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("imports", "import no_such_module_at_all", "no_such_module_at_all"),
        ("lacks", "", "AttributeError"),
        ("untasked", "class Shout: pass", "subclass of llmpred.tasks.base.Task"),
        ("abstract", "from llmpred.tasks.base import Task as Shout", "abstract"),
        ("misnamed", TASK.format(name="other"), "'shout_misnamed'"),
    ],
)
def test_broken_task_names_its_package(install: Install, package: str, code: str, law: str) -> None:
    install(package, code, tasks=f"shout_{package} = {package}:Shout")
    with pytest.raises(SpecError, match=law) as error:
        registry.get(f"shout_{package}")
    assert f"package {package} 1.5" in str(error.value)


def test_two_packages_of_one_name(install: Install) -> None:
    install("first", TASK.format(name="twice"), tasks="twice = first:Shout")
    install("second", TASK.format(name="twice"), tasks="twice = second:Shout")
    with pytest.raises(SpecError, match=r"first 1\.5.*second 1\.5|second 1\.5.*first 1\.5"):
        registry.get("twice")


QA = registry.get("qa")
SPEC = TaskSpec(name="qa", language="en")
PREDICTIONS = [Prediction("0", ["a b"], "a b"), Prediction("1", ["c"], "d")]


def test_score_adds_own_metrics(install: Install) -> None:
    code = (
        "def length(predictions, spec): return sum(len(p.prediction) for p in predictions)\n"
        "def pair(predictions, spec): return {'n': len(predictions), 'en': spec.language == 'en'}\n"
    )
    install("measures", code, metrics="length = measures:length\npair = measures:pair")
    assert registry.score(QA, SPEC, PREDICTIONS, ["length", "pair", "exact_match"]) == {
        "f1": 0.5,
        "exact_match": 0.5,
        "length": 4.0,
        "pair_n": 2.0,
        "pair_en": 1.0,
    }


@pytest.mark.parametrize(
    ("code", "law"),
    [
        ("def bad(predictions, spec): return float('nan')", "finite number, but bad.* is nan"),
        ("def bad(predictions, spec): return None", "finite number"),
        ("def bad(predictions, spec): return 'high'", "finite number"),
        ("def bad(predictions, spec): return 1 / 0", "ZeroDivisionError"),
        ("bad = 3", "must be a function"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
    ],
)
def test_broken_metric(install: Install, code: str, law: str) -> None:
    package = f"bad_{abs(hash(code))}"
    install(package, code, metrics=f"bad = {package}:bad")
    with pytest.raises(SpecError, match=law) as error:
        registry.score(QA, SPEC, PREDICTIONS, ["bad"])
    assert "bad" in str(error.value)


def test_own_metric_does_not_replace_the_tasks(install: Install) -> None:
    code = "def exact(predictions, spec): return {'match': 1.0}"
    install("overriding", code, metrics="exact = overriding:exact")
    assert registry.score(QA, SPEC, PREDICTIONS, ["exact"])["exact_match"] == 0.5


def test_unknown_metric() -> None:
    with pytest.raises(SpecError, match="Did you mean `exact_match`"):
        registry.score(QA, SPEC, PREDICTIONS, ["exactmatch"])


def test_nothing_to_score() -> None:
    with pytest.raises(DataError, match="no predictions"):
        registry.score(QA, SPEC, [])


def test_import_is_light() -> None:
    code = (
        "import sys, llmpred.tasks.registry, llmpred.tasks.prepare, llmpred.tasks.testing;"
        "heavy = {'torch', 'transformers', 'nltk', 'jieba', 'rouge_score', 'pandas', 'sklearn',"
        "'datasets', 'scipy', 'ray'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
