import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = "the cat sat on a mat and saw one dog who ran to the old town by night 猫 坐 在 垫 子 上"
WORDS = TEXT.split()


def corpus(folder: Path) -> Path:
    path = folder / "notes.txt"
    draw = random.Random(0)
    lines = (" ".join(draw.choices(WORDS, k=30)) for _ in range(1500))
    path.write_text("\n\n".join(lines), "utf-8")
    return path


def command(folder: Path, *more: str) -> list[str]:
    usual = ["--corpus", str(folder / "notes.txt"), "--vocabulary", "320", "--batch", "1024"]
    places = ["--work", str(folder / "work"), "--out", str(folder / "made")]
    return [sys.executable, str(ROOT / "jobs/pretrain_proxy.py"), *usual, *places, *more]


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "work/log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_job_from_text_to_card(tmp_path: Path):
    corpus(tmp_path)
    run = command(tmp_path, "--tokens", "20480")
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "validation loss" in done.stdout
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 21))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert model.config.vocab_size == len(tokenizer) == 320
    card = (tmp_path / "made/README.md").read_text("utf-8")
    assert "| optimizer steps | 20 |" in card
    assert "--vocabulary 320" in card
    assert str(tmp_path / "work") not in card
    again = subprocess.run(run, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(rows(tmp_path)) == 20  # complete: only saved again
    other = subprocess.run(
        command(tmp_path, "--tokens", "40960"), capture_output=True, text=True, check=False
    )
    assert other.returncode == 2
    assert "tokens was 20480, now 40960" in other.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_killed_and_called_again_learn_what_one_learns(tmp_path: Path):
    """Workers share every step; a killed job goes on from its checkpoint, in the same order."""
    from llmpred.bases.pretraining.corpora import parse_corpora
    from llmpred.bases.pretraining.prepare import prepare
    from llmpred.bases.pretraining.train import Settings
    from llmpred.distributed.pretrain import Placement, pretrain

    source = corpus(tmp_path)
    mixture = parse_corpora([str(source)])
    sizes = {"vocabulary": 320, "characters": 100, "positions": 1024}
    settings = Settings(tokens=30720, batch=2048, precision="fp32")
    one = prepare(mixture, tmp_path / "one", **sizes)
    pretrain(one, settings, Placement(), tmp_path / "a", "", print)
    code = (
        "from pathlib import Path\n"
        "from llmpred.bases.pretraining.corpora import parse_corpora\n"
        "from llmpred.bases.pretraining.prepare import prepare\n"
        "from llmpred.bases.pretraining.train import Settings\n"
        "from llmpred.distributed.pretrain import Placement, pretrain\n"
        f"mixture = parse_corpora([{str(source)!r}])\n"
        f"two = prepare(mixture, Path({str(tmp_path / 'two')!r}), **{sizes})\n"
        "settings = Settings(tokens=30720, batch=2048, precision='fp32')\n"
        "place = Placement(workers=2, checkpoint_seconds=0.1)\n"
        f"pretrain(two, settings, place, Path({str(tmp_path / 'b')!r}), '', print)\n"
    )
    log = tmp_path / "two" / "log.jsonl"
    first = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    while not log.is_file() or log.read_text().count("\n") < 6:
        assert first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = log.read_text().splitlines()
    assert len(before) < 15
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").open()]
        for name in ("one", "two")
    ]
    assert len(losses[1]) == 15
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


def test_too_little_text_to_validate_on_is_said_before_training(tmp_path: Path):
    from llmpred.bases.pretraining.corpora import parse_corpora
    from llmpred.bases.pretraining.prepare import prepare
    from llmpred.bases.pretraining.train import Settings
    from llmpred.distributed.pretrain import Placement, pretrain
    from llmpred.errors import DataError

    (tmp_path / "a.txt").write_text(" ".join(WORDS * 9), "utf-8")
    mixture = parse_corpora([str(tmp_path / "a.txt")])
    few = prepare(mixture, tmp_path / "work", vocabulary=300, characters=100, positions=1024)
    with pytest.raises(DataError, match=r"gives 256 tokens to validate on, but the most is 0"):
        pretrain(few, Settings(tokens=1024), Placement(), tmp_path / "made", "", print)
