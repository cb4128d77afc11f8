import functools
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest

from llmpred.data import Field
from llmpred.data.synthetic import generate, quantities, world
from llmpred.errors import DataError
from llmpred.tasks.numeric.numbers import numbers, written

BOTH = [(part, language) for part in ("train", "test") for language in ("en", "zh")]
both = pytest.mark.parametrize(("part", "language"), BOTH)
SIZES = {  # of units, in one of their kind
    "en": {"km": 1000, "m": 1, "cm": "1/100", "mm": "1/1000", "feet": 12, "inches": 1}
    | {"t": 1000, "kg": 1, "g": "1/1000", "pounds": 16, "ounces": 1, "litres": 1, "ml": "1/1000"}
    | {"weeks": 604800, "days": 86400, "h": 3600, "min": 60, "s": 1, "°C": 1}
    | {"hectares": 10000, "m²": 1, "dozen": 12, "pieces": 1},
    "zh": {"公里": 1000, "里": 500, "丈": "10/3", "米": 1, "尺": "1/3", "厘米": "1/100"}
    | {"毫米": "1/1000", "吨": 1000, "公斤": 1, "斤": "1/2", "克": "1/1000", "升": 1}
    | {"毫升": "1/1000", "天": 86400, "小时": 3600, "分钟": 60, "秒": 1, "摄氏度": 1}
    | {"公顷": 10000, "亩": "2000/3", "平方米": 1, "打": 12, "个": 1},
}
UNITS = {  # the longest first
    language: "|".join(sorted(names, key=len, reverse=True)) for language, names in SIZES.items()
}
OPERATIONS = {
    "product": r"times|Multiply|copies|\d倍|乘|同样",
    "sum": "together|sum of|Adding|Both|加起来|加上|连同|合计",
    "double": "twice|doubl|Doubl|翻|加倍|双倍",
    "half": "half|Half|halv|Halv|一半|平分|减半|对半",
}
VERDICTS = {"yes": True, "no": False, "是的": True, "不是": False}
FOLLOWS = {  # the first word that a puzzle has says what follows from its numbers
    "sum of": lambda a, b: a + b,
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "spent": lambda a, b: a - b,
    "people": lambda a, b: a - b,
    "take": lambda a, b: b - a,
    "times": lambda a, b: a * b,
    "divided": lambda a, b: a / b,
    "ratio": lambda a, b: a / b,
    "percent": lambda a, b: 100 * b / a,
    "half": lambda a: a / 2,
    "one less": lambda a: a - 1,
    "one more": lambda a: a + 1,
    "after": lambda a: a + 1,
    "count on": lambda a: a + 1,
    "减半": lambda a: a / 2,
    "加": lambda a, b: a + b,
    "多": lambda a, b: a + b,
    "减": lambda a, b: a - b,
    "少": lambda a, b: a - b,
    "花掉": lambda a, b: a - b,
    "走了": lambda a, b: a - b,
    "去掉": lambda a, b: a - b,
    "乘": lambda a, b: a * b,
    "除": lambda a, b: a / b,
    "之比": lambda a, b: a / b,
    "百分": lambda a, b: 100 * b / a,
    "后面": lambda a: a + 1,
    "往上数": lambda a: a + 1,
}


def rows(part="train", language="en", n=900, **options):
    return generate("quantities", {"n": n, "part": part, "language": language, **options})


def of(some, *names, due=True):
    return [row for row in some if row["set"] in names and ("value" in row) == due]


def exact(number):
    """Return a number of JSON or of a text as it is written."""
    return Decimal(repr(number))


@functools.cache
def names(part, language):
    """Return all things that can be told of."""
    found = [words[language] for things in quantities.THINGS[part].values() for words in things]
    for kind in world.KINDS:
        found += [world.entity(kind, part, i).name[language] for i in range(500)]
    return found


def things(text, part, language):
    """Return the things that a text names, in order."""
    end = r"(?!\w)" if language == "en" else ""
    known = sorted((n for n in names(part, language) if n in text), key=len, reverse=True)
    return list(dict.fromkeys(re.findall(f"(?:{'|'.join(map(re.escape, known))}){end}", text)))


def sentences(text, language):
    """Return the sentences of a text, the last of which may be unfinished."""
    stop = r"(?<=[.?:])\s+" if language == "en" else r"(?<=[。？：])\s*"
    return [sentence for sentence in re.split(stop, text) if sentence]


def stated(text, thing):
    """Return the number that is told of a thing: the first that follows its name."""
    place = text.index(thing) + len(thing)
    return next(number for number in numbers(text) if number.start >= place)


def divided(row, language):
    """Return what a row tells, numbers with units, and the rest of it."""
    units = "|".join(quantities.TOPICS[topic].unit[language] for topic in quantities.BASIC)
    parts = {True: [], False: []}
    for sentence in sentences(row["text"], language):
        after = [sentence[number.end :].lstrip() for number in numbers(sentence)]
        tells = any(re.match(units, rest) for rest in after)
        parts[tells].append(sentence)
    return " ".join(parts[True]), " ".join(parts[False])


def more(text):
    """Return whether a comparison asks for the higher value."""
    return any(
        re.search(rf"\b{word}\b" if word.isascii() else word, text)
        for topic in quantities.TOPICS.values()
        for word in topic.more.values()
    )


# --- form --------------------------------------------------------------------------------------


@both
def test_sets_and_turns_are_equally_often(part, language):
    sets = quantities.SETS[part]
    some = rows(part, language, n=len(sets) * 30)
    assert Counter((row["set"], "value" in row) for row in some) == {
        (name, due): 20 if due else 10 for name in sets for due in (True, False)
    }
    assert ("magnitudes" in sets) == (part == "test")


@both
def test_rows_are_short_prompts(part, language):
    lengths = []
    for row in rows(part, language):
        assert set(row) - {"value"} == {"text", "next", "set"}
        assert row["text"] == row["text"].strip()
        assert row["next"] == row["next"].strip()
        assert row["next"].endswith("." if language == "en" else "。")
        assert len(row["next"].split()) <= 3
        assert type(row.get("value", 0)) in (int, float)
        lengths.append(len(re.findall(r"\w+" if language == "en" else r"\d+|\S", row["text"])))
    assert max(lengths) <= (60 if language == "en" else 100)
    assert sorted(lengths)[len(lengths) // 2] <= (30 if language == "en" else 45)


@both
def test_what_follows_is_a_number_only_where_one_is_due(part, language):
    space = " " if language == "en" else ""
    for row in rows(part, language, n=1800):
        assert not numbers(row["next"])
        assert not re.match(r"[\d.]\d", row["next"])
        before = numbers(row["text"])
        assert before  # there are numbers whether one is due or not
        if "value" in row:
            text = row["text"] + space + written(row["value"]) + space + row["next"]
            read = [number.value for number in numbers(text)]
            assert read == [*(number.value for number in before), row["value"]]


def test_frames_hold_no_number():
    tables = [quantities.NOTED, quantities.SO, quantities.CONVERT, quantities.FORMS]
    tables += [*quantities.WORD.values(), *quantities.ASK.values(), *quantities.SAY.values()]
    for table in tables:
        assert not numbers(re.sub(r"\{\w+\}|\|", "", " ".join(table.values())))


def test_parts_share_no_text_and_no_thing():
    for language in ("en", "zh"):
        texts = [{row["text"] for row in rows(part, language)} for part in ("train", "test")]
        assert not texts[0] & texts[1]
        train, test = (
            {words[language] for things in quantities.THINGS[part].values() for words in things}
            for part in ("train", "test")
        )
        assert not train & test


def test_rows_are_read_with_and_without_a_value(read):
    fields = (
        Field("text", "text", "input"),
        Field("value", "number", "target", required=False),
        Field("next", "text", "target"),
        Field("set", "label", "input"),
    )
    table = read("synthetic:quantities", fields, options={"n": 90}).table
    values = table["value"].to_pylist()
    assert values == [row.get("value") for row in rows(n=90)]
    assert values.count(None) == 30


# --- what is due -------------------------------------------------------------------------------


@both
def test_the_number_told_of_a_thing_is_due_again(part, language):
    some = of(rows(part, language), "basic", "extreme", "magnitudes")
    for row in some:
        *told, last = sentences(row["text"], language)
        [thing] = things(last, part, language)
        assert row["value"] == stated(" ".join(told), thing).value
    assert some


@both
def test_answers_follow(part, language):
    kinds = Counter()
    for row in of(rows(part, language, n=1800), "qa"):
        told, question = divided(row, language)
        asked = [thing for thing in things(question, part, language) if thing in told]
        values = [exact(stated(told, thing).value) for thing in asked]
        kind = next((k for k, words in OPERATIONS.items() if re.search(words, question)), "stated")
        if len(values) == 2 and kind != "sum":
            kind = "difference"
        factor = [int(number.value) for number in numbers(question)] or [1]
        expected = {
            "sum": sum(values),
            "difference": max(values) - min(values),
            "product": values[0] * factor[0],
            "double": values[0] * 2,
            "half": values[0] / 2,
            "stated": values[0],
        }
        assert exact(row["value"]) == expected[kind], row
        kinds[kind] += 1
    assert kinds["stated"] == sum(kinds.values()) / 2
    assert min(kinds[kind] for kind in expected) > 10


@both
def test_units_are_converted(part, language):
    seen = set()
    for row in of(rows(part, language, n=1800), "units"):
        *told, last = sentences(row["text"], language)
        told = " ".join(told)
        [thing] = things(last, part, language)
        number = stated(told, thing)
        unit = re.match(UNITS[language], told[number.end :].lstrip())[0]
        other = row["next"][:-1]
        sizes = [Fraction(SIZES[language][name]) for name in (unit, other)]
        assert Fraction(exact(row["value"])) == Fraction(exact(number.value)) * sizes[0] / sizes[1]
        seen.add((unit, other))
    assert len(seen) > 20


@both
def test_limits_are_told_or_follow(part, language):
    values, told_again = [], 0
    for row in of(rows(part, language, n=1800), "boundary"):
        *told, last = sentences(row["text"], language)
        given = [Fraction(exact(number.value)) for number in numbers(last)]
        if given:
            rule = next(rule for words, rule in FOLLOWS.items() if words in last.lower())
            assert row["value"] == rule(*given), row
        else:
            [thing] = things(last, part, language)
            assert row["value"] == stated(" ".join(told), thing).value
            told_again += 1
        values.append(row["value"])
    assert told_again == len(values) / 2
    assert {exact(value) for value in values} == set(quantities.LIMITS[part])


@both
def test_words_are_right(part, language):
    seen = Counter()
    for row in rows(part, language, n=1800):
        word = re.sub(r"^the |[.。]$", "", row["next"])
        *told, last = sentences(row["text"], language)
        told = " ".join(told)
        if re.search("[?？]", row["text"]):
            told, last = divided(row, language)
        asked = [thing for thing in things(last, part, language) if thing in told]
        if "value" in row or not asked:
            continue
        if word in VERDICTS:
            first, second = (stated(told, thing).value for thing in asked)
            rest = last.replace(asked[0], "").replace(asked[1], "")
            assert VERDICTS[word] == ((first > second) == more(rest)), row
            seen["yes"] += 1
        elif word in asked:
            values = {thing: stated(told, thing).value for thing in asked}
            rest = last.replace(asked[0], "").replace(asked[1], "")
            assert word == (max if more(rest) else min)(values, key=values.get), row
            seen["which"] += 1
    assert min(seen["yes"], seen["which"]) >= 10


def test_magnitudes_are_new():
    for language in ("en", "zh"):
        beyond = of(rows("test", language), "magnitudes")
        sizes = [abs(row["value"]) for row in beyond]
        assert all(1e-9 <= size < 1e-7 or 1e13 <= size < 1e18 for size in sizes)
        assert min(row["value"] for row in beyond) < 0
        for part in ("train", "test"):
            sizes = [abs(row["value"]) for row in of(rows(part, language), "extreme")]
            assert all(1e-6 <= size < 1e-3 or 1e5 <= size < 1e12 for size in sizes)
            assert len({f"{size:e}"[-4:] for size in sizes}) == 10  # every power of ten
        for row in rows("train", language, n=1800):
            sizes = [abs(number.value) for number in numbers(row["text"])]
            assert not any(1e-9 <= size < 1e-7 or size >= 1e13 for size in sizes)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_numbers_are_written_in_many_ways(language):
    text = " ".join(row["text"] for row in of(rows("train", language), "extreme"))
    forms = [
        r"\d,\d{3},\d",
        r"\de\d",
        r"\de-\d",
        r"×10\^-?\d",
        "×10⁻?[⁵⁶⁷⁸⁹]",
        r"0\.0000\d",
        r"-\d",
    ]
    if language == "zh":
        forms += [
            r"\d亿\d+万",
            r"\d万",
            r"\d亿\D",
            "[一二三四五六七八九十百千]亿",
            "负[一二三四五六七八九十]",
        ]
    for form in forms:
        assert re.search(form, text), form


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        ("12", "12 十二"),
        ("2", "2 两"),
        ("12.5", "12.5 十二点五"),
        ("-2000", "-2000 -2,000 负两千"),
        ("8113", "8113 8,113 八千一百一十三"),
        ("120000", "120000 120,000 12万 十二万"),
        ("3.5e7", "35000000 35,000,000 3.5e7 3.5×10^7 3.5×10⁷ 3500万 三千五百万"),
        ("3.5e8", "350000000 350,000,000 3.5e8 3.5×10^8 3.5×10⁸ 3.5亿 3亿5000万 三亿五千万"),
        ("0.00004", "0.00004 4e-5 4×10^-5 4×10⁻⁵"),
        ("-2147483648", "-2147483648 -2,147,483,648"),
    ],
)
def test_forms(value, forms):
    assert quantities._forms(Decimal(value), "zh") == forms.split()
    for form in forms.split():
        [number] = numbers(form)
        assert number.value == float(value)


# --- options -----------------------------------------------------------------------------------


def test_entities_phrasings_and_the_other_language():
    def count(pattern, **options):
        return len({word for row in rows(**options) for word in re.findall(pattern, row["text"])})

    assert count(r"[A-Z][a-z]{3,}", entities=8) < 0.5 * count(r"[A-Z][a-z]{3,}")
    pair = r"(?=\b([a-z]+ [a-z]+)\b)"
    assert count(pair, entities=8, phrasings=1) < 0.8 * count(pair, entities=8)
    assert sum(bool(re.search("[一-龥]", row["text"])) for row in rows(foreign=0.3)) == 270


def test_no_option_that_changes_nothing():
    with pytest.raises(DataError, match=r"`options.shift` must be one that exists"):
        rows(shift=0.5)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_set_is_told_in_other_words(language):
    """Frames of part `train` tell all sets of part `test` but `phrasings`, of other things."""
    frames = [
        re.sub(r"\{\w\}", "", frame).strip()
        for frame in quantities.SAY["test", language]["any"].split(" | ")
    ]
    marks = {part for frame in frames for part in re.split(r"\s{2,}", frame) if len(part) > 8}
    marks = marks or {"记作"}
    told = Counter()
    for row in rows("test", language):
        told[row["set"]] += any(mark in row["text"] for mark in marks)
    assert told["phrasings"] > 20
    assert sum(told.values()) == told["phrasings"]
    own = set(names("test", language)) - set(names("train", language))
    assert all(any(name in row["text"] for name in own) for row in rows("test", language, n=90))
