"""Cells become values of a field's kind."""

from typing import Any

import pytest

from llmpred.data.columns import convert
from llmpred.data.fields import Field

SUMMARY = Field("summary", "texts", "target")


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        (["one", "two"], ["one", "two"]),
        ('["one", "two"]', ["one", "two"]),
        ("[1, 2]", ["1", "2"]),
        ("plain [text]", ["plain [text]"]),
        ('[{"name": "JSON is the answer"}]', ['[{"name": "JSON is the answer"}]']),
        ("[not JSON", ["[not JSON"]),
    ],
)
def test_a_list_of_texts_may_be_a_cell_of_json(cell: Any, texts: list[str]) -> None:
    assert convert({"summary": cell}, [SUMMARY], {"summary": "summary"}) == {"summary": texts}
