"""Text files as they come: UTF-8 with or without a mark, UTF-16, GB18030, gzipped, or damaged."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from llmpred.data.rows import ROW_LIMIT
from llmpred.errors import DataError, Problem

CHUNK = 2**20
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, unpacking it if its name ends in `.gz`."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def open_text(path: Path, encoding: str, newline: str | None = "\n") -> IO[str]:
    """Open a text file whose encoding has been settled by `settle_encoding`."""
    return io.TextIOWrapper(open_bytes(path), encoding, "strict", newline)


def bounded_lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of `stream`; of a line beyond the row limit, only its start.

    A cut line is longer than `ROW_LIMIT`, so the reader can tell, and memory stays bounded.
    """
    while line := stream.readline(ROW_LIMIT + 2):
        yield line
        while len(line) == ROW_LIMIT + 2 and not line.endswith("\n"):
            line = stream.readline(ROW_LIMIT + 2)


def settle_encoding(path: Path, encoding: str, shown: str) -> str:
    """Return the codec that decodes all of `path`; one pass over its bytes.

    Args:
        path: the file.
        encoding: `auto`, `utf-8` or `gb18030`. A byte order mark always wins over `utf-8`.
        shown: the file's name in messages.

    Raises:
        DataError: if the file is empty, binary, not in the encoding asked for, or if no encoding
            fits; with the byte and the line where decoding stops.
    """
    try:
        with open_bytes(path) as stream:
            head = stream.read(CHUNK)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(shown, error) from error
    if not head.strip():
        raise DataError(Problem("the file must have rows, but it is empty", shown))
    mark = next((codec for bom, codec in MARKS.items() if head.startswith(bom)), None)
    if mark is None and head[:4096].count(0) > len(head[:4096]) // 10:
        raise DataError(
            Problem(
                "the file must be text, but it is full of null bytes",
                shown,
                "It is binary, or UTF-16 without a byte order mark; save it as UTF-8.",
            )
        )
    wanted = mark or ("gb18030" if encoding == "gb18030" else "utf-8")
    damage = _damage(path, wanted, shown)
    if damage is None:
        return wanted
    if encoding == "auto" and wanted == "utf-8" and _is_gb18030(path, damage, shown):
        return "gb18030"
    byte, line, around, at = damage
    fix = f"Save the file as {wanted}, or repair that byte."
    if wanted == "utf-8" and _is_gb18030(path, damage, shown):
        fix = "The file decodes as GB18030: set `encoding: gb18030`."
    raise DataError(
        Problem(
            f"the file must be {wanted} throughout, but byte {byte:,} is "
            f"0x{around[at]:02x}, which is not",
            f"{shown}:{line}",
            fix,
        )
    )


def unreadable(shown: str, error: BaseException) -> DataError:
    """Return the error for a file that the system, or gzip, cannot read."""
    if isinstance(error, PermissionError):
        fix = "Give yourself read permission (chmod u+r)."
        return DataError(Problem("the file must be readable, but permission is denied", shown, fix))
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        law = f"the file must be sound gzip, but it is not: {error}"
        return DataError(Problem(law, shown, "Fetch or pack it again."))
    return DataError(Problem(f"the file must be readable, but it is not: {error}", shown))


# A replacement character, the classic GBK traces, or UTF-8 read as Latin-1 / Windows-1252.
_GARBLED = re.compile(
    "\ufffd|锟斤拷|烫烫烫|屯屯屯|[锛銆鈥][^\\W\\d_a-zA-Z]|[Â-ô][\x80-¿€-™Œ-žƒˆ˜]{1,3}"
)


def looks_garbled(text: str) -> bool:
    """Return whether `text` was decoded wrongly before it was stored."""
    if text.isascii():
        return False
    if _is_utf8_read_as_gbk(text[:200]):
        return True
    for match in _GARBLED.finditer(text):
        found = match.group()
        if not "Â" <= found[0] <= "ô":
            return True
        for codec in ("cp1252", "latin-1"):
            try:  # French and German pass this point often; only real UTF-8 bytes survive it
                if len(found.encode(codec).decode("utf-8")) < len(found):
                    return True
            except UnicodeError:
                continue
    return False


def _is_utf8_read_as_gbk(text: str) -> bool:
    """Return whether the text, written back as GB18030, is UTF-8 of Chinese."""
    data = text.encode("gb18030", "replace")
    try:
        original = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4:  # the end of the text may be cut
            return False
        original = data[: error.start].decode("utf-8")
    return sum("\u4e00" <= c <= "\u9fff" for c in original) >= 2


class Damage(NamedTuple):
    """Where decoding stops: byte and line in the file, the bytes around, and the place in them."""

    byte: int
    line: int
    around: bytes
    at: int


def _damage(path: Path, codec: str, shown: str) -> Damage | None:
    """Return the first place that `codec` cannot decode, if there is one."""
    decoder = codecs.getincrementaldecoder(codec)()
    read, line, pending = 0, 1, b""
    try:
        with open_bytes(path) as stream:
            while True:
                chunk = stream.read(CHUNK)
                try:
                    decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    # The codec's offset counts from the bytes it held back at the last chunk.
                    seen = error.object[: error.start]
                    line += seen.count(b"\n") - pending.count(b"\n")
                    start = read - len(pending) + error.start
                    return Damage(start, line, bytes(error.object), error.start)
                if not chunk:
                    return None
                read += len(chunk)
                line += chunk.count(b"\n")
                pending = decoder.getstate()[0]
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(shown, error) from error


def _is_gb18030(path: Path, damage: Damage, shown: str) -> bool:
    """Return whether a file that is not UTF-8 is Chinese text in GB18030.

    GB18030 decodes much that is not Chinese, so the text must also look like it: where UTF-8 fails
    it must fail often (damaged UTF-8 fails once), and what GB18030 reads must mostly be GB 2312
    (Latin-1 read as GB18030 gives rare characters).
    """
    as_utf8 = damage.around.decode("utf-8", "replace")
    failed = as_utf8.count("\ufffd")
    passed = sum(1 for c in as_utf8 if not c.isascii() and c != "\ufffd")
    if failed < 0.3 * (failed + passed) or _damage(path, "gb18030", shown) is not None:
        return False
    foreign = [c for c in damage.around.decode("gb18030", "ignore") if not c.isascii()]
    common = sum(1 for c in foreign if c.encode("gb2312", "ignore"))
    return common >= 0.5 * len(foreign)
