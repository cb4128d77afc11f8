"""Pretrain a small causal language model on text and save it as a base with its card.

    python jobs/pretrain_proxy.py --corpora jobs/pretrain_proxy.yaml --minutes 60 --out my_proxy
    python jobs/pretrain_proxy.py --corpus notes.txt --corpus qa.jsonl:question+answer@2 \
        --tokens 5000000 --out my_proxy
    ray job submit --working-dir . -- python jobs/pretrain_proxy.py …

The same command resumes. The folder given by --out is a base: `base: {name: my_proxy}`.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a submitted job runs the code it was submitted with

import typer

from llmpred.cache import cache_root
from llmpred.cli import run
from llmpred.errors import InputError, Problem

PLACES = ("--work", "--out", "--address")  # where, not what: they are left out of the card


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    corpora: Annotated[
        Path | None, typer.Option(help="YAML file of corpora and of what must stay out.")
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE[:FIELDS][@WEIGHT]", help="A corpus. Repeatable."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to train on.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train for so long instead.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of tokens, log and checkpoints.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share every step.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPUs of each.")] = 1,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    vocabulary: Annotated[int, typer.Option(min=300, help="Tokens, 256 bytes included.")] = 6144,
    characters: Annotated[
        int, typer.Option(min=1, help="Commonest characters with a token of their own.")
    ] = 2600,
    optimizer: Annotated[Literal["muon", "adamw"], typer.Option()] = "muon",
    lr: Annotated[float, typer.Option(help="Peak, of AdamW.")] = 1e-2,
    matrix_lr: Annotated[float, typer.Option(help="Peak, of Muon.")] = 5e-3,
    batch: Annotated[int, typer.Option(min=1024, help="Tokens a step.")] = 4096,
    precision: Annotated[Literal["bf16", "fp32"], typer.Option()] = "bf16",
) -> None:
    """Pretrain a small causal language model on text and save it as a base with its card."""
    from llmpred.bases.pretraining.corpora import parse_corpora, read_mixture
    from llmpred.bases.pretraining.model import SHAPE
    from llmpred.bases.pretraining.prepare import prepare
    from llmpred.bases.pretraining.train import Settings
    from llmpred.distributed.pretrain import Placement, pretrain

    if (corpora is None) == (not corpus):
        raise InputError(Problem("give either --corpora FILE or --corpus, and not both"))
    if (tokens is None) == (minutes is None):
        raise InputError(Problem("give either --tokens or --minutes, and not both"))
    mixture = read_mixture(corpora) if corpora else parse_corpora(corpus or [])
    began = time.monotonic()
    prepared = prepare(
        mixture,
        work or cache_root() / "pretraining" / out.name,
        vocabulary=vocabulary,
        characters=characters,
        positions=SHAPE["max_position_embeddings"],
    )
    total = sum(facts["tokens"] for facts in prepared.facts["corpora"])
    print(f"{total:,} tokens to train on, after {time.monotonic() - began:.0f} s")
    for facts in prepared.facts["corpora"]:
        left_out = "".join(f", {n:,} {why}" for why, n in facts["dropped"].items())
        print(
            f"  {facts['name']}: {facts['documents']:,} documents, {facts['tokens']:,} tokens × "
            f"{facts['weight']:g}{left_out}"
        )
    settings = Settings(
        tokens=tokens,
        minutes=minutes,
        seed=seed,
        optimizer=optimizer,
        lr=lr,
        matrix_lr=matrix_lr,
        batch=batch,
        precision=precision,
    )
    show = lambda line: print(line, flush=True)  # noqa: E731
    pretrain(prepared, settings, Placement(workers, threads, address), out, _command(), show)


def _command() -> str:
    """Return this command as the card gives it."""
    kept, skip = [], False
    for argument in sys.argv[1:]:
        if skip or argument.split("=")[0] in PLACES:
            skip = not skip and "=" not in argument
            continue
        kept.append(argument)
    return shlex.join(["python", "jobs/pretrain_proxy.py", *kept, "--out", "my_proxy"])


if __name__ == "__main__":
    job = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    job.command()(main)
    run(job)
