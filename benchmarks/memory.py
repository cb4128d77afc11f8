"""What `llmpred plan` says of a run's peak memory, against what the run then takes.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--only PATTERN] [--json results.json]

Every case is one real training through `engine.run.execute`, in a process of its own, so that the
peak is the run's: resident memory on the CPU, allocated memory on a GPU. Bases are built here with
random weights, in the shapes of Qwen2.5 with fewer layers and narrower ones, and saved in bf16 as
Qwen2.5 is; texts are long enough to fill `max_length`, as the estimate assumes. Where there is a
GPU, Qwen2.5-1.5B's own shape is run on it too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

# hidden, layers, inner, heads, key-value heads, vocabulary: all with tied embeddings
SHAPES = {
    "qwen-60m": (384, 12, 2112, 6, 2, 65_536),
    "qwen-150m": (640, 14, 3712, 10, 2, 96_000),
    "qwen-360m": (896, 16, 4864, 14, 2, 151_936),
    "qwen-1.5b": (1536, 28, 8960, 12, 2, 151_936),  # Qwen2.5-1.5B's
}
WAYS = {
    "LoRA fp32": ("none", "fp32"),
    "LoRA bf16": ("none", "bf16"),
    "QLoRA NF4": ("nf4", "bf16"),
}
HEADS = ("label_scoring", "classifier")
ROWS = 32
WORDS = ("warm", "funny", "fine", "dull", "clumsy", "slow", "loud", "film", "of the", "best")


@dataclass(frozen=True)
class Case:
    """One run: a shape of SHAPES or a known base, and what memory depends on."""

    base: str
    way: str
    head: str = "label_scoring"
    checkpointing: bool = False
    micro_batch: int = 4
    max_length: int = 256
    eval_batch: int = 8
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What tells it from the others."""
        how = "checkpointing" if self.checkpointing else "stored"
        size = f"{self.micro_batch} x {self.max_length}, evaluation {self.eval_batch}"
        return f"{self.base}, {self.way}, {self.head}, {how}, {size}, {self.device}"


def cases(gpu: bool) -> Iterator[Case]:
    """Yield all cases of this machine."""
    for way, head, checkpointing in product(WAYS, HEADS, (False, True)):
        yield Case("qwen-60m", way, head, checkpointing)
    for way in WAYS:
        yield Case("qwen-60m", way, micro_batch=1)
        yield Case("qwen-60m", way, micro_batch=8)
        yield Case("qwen-60m", way, checkpointing=True, micro_batch=8)
        yield Case("qwen-60m", way, checkpointing=True, max_length=512, eval_batch=32)
        yield Case("qwen-150m", way)
        yield Case("qwen-360m", way, HEADS[1], True, 2)
        yield Case("smollm2-135m", way, max_length=128)
    for way in ("LoRA fp32", "LoRA bf16"):
        yield Case("proxy", way, max_length=128)
        yield Case("minilm", way, HEADS[1], micro_batch=8, max_length=128)
    sizes = ((1, 256), (4, 512), (8, 256), (8, 512))
    for way, head, size, checkpointing in product(WAYS, HEADS, sizes if gpu else (), (False, True)):
        yield Case("qwen-1.5b", way, head, checkpointing, *size, device="cuda")


def build(name: str, folder: Path) -> None:
    """Save a base of a shape with random weights, in bf16, and a small tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    hidden, layers, inner, heads, keys, vocabulary = SHAPES[name]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(["<end>", *letters])}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([" negative", " positive"])  # one token each, as in Qwen2.5
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)


def write_rows(path: Path, words: int) -> None:
    """Write reviews of 0.7 to 1.1 times so many words, so that micro-batches have padding too."""
    draw = random.Random(0)
    with path.open("w") as file:
        for i in range(ROWS):
            text = " ".join(draw.choices(WORDS, k=int(words * draw.uniform(0.7, 1.1))))
            file.write(json.dumps({"text": text, "label": ["negative", "positive"][i % 2]}) + "\n")


def spec_of(case: Case, folder: Path) -> dict[str, Any]:
    """Return the case as a RunSpec: two steps, and an evaluation of two batches."""
    quantization, precision = WAYS[case.way]
    built = case.base in SHAPES
    rows = folder / f"{'letters' if built else 'words'}-{case.max_length}.jsonl"
    write_rows(rows, case.max_length // 4 if built else case.max_length)
    named = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return {
        "task": {
            "name": "sentiment",
            "language": "en",
            "labels": {"negative": "negative", "positive": "positive"},
            "max_length": case.max_length,
        },
        "dataset": {"source": str(rows)},
        "base": {
            "name": str(folder / case.base) if built else case.base,
            "quantization": quantization,
        },
        "method": {
            "head": case.head,
            "adapter": {
                "kind": "lora",
                "r": 8,
                "alpha": 16,
                "target_modules": "attention" if case.base == "minilm" else named,
            },
        },
        "optim": {"max_steps": 2, "batch_size": 8, "precision": precision},
        "evaluation": {"data": {"source": str(rows)}, "limit": min(ROWS, 2 * case.eval_batch)},
        "execution": {
            "micro_batch": case.micro_batch,
            "eval_batch": case.eval_batch,
            "activation_checkpointing": case.checkpointing,
            "device": case.device,
        },
    }


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """Carry out a case in this process; return what was predicted and what it took."""
    from llmpred.bases.resolve import resolve
    from llmpred.engine.models import LoadedBases
    from llmpred.engine.run import execute
    from llmpred.spec.run import RunSpec
    from llmpred.sweep.memory import memory_of

    run = resolve(RunSpec.model_validate(spec_of(case, folder)))
    memory = memory_of(run)
    with tempfile.TemporaryDirectory() as scratch:
        record = execute(run, LoadedBases(), Path(scratch)).record
    assert record.peak_memory_bytes is not None
    return {
        "case": case.name,
        "predicted": memory.total,
        "measured": record.peak_memory_bytes,
        "ratio": memory.total / record.peak_memory_bytes,
        **dataclasses.asdict(memory),
        "seconds": record.wall_seconds["total"],
    }


def apart(case: Case, folder: Path) -> dict[str, Any]:
    """Carry out a case in a fresh process."""
    command = [sys.executable, __file__, "--folder", str(folder), "--case"]
    ran = subprocess.run(
        [*command, json.dumps(dataclasses.asdict(case))], capture_output=True, text=True
    )
    if ran.returncode != 0:
        raise SystemExit(f"{case.name}\n{ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    asked = "import torch; print(torch.cuda.is_available())"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return ran.stdout.strip() == "True"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="cases whose name matches, such as *NF4*")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measured(Case(**args.case), args.folder)))
        return
    gpu = has_gpu()
    if not gpu:
        print("There is no GPU here: Qwen2.5-1.5B's own shape is not run.")
    chosen = [case for case in cases(gpu) if fnmatch(case.name, args.only)]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        for case in chosen:
            if case.base in SHAPES and not (folder / case.base).exists():
                build(case.base, folder / case.base)
            rows.append(apart(case, folder))
            print("{ratio:.2f}  {seconds:4.0f} s  {case}".format(**rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    shown = pd.DataFrame(rows).drop(columns="seconds")
    sizes = [name for name in shown if name not in ("case", "ratio")]
    shown[sizes] = (shown[sizes] / 1e6).round().astype(int)
    print("\nMB (10^6 bytes)\n" + shown.round({"ratio": 2}).to_string(index=False))
    ratio = shown["ratio"]
    within = ((ratio - 1).abs() <= 0.15).sum()
    print(f"\n{within} of {len(ratio)} within 15 %; from {ratio.min():.2f} to {ratio.max():.2f}")


if __name__ == "__main__":
    main()
