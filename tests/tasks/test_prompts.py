from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpred.tasks.prompts import pieces, prompt_problems, render, slot_names


def test_pieces() -> None:
    assert pieces("A {x} {{y}} {z}.") == [
        ("A ", "x"),
        (" {", None),
        ("y}", None),
        (" ", "z"),
        (".", None),
    ]
    assert slot_names("A {x} {{y}} {z}{x}") == ("x", "z")


@given(st.text(), st.text())
def test_text_is_never_read_as_a_template(before: str, value: str) -> None:
    template = before.replace("{", "{{").replace("}", "}}") + "{x}"
    assert prompt_problems(template, ["x"]) == []
    assert render(template, {"x": value}) == before + value


@pytest.mark.parametrize(
    "template", ["{", "}", "{x", "{x:{y}}", "{x!r}", "{x:3}", "{x.a}", "{x[0]}"]
)
def test_refused(template: str) -> None:
    problems = prompt_problems(template, ["x", "y"])
    assert problems
    assert all(problem.where == "task.prompt" and problem.fix for problem in problems)


def test_nearest_slot() -> None:
    (problem,) = prompt_problems("{contxt}", ["context", "question"])
    assert "Did you mean `context`?" in problem.fix
