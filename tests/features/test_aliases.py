"""No feature of the data is constant, and none says what another says."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import spearmanr

from llmpred.engine.models import LoadedBase
from llmpred.features import embedding, likelihood
from llmpred.features.base import compute
from llmpred.spec.run import RunSpec
from tests.features.worlds import settled, world

ALIAS = 0.995


def worlds() -> Iterator[RunSpec]:
    for kind in ("sentiment", "qa", "summarization", "multiple_choice"):
        yield world(kind)
        yield world(kind, language="zh")
        yield world(kind, phrasings=1)
        yield world(kind, entities=8)
        yield world(kind, length="long")
        yield world(kind, {"truncate": {"words": 10}})
        yield world(kind, {"subsample": {"n": 20}}, {"near_duplicate": {"share": 1.0}})
        for share in (0.5, 1.0):
            yield world(kind, shift=share)
            yield world(kind, {"shuffle_answers": {"share": share}})
        yield world(kind, format_drift=0.7)
        for share in (0.1, 0.5):
            yield world(kind, foreign=share)
    for share in (0.1, 0.2, 0.3, 0.4):
        yield world("sentiment", {"label_noise": {"share": share}}, n=120)


@pytest.mark.slow
def test_features_differ_between_datasets_and_from_each_other(proxy: LoadedBase) -> None:
    rows: list[dict[str, float]] = []
    for spec in worlds():
        resolved, prepared = settled(spec)
        embeddings = embedding.embed(prepared, proxy)
        likelihoods = likelihood.measure_likelihood(prepared, resolved.spec, proxy, sample=40)
        rows.append(
            compute(embedding.FEATURES, embeddings).values
            | compute(likelihood.FEATURES, likelihoods).values
        )
    assert len(rows) >= 40
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name, column in columns.items():
        known = column[np.isfinite(column)]
        assert len(known) >= 15, name
        assert len(set(known.round(9))) > 2, name
    for one, two in itertools.combinations(columns, 2):
        both = np.isfinite(columns[one]) & np.isfinite(columns[two])
        rank = spearmanr(columns[one][both], columns[two][both]).statistic
        assert abs(rank) < ALIAS, (one, two)
