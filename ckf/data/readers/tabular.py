"""Tables of one's own, csv or parquet, with a map of their columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import ColumnsConfig, ItemColumnsConfig, TabularConfig
from ckf.core.errors import DataError, first_line
from ckf.data.readers.base import Source
from ckf.data.readers.column_names import find_columns
from ckf.data.readers.line_reader import Table
from ckf.data.readers.polars_scan import Scanner, read_header, separator_hint
from ckf.data.readers.table_parts import Part, table_parts
from ckf.data.readers.written_times import MOST, is_written, seconds_of_text

_TYPES: dict[str, Any] = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "click": pl.Int8,
    "review": pl.String,
    "split": pl.String,
    "title": pl.String,
}
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EARLY = 100_000_000
"""Seconds: March 1973. A time below it, after division by the unit, was in seconds already."""
_YES, _NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
_SAMPLE = 200
"""Rows that are looked at to see how times and clicks are written."""


def table_files(cfg: TabularConfig) -> list[Path]:
    """Every file of the interactions and, where there are some, of the items.

    Raises:
        DataError: one of them is missing.
    """
    return [part.path for parts in _parts(cfg) for part in parts]


def _parts(cfg: TabularConfig) -> tuple[list[Part], list[Part]]:
    parquet, root = cfg.name == "parquet", Path(cfg.root)
    rows = table_parts(root, cfg.interactions, "dataset.interactions", parquet=parquet)
    return rows, table_parts(root, cfg.items, "dataset.items", parquet=parquet) if cfg.items is not None else []


def read_tables(cfg: TabularConfig, scanner: Scanner) -> Source:
    """Read both tables lazily; without an items file titles are the raw ids.

    Raises:
        DataError: a column that the map names is not there, or is of a type that cannot be used.
    """
    rows, items = _parts(cfg)
    wanted = {kind: name for kind, name in vars(cfg.columns).items() if name is not None}
    reader = _Reader(cfg, scanner, wanted, vars(ColumnsConfig()), "dataset.columns")
    tables = [reader.table(part).with_columns(file=pl.lit(n, pl.UInt16)) for n, part in enumerate(rows)]
    titles = _Reader(cfg, scanner, vars(cfg.item_columns), vars(ItemColumnsConfig()), "dataset.item_columns", ("id",))
    found = [titles.table(part).select("item", "title") for part in items]
    source = f"own tables ({Path(cfg.interactions).name}" + (f", {len(rows)} files)" if len(rows) > 1 else ")")
    return Source(
        interactions=pl.concat(tables),
        items=pl.concat(found) if found else pl.LazyFrame(schema={"item": pl.String, "title": pl.String}),
        files=tuple(part.path for part in rows),
        item_files=tuple(part.path for part in items),
        titled=bool(items),
        names=reader.names,
        guesses=(*dict.fromkeys(reader.guesses), *dict.fromkeys(titles.guesses)),
        oldest_timestamp=0 if cfg.timestamp_unit == "s" or not cfg.timed or reader.times_written else _EARLY,
        card={"source": source, "licence": cfg.licence},
    )


@dataclass
class _Reader:
    """Reads the parts of one table: ``wanted`` names by meaning, ``default`` ones, and the config key above them."""

    cfg: TabularConfig
    scanner: Scanner
    wanted: dict[str, str]
    default: dict[str, Any]
    key: str
    usual_ids: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)
    times_written: bool = False

    def table(self, part: Part) -> pl.LazyFrame:
        """One part with its columns under their meanings, and ``line``."""
        if self.cfg.name == "parquet" or part.is_parquet:
            rows, kinds = self._parquet(part)
        else:
            rows, kinds = self._text(part)
        return rows.select("line", *(kinds[kind].alias(kind) for kind in self.wanted))

    def _named(self, part: Part, present: list[str], hint: str = "") -> dict[str, str]:
        """The file's columns by meaning; those of key=value folders are not among them."""
        keys = {kind: f"{self.key}.{kind}" for kind in self.wanted}
        more = {"item": self.usual_ids}
        found = find_columns(part.path, self.wanted, [*present, *part.folders], self.default, keys, more)
        if found.missing:
            first = found.missing[0]
            what = f"column {', '.join(self.wanted[kind] for kind in found.missing)} is missing; the header has "
            what = f"{what}{', '.join([*present, *part.folders]):.400}"
            remedy = hint or f"; set {keys[first]}=NAME{self._without_header(present)}"
            raise DataError(f"{part.path}: line 1: {what}{remedy}")
        self.names |= found.found
        self.guesses += found.guessed
        return found.found

    def _without_header(self, present: list[str]) -> str:
        if any(name.replace(".", "", 1).isdigit() for name in present):
            return f"; a file without a header: dataset.header=false and {self.key}.user=1 for its first field"
        return ""

    def _folder_cells(self, part: Part, names: dict[str, str], present: list[str]) -> dict[str, pl.Expr]:
        """Columns that are key=value folders: the same for all rows of a part."""
        cells = {}
        for kind, name in names.items():
            if name in present:
                continue
            value, dtype = part.folders[name], _TYPES[kind]
            try:
                text = pl.Series([value], dtype=pl.String)
                if kind == "timestamp" and is_written(text, digits=True):
                    self.times_written = True
                    value = text.to_frame("t").select(seconds_of_text(pl.col("t"))).item()
                else:
                    value = text.cast(dtype)[0]
            except pl.exceptions.PolarsError:
                raise DataError(f"{part.path}: folder {name}={value}: expected {dtype}") from None
            cells[kind] = pl.lit(value, dtype)
        return cells

    def _text(self, part: Part) -> tuple[pl.LazyFrame, dict[str, pl.Expr]]:
        cfg, path = self.cfg, part.path
        separator = cfg.separator.replace("\\t", "\t")
        present = read_header(path, separator, '"' if len(separator) == 1 else None, cfg.encoding, "dataset.encoding")
        if not cfg.header:
            present = [str(n) for n in range(1, len(present) + 1)]
        table = Table(path, {}, separator, names=present, separator_key="dataset.separator")
        names = self._named(part, present, separator_hint(table) if cfg.header else "")
        cells = self._folder_cells(part, names, present)
        inside = {kind: name for kind, name in names.items() if kind not in cells}
        types = {name: _TYPES[kind] for kind, name in inside.items()}
        sample = self._sample(path, separator, present)
        exprs = {kind: pl.col(name) for kind, name in inside.items()}
        for kind in ("timestamp", "click"):
            if kind in inside and inside[kind] in sample.columns:
                how = self._as_written(path, kind, pl.col(inside[kind]), sample[inside[kind]])
                if how is not None:
                    types[inside[kind]], exprs[kind] = pl.String, how
                elif kind == "timestamp":
                    exprs[kind] = pl.col(inside[kind]) // _UNITS[cfg.timestamp_unit]
        if not cfg.header:
            types = {name: types.get(name, pl.String) for name in present}
        rows = self.scanner.delimited(
            path,
            types,
            separator=separator,
            header=cfg.header,
            encoding=cfg.encoding,
            encoding_key="dataset.encoding",
            separator_key="dataset.separator",
        )
        return rows, {**exprs, **cells}

    def _sample(self, path: Path, separator: str, names: list[str]) -> pl.DataFrame:
        """The first rows as text; no column where they cannot be read, which the scanner then says."""
        if len(separator) > 1:
            return pl.DataFrame()
        try:
            return pl.read_csv(
                self.scanner.text_of(path, self.cfg.encoding),
                n_rows=_SAMPLE,
                has_header=self.cfg.header,
                new_columns=names if len(set(names)) == len(names) else None,
                separator=separator,
                infer_schema=False,
                truncate_ragged_lines=True,
                encoding="utf8-lossy",
                glob=False,
            )
        except (pl.exceptions.PolarsError, OSError, ValueError):
            return pl.DataFrame()

    def _as_written(self, path: Path, kind: str, cell: pl.Expr, sample: pl.Series) -> pl.Expr | None:
        """How to convert a column of text; None for plain numbers. What does not convert is refused by row."""
        if kind == "click":
            return _click(cell) if _is_yes_or_no(sample) else None
        digits = self.cfg.timestamp_unit == "s"
        if not is_written(sample, digits=digits):
            return None
        self.times_written = True
        if sample.drop_nulls().str.contains(r"^\s*\d+\s*$").any():
            self.guesses.append(f"{path.name}: times are read as YYYYMMDD, since each of the first is such a date")
        return seconds_of_text(cell)

    def _parquet(self, part: Part) -> tuple[pl.LazyFrame, dict[str, pl.Expr]]:
        try:
            table = pl.scan_parquet(part.path, glob=False, hive_partitioning=False)
            present = table.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{part.path}: not a readable parquet file ({first_line(error)})") from None
        names = self._named(part, list(present))
        cells = self._folder_cells(part, names, list(present))
        for kind, name in names.items():
            if kind not in cells:
                sample = table.select(name).head(_SAMPLE)
                cells[kind] = self._parquet_cell(part.path, kind, name, present[name], sample)
        return table.with_row_index("line", offset=1), cells

    def _parquet_cell(self, path: Path, kind: str, name: str, given: Any, sample: pl.LazyFrame) -> pl.Expr:
        dtype, cell = _TYPES[kind], pl.col(name)
        if isinstance(given, (pl.Categorical, pl.Enum)):
            cell, given = cell.cast(pl.String), pl.String()
        if kind == "timestamp" and given in (pl.Date, pl.Datetime):
            self.times_written = True
            return cell.dt.epoch("s")  # whatever dataset.timestamp_unit says
        if kind in ("timestamp", "click") and (given == pl.String or given.is_integer()):
            text = sample.select(cell.cast(pl.String)).collect().to_series()
            how = self._as_written(path, kind, cell.cast(pl.String), text)
            if how is not None:
                return how
        if given == pl.Null:
            return pl.lit(None, dtype)
        if dtype == pl.String and given.is_float():  # ids that pandas made floats because of a gap
            whole = cell.cast(pl.Int64, strict=False)
            return pl.when(whole == cell).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
        numeric = given.is_numeric() or given == pl.Boolean
        if given != dtype and not (numeric and (dtype.is_numeric() or given.is_integer())):
            raise DataError(f"{path}: column {name} is {given}, expected {dtype}")
        cell = cell.cast(dtype, strict=False)
        return cell // _UNITS[self.cfg.timestamp_unit] if kind == "timestamp" else cell


def _is_yes_or_no(sample: pl.Series) -> bool:
    words = sample.drop_nulls().str.strip_chars().str.to_lowercase()
    words = words.filter(words != "")
    return bool(len(words)) and int(words.is_in((*_YES, *_NO)).sum()) >= MOST * len(words)


def _click(cell: pl.Expr) -> pl.Expr:
    """1 and 0 of words; -1, which the row checks refuse, of any other. Int8"""
    word = cell.str.strip_chars().str.to_lowercase()
    one = word.is_in((*_YES, "1"))
    zero = word.is_in((*_NO, "0"))
    empty = word.is_null() | (word == "")
    return pl.when(empty).then(None).when(one).then(1).when(zero).then(0).otherwise(-1).cast(pl.Int8)
