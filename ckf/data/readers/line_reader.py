"""Read a file line by line, and give a reason for each line that cannot be used.

This is slow. It runs only after the quick reader has failed, or to turn record numbers into line numbers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from isal import igzip, isal_zlib

from ckf.core.errors import DataError, first_line
from ckf.data.readers.cell_types import converter, noun

MAX_LINE_BYTES = 16 * 2**20
"""The longest line that is read. No review, title or metadata row of any source comes near it."""
LONGEST_LINE = 256 * 2**20
"""A longer line than `MAX_LINE_BYTES` is still read up to here, since columns that nobody reads may be that long."""
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
    """How to read a file: the wanted columns with their types. ``separator`` None means JSON lines."""

    path: Path
    columns: dict[str, Any]
    separator: str | None = None
    quote: str | None = '"'
    encoding: str = "utf8"
    names: list[str] = field(default_factory=list)
    header: bool = False


def decoded(path: Path, encoding: str) -> bytes:
    """Convert a small file of another encoding to UTF-8, in memory.

    Raises:
        DataError: some bytes do not fit the encoding.
    """
    with open_bytes(path) as file:
        data = file.read()
    try:
        return data.decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: not {encoding} text (byte {data[error.start]:#04x})") from None


def open_bytes(path: Path) -> IO[bytes]:
    """Open a plain or gzipped file. The first bytes decide which it is, not the name."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return igzip.open(path, "rb") if zipped else path.open("rb")


def read_first_line(path: Path, encoding: str = "utf8") -> str:
    """Return the first line without its line end and byte order mark."""
    for _, data in raw_lines(path):
        if isinstance(data, BadRow):
            raise DataError(str(data))
        try:
            return data.decode(encoding).removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError:
            raise DataError(f"{path}: line 1: not {encoding} text") from None
    return ""


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
                yield number, _too_long(path, number, size)
    except BROKEN_GZIP as error:
        raise DataError(f"{path}: truncated or broken gzip after line {number} ({error})") from None


def _too_long(path: Path, line: int, size: int) -> BadRow:
    return BadRow(path, line, "line_too_long", f"{size / 2**20:.1f} MiB; at most {MAX_LINE_BYTES // 2**20} MiB")


def salvage_table(table: Table, copy: Path, limit: int) -> list[BadRow]:
    """Write the usable records as JSON lines with their line numbers, and return the bad rows.

    Raises:
        DataError: more than ``limit`` faults, or a broken gzip.
    """
    faults: list[BadRow] = []
    with copy.open("w", encoding="utf-8") as out:
        for line, record in records(table):
            if isinstance(record, BadRow):
                faults.append(record)
                if len(faults) > limit:
                    raise DataError(str(record))
            else:
                out.write(json.dumps({**record, "line": line}, ensure_ascii=True) + "\n")
    return faults


def records(table: Table) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yield each record with its line number: the wanted columns, converted, or a `BadRow`."""
    rows = _json_records(table) if table.separator is None else _delimited_records(table)
    for line, row in rows:
        yield line, row if isinstance(row, BadRow) else _converted(table, line, row)


def line_numbers(table: Table, wanted: Collection[int]) -> dict[int, int]:
    """Return the line number of each wanted record. Records are numbered from 1, as the quick reader does."""
    left, found = set(wanted), {}
    rows = _json_records(table) if table.separator is None else _delimited_records(table)
    lines_count = len(table.separator or "") > 1  # there the quick reader numbers lines itself
    for number, (line, _) in enumerate(rows, start=1):
        key = line if lines_count else number
        if key in left:
            found[key] = line
            left.discard(key)
            if not left:
                break
    return found | {number: number for number in left}


def _json_records(table: Table) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    for line, data in raw_lines(table.path, LONGEST_LINE):
        if isinstance(data, BadRow):
            yield line, data
            continue
        if line == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if not data.strip():
            continue
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            broken = BadRow(table.path, line, "broken_json", f"not a JSON object ({first_line(error)[:120]})")
            yield line, _too_long(table.path, line, len(data)) if len(data) > MAX_LINE_BYTES else broken
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            yield line, BadRow(table.path, line, "broken_json", f"a JSON {type(row).__name__}, expected an object")


def _delimited_records(table: Table) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    text = _TextLines(table)
    rows = _csv_rows(table, text) if len(table.separator or "") == 1 else _plain_rows(table, text)
    skip = table.header
    for line, cells in rows:
        if skip:
            skip = False
            continue
        if isinstance(cells, BadRow):
            yield line, cells
        elif len(cells) != len(table.names):
            what = f"{len(cells)} fields, expected {len(table.names)}"
            yield line, BadRow(table.path, line, "wrong_number_of_fields", what)
        else:
            yield line, {name: cell or None for name, cell in zip(table.names, cells, strict=True)}


class _TextLines:
    """Decoded lines for the csv module, which may join several into one record. The last fault is kept in ``fault``."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.line = 0
        self.fault: BadRow | None = None

    def __iter__(self) -> Iterator[str]:
        for line, data in raw_lines(self.table.path, LONGEST_LINE):
            self.line = line
            if isinstance(data, BadRow):
                self.fault = data
                yield "\n"
                continue
            try:
                text = data.decode(self.table.encoding)
            except UnicodeDecodeError as error:
                what = f"not {self.table.encoding} text ({first_line(error)[:120]})"
                self.fault = BadRow(self.table.path, self.line, "not_text", what)
                text = "\n"
            yield text.removeprefix("\ufeff") if self.line == 1 else text


def _csv_rows(table: Table, text: _TextLines) -> Iterator[tuple[int, list[str] | BadRow]]:
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader(text, **csv_form(table.separator or ",", table.quote))
    while True:
        start = text.line + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, BadRow(table.path, start, "broken_csv", f"not a csv record ({first_line(error)[:120]})")
            continue
        if text.fault is not None:
            fault, text.fault = text.fault, None
            yield fault.row, fault
        elif cells:
            yield start, cells


def csv_form(separator: str, quote: str | None) -> dict[str, Any]:
    """Return the settings with which the csv module reads as polars does."""
    if quote is None:
        return {"delimiter": separator, "quoting": csv.QUOTE_NONE}
    return {"delimiter": separator, "quotechar": quote}


def _plain_rows(table: Table, text: _TextLines) -> Iterator[tuple[int, list[str] | BadRow]]:
    for row in text:
        if text.fault is not None:
            fault, text.fault = text.fault, None
            yield fault.row, fault
        elif row.strip("\r\n"):
            yield text.line, row.rstrip("\r\n").split(table.separator)


# --- cells


def _converted(table: Table, line: int, row: dict[str, Any]) -> dict[str, Any] | BadRow:
    found: dict[str, Any] = {}
    for name, dtype in table.columns.items():
        value = row.get(name)
        try:
            found[name] = None if value is None else converter(dtype)(value)
        except (ValueError, TypeError, OverflowError):
            shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
            reason = f"{name} is {shown}, expected {noun(dtype)}"
            return BadRow(table.path, line, f"{name}_of_wrong_type", reason, column=name)
    return found
