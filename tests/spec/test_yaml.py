import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpred.errors import SpecError
from llmpred.spec.yaml import MAX_BYTES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("off", "off"),
        ("True", True),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("# only a comment", None),
        ("'1'", "1"),
        ("{0: no, true: yes, 1e-4: x}", {"0": "no", "true": "yes", "1e-4": "x"}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
        ("[&a {x: 1, y: 1}, {<<: *a, y: 2}]", [{"x": 1, "y": 1}, {"x": 1, "y": 2}]),
        (
            "[&a {x: 1}, &b {x: 2, z: 3}, {<<: [*a, *b]}]",
            [{"x": 1}, {"x": 2, "z": 3}, {"x": 1, "z": 3}],
        ),
        ("a: 中文", {"a": "中文"}),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text, "x") == value


def test_aliases_share_nothing() -> None:
    first, second = parse_yaml("[&a [1], *a]", "x")
    first.append(2)
    assert second == [1]


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: 1\nb: 2\na: 3\n", ["`a`", "line 1 too", "line 3, column 1"]),
        ("a: {b: 1, 'b': 2}", ["`b`", "stands once"]),
        ("a: 1\n\tb: 2", ["tab", "line 2, column 1"]),
        ("a: [1, 2\nb: 3", ["not valid YAML", "line 2"]),
        ("a: 'x", ["not valid YAML", "line 1"]),
        ("a: *nothing", ["undefined alias", "line 1, column 4"]),
        ("a: 1\n---\nb: 2", ["exactly one YAML value"]),
        ("{text} and more", ["exactly one YAML value", "quotes"]),
        ("a: !!python/object:os.system x", ["tag", "python/object"]),
        ("a: !!binary aGk=", ["tag `!!binary`"]),
        ("a: !!set {x}", ["tag `!!set`"]),
        ("a: !!int x", ["'x' is no valid"]),
        ("a: .inf", ["no finite float"]),
        ("a: 1e999", ["no finite float"]),
        ("a: " + "9" * 5000, ["is no valid"]),
        ('a: "\\ud800"', ["is no valid"]),
        ("a: {<<: 3}", ["merges mappings"]),
        ("? [a]\n: b", ["single word"]),
        ("a: \x00", ["printable", "U+0000", "line 1"]),
        ("&a [*a]", ["at most 20,000 values"]),
        ("[" * 60 + "]" * 60, ["50 deep"]),
        (LAUGHS, ["at most 20,000 values"]),
        ("x: [" + "1," * 20_000 + "1]", ["at most 20,000 values"]),
    ],
)
def test_refused(text: str, parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "f.yaml")
    message = str(caught.value)
    assert "f.yaml" in message
    assert not [part for part in parts if part not in message], message


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"", ["is empty", "key: value"]),
        (b"- 1\n- 2\n", ["holds a list"]),
        (b"just words", ["holds a single value"]),
        ("a: 1\nb: 中文".encode("gb18030"), ["UTF-8", "0xD6", "line 2"]),
        (b"#" * (MAX_BYTES + 1), ["at most 5 MB"]),
    ],
)
def test_refused_files(write, raw: bytes, parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_yaml(write(raw))
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)


def test_no_file(tmp_path) -> None:
    with pytest.raises(SpecError, match="there is no file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_yaml(tmp_path)


def test_byte_order_mark(write) -> None:
    assert read_yaml(write(b"\xef\xbb\xbfa: 1")) == {"a": 1}


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t0.e~<中\x00\ud800", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse_yaml(text, "x")
