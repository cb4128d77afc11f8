from __future__ import annotations

from llmpred.ledger import diff
from llmpred.ledger.difference import ABSENT


def test_differences_name_their_path() -> None:
    left = {"optim": {"lr": 1e-4, "betas": [0.9, 0.99]}, "seed": 0, "old": {"a": 1}, "same": "x"}
    right = {"optim": {"lr": 2e-4, "betas": [0.9, 0.999, 1.0]}, "seed": 0, "same": "x"}
    found = diff(left, right)
    assert [(d.path, d.left, d.right) for d in found] == [
        ("old", {"a": 1}, ABSENT),
        ("optim.betas[1]", 0.99, 0.999),
        ("optim.betas[2]", ABSENT, 1.0),
        ("optim.lr", 1e-4, 2e-4),
    ]
    assert [str(d) for d in found][:2] == [
        'old: {"a": 1} -> (absent)',
        "optim.betas[1]: 0.99 -> 0.999",
    ]


def test_equal_payloads_do_not_differ() -> None:
    assert diff({"a": None, "b": [1, {"c": "情感"}]}, {"b": [1, {"c": "情感"}]}) == []
    assert [str(d) for d in diff({"a": 1}, {"a": 1.0})] == ["a: 1 -> 1.0"]
    assert [str(d) for d in diff({"a": "情感"}, {"a": {"b": True}})] == ['a: "情感" -> {"b": true}']
