import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpred.spec.distributions import (
    Leaf,
    as_leaf,
    broken_law,
    count_options,
    fill,
    leaves,
    options_product,
    settle_times,
    written_path,
)

FLOATS = st.floats(min_value=1e-9, max_value=1e9)
QUANTILE = st.floats(min_value=0, max_value=1, exclude_max=True)


def leaf(kind: str, *args: object) -> Leaf:
    assert not broken_law(kind, list(args))
    return Leaf(("x",), kind, args)


@given(low=FLOATS, high=FLOATS, u=QUANTILE, kind=st.sampled_from(["uniform", "loguniform"]))
def test_real_draws_stay_inside_and_are_short(low, high, u, kind) -> None:
    if low >= high:
        return
    value = leaf(kind, low, high).at(u)
    assert low <= value <= high
    assert value in (low, high) or value == float(f"{value:.6g}")


@given(low=st.integers(-50, 50), width=st.integers(1, 50), u=QUANTILE)
def test_randint_excludes_high(low, width, u) -> None:
    value = leaf("randint", low, low + width).at(u)
    assert isinstance(value, int)
    assert low <= value < low + width


@given(
    first=st.integers(-20, 20),
    count=st.integers(1, 20),
    u=QUANTILE,
    q=st.sampled_from([8, 0.5, 0.1]),
)
def test_quniform_gives_multiples(first, count, u, q) -> None:
    value = leaf("quniform", first * q, (first + count) * q, q).at(u)
    assert first <= round(value / q) <= first + count
    assert abs(value / q - round(value / q)) < 1e-6
    if q == 8:
        assert isinstance(value, int)


@given(options=st.lists(st.integers(), min_size=1, max_size=9), u=QUANTILE)
def test_choice_gives_every_option_its_share(options, u) -> None:
    index = leaf("choice", *options).at(u)
    assert index == int(u * len(options))


def test_ends_are_reached() -> None:
    assert {leaf("quniform", 8, 32, 8).at(u / 100) for u in range(100)} == {8, 16, 24, 32}
    assert {leaf("randint", 3, 6).at(u / 100) for u in range(100)} == {3, 4, 5}


@pytest.mark.parametrize(
    ("name", "args", "part"),
    [
        ("choice", [], "at least one option"),
        ("uniform", [1, 1], "low < high"),
        ("uniform", [1], "[low, high]"),
        ("uniform", [True, 2], "[low, high]"),
        ("loguniform", [0, 1], "low > 0"),
        ("loguniform", ["1e-5", 1], "[low, high]"),
        ("randint", [0.5, 3], "whole numbers"),
        ("quniform", [0, 1], "[low, high, q]"),
        ("quniform", [0, 1, 0], "q > 0"),
        ("quniform", [0, 10, 3], "multiples of q"),
        ("times", ["a"], "path of another value"),
        ("times", ["a", "b"], "factor"),
        ("times", ["a", {"times": ["b", 2]}], "factor"),
    ],
)
def test_arguments(name: str, args: list[object], part: str) -> None:
    assert part in broken_law(name, args)


def test_only_a_mapping_of_one_list_is_a_distribution() -> None:
    assert as_leaf({"choice": [1]}, ()) is not None
    assert as_leaf({"choice": "column"}, ()) is None
    assert as_leaf({"choice": [1], "r": 2}, ()) is None


NESTED = {
    "o": {"choice": [{"lr": {"uniform": [0, 1]}}, {"lr": {"grid": [1, 2, 3]}}, 5]},
    "p": {"grid": [1, 2]},
}


def test_leaves_inside_options() -> None:
    found = {item.name: item.within for item in leaves(NESTED)}
    assert found == {
        "o": (),
        "o.choice[0].lr": ((("o",), 0),),
        "o.choice[1].lr": ((("o",), 1),),
        "p": (),
    }


@pytest.mark.parametrize("kinds", [("grid",), ("choice", "grid"), ()])
def test_options_product_is_counted_and_distinct(kinds) -> None:
    ways = options_product(NESTED, kinds)
    assert len(ways) == count_options(NESTED, kinds) == len({tuple(w.items()) for w in ways})


def test_own_leaves_multiply_only_their_option() -> None:
    assert count_options(NESTED, ("choice", "grid")) == (1 + 3 + 1) * 2


def test_fill_and_where_it_was_written() -> None:
    def choose(item: Leaf) -> object:
        return 1 if item.kind == "choice" else 2 if item.kind == "grid" else 0.5

    node = {"o": NESTED["o"]}
    assert fill(node, choose) == {"o": {"lr": 3}}
    assert written_path(node, ("o", "lr"), choose) == ("o", "choice", 1, "lr", "grid", 2)


def test_times_follow_one_another() -> None:
    run = {"a": {"times": ["b.c[1]", 2]}, "b": {"c": [1, {"times": ["d", 1.5]}]}, "d": 4}
    assert settle_times(run) == []
    assert run == {"a": 12, "b": {"c": [1, 6]}, "d": 4}


@pytest.mark.parametrize(
    ("run", "part"),
    [
        ({"a": {"times": ["b", 2]}}, "does not set"),
        ({"a": {"times": ["b", 2]}, "b": "x"}, "no number"),
        ({"a": {"times": ["a", 2]}}, "circle"),
        ({"a": {"times": ["b", 2]}, "b": {"times": ["a", 2]}}, "circle"),
        ({"a": {"times": ["b", "x"]}, "b": 1}, "factor"),
    ],
)
def test_times_that_cannot_be(run, part: str) -> None:
    [_, *_] = broken = settle_times(run)
    assert part in broken[0][1]
