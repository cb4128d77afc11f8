import pytest

from llmpred.data import Field, Loaded, load
from llmpred.spec.run import SourceSpec

SENTIMENT = (
    Field("id", "label", "id", required=False, aliases=("qid",)),
    Field("text", "text", "input", aliases=("sentence", "text_a", "review")),
    Field("label", "label", "target", aliases=("sentiment", "stars")),
)
QA = (
    Field("id", "label", "id", required=False),
    Field("context", "text", "input"),
    Field("question", "text", "input"),
    Field("answers", "texts", "target", aliases=("answer",)),
)
CHOICE = (
    Field("question", "text", "input"),
    Field("choices", "texts", "input"),
    Field("answer", "index", "target"),
)
CHAT = (
    Field("prompt", "text", "input"),
    Field("response", "text", "target"),
    Field("system", "text", "input", required=False),
)


def as_is(row):
    return dict(row)


@pytest.fixture
def read(tmp_path):
    """Load a source with a cache of the test's own."""

    def read(source, fields=SENTIMENT, parse=as_is, **options) -> Loaded:
        spec = SourceSpec(source=str(source), **options)
        return load(spec, fields, parse, cache=tmp_path / "cache")

    return read
