"""Delimited and JSON-lines files as polars LazyFrames, each row with the number of its record.

The quick path lets polars read with strict types. A delimited file is surveyed first: where a line is not of
the table's width, or a quote is out of place, the quick path would shift or lose fields without a word. Such a
file, and any on which the quick path fails, is salvaged: walked record by record, every one that cannot be used
named, and the others kept in a scratch copy, from which the same reader then reads.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from ckf.core.errors import DataError
from ckf.data.readers.file_notes import UTF8_FOUND, UTF8_LINES, FileNotes
from ckf.data.readers.jsonl_blocks import scan_blocks
from ckf.data.readers.line_reader import (
    BOM,
    BROKEN_GZIP,
    BadRow,
    Table,
    decoded,
    is_utf8,
    is_wide,
    raw_lines,
    read_first_line,
    utf8_lines,
)
from ckf.data.readers.quoted_records import csv_form, well_quoted
from ckf.data.readers.salvage import TooManyFaults, json_line_numbers, salvage_table

LINE = "line"
_UNREADABLE: tuple[type[Exception], ...] = (UnicodeError, *BROKEN_GZIP)
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", "::": "::", " ": "blanks"}
_GZIP_FACTOR = 4  # how far text in a gzip grows, roughly


@dataclass
class Scanner:
    """Opens the files of one source; ``scratch`` is an empty folder for copies, gone when the dataset is made.

    ``room``: bytes of text that memory has room for; more of it goes through the disk. ``allowed``: bad rows that
    are left out; one more stops. ``faults`` and ``notes`` are what was found so far.
    """

    scratch: Path
    room: float = math.inf
    allowed: int = 0
    tables: list[Table] = field(default_factory=list)
    salvaged: dict[Path, Path] = field(default_factory=dict)
    faults: list[BadRow] = field(default_factory=list)
    notes: dict[Path, FileNotes] = field(default_factory=dict)
    _regular: dict[Path, str] = field(default_factory=dict)

    def json_lines(self, path: Path, columns: Mapping[str, Any], *, line: str = LINE) -> pl.LazyFrame:
        """Read one JSON object a line, plain or gzipped; a field that a line lacks is null.

        A String column takes any JSON value: what is no string arrives as its JSON text.
        """
        table = self._seen(Table(path, dict(columns)))
        if path in self.salvaged:
            return self._salvaged(table, line)
        return scan_blocks(path, columns).with_row_index(line, offset=1).cast({line: pl.Int64})

    def delimited(
        self,
        path: Path,
        columns: Mapping[str, Any],
        *,
        separator: str = ",",
        header: bool = True,
        quote: str | None = '"',
        encoding: str = "utf8",
        encoding_key: str = "",
        separator_key: str = "",
        optional: Collection[str] = (),
        line: str = LINE,
    ) -> pl.LazyFrame:
        """Read named columns of a csv-like file, plain or gzipped; empty cells are null.

        Without a header ``columns`` are the file's columns in their order. ``optional`` columns may be
        absent. Separators of several characters have no quotes (MovieLens' ``::``). A file that is UTF-8
        though another ``encoding`` is named is read as UTF-8, with a note.

        Raises:
            DataError: no such file, an empty one, a header without a column that is asked for, or more
                bad lines than are allowed.
        """
        if path.is_file():
            encoding = self._recognised(path, encoding)
        quote = quote if len(separator) == 1 else None
        table = Table(path, dict(columns), separator, quote, encoding)
        table.encoding_key, table.separator_key = encoding_key, separator_key
        table.names = read_header(path, separator, quote, encoding, encoding_key) if header else list(columns)
        table.header = header
        _check_header(table, optional)
        self._seen(table)
        if path not in self.salvaged and path not in self._regular:
            if _is_regular(table, self._source(table)):
                self._regular[path] = encoding
            else:
                self._salvage(table, self.allowed - len(self.faults))
        if path in self.salvaged:
            return self._salvaged(table, line)
        rows = self._rows(table, line)
        absent = [pl.lit(None, dtype=columns[name]).alias(name) for name in columns if name not in table.names]
        return rows.with_columns(*absent, pl.col(line).cast(pl.Int64)).select(*columns, line)

    def _recognised(self, path: Path, encoding: str) -> str:
        """The file's true encoding: UTF-8 under another name is recognised."""
        if path in self._regular:
            return self._regular[path]
        if is_utf8(encoding) or is_wide(encoding):
            return encoding
        lines, all_of_them = utf8_lines(path)
        notes = FileNotes(path)
        if lines and all_of_them:
            notes.add(UTF8_FOUND, encoding)
            encoding = "utf8"
        for line in lines if not all_of_them else ():
            notes.add(UTF8_LINES, line)
        self.notes[path] = notes
        return encoding

    def text_of(self, path: Path, encoding: str) -> Any:
        """What polars reads of a delimited file; None where it does not decode."""
        return self._source(Table(path, {}, encoding=self._recognised(path, encoding)))

    def _source(self, table: Table) -> Any:
        """What polars reads: the file, or its text as UTF-8 bytes; None where it does not decode."""
        if is_utf8(table.encoding):
            return self._plain_name(table.path)
        try:
            return decoded(table.path, table.encoding)
        except _UNREADABLE:
            return None

    def _rows(self, table: Table, line: str) -> pl.LazyFrame:
        source = self._source(table)
        if len(table.separator or "") > 1:
            return _split_lines(table, source, line)
        return pl.scan_csv(
            source,
            schema={column: table.columns.get(column, pl.String) for column in table.names},
            has_header=table.header,
            separator=table.separator or ",",
            quote_char=table.quote,
            row_index_name=line,
            row_index_offset=1,
            glob=False,
            raise_if_empty=False,
        )

    def _salvaged(self, table: Table, line: str) -> pl.LazyFrame:
        types = {**table.columns, LINE: pl.Int64}
        return pl.scan_ndjson(self.salvaged[table.path], schema=types).rename({LINE: line})

    def _seen(self, table: Table) -> Table:
        if not table.path.is_file():
            raise DataError(f"{table.path}: no such file")
        self.tables = [other for other in self.tables if other.path != table.path] + [table]
        return table

    def _plain_name(self, path: Path) -> Path:
        """A name of the file without *, ? and [, which polars would expand."""
        if not any(c in str(path) for c in "*?["):
            return path
        link = self.scratch / f"link{len(list(self.scratch.glob('link*')))}-{'.'.join(path.suffixes).strip('.')}"
        link.symlink_to(path.resolve())
        return link

    def salvage(self, limit: int) -> list[BadRow]:
        """Walk all files that were not walked yet; return their faulty lines, of which ``limit`` are forgiven.

        Raises:
            DataError: the first faulty line when there are more than ``limit``, or a broken gzip.
        """
        found: list[BadRow] = []
        for table in self.tables:
            if table.path not in self.salvaged:
                found += self._salvage(table, limit - len(found))
        return found

    def _salvage(self, table: Table, limit: int) -> list[BadRow]:
        copy = self.scratch / f"salvaged{len(self.salvaged)}.jsonl"
        notes = self.notes.setdefault(table.path, FileNotes(table.path))
        try:
            found = salvage_table(table, copy, limit, notes)
        except TooManyFaults as error:
            raise DataError(f"{error.first} (dataset.max_bad_rows={self.allowed})") from None
        self.faults += found
        self.salvaged[table.path] = copy
        return found

    def unusual(self) -> list[FileNotes]:
        """Notes on the files that have some."""
        return [notes for notes in self.notes.values() if notes.counts]

    def lines_of(self, path: Path, records: Collection[int]) -> dict[int, int]:
        """Turn the scanner's record numbers into true line numbers (headers, blank lines, quoted line ends)."""
        table = next((t for t in self.tables if t.path == path), None)
        if table is None or path in self.salvaged:
            return {record: record for record in records}
        if table.separator is None:
            return json_line_numbers(table, records)
        # a file that the quick path reads has a record on every line; a separator of several characters numbers lines
        ahead = int(table.header and len(table.separator) == 1)
        return {record: record + ahead for record in records}


def text_bytes(path: Path) -> int:
    """Size of a file's text, roughly where it is zipped."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return path.stat().st_size * (_GZIP_FACTOR if zipped else 1)


def read_header(
    path: Path, separator: str = ",", quote: str | None = '"', encoding: str = "utf8", encoding_key: str = ""
) -> list[str]:
    """Return the column names in the first line of a delimited file.

    Raises:
        DataError: no such file, it is empty, or its first line is no header.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    text = read_first_line(path, encoding, encoding_key)
    if not text.strip():
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    if "\r" in text:
        raise DataError(f"{path}: line 1: the lines end in a carriage return alone; write line feeds")
    if quote is None or len(separator) > 1:
        return text.split(separator)
    try:
        return next(csv.reader([text], strict=True, **csv_form(separator, quote)))
    except csv.Error:
        raise DataError(f"{path}: line 1: a quote in the header that is not closed, or out of place") from None


def separator_hint(table: Table) -> str:
    """What to say of a header that another separator cuts into more fields."""
    text = (table.separator or "").join(table.names)
    counts = {other: text.count(other) for other in _SEPARATORS if other != table.separator}
    likely = max(counts, key=lambda other: counts[other])
    if counts[likely] < max(1, len(table.names)):
        return ""
    name = _SEPARATORS[likely]
    remedy = f"; set {table.separator_key}='{likely}'".replace("\t", "\\t") if table.separator_key else ""
    return f"; it looks separated by {name}{remedy}"


def _beginning(path: Path) -> list[bytes]:
    """The first line, none of an empty file."""
    lines = (data for _, data in raw_lines(path) if isinstance(data, bytes))
    return list(islice(lines, 1))


def _is_regular(table: Table, source: Any) -> bool:
    """Whether each line is one record of the table's width with its quotes in place, as the quick path takes it."""
    if source is None:
        return False
    if not table.header and any(line.startswith(BOM.encode()) for line in _beginning(table.path)):
        return False
    text = pl.col("text")
    if table.quote is not None and table.separator is not None:
        odd = ~text.str.contains(well_quoted(table.separator, table.quote, len(table.names)))
    else:
        odd = text.str.count_matches(str(table.separator), literal=True) != len(table.names) - 1
    if len(table.separator or "") > 1:
        odd &= text != ""
    elif len(table.names) == 1:
        odd |= text == ""
    try:
        return not pl.scan_lines(source, name="text").select(odd.any()).collect(engine="streaming").item()
    except pl.exceptions.PolarsError:  # no UTF-8, a broken gzip: the walk says where
        return False


def _check_header(table: Table, optional: Collection[str]) -> None:
    missing = [name for name in table.columns if name not in table.names and name not in optional]
    if missing:
        what = f"column {', '.join(missing)} is missing; the header has {', '.join(table.names)}"
        raise DataError(f"{table.path}: line 1: {what:.500}{separator_hint(table)}")
    twice = [name for name in table.columns if table.names.count(name) > 1]
    if twice:
        raise DataError(f"{table.path}: line 1: column {twice[0]} stands there {table.names.count(twice[0])} times")
    names: list[str] = []
    for name in table.names:  # polars needs unique names, also of columns that nobody asked for
        names.append(name if name not in names else f"{name}_{len(names)}")
    table.names = names


def _split_lines(table: Table, source: Any, line: str) -> pl.LazyFrame:
    """Lines cut at a separator of several characters."""
    parts = pl.col("text").str.split(table.separator)
    rows = pl.scan_lines(source, name="text", row_index_name=line, row_index_offset=1)
    rows = rows.filter(pl.col("text") != "")
    if table.header:
        rows = rows.slice(1)
    cells = {
        name: parts.list.get(place, null_on_oob=True).cast(table.columns[name])
        for place, name in enumerate(table.names)
        if name in table.columns
    }
    return rows.select(line, **cells)
