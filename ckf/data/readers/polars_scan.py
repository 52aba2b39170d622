"""Delimited and JSON-lines files as polars LazyFrames, each row with the number of its record.

The quick path lets polars read with strict types. When it fails, `Scanner.salvage` walks the files
line by line, names every line that cannot be used, and keeps the others in a scratch copy, from
which the same reader then reads again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ckf.core.errors import DataError
from ckf.data.readers.jsonl_blocks import scan_blocks
from ckf.data.readers.line_reader import BadRow, Table, csv_form, decoded, line_numbers, read_first_line, salvage_table

LINE = "line"
_GZIP_FACTOR = 4  # how far text in a gzip grows, roughly


@dataclass
class Scanner:
    """Opens the files of one source; ``scratch`` is an empty folder for copies, gone when the dataset is made.

    ``room``: bytes of text that memory has room for; more of it goes through the disk.
    """

    scratch: Path
    room: float = math.inf
    tables: list[Table] = field(default_factory=list)
    salvaged: dict[Path, Path] = field(default_factory=dict)

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
        optional: Collection[str] = (),
        line: str = LINE,
    ) -> pl.LazyFrame:
        """Read named columns of a csv-like file, plain or gzipped; empty cells are null.

        Without a header ``columns`` are the file's columns in their order. ``optional`` columns may be
        absent. Separators of several characters have no quotes (MovieLens' ``::``).

        Raises:
            DataError: no such file, an empty one, or a header without a column that is asked for.
        """
        table = Table(path, dict(columns), separator, quote if len(separator) == 1 else None, encoding)
        table.names = read_header(path, separator, quote, encoding) if header else list(columns)
        table.header = header
        _check_header(table, optional)
        self._seen(table)
        if path in self.salvaged:
            return self._salvaged(table, line)
        rows = self._rows(table, line)
        absent = [pl.lit(None, dtype=columns[name]).alias(name) for name in columns if name not in table.names]
        return rows.with_columns(*absent, pl.col(line).cast(pl.Int64)).select(*columns, line)

    def _rows(self, table: Table, line: str) -> pl.LazyFrame:
        name = self._plain_name(table.path)
        source: Any = name if table.encoding == "utf8" else decoded(table.path, table.encoding)
        if len(table.separator or "") > 1:
            return _split_lines(table, source, line)
        types = {column: table.columns.get(column, pl.String) for column in table.names}
        rows = pl.scan_csv(
            source,
            schema=types,
            has_header=table.header,
            separator=table.separator or ",",
            quote_char=table.quote,
            row_index_name=line,
            row_index_offset=1,
            glob=False,
            raise_if_empty=False,
        )
        if len(table.names) == 1:  # a blank line and an empty cell are the same there
            return rows.filter(pl.col(table.names[0]).is_not_null())
        # a row without any cell is a blank line or one of separators alone: the strict cast stops at it, and
        # `salvage`, which sees the text, passes over the one and names the other
        empty = pl.all_horizontal(pl.col(name).is_null() for name in table.names)
        number = pl.when(empty).then(pl.lit(-1, pl.Int64)).otherwise(pl.col(line).cast(pl.Int64))
        return rows.with_columns(number.cast(pl.UInt32).alias(line))

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
        """Walk all files once; return their faulty lines, of which at most ``limit`` are forgiven.

        Raises:
            DataError: the first faulty line when there are more than ``limit``, or a broken gzip.
        """
        faults: list[BadRow] = []
        for number, table in enumerate(t for t in self.tables if t.path not in self.salvaged):
            copy = self.scratch / f"salvaged{len(self.salvaged)}-{number}.jsonl"
            faults += salvage_table(table, copy, limit - len(faults))
            self.salvaged[table.path] = copy
        return faults

    def lines_of(self, path: Path, records: Collection[int]) -> dict[int, int]:
        """Turn the scanner's record numbers into true line numbers (headers, blank lines, quoted line ends)."""
        table = next((t for t in self.tables if t.path == path), None)
        if table is None or path in self.salvaged:
            return {record: record for record in records}
        return line_numbers(table, records)


def text_bytes(path: Path) -> int:
    """Size of a file's text, roughly where it is zipped."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return path.stat().st_size * (_GZIP_FACTOR if zipped else 1)


def read_header(path: Path, separator: str = ",", quote: str | None = '"', encoding: str = "utf8") -> list[str]:
    """Return the column names in the first line of a delimited file.

    Raises:
        DataError: no such file, or it is empty.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    text = read_first_line(path, encoding)
    if not text.strip():
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    if len(separator) > 1:
        return text.split(separator)
    return next(csv.reader([text], **csv_form(separator, quote)))


def _check_header(table: Table, optional: Collection[str]) -> None:
    missing = [name for name in table.columns if name not in table.names and name not in optional]
    if missing:
        raise DataError(
            f"{table.path}: line 1: column {', '.join(missing)} is missing; the header has {', '.join(table.names)}"
        )
    twice = [name for name in table.columns if table.names.count(name) > 1]
    if twice:
        raise DataError(f"{table.path}: line 1: column {twice[0]} stands there {table.names.count(twice[0])} times")
    names: list[str] = []
    for name in table.names:  # polars needs unique names, also of columns that nobody asked for
        names.append(name if name not in names else f"{name}_{len(names)}")
    table.names = names


def _split_lines(table: Table, source: Any, line: str) -> pl.LazyFrame:
    """Lines cut at a separator of several characters; a line of another width has all of its columns null."""
    parts = pl.col("text").str.split(table.separator)
    whole = parts.list.len() == len(table.names)
    rows = pl.scan_lines(source, name="text", row_index_name=line, row_index_offset=1)
    rows = rows.filter(pl.col("text") != "")
    if table.header:
        rows = rows.slice(1)
    cells = {
        name: pl.when(whole).then(parts.list.get(place, null_on_oob=True)).cast(table.columns[name])
        for place, name in enumerate(table.names)
        if name in table.columns
    }
    return rows.select(line, **cells)
