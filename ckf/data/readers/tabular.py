"""Tables of one's own, csv or parquet, with a map of their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import TabularConfig
from ckf.core.errors import DataError, first_line
from ckf.data.readers.base import Source
from ckf.data.readers.polars_scan import Scanner

_TYPES: dict[str, Any] = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "click": pl.Int8,
    "review": pl.String,
    "split": pl.String,
}
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}
_EARLY = 100_000_000
"""Seconds: March 1973. A time below it, after division by the unit, was in seconds already."""


def table_files(cfg: TabularConfig) -> list[Path]:
    """The interactions file and the items file, where there is one.

    Raises:
        DataError: one of them is missing.
    """
    found = [Path(cfg.root) / name for name in (cfg.interactions, cfg.items) if name is not None]
    for path, key in zip(found, ("interactions", "items"), strict=False):
        if not path.is_file():
            raise DataError(f"dataset.{key}: {path}: no such file")
    return found


def read_tables(cfg: TabularConfig, scanner: Scanner) -> Source:
    """Read both tables lazily; without an items file titles are the raw ids.

    Raises:
        DataError: a column that the map names is not there, or is of a type that cannot be used.
    """
    path, *more = table_files(cfg)
    names = {kind: name for kind, name in vars(cfg.columns).items() if name is not None}
    rows = _table(cfg, scanner, path, {name: _TYPES[kind] for kind, name in names.items()})
    rows = rows.rename({name: kind for kind, name in names.items()})
    if cfg.timed:
        rows = rows.with_columns(pl.col("timestamp") // _UNITS[cfg.timestamp_unit])
    if more:
        wanted = {cfg.item_columns.item: pl.String, cfg.item_columns.title: pl.String}
        items = _table(cfg, scanner, more[0], wanted).rename(
            {cfg.item_columns.item: "item", cfg.item_columns.title: "title"}
        )
    else:
        items = pl.LazyFrame(schema={"item": pl.String, "title": pl.String})
    return Source(
        interactions=rows,
        items=items.select("item", "title"),
        files=(path,),
        item_files=tuple(more),
        titled=bool(more),
        names=names,
        oldest_timestamp=0 if cfg.timestamp_unit == "s" or not cfg.timed else _EARLY,
        card={"source": f"own tables ({path.name})", "licence": cfg.licence},
    )


def _table(cfg: TabularConfig, scanner: Scanner, path: Path, columns: dict[str, Any]) -> pl.LazyFrame:
    if cfg.name == "parquet" or path.suffix == ".parquet":
        return _parquet(path, columns)
    return scanner.delimited(
        path,
        columns,
        separator=cfg.separator,
        encoding=cfg.encoding,
        encoding_key="dataset.encoding",
        separator_key="dataset.separator",
    )


def _parquet(path: Path, columns: dict[str, Any]) -> pl.LazyFrame:
    try:
        table = pl.scan_parquet(path, glob=False)
        present = table.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({first_line(error)})") from None
    missing = [name for name in columns if name not in present]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(present)}")
    cells = []
    for name, dtype in columns.items():
        given = present[name]
        if dtype == pl.Int64 and given.is_temporal():
            cells.append(pl.col(name).dt.epoch("s"))
            continue
        numeric = given.is_numeric() or given == pl.Boolean
        if given != dtype and not (numeric and (dtype.is_numeric() or given.is_integer())):
            raise DataError(f"{path}: column {name} is {given}, expected {dtype}")
        cells.append(pl.col(name).cast(dtype, strict=False))
    return table.select(cells).with_row_index("line", offset=1)
