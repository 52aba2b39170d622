"""Read a file record by record, and give a reason for each that cannot be used.

This is slow. It runs where the quick reader must not or cannot read a file, and to turn the record numbers
of JSON lines into line numbers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ckf.core.errors import first_line
from ckf.data.readers.cell_types import converter, noun
from ckf.data.readers.file_notes import FileNotes
from ckf.data.readers.line_reader import LONGEST_LINE, MAX_LINE_BYTES, BadRow, Table, raw_lines, text_lines, too_long
from ckf.data.readers.quoted_records import quoted_records


class TooManyFaults(Exception):
    """More bad rows than are allowed; ``first`` is the one too many."""

    def __init__(self, first: BadRow) -> None:
        super().__init__(str(first))
        self.first = first


def salvage_table(table: Table, copy: Path, limit: int, notes: FileNotes) -> list[BadRow]:
    """Write the usable records as JSON lines with their line numbers, and return the bad rows.

    Raises:
        TooManyFaults: more than ``limit``.
        DataError: a broken gzip.
    """
    faults: list[BadRow] = []
    with copy.open("w", encoding="utf-8") as out:
        for line, record in records(table, notes):
            if isinstance(record, BadRow):
                faults.append(record)
                if len(faults) > limit:
                    raise TooManyFaults(record)
            else:
                out.write(json.dumps({**record, "line": line}, ensure_ascii=True) + "\n")
    return faults


def records(table: Table, notes: FileNotes) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yield each record with its line number: the wanted columns, converted, or a `BadRow`."""
    rows = _json_records(table) if table.separator is None else _delimited_records(table, notes)
    for line, row in rows:
        yield line, row if isinstance(row, BadRow) else _converted(table, line, row)


def json_line_numbers(table: Table, wanted: Collection[int]) -> dict[int, int]:
    """Return the line number of each wanted record of JSON lines. Records are numbered from 1 and skip blank lines."""
    left, found = set(wanted), {}
    for number, (line, _) in enumerate(_json_records(table), start=1):
        if number in left:
            found[number] = line
            left.discard(number)
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
            yield line, too_long(table.path, line, len(data)) if len(data) > MAX_LINE_BYTES else broken
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            yield line, BadRow(table.path, line, "broken_json", f"a JSON {type(row).__name__}, expected an object")


def _delimited_records(table: Table, notes: FileNotes) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    rows = _plain_rows(table) if table.quote is None else quoted_records(table, notes)
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


def _plain_rows(table: Table) -> Iterator[tuple[int, list[str] | BadRow]]:
    for line, text in text_lines(table):
        if isinstance(text, BadRow):
            yield line, text
        elif row := text.rstrip("\r\n"):
            yield line, row.split(table.separator)


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
