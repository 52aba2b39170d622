"""RecBole's atomic files (Zhao et al., CIKM 2021): tab-separated, each field of the header with its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import RecboleConfig
from ckf.core.errors import DataError
from ckf.core.split_names import SPLITS
from ckf.data.readers.base import Source
from ckf.data.readers.polars_scan import Scanner, read_header

_TYPES = ("token", "token_seq", "float", "float_seq")


def recbole_files(cfg: RecboleConfig) -> list[Path]:
    """The interaction file or its three parts, and the items where there are some.

    Raises:
        DataError: an interaction file is missing.
    """
    root = Path(cfg.root)
    names = [f"{cfg.prefix}.{part}.inter" for part in cfg.parts] or [f"{cfg.prefix}.inter"]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        there = sorted(path.name for path in root.glob("*.inter"))[:5] if root.is_dir() else []
        hint = f"; there are {', '.join(there)}" if there else ""
        raise DataError(f"dataset.root: {root} lacks {', '.join(missing)}{hint}")
    items = root / f"{cfg.prefix}.item"
    return [root / name for name in names] + ([items] if items.is_file() else [])


def read_recbole(cfg: RecboleConfig, scanner: Scanner) -> Source:
    """Read the fields that the config names; three parts become train, val and test.

    Raises:
        DataError: a field that is not in the header, or a header without types.
    """
    files = recbole_files(cfg)
    inter = [path for path in files if path.suffix == ".inter"]
    tables = [_interactions(cfg, path, scanner).with_columns(file=pl.lit(n, pl.UInt8)) for n, path in enumerate(inter)]
    if cfg.parts:
        tables = [table.with_columns(split=pl.lit(split)) for table, split in zip(tables, SPLITS, strict=True)]
    rows = pl.concat(tables)
    has_items = len(files) > len(inter)
    if has_items and cfg.title_field:
        items = _read(files[-1], {cfg.item_field: pl.String, cfg.title_field: pl.String}, scanner)
        items = items.select(item=cfg.item_field, title=cfg.title_field)
    else:
        items = rows.select(pl.col("item").unique(), title=pl.lit(None, pl.String))
    return Source(
        interactions=rows,
        items=items,
        files=tuple(inter),
        item_files=tuple(files[len(inter) :]),
        titled=has_items and bool(cfg.title_field),
        card={
            "source": f"RecBole atomic files, {cfg.prefix}",
            "licence": cfg.licence,
            "titles": f"field {cfg.title_field}" if has_items and cfg.title_field else "none: the raw ids",
        },
    )


def _interactions(cfg: RecboleConfig, path: Path, scanner: Scanner) -> pl.LazyFrame:
    wanted: dict[str, Any] = {cfg.user_field: pl.String, cfg.item_field: pl.String}
    columns: dict[str, Any] = {"user": cfg.user_field, "item": cfg.item_field}
    if cfg.time_field:
        wanted[cfg.time_field] = pl.Float64
        columns["timestamp"] = pl.col(cfg.time_field).floor().cast(pl.Int64)
    if cfg.rating_field:
        wanted[cfg.rating_field] = pl.Float64
        columns["rating"] = cfg.rating_field
    if cfg.label_field:
        wanted[cfg.label_field] = pl.Float64
        label = pl.col(cfg.label_field)
        # what is neither 0 nor 1 becomes -1, which the row checks refuse; a cast alone would round it
        columns["click"] = pl.when(label.is_in([0.0, 1.0]) | label.is_null()).then(label).otherwise(-1.0).cast(pl.Int8)
    if cfg.review_field:
        wanted[cfg.review_field] = pl.String
        columns["review"] = cfg.review_field
    return _read(path, wanted, scanner).select("line", **columns)


def _read(path: Path, wanted: dict[str, Any], scanner: Scanner) -> pl.LazyFrame:
    """The wanted fields under their own names, without the type suffixes of the header."""
    header: dict[str, str] = {}
    columns = read_header(path, "\t", None)
    if len(columns) == 1 and len(wanted) > 1:
        raise DataError(
            f"{path}: line 1: no tab in the header '{columns[0]:.60}'; RecBole's fields are separated by tab"
        )
    for column in columns:
        name, colon, kind = column.rpartition(":")
        if not colon or kind not in _TYPES:
            raise DataError(
                f"{path}: line 1: '{column:.60}' is not FIELD:TYPE with one of {', '.join(_TYPES)}, e.g. user_id:token"
            )
        header[name] = column
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(f"{path}: line 1: no field {', '.join(missing)}; the header has {', '.join(header)}")
    types = {header[name]: dtype for name, dtype in wanted.items()}
    rows = scanner.delimited(path, types, separator="\t", quote=None)
    return rows.rename({header[name]: name for name in wanted})
