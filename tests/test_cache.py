import pytest

from llmpred import cache
from llmpred.cache import remembered
from llmpred.errors import InputError


def test_answers_are_kept_and_failures_for_a_while(monkeypatch):
    asked = []

    @remembered
    def ask(name: str, revision: str | None = None) -> str:
        asked.append(name)
        if name == "absent" and len(asked) < 3:
            raise InputError("the hub cannot be reached")
        return name.upper()

    assert [ask("a"), ask("a"), ask("a", revision="b")] == ["A", "A", "A"]
    assert asked == ["a", "a"]
    asked.clear()
    for _ in range(2):
        with pytest.raises(InputError, match="cannot be reached"):
            ask("absent")
    assert asked == ["absent"]
    monkeypatch.setattr(cache, "FAILURE_SECONDS", 0.0)
    asked.append("later")
    assert ask("absent") == "ABSENT"
