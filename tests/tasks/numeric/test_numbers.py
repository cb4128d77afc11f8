"""Numbers are found with their values, replaced by a token, and put back as they stood."""

from __future__ import annotations

import math
import struct
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmpred.errors import InputError
from llmpred.tasks.numeric.numbers import (
    NUM,
    Number,
    Replaced,
    numbers,
    replaced,
    restored,
    written,
)

# text -> what is read in it, as written and as a value
FOUND: dict[str, list[tuple[str, float]]] = {
    # integers and decimals
    "We have 12 cats.": [("12", 12)],
    "007": [("007", 7)],
    "It is 3.5, or .5": [("3.5", 3.5), (".5", 0.5)],
    "I have 3.": [("3", 3)],
    "No.5": [("5", 5)],
    "约.5": [(".5", 0.5)],
    "wait...5": [("5", 5)],
    "[1](2){3}": [("1", 1), ("2", 2), ("3", 3)],
    "12:30": [("12", 12), ("30", 30)],
    "1/2": [("1", 1), ("2", 2)],
    # signs
    "-5 +5 −5": [("-5", -5), ("+5", 5), ("−5", -5)],
    "-.5": [("-.5", -0.5)],
    "y=-5": [("-5", -5)],
    "(-5)": [("-5", -5)],
    "2019-2020": [("2019", 2019), ("2020", 2020)],
    "2019-01-05": [("2019", 2019), ("01", 1), ("05", 5)],
    "5 - 3": [("5", 5), ("3", 3)],
    "5−3+2": [("5", 5), ("3", 3), ("2", 2)],
    "5%-8%": [("5", 5), ("8", 8)],
    "10kg-20kg": [("10", 10), ("20", 20)],
    "(x)-5": [("5", 5)],
    "--5": [("5", 5)],
    "$-5, -$5": [("-5", -5), ("5", 5)],
    "气温-5℃": [("-5", -5)],
    "5月-8月": [("5", 5), ("8", 8)],
    "10公里-20公里": [("10", 10), ("20", 20)],
    "三-五天": [("三", 3), ("五", 5)],
    # thousands
    "1,234,567": [("1,234,567", 1234567)],
    "$1,234.56": [("1,234.56", 1234.56)],
    "-1,000": [("-1,000", -1000)],
    "1\u202f234\u202f567": [("1\u202f234\u202f567", 1234567)],
    "1\u00a0234": [("1\u00a0234", 1234)],
    "1\u2009234,5": [("1\u2009234", 1234), ("5", 5)],
    "1 234": [("1", 1), ("234", 234)],
    "1,2,3": [("1", 1), ("2", 2), ("3", 3)],
    "1,2,300": [("1", 1), ("2", 2), ("300", 300)],
    "1,2345": [("1", 1), ("2345", 2345)],
    "1,234,5": [("1", 1), ("234", 234), ("5", 5)],
    "0,123": [("0", 0), ("123", 123)],
    # powers of ten
    "1e-5 2E6 1e+3": [("1e-5", 1e-5), ("2E6", 2e6), ("1e+3", 1e3)],
    "6.02×10^23": [("6.02×10^23", 6.02e23)],
    "-6.6 x 10^-34 J": [("-6.6 x 10^-34", -6.6e-34)],
    "3·10⁸ m/s": [("3·10⁸", 3e8)],
    "10⁻³": [("10⁻³", 1e-3)],
    "10^6 cells": [("10^6", 1e6)],
    "2^10": [("2", 2), ("10", 10)],
    "10^6.5": [("10", 10), ("6.5", 6.5)],
    "1e-999": [("1e-999", 0)],
    # units stay
    "12.5 %": [("12.5", 12.5)],
    "7B 3rd 10kg 5°C 1980s": [("7", 7), ("3", 3), ("10", 10), ("5", 5), ("1980", 1980)],
    "3 million": [("3", 3)],
    "2e": [("2", 2)],
    # full width
    "１２．５": [("１２．５", 12.5)],
    "－３，４": [("－３", -3), ("４", 4)],
    # Chinese
    "有3个": [("3", 3)],
    "三个": [("三", 3)],
    "十个": [("十", 10)],
    "两个": [("两", 2)],
    "十二人": [("十二", 12)],
    "二十人": [("二十", 20)],
    "两百零五": [("两百零五", 205)],
    "一百一十": [("一百一十", 110)],
    "三百五": [("三百五", 350)],
    "两千五": [("两千五", 2500)],
    "一千零一夜": [("一千零一", 1001)],
    "一万二千": [("一万二千", 12000)],
    "一万二": [("一万二", 12000)],
    "一万零二": [("一万零二", 10002)],
    "一万一千": [("一万一千", 11000)],
    "九千九百九十九万九千九百九十九": [("九千九百九十九万九千九百九十九", 99999999)],
    "三万亿": [("三万亿", 3e12)],
    "兩億五千萬": [("兩億五千萬", 2.5e8)],
    "3.5亿元": [("3.5亿", 3.5e8)],
    "1.1亿": [("1.1亿", 1.1e8)],
    "1,234万": [("1,234万", 12340000)],
    "3亿5000万": [("3亿5000万", 3.5e8)],
    "1万2千": [("1万2千", 12000)],
    "5千克": [("5千", 5000)],
    "百分之五": [("五", 5)],
    "百分之负五": [("负五", -5)],
    "三分之一": [("三", 3), ("一", 1)],
    "负三": [("负三", -3)],
    "负3.5": [("负3.5", -3.5)],
    "正负3": [("3", 3)],
    "二〇二四年": [("二〇二四", 2024)],
    "一九九八": [("一九九八", 1998)],
    "零点二五": [("零点二五", 0.25)],
    "三点五亿": [("三点五亿", 3.5e8)],
    "三点二十分": [("三", 3), ("二十", 20)],
    "零度": [("零", 0)],
    "零零零": [("零零零", 0)],
    "十一点": [("十一", 11)],
    "一点五": [("一点五", 1.5)],
    "十分钟": [("十", 10)],
    "三十分": [("三十", 30)],
    "第三章": [("三", 3)],
    "每周三次": [("三", 3)],
    "人数三千": [("三千", 3000)],
    "每一百人": [("一百", 100)],
    "三百一起来": [("三百", 300)],
    "二十多万": [("二十", 20)],
    "GPT-4发布于2023年": [("2023", 2023)],
}
NONE = [
    *("", "no number", "B2B", "x86", "GPT-4", "COVID-19", "Llama-3.1-8B", "v1.2", "A4_2", "é2"),
    *("1.2.3", "192.168.0.1", "1.2.3rc1", "3f2a", "1_000", "1920x1080", "1e999", "-1e999"),
    *("10^999", "9" * 400, "٣", "٣5", "m²", "½", NUM, "<\\NUM>"),
    *(
        "一些",
        "一起",
        "一样",
        "一点",
        "十分",
        "零下",
        "四川",
        "统一",
        "另一个",
        "最好之一",
        "周三",
        "进一步",
    ),
    *("星期一", "万一", "万", "几万", "几十", "几万一千", "百般", "千万别", "两三天", "三四个"),
    *("一两个", "十七八", "亿", "一亿" + "亿" * 45, "一" * 65, "负责", "欺负"),
]
# what `written` gives of a value, alone and like a text
WRITTEN: list[tuple[float, str | None, str]] = [
    (5.0, None, "5"),
    (-0.25, None, "-0.25"),
    (0.1 + 0.2, None, "0.30000000000000004"),
    (1234567.0, None, "1234567"),
    (1e22, None, "1e+22"),
    (7, None, "7"),
    (1234567.5, "9,999", "1,234,567.5"),
    (-12345.0, "−9\u202f999", "−12\u202f345"),
    (0.5, "9,999", "0.5"),
    (1e22, "9,999", "1e+22"),
    (-1234.5, "１２", "－１２３４．５"),
    (1234.0, "１,０００", "１,２３４"),
    (12.0, "三", "12"),
]


@pytest.mark.parametrize("text", FOUND)
def test_numbers_have_places_and_values(text: str) -> None:
    found = numbers(text)
    assert [(number.text, number.value) for number in found] == FOUND[text]
    assert all(text[number.start : number.end] == number.text for number in found)
    assert restored(replaced(text)) == text


@pytest.mark.parametrize("text", NONE)
def test_not_every_digit_is_a_number(text: str) -> None:
    assert numbers(text) == []
    assert restored(replaced(text)) == text


def test_tokens_stand_for_numbers_alone() -> None:
    text = "<NUM> is <\\NUM>, not <3>, 一百"
    held = replaced(text)
    assert held.text == "<\\NUM> is <\\\\NUM>, not <<NUM>>, <NUM>"
    assert held.numbers == (Number(22, 23, "3", 3.0), Number(26, 28, "一百", 100.0))
    assert restored(held) == text


@pytest.mark.parametrize("text", [NUM, f"{NUM}{NUM}{NUM}"])
def test_tokens_and_numbers_are_as_many(text: str) -> None:
    two = replaced("1 2").numbers
    with pytest.raises(InputError, match="needs as many numbers, but 2 are given"):
        restored(Replaced(text, two))


_PIECES = st.one_of(
    st.sampled_from([NUM, "<\\NUM>", "<\\\\NUM>", "<", "\\", "NUM>", "-", "−", ",", ".", "e", "^"]),
    st.sampled_from(
        ["万", "亿", "十", "一", "零", "两", "点", "负", "之", "一些", "×10^", "⁻", "５"]
    ),
    st.sampled_from(["😀", "\u00a0", "\u202f", "年", "x", "_", "\ud800", "\r\n", "\0"]),
    st.sampled_from(list(FOUND)),
    st.integers(0, 10**6).map(str),
    st.integers(0, 10**12).map("{:,}".format),
    st.floats(allow_nan=False).map(str),
    st.text(max_size=5),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES, max_size=12).map("".join))
@example("<" + "5" + NUM + "\\NUM>")
def test_any_text_is_restored(text: str) -> None:
    held = replaced(text)
    assert restored(held) == text
    assert held.text.count(NUM) == len(held.numbers)
    assert held.numbers == tuple(numbers(text))
    place = 0
    for number in held.numbers:
        assert place <= number.start < number.end
        assert text[number.start : number.end] == number.text
        assert math.isfinite(number.value)
        assert float(written(number.value)) == number.value
        place = number.end


@pytest.mark.parametrize(("value", "like", "text"), WRITTEN)
def test_written(value: float, like: str | None, text: str) -> None:
    assert written(value, like) == text


@settings(max_examples=200, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, "1,234", "−1\u2009234", "１２", "－１,０００", "三", "−１"]),
)
def test_what_is_written_is_read_again(value: float, like: str | None) -> None:
    text = written(value, like)
    (number,) = numbers(text)
    assert number.text == text
    assert struct.pack("d", number.value) == struct.pack("d", value)  # -0.0 is not 0.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_only_the_finite_is_written(value: float) -> None:
    with pytest.raises(InputError, match="must be finite"):
        written(value)


@pytest.mark.parametrize(
    ("unit", "characters"),
    [
        *((unit, 200_000) for unit in ("1", ",", "1,", ",234", "1,234")),
        *((unit, 50_000) for unit in ("1.", "-", "-1", "a-1", "a", "1e", "10^", "1 × 10^", "10¹")),
        *((unit, 50_000) for unit in ("一", "万", "一万", "1万", "点一", "一点", "负", "1\u202f")),
        *((unit, 50_000) for unit in ("<", "<\\", "\\", NUM, "_1")),
    ],
)
def test_long_texts_take_linear_time(unit: str, characters: int) -> None:
    start = time.process_time()
    for end in ("", "x9", ",5"):
        text = "1,234" + unit * (characters // len(unit)) + end
        assert restored(replaced(text)) == text
    assert time.process_time() - start < 15  # a second or so; squares take minutes
