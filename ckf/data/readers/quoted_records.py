"""Records of a file with quotes: a stray quote costs its own line, never the rows behind it.

A quoted field may hold line ends. So a quote that opens in one row and closes fifty rows later is valid csv,
and would join them to one record. A record over several lines is therefore looked at: where lines in it look like
rows of the table, the first line is a bad row, and the others are read again one by one.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ckf.data.readers.cell_types import converter
from ckf.data.readers.file_notes import OVER_LINES, QUOTES_KEPT, FileNotes
from ckf.data.readers.line_reader import LONGEST_LINE, MAX_LINE_BYTES, BadRow, Table, text_lines

_Cells = list[str]


def csv_form(separator: str, quote: str | None) -> dict[str, Any]:
    """Return the settings with which the csv module reads as polars does."""
    if quote is None:
        return {"delimiter": separator, "quoting": csv.QUOTE_NONE}
    return {"delimiter": separator, "quotechar": quote}


@lru_cache
def well_quoted(separator: str, quote: str, fields: int | None = None) -> str:
    """A regular expression of a line whose quotes all enclose a field; with so many ``fields``, or any number."""
    mark, cut = re.escape(quote), re.escape(separator)
    cell = f"(?:{mark}[^{mark}]*(?:{mark}{mark}[^{mark}]*)*{mark}|[^{mark}{cut}\\r\\n]*)"
    return f"^{cell}(?:{cut}{cell}){'*' if fields is None else f'{{{fields - 1}}}'}$"


def quoted_records(table: Table, notes: FileNotes) -> Iterator[tuple[int, _Cells | BadRow]]:
    """Yield each record's cells, or its fault, with the number of its first line. Blank lines are passed over."""
    csv.field_size_limit(LONGEST_LINE)
    lines = _Lines(table)
    rows = csv.reader(lines, strict=True, **csv_form(*_marks(table)))
    while True:
        lines.start_record()
        fault = None
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            cells, fault = [], str(error)
        first, last = lines.taken[0][0], lines.taken[-1][0]
        if lines.fault is not None:
            yield first, lines.fault
        elif last > first and _joins_rows(table, [text for _, text in lines.taken]):
            yield first, _over_rows(table, first, last, fault)
            lines.take_back()
            continue
        elif fault is not None:
            yield first, _broken(table, first, fault)
        elif cells:
            stray = last == first and _has_stray_quote(table, lines.taken[0][1])
            if stray and lines.reread:
                yield first, BadRow(table.path, first, "stray_quote", "a quote inside an unquoted field")
                continue
            if stray:
                notes.add(QUOTES_KEPT, first)
            yield first, cells
        if last > first:
            notes.add(OVER_LINES, first, last)


class _Lines:
    """Lines for the csv module, which joins several into one record; those of the current one are in ``taken``.

    ``fault`` is a line of the current record that cannot be read. ``reread``: the record begins with a line that
    was taken back.
    """

    def __init__(self, table: Table) -> None:
        self._lines = text_lines(table)
        self._again: deque[tuple[int, str]] = deque()
        self.start_record()

    def start_record(self) -> None:
        self.taken: list[tuple[int, str]] = []
        self.fault: BadRow | None = None
        self.reread = bool(self._again)
        self._size = 0

    def take_back(self) -> None:
        """Read the current record's lines again, all but the first."""
        self._again.extendleft(reversed(self.taken[1:]))

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) > 1 and self._size > MAX_LINE_BYTES:
            raise StopIteration  # a quote that is open for so long is not closed
        line, text = self._again.popleft() if self._again else next(self._lines)
        if isinstance(text, BadRow):
            self.fault = self.fault or text
            text = "\n"
        self.taken.append((line, text))
        self._size += len(text)
        return text


def _marks(table: Table) -> tuple[str, str]:
    return table.separator or ",", table.quote or '"'


def _has_stray_quote(table: Table, text: str) -> bool:
    separator, quote = _marks(table)
    return quote in text and not re.match(well_quoted(separator, quote), text.rstrip("\r\n"))


def _joins_rows(table: Table, lines: list[str]) -> bool:
    """Whether rows of their own lie in a record of these lines: one between its ends, or one at either end."""
    found = (_looks_like_row(table, text) for text in lines[1:-1])
    return any(found) or all(_looks_like_row(table, text) for text in (lines[0], lines[-1]))


def _looks_like_row(table: Table, text: str) -> bool:
    """Whether a line is a row of the table by itself: its width, and what its wanted cells hold."""
    text = text.rstrip("\r\n")
    alone = next(csv.reader([text], **csv_form(*_marks(table))), [])
    return any(_fits(table, cells) for cells in (alone, text.split(table.separator)))


def _fits(table: Table, cells: _Cells) -> bool:
    if len(cells) != len(table.names) or len(cells) < 2:
        return False
    found = dict(zip(table.names, (cell.strip(table.quote) for cell in cells), strict=True))
    wanted = {name: dtype for name, dtype in table.columns.items() if name in found}
    texts = [name for name, dtype in wanted.items() if not dtype.is_numeric()]
    if len(texts) == len(wanted):  # no number to tell a row from prose by, but an id has no white space within
        return bool(texts) and len(found[texts[0]].split()) == 1
    try:
        for name, dtype in wanted.items():
            if dtype.is_numeric():
                converter(dtype)(found[name])
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _over_rows(table: Table, first: int, last: int, fault: str | None) -> BadRow:
    if fault is not None and "unexpected end" in fault:
        return _broken(table, first, fault)
    closes = "closes" if fault is None else "ends"
    what = f"a quote opens here and {closes} in line {last}; lines in it look like rows of their own"
    return BadRow(table.path, first, "quote_over_rows", what)


def _broken(table: Table, line: int, fault: str) -> BadRow:
    if "unexpected end" in fault:
        return BadRow(table.path, line, "quote_not_closed", "a quote opens here and is never closed")
    if "expected after" in fault:
        return BadRow(table.path, line, "broken_csv", "text after a closing quote; a quote within quotes is doubled")
    if "new-line character" in fault:
        return BadRow(table.path, line, "broken_csv", "a carriage return within the line")
    return BadRow(table.path, line, "broken_csv", f"not a csv record ({fault[:120]})")
