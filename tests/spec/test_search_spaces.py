"""The spaces that are shipped: they load, and the commands that open them work."""

import itertools
import shlex
from pathlib import Path

import pytest

from llmpred.bases.resolve import resolve
from llmpred.spec.space import combinations, expand, load_space
from llmpred.sweep.search import example
from llmpred.tasks import registry
from llmpred.tasks.prepare import prepare

SPACES = sorted((Path(__file__).resolve().parents[2] / "search_spaces").glob("*.yaml"))
HEADS = {name: registry.get(name).heads for name in registry.names()}
RUNS = {  # zero-shot, fine-tunes
    "demo": (0, 36),
    "multiple_choice_lora": (4, 48),
    "numeric_before_after": (2, 7),
    "qa_7b_2x24gb": (1, 3),
    "complexity_methods": (0, 51),
    "qa_7b_8x80gb": (1, 3),
    "qa_h1": (1, 1),
    "qa_lora": (3, 144),
    "sentiment_lora": (2, 96),
    "sentiment_schemes": (2, 4),
    "sentiment_tune": (1, 0),  # its trials are chosen as it goes
    "summarization_lora": (2, 48),
    "world": (0, 144),
}
FILES = {  # what a user's own files stand for in the CPU-sized commands
    "multiple_choice_lora": ("multiple_choice/mmlu_val.json", "multiple_choice/mmlu_dev.json"),
    "qa_7b_2x24gb": ("qa/squad_v1.1_20_articles.json",) * 2,
    "qa_7b_8x80gb": ("qa/squad_v1.1_20_articles.json",) * 2,
    "qa_h1": ("qa/squad_v1.1_20_articles.json",) * 2,
    "qa_lora": ("qa/squad_v1.1_20_articles.json",) * 2,
    "sentiment_lora": ("sentiment/sst2_dev.tsv", "sentiment/sst2_test.tsv"),
    "sentiment_schemes": ("sentiment/sst2_dev.tsv", "sentiment/sst2_test.tsv"),
    "sentiment_tune": ("sentiment/sst2_dev.tsv", "sentiment/sst2_test.tsv"),
    "summarization_lora": ("summarization/xsum_1000.jsonl",) * 2,
}


def commands(path: Path) -> list[list[str]]:
    """Return the commands in a file's opening comment, as words."""
    comment = [line[1:] for line in path.read_text().splitlines() if line.startswith("#")]
    joined = "\n".join(comment).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.startswith("   ")]


def set_options(command: list[str]) -> list[str]:
    return [after for word, after in itertools.pairwise(command) if word == "--set"]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_expands(path: Path) -> None:
    runs = expand(load_space(path, heads=HEADS))
    trains = [run.trains for run in runs]
    assert (trains.count(False), trains.count(True)) == RUNS[path.stem]
    assert load_space(path).name == path.stem


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_opens_with_its_command(path: Path) -> None:
    full, small = commands(path)[:2]
    space = ["--space", f"search_spaces/{path.name}", "--storage", "~/llmpred"]
    assert full == ["python", "jobs/collect_ground_truth.py", *space]
    if path.stem in (
        "complexity_methods",
        "demo",
        "numeric_before_after",
        "world",
    ):  # CPU-sized as they are
        return
    assert small[: len(full)] == full
    runs = expand(load_space(path, set_options(small), heads=HEADS))
    assert {run.base.name for run in runs} == {"smollm2-135m"}
    assert len(runs) <= 9


@pytest.mark.parametrize("stem", ["sentiment_schemes", "sentiment_tune"])
def test_opens_with_what_the_proxy_learns_by(stem: str) -> None:
    path = next(path for path in SPACES if path.stem == stem)
    space = load_space(path, set_options(commands(path)[2]), heads=HEADS)
    searched = [example(space, one) for one in combinations(space) if space.mode == "search"]
    runs = [run for run in [*searched, *expand(space)] if run.trains]
    assert {run.base.name for run in runs} == {"proxy"}
    lowest = {True: 1e-2, False: 5e-4}  # a frozen base's head alone, and a LoRA
    assert all(run.optim.lr >= lowest[run.method.adapter.kind == "none"] for run in runs)
    assert {run.optim.epochs for run in runs} == {3.0}


def test_h1_is_the_baseline() -> None:
    path = next(path for path in SPACES if path.stem == "qa_h1")
    zero_shot, run = expand(load_space(path))
    assert run.base.name == zero_shot.base.name == "Qwen/Qwen2.5-7B-Instruct-1M"
    adapter, optim = run.method.adapter, run.optim
    assert (adapter.r, adapter.alpha, adapter.dropout) == (8, 32.0, 0.1)
    assert (optim.lr, optim.batch_size, optim.epochs) == (3e-4, 64, 3.0)


def test_demo_data_is_there(tmp_path: Path) -> None:
    path = next(path for path in SPACES if path.stem == "demo")
    sizes = {}
    for run in expand(load_space(path)):
        counts = resolve(run, cache=tmp_path).counts
        sizes[run.dataset.name] = (counts["train"], counts["evaluation"])
    assert len(sizes) == 9
    assert len({run.task.name for run in expand(load_space(path))}) == 3
    assert sizes.pop("reviews, few") == (30, 100)
    assert set(sizes.values()) == {(600, 100)}


@pytest.mark.shared
@pytest.mark.parametrize("path", [p for p in SPACES if p.stem in FILES], ids=lambda path: path.stem)
def test_small_command_on_real_data(path: Path, shared_data: Path, tmp_path: Path) -> None:
    train, test = (shared_data / name for name in FILES[path.stem])
    overrides = [*set_options(commands(path)[1]), f"dataset.source={train}"]
    overrides.append(f"evaluation.data.source={test}")
    for run in expand(load_space(path, overrides, heads=HEADS)):
        prepared = prepare(run, cache=tmp_path)
        assert len(prepared.evaluation) <= 300
        assert 0 < len(prepared.train) <= 600 or not run.trains
