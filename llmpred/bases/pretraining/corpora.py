"""Corpora to pretrain on: which there are, and their documents, without duplicates or leaks."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from llmpred.data.readers import container, read_file
from llmpred.data.rows import peek, show
from llmpred.data.shapes import shape_of
from llmpred.data.synthetic import generate
from llmpred.data.text import UNIT
from llmpred.errors import DataError, Problem, SpecError, nearest
from llmpred.spec.distributions import dotted
from llmpred.spec.problems import from_pydantic
from llmpred.spec.run import Frozen
from llmpred.spec.yaml import read_yaml

VALIDATION = 100  # one document in so many is held out
PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
SYNTHETIC = "synthetic:"


class Texts(Frozen):
    """Where texts come from.

    Attributes:
        source: a `.txt` file (documents between empty lines), a file of rows that the readers know,
            or `synthetic:NAME`. Paths are relative to the working directory.
        fields: of a row, joined by line breaks; nested rows are unfolded as tasks unfold them, so
            SQuAD has `context`, and chats and instructions have `prompt` and `response`.
        skip, take: share of the documents, in their order, that is passed over at the start, and
            that is read from there on.
        options: of a synthetic source.
    """

    source: str
    fields: tuple[str, ...] = Field(("text",), min_length=1)
    skip: float = Field(0.0, ge=0, lt=1)
    take: float = Field(1.0, gt=0, le=1)
    options: dict[str, Any] = Field(default_factory=dict)


class Corpus(Texts):
    """Texts to train on.

    Attributes:
        name: for tables and the model card.
        weight: passes over this corpus for each pass over one of weight 1.
        least: documents of fewer words (Chinese: characters) are left out.
        whole: leave out documents that are a part of another one of this corpus.
        licence: for the model card.
    """

    name: str
    weight: float = Field(1.0, gt=0)
    least: int = Field(1, ge=1)
    whole: bool = False
    licence: str = "not stated"


class Excluded(Texts):
    """Texts that must stay out, such as evaluation sets.

    Attributes:
        run: a document that shares so many words (Chinese: characters) in a row with one of these
            texts is left out. Thirteen is the rule of GPT-3 (Brown et al., 2020, appendix C).
    """

    run: int = Field(13, ge=1)


class Mixture(Frozen):
    """All there is to train on, and what must stay out."""

    corpora: tuple[Corpus, ...] = Field(min_length=1)
    exclude: tuple[Excluded, ...] = ()


@dataclass
class Gathered:
    """The documents of one corpus.

    Attributes:
        corpus: which.
        train, validation: texts, in the order of the source.
        dropped: why documents were left out -> how many.
    """

    corpus: Corpus
    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


def read_mixture(path: str | Path) -> Mixture:
    """Read a mixture from a YAML file.

    Raises:
        SpecError: with all that does not hold.
    """
    return _checked(read_yaml(path), str(path))


def parse_corpora(given: Sequence[str]) -> Mixture:
    """Return the mixture of corpora given as `SOURCE[:FIELD[+FIELD…]][@WEIGHT]`.

    Raises:
        SpecError: with all that does not hold.
    """
    corpora = []
    for text in given:
        rest, _, weight = text.rpartition("@") if re.search(r"@[\d.]+$", text) else (text, "", "1")
        prefix = SYNTHETIC if rest.startswith(SYNTHETIC) else ""
        source, _, fields = rest.removeprefix(prefix).partition(":")
        made: dict[str, Any] = {"name": prefix + Path(source).name, "source": prefix + source}
        made["weight"] = float(weight) if re.fullmatch(r"\d+(\.\d+)?|\.\d+", weight) else weight
        corpora.append(made | ({"fields": fields.split("+")} if fields else {}))
    return _checked({"corpora": corpora}, "--corpus")


def _checked(values: dict[str, Any], where: str) -> Mixture:
    try:
        mixture = Mixture.model_validate(values)
    except ValidationError as error:
        problems = from_pydantic(error, Mixture, lambda path: f"{where}, {dotted(path)}")
        raise SpecError(problems.values()) from None
    names = [corpus.name for corpus in mixture.corpora]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        law = f"corpora must have different names, but {', '.join(twice)} comes twice"
        raise SpecError(Problem(law, where, "Name them in a YAML file given by --corpora."))
    return mixture


def documents(texts: Texts) -> list[str]:
    """Read the documents of a source, each once, in its order, in Unicode's composed form (NFC).

    Raises:
        DataError: if the source cannot be read, a row is broken or lacks all fields.
    """
    found = dict.fromkeys(
        unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip() for text in _read(texts)
    )
    found.pop("", None)
    if not found:
        raise DataError(Problem("a corpus must hold text, but it has none", texts.source))
    start = round(texts.skip * len(found))
    return list(found)[start : start + max(1, round(texts.take * len(found)))]


def _read(texts: Texts) -> Iterator[str]:
    if texts.source.startswith(SYNTHETIC):
        rows = generate(texts.source.removeprefix(SYNTHETIC), texts.options)
        return (_joined(row, texts, texts.source) for row in rows)
    if texts.options:
        law = "only a synthetic source takes `options`"
        raise DataError(Problem(law, texts.source, "Leave them out."))
    path = Path(texts.source).expanduser()
    if not path.is_file():
        law = "the corpus must exist, but there is no such file"
        raise DataError(Problem(law, texts.source, f"The working directory is {Path.cwd()}."))
    if path.suffix == ".txt":
        try:
            return iter(PARAGRAPH.split(path.read_text("utf-8-sig")))
        except UnicodeDecodeError as error:
            law = f"a text file must be UTF-8, but byte {error.start:,} is not"
            raise DataError(Problem(law, texts.source, "Save it as UTF-8.")) from error
    return _rows(path, texts)


def _rows(path: Path, texts: Texts) -> Iterator[str]:
    kind = container(path)
    if kind is None:
        law = "a corpus must be a .txt file or a file of rows (.jsonl, .json, .csv, .tsv, .parquet)"
        raise DataError(Problem(f"{law}, but got {path.name}", texts.source, "Rename it."))
    head, rows = peek(read_file(path, kind, "auto", texts.source)[0])
    unfold = shape_of("auto", head)
    for row in chain.from_iterable(map(unfold, rows)):
        if row.problem:
            raise DataError(Problem(row.problem, row.where))
        yield _joined(row.values, texts, row.where)


def _joined(row: dict[str, Any], texts: Texts, where: str) -> str:
    """Return the text of the fields of a row; a list of sentences is joined by spaces."""
    parts = [row[name] for name in texts.fields if row.get(name) is not None]
    if not parts:
        law = f"a row must have the field {' or '.join(texts.fields)}, but has {show(list(row))}"
        raise DataError(Problem(law, where, nearest(texts.fields[0], list(row))))
    joined = [" ".join(part) if isinstance(part, list) else part for part in parts]
    if not all(isinstance(part, str) for part in joined):
        law = f"the fields {', '.join(texts.fields)} must be texts, but got {show(parts[0])}"
        raise DataError(Problem(law, where))
    return "\n".join(joined)


def gather(mixture: Mixture) -> list[Gathered]:
    """Read all corpora, drop what repeats or must stay out, and hold one document in 100 out.

    Which documents are held out depends on their content alone, so the same document is never on
    the other side in another mixture.

    Raises:
        DataError: if a source cannot be read, or nothing is left of a corpus.
    """
    forbidden: dict[int, set[int]] = {}
    for excluded in mixture.exclude:
        for text in documents(excluded):
            forbidden.setdefault(excluded.run, set()).update(_runs(text, excluded.run))
    seen: set[str] = set()
    gathered = []
    for corpus in mixture.corpora:
        made = Gathered(corpus)
        found = documents(corpus)
        inner = _parts(found, corpus.least) if corpus.whole else set()
        for text in found:
            units = UNIT.findall(text.lower())
            if len(units) < corpus.least:
                reason = "short"
            elif text in seen:
                reason = "in another corpus"
            elif corpus.whole and hash(tuple(units)) in inner:
                reason = "part of another"
            elif any(not runs.isdisjoint(_runs(text, n)) for n, runs in forbidden.items()):
                reason = "shares text with an excluded set"
            else:
                seen.add(text)
                (made.validation if held_out(text) else made.train).append(text)
                continue
            made.dropped[reason] = made.dropped.get(reason, 0) + 1
        if not made.train:
            law = f"the corpus {corpus.name} must have documents to train on, but has none"
            raise DataError(Problem(f"{law} (left out: {show(made.dropped)})", corpus.source))
        gathered.append(made)
    return gathered


def held_out(text: str) -> bool:
    """Return whether a document is for validation: by its content alone, one in 100."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % VALIDATION == 0


def _runs(text: str, length: int) -> Iterator[int]:
    """Yield a hash of each run of `length` words of a text; of all its words if it has fewer."""
    units = UNIT.findall(text.lower())
    for start in range(max(1, len(units) - length + 1)):
        yield hash(tuple(units[start : start + length]))


def _parts(texts: Iterable[str], least: int) -> set[int]:
    """Return a hash of each run of at least `least` words in a text, but of no whole text."""
    parts = set()
    for text in texts:
        units = tuple(UNIT.findall(text.lower()))
        for start in range(len(units)):
            for end in range(start + least, len(units) + 1):
                if end - start < len(units):
                    parts.add(hash(units[start:end]))
    return parts
