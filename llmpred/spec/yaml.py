"""YAML as search spaces use it: the core schema of YAML 1.2, read safely, every mistake located.

YAML 1.1, PyYAML's own, reads `no` as false, `1e-4` as text and `12:30` as 750. Here `true` and
`false` are the only truth values, numbers are what JSON calls numbers (and `0x…`, `0o…`, `.5`),
and keys are the text that was written, so `labels: {0: no, 1: yes}` means what it says.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from llmpred.errors import Problem, SpecError

MAX_BYTES = 5_000_000
MAX_NODES = 20_000  # after aliases are followed: a "billion laughs" file stays small until then
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_CORE = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes by the core schema; how many and how deep is bounded while it does."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._composed += 1
        self._depth += 1
        if self._composed > MAX_NODES or self._depth > MAX_DEPTH:
            raise _LocatedError(_too_large(), self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


class _LocatedError(Exception):
    """A law that breaks at a place of the text."""

    def __init__(self, law: str, mark: Any, fix: str = "") -> None:
        super().__init__(law)
        self.law, self.mark, self.fix = law, mark, fix


def _too_large() -> str:
    return (
        f"a file holds at most {MAX_NODES:,} values, aliases followed, nested at most {MAX_DEPTH} "
        "deep, but this one holds more"
    )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file whose top is a mapping.

    Raises:
        SpecError: if the file cannot be read, is above 5 MB, is not UTF-8, or is not valid YAML,
            with line and column.
    """
    path, where = Path(path), str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(Problem(f"there is no file {where}", fix="Check the path.")) from None
    except OSError as error:
        raise SpecError(Problem(f"{where} cannot be read: {error.strerror}")) from None
    if len(raw) > MAX_BYTES:
        raise SpecError(
            Problem(
                f"a YAML file has at most {MAX_BYTES // 10**6} MB, but this one has more",
                where,
                "Data belongs in a data file that the YAML names.",
            )
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        law = f"a YAML file is UTF-8 text, but holds the byte 0x{raw[error.start]:02X}"
        raise SpecError(Problem(law, f"{where}, line {line}", "Save the file as UTF-8.")) from None
    value = parse_yaml(text, where)
    if not isinstance(value, dict):
        got = "is empty" if value is None else f"holds a {_kind(value)}"
        raise SpecError(
            Problem(
                f"the top of the file must be a mapping of keys to values, but it {got}",
                where,
                "Write `key: value` lines.",
            )
        )
    return value


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of one YAML document; mappings have text keys.

    Raises:
        SpecError: if the text is not valid YAML by the rules above; `where` names it.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _build(node, [0], 1)
        finally:
            loader.dispose()
    except _LocatedError as error:
        raise SpecError(Problem(error.law, _place(where, error.mark), error.fix)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpecError(_syntax(error.problem or "not valid YAML", _place(where, mark))) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        law = f"a YAML file holds printable text, but holds the character U+{error.character:04X}"
        raise SpecError(Problem(law, f"{where}, line {line}")) from None


def _syntax(problem: str, place: str) -> Problem:
    if r"\t" in problem:
        return Problem("YAML is indented by spaces, but a tab was found", place, "Use spaces.")
    if "another document" in problem or "document start" in problem:
        fix = "Put text that holds braces, colons or `---` in quotes."
        return Problem("there must be exactly one YAML value, but more follows", place, fix)
    fix = "Check indentation, brackets and quotes on this line and the one before."
    return Problem(f"this is not valid YAML: {problem}", place, fix)


def _build(node: yaml.Node, count: list[int], depth: int) -> Any:
    """Turn a node into JSON values; aliases become copies, so no two places share a value."""
    count[0] += 1
    if count[0] > MAX_NODES or depth > MAX_DEPTH:
        raise _LocatedError(_too_large(), node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_build(item, count, depth + 1) for item in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node, count, depth)
    raise _bad_tag(node)


def _mapping(node: yaml.MappingNode, count: list[int], depth: int) -> dict[str, Any]:
    own: dict[str, Any] = {}
    lines: dict[str, int] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        value = _build(value_node, count, depth + 1)
        if key_node.tag == _TAG + "merge":
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, dict):
                    raise _LocatedError("`<<` merges mappings only", value_node.start_mark)
                merged = part | merged  # the first of several wins
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise _LocatedError("a key must be a single word or number", key_node.start_mark)
        key = str(key_node.value)
        if key in own:
            raise _LocatedError(
                f"a key stands once in a mapping, but `{key}` stands on line {lines[key]} too",
                key_node.start_mark,
                "Remove one of them.",
            )
        own[key], lines[key] = value, key_node.start_mark.line + 1
    return merged | own


def _scalar(node: yaml.ScalarNode) -> Any:
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    try:
        text.encode()
        match kind:
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            case "float":
                value = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
                if not math.isfinite(value):
                    raise ValueError
                return value
    except (ValueError, KeyError):  # `!!int abc`, 1e999, a lone surrogate, 5,000 digits
        raise _LocatedError(
            f"{text[:40]!r} is no valid or no finite {kind}", node.start_mark
        ) from None
    raise _bad_tag(node)


def _bad_tag(node: yaml.Node) -> _LocatedError:
    tag = str(node.tag).replace(_TAG, "!!")
    law = f"only plain values, lists and mappings are read, but the tag `{tag}` was found"
    return _LocatedError(law, node.start_mark, "Remove the tag.")


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "single value"


def _place(where: str, mark: Any) -> str:
    return where if mark is None else f"{where}, line {mark.line + 1}, column {mark.column + 1}"
