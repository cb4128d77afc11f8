"""Values as tables show them."""

from __future__ import annotations

import pytest

from llmpred.report.tables import duration, number, written


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (999_400.0, "bytes", "999 kB"),
        (999_700.0, "bytes", "1 MB"),
        (999_700_000_000.0, "bytes", "1,000 GB"),
        (0.9997, "time", "1 s"),
        (999.7, "number", "1,000"),
        (999.4, "number", "999"),
    ],
)
def test_three_digits_never_become_an_exponent(value: float, kind: str, text: str) -> None:
    assert written(value, kind) == text  # type: ignore[arg-type]


def test_short_and_long_values_keep_their_units() -> None:
    assert duration(0.0123) == "12.3 ms"
    assert duration(119) == "119 s"
    assert number(12_345.6) == "12,346"
    assert number(-2.5e18) == "-2.5e+18"


@pytest.mark.parametrize(
    ("change", "text"),
    [((82_046.4, 1.0), "82,046 → 1"), ((0.1234, 0.98), "0.123 → 0.98"), ((None, 0.5), "– → 0.5")],
)
def test_changes_tell_both_ends(change: tuple[float | None, float], text: str) -> None:
    assert written(change, "change") == text
