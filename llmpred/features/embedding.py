"""Embeddings of a sample of the data, and the meta-features read off them.

By default a base embeds for itself: the mean of its last hidden states over the tokens of a text.
So the features say how the data look to the model that is to learn them, and no further model is
needed. Their level then belongs to the base (the states of a language model all point roughly the
same way), so compare them within a base, or embed every dataset by one sentence encoder.

All cosines over all pairs are exact and cost O(n): for unit vectors, the sum over all pairs is the
squared norm of the sum.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llmpred.bases.load import TRUSTED, load_tokenizer
from llmpred.bases.locate import Located, locate
from llmpred.data.content import sample as draw_rows
from llmpred.engine.models import LoadedBase, in_batches, padded, pick_device
from llmpred.errors import BaseError, DataError, Problem
from llmpred.features.base import Feature, texts
from llmpred.spec.run import BaseSpec
from llmpred.tasks.prepare import Examples, Prepared

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pooling = Literal["mean", "cls", "last"]

SAMPLE = 512  # rows of each part that are embedded
TOKENS = 256  # of a text that are embedded, as all-MiniLM-L6-v2 was made for
BATCH = 32  # texts a forward pass
FOLDS = 5  # of the classifier whose out-of-fold probabilities are taken
COMPONENTS = 32  # principal components of the inputs that the classifier reads
PENALTY = 0.01  # inverse strength of its penalty: strong, for labels may be noisy
FAR = 3.5  # modified z-score of an outlier (Iglewicz & Hoaglin, 1993)
EQUAL = 1e-6  # cosines that differ by less are the same, but for rounding
ENGLISH = ("minilm",)  # embedders that know no other script than the Latin
OTHER_SCRIPT = 0.1  # share of letters outside it from which that is said
# What sentence-transformers calls a way of pooling, in either form of its settings.
POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True)
class Embedder:
    """A model that turns a text into a vector.

    Attributes:
        base: the model, without a head or with one that is not used.
        pooling: what is made of the last hidden states: their mean, the first one, the last one.
    """

    base: LoadedBase
    pooling: Pooling


@dataclass(frozen=True, eq=False)
class Classified:
    """Rows with a class, and what a classifier that did not see them says of them.

    Attributes:
        places: [rows] which of the sampled training rows they are.
        labels: [rows] class of each, from 0.
        probabilities: [rows, classes] from a logistic regression on the input embeddings of the
            other folds.
    """

    places: Indices
    labels: Indices
    probabilities: Matrix


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embedded sample; every vector has length 1.

    Attributes:
        inputs, outputs: [n, width] of the sampled training rows.
        evaluation: [m, width] of the inputs of sampled evaluation rows.
        classified: those of the n rows that have a class; None where `unclassified` says why.
        unclassified: why there are no classes; empty if there are.
        rows: training rows that the n were drawn from.
        embedder: name of the model.
        weights_hash: of the model.
        notes: what a person should know.
        seconds: that it took.
    """

    inputs: Matrix
    outputs: Matrix
    evaluation: Matrix
    classified: Classified | None
    unclassified: str
    rows: int
    embedder: str
    weights_hash: str
    notes: tuple[str, ...]
    seconds: float


# --- embedding -------------------------------------------------------------------------------


def load_embedder(name: str, *, revision: str | None = None, device: str = "auto") -> Embedder:
    """Load an embedder: `minilm`, or a folder or hub id of a sentence-transformers model.

    It is found, hashed and trusted as a base is: safetensors only, no code of its own. What
    sentence-transformers adds to a transformers model is how its states are pooled, and that is
    read from its settings; a model without them is mean-pooled. Prompts that some models put before
    a text are left out.

    Raises:
        BaseError: when there is no such model, or it does more than pool its states.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    located = locate(BaseSpec(name=name, revision=revision))
    pooling = pooling_of(located)
    tokenizer = load_tokenizer(located)
    logging.disable_progress_bar()
    place = pick_device(device)
    model = AutoModel.from_pretrained(
        located.path, revision=located.revision, dtype=torch.float32, **TRUSTED
    )
    return Embedder(LoadedBase(located, tokenizer, model.to(place).eval(), place), pooling)


def of_base(base: LoadedBase) -> Embedder:
    """Return the embedder that a loaded base is: its states, mean-pooled."""
    return Embedder(base, "mean")


def embed(
    prepared: Prepared,
    base: LoadedBase | Embedder,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Embeddings:
    """Embed a sample of the training rows, and the inputs of a sample of the evaluation rows.

    Args:
        prepared: the data of a run that trains.
        base: the base, which then embeds for itself, or an embedder.
        sample: rows of either part that are drawn at most, without replacement.
        seed: of the draw.

    Raises:
        DataError: when there are no training rows, or a text has no token.
        OutOfMemory: when one text does not fit.
    """
    started = time.perf_counter()
    if not prepared.train.num_rows:
        law = "features of training data need training rows, but there are none"
        raise DataError(Problem(law, fix="Describe a run that trains."))
    embedder = of_base(base) if isinstance(base, LoadedBase) else base
    task, spec = prepared.task, prepared.spec
    examples = list(Examples(draw_rows(prepared.train, sample, seed)))
    asked = list(Examples(draw_rows(prepared.evaluation, sample, seed)))
    pairs = [texts(example, task, spec) for example in examples]
    # The answers of the evaluation rows are not looked at.
    questions = [texts(example, task, spec)[0] for example in asked]
    parts = ([i for i, _ in pairs], [o for _, o in pairs], questions)
    vectors = embed_texts([text for part in parts for text in part], embedder)
    inputs, outputs, evaluation = np.split(vectors, [len(pairs), 2 * len(pairs)])
    classified, unclassified = _classified(inputs, _labels(prepared, examples), seed)
    return Embeddings(
        inputs=inputs,
        outputs=outputs,
        evaluation=evaluation,
        classified=classified,
        unclassified=unclassified,
        rows=prepared.train.num_rows,
        embedder=embedder.base.located.name,
        weights_hash=embedder.base.located.weights_hash,
        notes=_notes(embedder, parts[0] + parts[1]),
        seconds=time.perf_counter() - started,
    )


def embed_texts(given: Sequence[str], embedder: Embedder) -> Matrix:
    """Return the embeddings [texts, width] of texts, each of length 1; equal texts are read once.

    Of a text, the first `TOKENS` tokens are read. A language model's start token stands for nothing
    in the text, so it is not pooled; a sentence encoder is pooled as it was trained, frame and all.

    Raises:
        DataError: when a text has no token.
        OutOfMemory: when one text does not fit.
    """
    import torch

    distinct = list(dict.fromkeys(given))
    rows = [_tokens(text, embedder) for text in distinct]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))

    def run(batch: Sequence[int]) -> Sequence[Matrix]:
        return list(_pooled([rows[i] for i in batch], embedder))

    with torch.inference_mode():
        found = list(in_batches(order, BATCH, run))
    place = {distinct[i]: vector for i, vector in zip(order, found, strict=True)}
    vectors = np.stack([place[text] for text in given])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _tokens(text: str, embedder: Embedder) -> tuple[list[int], list[float]]:
    """Return the token ids of a text, and the weight of each one's state in the pooled vector."""
    config = embedder.base.located.config
    limit = min(TOKENS, config.get("max_position_embeddings") or TOKENS)
    encoded = embedder.base.tokenizer(
        text, truncation=True, max_length=limit, return_special_tokens_mask=True
    )
    ids: list[int] = encoded["input_ids"]
    whole = embedder.base.located.kind == "encoder"
    weights = {
        "mean": [float(whole or not special) for special in encoded["special_tokens_mask"]],
        "cls": [float(i == 0) for i in range(len(ids))],
        "last": [float(i == len(ids) - 1) for i in range(len(ids))],
    }[embedder.pooling]
    if not any(weights):
        raise DataError(Problem(f"a text must have at least one token, but {text!r} has none"))
    return ids, weights


def _pooled(rows: Sequence[tuple[list[int], list[float]]], embedder: Embedder) -> Matrix:
    """Return the pooled last hidden states [rows, width] of token ids with weights."""
    import torch

    inputs = padded(embedder.base, [ids for ids, _ in rows])
    states = embedder.base.model.base_model(**inputs).last_hidden_state.float()
    left = embedder.base.tokenizer.padding_side == "left"
    weights = []
    for _, given in rows:
        padding = [0.0] * (states.shape[1] - len(given))
        weights.append([*padding, *given] if left else [*given, *padding])
    shares = torch.tensor(weights, device=states.device)
    pooled = (states * shares[:, :, None]).sum(1) / shares.sum(1, keepdim=True)
    return np.asarray(pooled.cpu().numpy(), dtype=np.float64)


def pooling_of(located: Located) -> Pooling:
    """Return how a model's states are pooled, by the settings of sentence-transformers.

    Raises:
        BaseError: when they ask for what is not supported.
    """
    modules = _settings(located, "modules.json")
    if modules is None:
        return "mean"
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: str(module["path"]) for module in modules}
    more = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    folder = kinds.get("Pooling", "")
    settings = None
    if not more and re.fullmatch(r"\w[\w-]*", folder):  # a path outside the model is not read
        settings = _settings(located, f"{folder}/config.json")
    if settings is not None:
        named = {str(settings.get("pooling_mode"))} | {k for k, v in settings.items() if v is True}
        wanted = {n for n in named if n in POOLINGS or n.startswith("pooling_mode_")}
        if len(wanted) == 1 and wanted <= POOLINGS.keys():
            return POOLINGS[wanted.pop()]
    law = (
        "an embedder's states must be pooled by their mean, the first or the last token and go "
        f"through nothing else, but {located.name} has {', '.join(more) or 'another pooling'}"
    )
    raise BaseError(Problem(law, fix="Choose another embedder, such as minilm."))


def _settings(located: Located, file: str) -> Any:
    """Return a JSON file of a model; None if it has no such file."""
    from transformers.utils import cached_file

    path = cached_file(
        located.path,
        file,
        revision=located.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise BaseError(Problem(f"{file} must be JSON, but: {error}", located.path)) from error


def _notes(embedder: Embedder, given: Iterable[str]) -> tuple[str, ...]:
    name = embedder.base.located.name
    if name not in ENGLISH:
        return ()
    letters = [c for text in given for c in text[:TOKENS] if c.isalpha()]
    other = sum(not c.isascii() and "LATIN" not in unicodedata.name(c, "") for c in letters)
    share = other / max(1, len(letters))
    if share < OTHER_SCRIPT:
        return ()
    return (
        f"{share:.0%} of letters are of a script that the embedder {name} does not know: it was "
        "made for English. Embed by the base itself, or by a multilingual model.",
    )


# --- classes ---------------------------------------------------------------------------------


def _labels(prepared: Prepared, examples: Sequence[dict[str, Any]]) -> Indices | str:
    """Return the class of each row, or why there are none.

    Where every row has the same candidates, they are classes; where each has its own, the place of
    the right one says nothing about the input.
    """
    task, spec = prepared.task, prepared.spec
    if task.class_names(spec) is None:
        candidates = {task.candidates(example, spec) for example in examples}
        if candidates == {None} or len(candidates) > 1:
            return f"the rows of {task.name} have no classes in common"
    return np.array([task.answer_index(example, spec) for example in examples], dtype=np.int64)


def _classified(inputs: Matrix, labels: Indices | str, seed: int) -> tuple[Classified | None, str]:
    """Predict the class of each row from the others; classes of fewer than FOLDS rows left out."""
    if isinstance(labels, str):
        return None, labels
    present, counts = np.unique(labels, return_counts=True)
    kept = present[counts >= FOLDS]
    if len(kept) < 2:
        return None, f"fewer than two classes have {FOLDS} rows in the sample"
    places = np.flatnonzero(np.isin(labels, kept)).astype(np.int64)
    classes = np.searchsorted(kept, labels[places]).astype(np.int64)
    return Classified(places, classes, _out_of_fold(inputs[places], classes, seed)), ""


def _out_of_fold(inputs: Matrix, classes: Indices, seed: int) -> Matrix:
    """Return class probabilities [rows, classes] of a regression fitted to the other folds."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = len(inputs) - len(inputs) // FOLDS - 1  # rows of the smallest training part
    model = make_pipeline(
        PCA(min(COMPONENTS, train, inputs.shape[1]), svd_solver="full"),
        StandardScaler(),
        LogisticRegression(C=PENALTY, max_iter=1000),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found = cross_val_predict(model, inputs, classes, cv=folds, method="predict_proba")
    return np.asarray(found, dtype=np.float64)


# --- what the features are made of -----------------------------------------------------------


def mean_cosine(vectors: Matrix) -> float:
    """Return the mean cosine over all pairs i ≠ j of unit vectors [n, width], in O(n).

    Raises:
        ValueError: if there are fewer than two.
    """
    n = len(vectors)
    _at_least(n, 2)
    total = vectors.sum(0)
    return float((total @ total - (vectors * vectors).sum()) / (n * (n - 1)))


def paired_excess(first: Matrix, second: Matrix) -> float:
    """Return the mean cosine of i with i, less that of i with j over all i ≠ j, in O(n).

    The second is what shuffling the pairs has as expectation, without its noise.

    Raises:
        ValueError: if there are fewer than two pairs.
    """
    n = len(first)
    _at_least(n, 2)
    same = float((first * second).sum())
    return same / n - float(first.sum(0) @ second.sum(0) - same) / (n * (n - 1))


def vendi_score(vectors: Matrix) -> float:
    """Return the Vendi score of unit vectors [n, width] under the cosine kernel.

    The exponential of the entropy of the eigenvalues of K/n (Friedman & Dieng, 2023, TMLR): the
    effective number of different vectors, from 1 to n.
    """
    n, width = vectors.shape
    gram = vectors @ vectors.T if n <= width else vectors.T @ vectors  # the same non-zero ones
    values = np.linalg.eigvalsh(gram / n)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def confident_noise(labels: Indices, probabilities: Matrix) -> float:
    """Return the share of labels taken to be wrong, by confident learning.

    A row speaks for class j if its probability of j is at least the mean of those that are labelled
    j. The counts by given class and spoken-for class, scaled so that each given class has its rows,
    estimate their joint distribution; what lies off its diagonal is noise (Northcutt, Jiang &
    Chuang, 2021, JAIR; cleanlab's `estimate_joint`).

    Args:
        labels: [rows] given classes, each present.
        probabilities: [rows, classes], out of fold.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([probabilities[labels == j, j].mean() for j in range(classes)])
    passing = np.where(probabilities >= thresholds - EQUAL, probabilities, -1.0)
    spoken = passing.argmax(1)
    confident = passing.max(1) >= 0
    noise = 0.0
    for j in range(classes):
        given = labels == j
        sure = given & confident
        if sure.any():
            noise += float((spoken[sure] != j).mean()) * float(given.mean())
    return noise


def _nearest(vectors: Matrix, among: Matrix) -> Matrix:
    """Return the highest cosine [n] of each vector [n, width] with any of `among`."""
    best: Matrix = (vectors @ among.T).max(1)
    return best


def _jackknife(without: Matrix, rows: int) -> float:
    """Return the standard error of a sample's statistic from its values without each row.

    Corrected for the part of the rows that was drawn: where all were, there is no sampling error.
    """
    n = len(without)
    spread = (n - 1) / n * float(((without - without.mean()) ** 2).sum())
    return float(np.sqrt(spread * (1 - n / rows)))


def out_sem_div_error(outputs: Matrix, rows: int) -> float:
    """Return the standard error of `out_sem_div` from n ≥ 3 of `rows` outputs; exact jackknife."""
    n = len(outputs)
    total = outputs.sum(0)
    own = (outputs * outputs).sum(1)
    pairs = total @ total - own.sum()
    return _jackknife((pairs - 2 * (outputs @ total - own)) / ((n - 1) * (n - 2)), rows)


def io_sim_error(inputs: Matrix, outputs: Matrix, rows: int) -> float:
    """Return the standard error of `io_sim` from n ≥ 3 of `rows` pairs; exact jackknife."""
    n = len(inputs)
    x, y = inputs.sum(0), outputs.sum(0)
    own = (inputs * outputs).sum(1)
    same = own.sum() - own
    every = x @ y - inputs @ y - outputs @ x + own
    return _jackknife(same / (n - 1) - (every - same) / ((n - 1) * (n - 2)), rows)


def facts(found: Embeddings) -> dict[str, float]:
    """Return how the embeddings were made, and the sampling errors of the core features.

    Errors are standard errors against the value on all training rows; absent for fewer than three.
    """
    n = len(found.inputs)
    made = {
        "embedding_rows": float(n),
        "embedding_evaluation_rows": float(len(found.evaluation)),
        "embedding_class_rows": float(len(found.classified.labels) if found.classified else 0),
        "embedding_seconds": found.seconds,
    }
    if n >= 3:
        made["out_sem_div_se"] = out_sem_div_error(found.outputs, found.rows)
        made["io_sim_se"] = io_sim_error(found.inputs, found.outputs, found.rows)
    return made


# --- features --------------------------------------------------------------------------------


def _out_sem_div(found: Embeddings) -> float:
    return 1 - mean_cosine(found.outputs)


def _io_sim(found: Embeddings) -> float:
    return paired_excess(found.inputs, found.outputs)


def _out_vendi(found: Embeddings) -> float:
    return vendi_score(found.outputs)


def _in_sem_div(found: Embeddings) -> float:
    return 1 - mean_cosine(found.inputs)


def _outlier_share(found: Embeddings) -> float:
    """Share of inputs whose cosine with the median direction is FAR below the usual one."""
    _at_least(len(found.inputs), 3)
    middle = np.median(found.inputs, axis=0)
    near = found.inputs @ (middle / np.linalg.norm(middle))
    usual = np.median(near)
    spread = 1.4826 * np.median(np.abs(near - usual))  # of a normal distribution: its deviation
    return float((usual - near > max(FAR * spread, EQUAL)).mean())


def _label_noise(found: Embeddings) -> float:
    rows = _with_classes(found)
    return confident_noise(rows.labels, rows.probabilities)


def _class_separability(found: Embeddings) -> float:
    from sklearn.metrics import silhouette_score

    rows = _with_classes(found)
    return float(silhouette_score(found.inputs[rows.places], rows.labels, metric="cosine"))


def _eval_similarity(found: Embeddings) -> float:
    _at_least(len(found.evaluation), 1)
    return float(_nearest(found.evaluation, found.inputs).mean())


def _eval_domain_gap(found: Embeddings) -> float:
    """How much farther two inputs lie apart, squared, if one of them is an evaluation input.

    As a share of that distance, without the bias of small samples; 0 where the means agree, at most
    1. Slightly negative values are sampling noise.
    """
    within = 1 - (mean_cosine(found.inputs) + mean_cosine(found.evaluation)) / 2
    across = 1 - float(found.inputs.mean(0) @ found.evaluation.mean(0))
    if across < EQUAL:
        raise ValueError("all inputs are the same")
    return 1 - within / across


def _with_classes(found: Embeddings) -> Classified:
    if found.classified is None:
        raise ValueError(found.unclassified)
    return found.classified


def _at_least(count: int, needed: int) -> None:
    if count < needed:
        raise ValueError(f"it takes {needed} rows, but there are {count}")


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="out_sem_div",
        group="static",
        priority="core",
        unit="1",
        cost="embed",
        version=1,
        source="1 - mean cosine over all pairs of output embeddings, i != j",
        fn=_out_sem_div,
    ),
    Feature(
        name="io_sim",
        group="static",
        priority="core",
        unit="1",
        cost="embed",
        version=1,
        source="mean cosine of input i with output i, less that of i with j over all i != j",
        fn=_io_sim,
    ),
    Feature(
        name="out_vendi",
        group="static",
        priority="further",
        unit="outputs",
        cost="embed",
        version=1,
        source="Vendi score of the outputs, cosine kernel (Friedman & Dieng, 2023)",
        fn=_out_vendi,
        log=True,
    ),
    Feature(
        name="in_sem_div",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="1 - mean cosine over all pairs of input embeddings, i != j",
        fn=_in_sem_div,
    ),
    Feature(
        name="embedding_outlier_share",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="share of inputs whose cosine with the median direction has a modified z-score "
        "below -3.5 (Iglewicz & Hoaglin, 1993)",
        fn=_outlier_share,
    ),
    Feature(
        name="label_noise_estimate",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="confident learning (Northcutt et al., 2021) on a logistic regression, 5 folds",
        fn=_label_noise,
    ),
    Feature(
        name="class_separability",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="silhouette of the classes' inputs, cosine distance (Rousseeuw, 1987)",
        fn=_class_separability,
    ),
    Feature(
        name="eval_similarity",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="mean over evaluation inputs of the cosine with the nearest training input",
        fn=_eval_similarity,
    ),
    Feature(
        name="eval_domain_gap",
        group="static",
        priority="further",
        unit="1",
        cost="embed",
        version=1,
        source="coefficient of inhomogeneity (Székely & Rizzo, 2013) of training and evaluation "
        "inputs, squared distances, unbiased",
        fn=_eval_domain_gap,
    ),
)
