"""From a mixture to a folder of tokens: documents, tokenizer, packed streams and their facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.bases.pretraining.corpora import Gathered, Mixture, gather
from llmpred.bases.pretraining.packing import Packed, load_packed, pack, save_packed
from llmpred.bases.pretraining.tokenizer import train_tokenizer
from llmpred.errors import Problem, StorageError
from llmpred.spec.canonical import digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FACTS = "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A folder of tokens to train on.

    Attributes:
        folder: where it is.
        facts: `corpora`: one mapping a corpus (name, licence, weight, documents, tokens, what was
            left out); `identity`: of all that shaped it.
    """

    folder: Path
    facts: dict[str, Any]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Load the tokenizer."""
        from transformers import AutoTokenizer

        loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(self.folder / "tokenizer")
        return loaded

    def train(self) -> Packed:
        """Load the documents to train on."""
        return load_packed(self.folder / "train.npz")

    def validation(self) -> dict[str, Packed]:
        """Load the documents held out, by corpus; a corpus may have none."""
        names = [corpus["name"] for corpus in self.facts["corpora"]]
        files = (self.folder / f"validation-{i}.npz" for i in range(len(names)))
        return dict(zip(names, map(load_packed, files), strict=True))


def prepare(
    mixture: Mixture, folder: Path, *, vocabulary: int, characters: int, positions: int
) -> Prepared:
    """Gather a mixture, train the tokenizer and tokenise, unless the folder has it already.

    Args:
        mixture: what to read.
        folder: where to put it; what is there must be of the same mixture.
        vocabulary: number of tokens.
        characters: how many of the commonest characters have a token of their own.
        positions: longest input of the model.

    Raises:
        DataError: if a corpus cannot be read.
        StorageError: if the folder holds another mixture.
    """
    identity = digest([mixture.model_dump(mode="json"), vocabulary, characters, positions])
    marker = folder / FACTS
    if marker.is_file():
        facts = json.loads(marker.read_text("utf-8"))
        if facts["identity"] != identity:
            law = "the working folder must be of the same corpora, but it holds others"
            raise StorageError(Problem(law, str(folder), "Choose another --work, or delete it."))
        return Prepared(folder, facts)
    folder.mkdir(parents=True, exist_ok=True)
    gathered = gather(mixture)
    weights = [made.corpus.weight for made in gathered]
    # Languages count in the merges as they count in training.
    texts = (text for made in gathered for text in made.train * max(1, round(made.corpus.weight)))
    tokenizer = train_tokenizer(texts, vocabulary, characters, positions)
    tokenizer.save_pretrained(folder / "tokenizer")
    save_packed(pack(tokenizer, [made.train for made in gathered], weights), folder / "train.npz")
    for i, made in enumerate(gathered):
        held_out = pack(tokenizer, [made.validation], [1.0])
        save_packed(held_out, folder / f"validation-{i}.npz")
    facts = {"identity": identity, "corpora": _facts(gathered, folder)}
    scratch = folder / f"{FACTS}.part"
    scratch.write_text(json.dumps(facts, ensure_ascii=False, indent=1), "utf-8")
    scratch.replace(marker)  # written last: a folder without it is made again
    return Prepared(folder, facts)


def _facts(gathered: list[Gathered], folder: Path) -> list[dict[str, Any]]:
    packed = load_packed(folder / "train.npz")
    first = 0
    facts = []
    for made in gathered:
        last = first + len(made.train)
        lengths = np.diff(packed.ends, prepend=0)[first:last]
        facts.append(
            {
                "name": made.corpus.name,
                "licence": made.corpus.licence,
                "weight": made.corpus.weight,
                "documents": len(made.train),
                "tokens": int(lengths.sum()),
                "held_out": len(made.validation),
                "dropped": made.dropped,
            }
        )
        first = last
    return facts
