"""Numbers in texts: found, replaced by one token, and put back exactly.

What is a number:

- Integers and decimals, `.5` too, in ASCII or full-width digits. The dot of `3.` is the sentence's.
- Thousands set off alike in threes: 1,234,567, or by no-break, thin or figure spaces. `1,2,3`,
  `1,2,300` and `1,2345` are lists; `100,200` cannot be told from one number, and is one.
- Scientific notation: 1e-5, 6.02×10^23 (also with x, * or ·), 10⁻³.
- A sign that touches the number: - + − and 负. It is none after what it could subtract from or
  range from: 2019-2020, 5%-8%, (x)-5, 5月-8月.
- Chinese numerals: 两百零五, 三百五 (350), 三点五亿, 3亿5000万, and digit by digit (二〇二四).
  Two digits alone are an estimate (三四个), and no number. `STOP` and `STOP_AFTER` name words such
  as 一些 and 统一, whose numerals count nothing; they are few, and idioms (五颜六色) are not known.
  一个 is 1, though often no more than "a".

What is none: digits within a word or joined to it by a hyphen (B2B, x86, GPT-4, 3f2a, 1920x1080),
though letters may follow as a unit (10kg, 7B, 3rd); versions, addresses and dates with two dots or
more (1.2.3); digits of other scripts; 万 and the like without a count (万一, 几万); what overflows
a float (1e999). All these stay text. What is too small for a float is 0.

Units stay in the text, and so does their scale: 12.5 % is 12.5 before ` %`, 百分之五 is 5 after
百分之, 3 million is 3. Fractions are two numbers, 1/2 as 三分之二. Dates and times are several.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from fractions import Fraction

from llmpred.errors import InputError, Problem

NUM = "<NUM>"
# Words that open with a numeral and count nothing.
STOP = (
    *("一些", "一起", "一样", "一般", "一定", "一直", "一切", "一旦", "一下", "一会", "一边"),
    *("一面", "一方", "一致", "一向", "一再", "一律", "一概", "一共", "一同", "一带", "一生"),
    *("一旁", "一时", "一味", "一心", "一路", "一番", "一贯", "一流", "一系列", "一体", "一如"),
    *("一经", "一连", "一齐", "一道", "一来", "一半", "一看"),
    *("一开始", "一辈子", "一无", "(?<=进)一步", "一点(?![零〇一二三四五六七八九])"),
    *("二手", "二氧化", "二进制", "三角", "三明治", "四川", "四周", "四处", "五官", "五金"),
    *("七夕", "八卦", "十分(?![钟之])", "十足", "十字", "两旁", "零下", "零售", "零件", "零部件"),
    *("零食", "零钱", "零星", "零散", "零碎"),
)
# Characters after which 一 alone counts nothing: 统一, 每一, 另一.
STOP_AFTER = "统唯同单专逐划归任每某另这那哪不"

_DIGITS = "零〇一二三四五六七八九"
_VALUES = str.maketrans(_DIGITS + "两兩", "0" + "0123456789" + "22")
_NUMERALS = f"{_DIGITS}两兩十百千万萬亿億"
_RUN_LIMIT = 64  # characters of a Chinese numeral; no float needs as many
_NARROW = str.maketrans("０１２３４５６７８９．－＋−负負", "0123456789.-+---")
_SIMPLIFIED = str.maketrans("兩萬億點", "两万亿点")
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_WIDE = str.maketrans("0123456789.-", "０１２３４５６７８９．－")

_D = "[0-9０-９]"
_SPACES = "\u00a0\u2007\u2009\u202f"
_SEPARATOR = f"[,{_SPACES}]"
_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"  # written without spaces
_W = rf"[^\W{_CJK}]"  # what makes up words elsewhere
# Every pattern takes all it can and gives nothing back, so that a text is read in linear time.
_WORD = rf"(?!{_D}){_W}++(?:-{_W}++|(?<={_D})\.{_D}{_W}*+)*+"
_VERSION = rf"{_D}++(?:\.{_D}++){{2,}}+{_W}*+"
_PLAIN = rf"(?:{_D}++(?:[.．]{_D}++)?|(?<!{_W})(?<![.．])[.．]{_D}++)"
_SIGN = (
    rf"(?:(?<!{_W})(?<![-+−－＋)\]}}）】%％‰°℃{_NUMERALS}])"
    rf"(?<![0-9０-９{_NUMERALS}][{_CJK}])(?<![0-9０-９{_NUMERALS}][{_CJK}]{{2}})[-+−－＋]"
    r"|(?<![欺胜勝抱辜担擔肩自正])[负負])?+"
)


def _arabic(separator: str) -> str:
    """Return the pattern of digits, whose separator is a group of this name."""
    return (
        rf"(?:(?<!{_D}{_SEPARATOR})[1-9１-９]{_D}{{0,2}}(?P<{separator}>{_SEPARATOR}){_D}{{3}}"
        rf"(?:(?P={separator}){_D}{{3}})*+(?!(?P={separator})?{_D})(?:[.．]{_D}++)?+|{_PLAIN})"
    )


_TIMES_TEN = (
    rf"(?:(?P<mantissa>{_arabic('s1')})\ ?[×xX*·⋅]\ ?)?+10"
    rf"(?:\^(?P<power>[-+−]?{_D}++)|(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]++))(?![.．]?{_D})"
)
# After 十 and a digit, 一 belongs to the number (十一点); elsewhere it may open a word.
_NUMERAL = rf"(?:(?!(?<![十{_DIGITS}])(?:{'|'.join(STOP)}))[{_NUMERALS}])"
_NOT_AFTER = (
    rf"(?<![{_NUMERALS}])(?<![几幾数數](?=十))"
    r"(?<!星期)(?<!礼拜)(?<![周週](?=[一二三四五六](?![次天回个])))"
    rf"(?:(?!一(?![{_NUMERALS}]))|(?<!之)(?<![{STOP_AFTER}])|(?<=分之))"
)
_CHINESE = (
    rf"(?:{_arabic('s2')}(?=[十百千万萬亿億])|{_NOT_AFTER}(?=[{_DIGITS}两兩十]){_NUMERAL})"
    rf"(?:{_NUMERAL}|(?<=[百千万萬亿億]){_PLAIN})*+"
    rf"(?:[点點](?!(?:{'|'.join(STOP)}))[{_DIGITS}]++(?![十百千刻线])[万萬亿億]*+)?+"
)
_TOKEN = (
    rf"(?P<word>{_WORD}|{_VERSION})|(?P<sign>{_SIGN})(?:{_TIMES_TEN}|(?P<chinese>{_CHINESE})"
    rf"|(?P<digits>{_arabic('s3')}(?:[eE][-+−－]?{_D}++(?!{_W}))?+)(?P<tail>{_W}*+))"
)
_PIECE = rf"[{_DIGITS}两]|[0-9]*\.?[0-9]+"
_SECTION = re.compile(
    rf"(?:(?P<q>{_PIECE})千)?(?:零?(?P<h>{_PIECE})百)?(?:零?(?P<t>{_PIECE})?(?P<ten>十))?"
    rf"(?P<zero>[零〇]?)(?P<one>{_PIECE})?"
)
_ESCAPED = re.compile(r"<(\\*)NUM>")


@dataclass(frozen=True)
class Number:
    """A number in a text.

    Attributes:
        start: where it begins.
        end: the place after it.
        text: as written, sign and all.
        value: finite.
    """

    start: int
    end: int
    text: str
    value: float


@dataclass(frozen=True)
class Replaced:
    r"""A text whose numbers are taken out.

    Attributes:
        text: with `<NUM>` for each number; a literal `<NUM>` is `<\NUM>`, `<\NUM>` is `<\\NUM>`.
        numbers: what stood there, in order; their places are those of the first text.
    """

    text: str
    numbers: tuple[Number, ...]


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text in order; see the module for what is one."""
    found = []
    for match in _pattern().finditer(text):
        value = _value(match)
        if value is not None:
            start = match.start()
            end = match.end() if match["tail"] is None else match.start("tail")
            found.append(Number(start, end, text[start:end], value))
    return found


def replaced(text: str) -> Replaced:
    """Return a text with `<NUM>` for each number, which `restored` undoes."""
    found = numbers(text)
    parts, place = [], 0
    for number in found:
        parts.append(_escaped(text[place : number.start]))
        place = number.end
    parts.append(_escaped(text[place:]))
    return Replaced(NUM.join(parts), tuple(found))


def restored(replaced: Replaced) -> str:
    """Return the text with its numbers as they were written.

    Raises:
        InputError: if there are not as many numbers as `<NUM>`.
    """
    first, *parts = replaced.text.split(NUM)
    if len(parts) != len(replaced.numbers):
        raise InputError(
            Problem(
                f"a text with {len(parts)} {NUM} needs as many numbers, "
                f"but {len(replaced.numbers)} are given",
                fix=f"Give one number for each {NUM}.",
            )
        )
    pairs = zip(replaced.numbers, parts, strict=True)
    return _unescaped(first) + "".join(number.text + _unescaped(part) for number, part in pairs)


def written(value: float, like: str | None = None) -> str:
    """Return a value as text which `numbers` reads as this very value; nothing is rounded.

    Args:
        value: finite; an integer is written without `.0`.
        like: a number as written; its thousands separator, full-width digits and minus sign (−)
            are taken over. Chinese numerals are answered in digits.

    Raises:
        InputError: if the value is infinite or not a number.
    """
    if not math.isfinite(value):
        raise InputError(Problem(f"a number to write must be finite, and got {value}"))
    like = like or ""
    separator = re.search(rf"{_D}({_SEPARATOR}){_D}{{3}}", like)
    text = f"{float(value):,}".removesuffix(".0").replace(",", separator[1] if separator else "")
    if "−" in like:
        text = text.replace("-", "−")
    return text.translate(_WIDE) if re.search("[０-９]", like) else text


@functools.cache
def _pattern() -> re.Pattern[str]:
    """Return `_TOKEN`, compiled when first used: that takes longer than all else of an import."""
    return re.compile(_TOKEN)


def _value(match: re.Match[str]) -> float | None:
    """Return the value of a match, None if it is no number or overflows."""
    if match["word"] is not None or re.search(_D, match["tail"] or ""):
        return None
    sign = match["sign"].translate(_NARROW)
    if match["chinese"] is not None:
        size = _chinese_value(match["chinese"])
    elif match["digits"] is not None:
        size = _float(match["digits"])
    else:
        power = match["power"] or match["raised"].translate(_POWERS)
        size = _float(f"{match['mantissa'] or '1'}e{power}")
    if size is None or math.isinf(size):
        return None
    return -size if sign == "-" else size


def _float(digits: str) -> float:
    """Return the value of digits with separators, full-width or not."""
    return float(re.sub(_SEPARATOR, "", digits).translate(_NARROW))


def _chinese_value(run: str) -> float | None:
    """Return the value of a Chinese numeral, digits among it or not; None if it is none."""
    if len(run) > _RUN_LIMIT:
        return None
    run = re.sub(_SEPARATOR, "", run).translate(_NARROW).translate(_SIMPLIFIED)
    whole, point, rest = run.partition("点")
    digits = re.fullmatch(f"[{_DIGITS}]{{3,}}|[零〇][{_DIGITS}]|[{_DIGITS}][零〇]", whole)
    value = Fraction(whole.translate(_VALUES)) if digits else _counted(whole)
    if value is None:
        return None
    if point:
        decimals = rest.rstrip("万亿")
        value += Fraction(f"0.{decimals.translate(_VALUES)}")
        value *= math.prod(10**4 if mark == "万" else 10**8 for mark in rest[len(decimals) :])
    try:
        return float(value)
    except OverflowError:
        return None


def _counted(run: str) -> Fraction | None:
    """Return the value of digits counted by 十百千万亿, None if they are no numeral."""
    for mark, unit in (("亿", 10**8), ("万", 10**4)):
        head, found, tail = run.rpartition(mark)
        if found:
            high = _counted(head) if head else None
            low = _counted(tail) if tail else Fraction(0)
            if high is None or low is None or low >= unit:
                return None
            # 一万二 is 12000
            short = tail in tuple("一二两三四五六七八九")
            return high * unit + (low * unit / 10 if short else low)
    match = _SECTION.fullmatch(run)
    if not match or not run:
        return None
    quantity, hundreds, tens, ones = (_piece(match[name]) for name in ("q", "h", "t", "one"))
    if match["ten"] and match["t"] is None:
        tens = Fraction(1)
    if match["one"] and match["one"] in _DIGITS and not (match["zero"] or match["ten"]):
        ones *= 10 if match["h"] else 100 if match["q"] else 1  # 三百五 is 350
    return quantity * 1000 + hundreds * 100 + tens * 10 + ones


def _piece(digits: str | None) -> Fraction:
    """Return the value of one Chinese digit or of a decimal; 0 of nothing."""
    return Fraction(digits.translate(_VALUES)) if digits else Fraction(0)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"<\\\1NUM>", text)


def _unescaped(text: str) -> str:
    return re.sub(r"<\\(\\*)NUM>", r"<\1NUM>", text)
