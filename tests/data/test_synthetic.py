import pytest

from llmpred.data import content_hash
from llmpred.data.synthetic import generate
from llmpred.errors import DataError

PINS = {"en": "cc0377e05d8abb28", "zh": "c68d2b4c3f1a9619"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_reviews_are_learnable_but_not_by_words_alone(language):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = {p: generate("sentiment", {"language": language, "part": p}) for p in ("train", "test")}
    texts = {p: [row["text"] for row in rows[p]] for p in rows}
    labels = {p: [row["label"] for row in rows[p]] for p in rows}
    grams = {"en": ("word", (1, 2)), "zh": ("char", (1, 3))}[language]
    vectors = TfidfVectorizer(analyzer=grams[0], ngram_range=grams[1], sublinear_tf=True)
    model = make_pipeline(vectors, LogisticRegression(C=10)).fit(texts["train"], labels["train"])
    assert 0.8 <= model.score(texts["test"], labels["test"]) <= 0.92
    assert labels["train"].count("positive") == 300
    assert len(set(texts["train"])) > 590
    assert not set(texts["train"]) & set(texts["test"])


@pytest.mark.parametrize("language", PINS)
def test_reviews_are_the_same_everywhere(read, language):
    loaded = read("synthetic:sentiment", options={"n": 50, "seed": 3, "language": language})
    assert content_hash(loaded.table)[:16] == PINS[language]
    other = read("synthetic:sentiment", options={"n": 50, "seed": 4, "language": language})
    assert content_hash(other.table)[:16] != PINS[language]


def test_bad_options(read):
    with pytest.raises(DataError) as caught:
        read("synthetic:sentiment", options={"n": 0, "language": "fr", "part": "dev"})
    assert len(caught.value.problems) == 3
    with pytest.raises(DataError, match="Did you mean `phrasings`"):
        read("synthetic:sentiment", options={"phrasing": 1})
    with pytest.raises(DataError, match="Did you mean `sentiment`"):
        read("synthetic:sentimnt")
