"""The lines of a plain or gzipped file with their numbers, decoded, and a reason for each that cannot be used."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from isal import igzip, isal_zlib

from ckf.core.errors import DataError

MAX_LINE_BYTES = 16 * 2**20
"""The longest line that is read. No review, title or metadata row of any source comes near it."""
LONGEST_LINE = 256 * 2**20
"""A longer line than `MAX_LINE_BYTES` is still read up to here, since columns that nobody reads may be that long."""
BOM = "\ufeff"
"""The byte order mark, as text."""
# isal has no types of its own, so its exceptions are of unknown type to mypy
BROKEN_GZIP: tuple[type[Exception], ...] = (EOFError, igzip.BadGzipFile, isal_zlib.error)  # type: ignore[assignment]
"""What a truncated or damaged gzip raises when it is read."""


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used, and why.

    ``row`` is the line number in ``file``, from 1. ``kind`` is the fault's name, by which faults are counted.
    ``column`` is None where the whole line is at fault.
    """

    file: Path
    row: int
    kind: str
    reason: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: line {self.row}: {self.reason}"


@dataclass
class Table:
    """How to read a file: the wanted columns with their types. ``separator`` None means JSON lines.

    ``encoding_key`` and ``separator_key`` are the config keys of the two, empty where the source has none.
    """

    path: Path
    columns: dict[str, Any]
    separator: str | None = None
    quote: str | None = '"'
    encoding: str = "utf8"
    names: list[str] = field(default_factory=list)
    header: bool = False
    encoding_key: str = ""
    separator_key: str = ""


def is_utf8(encoding: str) -> bool:
    """Whether the name is one of UTF-8's."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def is_wide(encoding: str) -> bool:
    """Whether a character takes two or four bytes, so that a line end is no single byte."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def utf8_lines(path: Path) -> tuple[list[int], bool]:
    """Lines with letters beyond ASCII that are valid UTF-8, and whether all such lines are.

    Text of another encoding is hardly ever valid UTF-8.
    """
    found, others = [], False
    for line, data in raw_lines(path, LONGEST_LINE):
        if isinstance(data, BadRow) or data.isascii():
            continue
        try:
            data.decode("utf-8")
            found.append(line)
        except UnicodeDecodeError:
            others = True
    return found, not others


def decoded(path: Path, encoding: str) -> bytes:
    """Convert a small file of another encoding to UTF-8 without a byte order mark, in memory.

    Raises:
        UnicodeDecodeError: some bytes do not fit the encoding.
    """
    with open_bytes(path) as file:
        return file.read().decode(encoding).removeprefix(BOM).encode()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a plain or gzipped file. The first bytes decide which it is, not the name."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return igzip.open(path, "rb") if zipped else path.open("rb")


def read_first_line(path: Path, encoding: str = "utf8", encoding_key: str = "") -> str:
    """Return the first line without its line end and byte order mark.

    Raises:
        DataError: it is no text of the encoding.
    """
    for _, text in text_lines(Table(path, {}, encoding=encoding, encoding_key=encoding_key)):
        if isinstance(text, BadRow):
            raise DataError(str(text))
        return text.rstrip("\r\n")
    return ""


def text_lines(table: Table) -> Iterator[tuple[int, str | BadRow]]:
    """Yield the numbered lines as text with their line ends, without the byte order mark at the beginning."""
    if is_wide(table.encoding):
        yield from _wide_lines(table)
        return
    for line, data in raw_lines(table.path, LONGEST_LINE):
        text = data if isinstance(data, BadRow) else _decoded_line(table, line, data)
        yield line, text.removeprefix(BOM) if line == 1 and isinstance(text, str) else text


def _decoded_line(table: Table, line: int, data: bytes) -> str | BadRow:
    try:
        return data.decode(table.encoding)
    except UnicodeDecodeError as error:
        return _undecodable(table, line, f"byte {data[error.start]:#04x}", data)


def _wide_lines(table: Table) -> Iterator[tuple[int, str | BadRow]]:
    data = b"".join(line for _, line in raw_lines(table.path, LONGEST_LINE) if isinstance(line, bytes))
    try:
        text = data.decode(table.encoding).removeprefix(BOM)
    except UnicodeDecodeError as error:
        yield 1, _undecodable(table, 1, f"at byte {error.start}", data)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line + "\n"


def _undecodable(table: Table, line: int, where: str, data: bytes) -> BadRow:
    likely = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\x00" in data[:4] else "latin-1"
    remedy = f"set {table.encoding_key}, e.g. {likely}" if table.encoding_key else f"convert the file (from {likely}?)"
    return BadRow(table.path, line, "not_text", f"not {table.encoding} text ({where}); {remedy}")


def raw_lines(path: Path, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | BadRow]]:
    """Yield the numbered lines of a plain or gzipped file. A line above the limit comes as a `BadRow`.

    Raises:
        DataError: a truncated or broken gzip.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            while data := file.readline(longest + 1):
                number += 1
                if len(data) <= longest:
                    yield number, data
                    continue
                size = len(data)
                while not data.endswith(b"\n") and (data := file.readline(longest)):
                    size += len(data)
                yield number, too_long(path, number, size)
    except BROKEN_GZIP as error:
        raise DataError(f"{path}: truncated or broken gzip after line {number} ({error})") from None


def too_long(path: Path, line: int, size: int) -> BadRow:
    """The fault of a line above the limit."""
    return BadRow(path, line, "line_too_long", f"{size / 2**20:.1f} MiB; at most {MAX_LINE_BYTES // 2**20} MiB")
