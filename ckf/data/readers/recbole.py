"""RecBole's atomic files (Zhao et al., CIKM 2021): tab-separated, each field of the header with its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import RecboleConfig
from ckf.core.errors import DataError
from ckf.core.split_names import SPLITS
from ckf.data.readers.base import Source
from ckf.data.readers.column_names import find_columns
from ckf.data.readers.polars_scan import Scanner, read_header

_TYPES = ("token", "token_seq", "float", "float_seq")
_FAR = 2.0**62
"""Seconds that fit an Int64, and are no time of anything."""
_DEFAULTS = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp", "title": "title"}
_KEYS = {
    kind: f"dataset.{name}_field"
    for kind, name in {"timestamp": "time", "click": "label"}.items()
    | {kind: kind for kind in ("user", "item", "rating", "review", "title")}.items()
}
_KINDS: dict[str, Any] = {
    "user": pl.String, "item": pl.String, "timestamp": pl.Float64, "rating": pl.Float64, "click": pl.Float64,
    "review": pl.String,
}  # fmt: skip


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

    Fields of RecBole's own datasets with other names (movie_title, business_id, stars, …) are recognised. Where the
    default rating field is missing, and nothing is like it, every row is a like.

    Raises:
        DataError: a field that is not in the header, or a header without types.
    """
    files = recbole_files(cfg)
    inter = [path for path in files if path.suffix == ".inter"]
    guesses: list[str] = []
    tables = [
        _interactions(cfg, path, scanner, guesses).with_columns(file=pl.lit(n, pl.UInt16))
        for n, path in enumerate(inter)
    ]
    if cfg.parts:
        tables = [table.with_columns(split=pl.lit(split)) for table, split in zip(tables, SPLITS, strict=True)]
    rows = pl.concat(tables)
    titled = len(files) > len(inter) and bool(cfg.title_field)
    titles = "none: the raw ids"
    if titled:
        wanted = {"item": cfg.item_field, "title": str(cfg.title_field)}
        names, _ = _fields(files[-1], wanted, guesses, {"item": ("id",)})
        items = _read(files[-1], names, {"item": pl.String, "title": pl.String}, scanner).select("item", "title")
        titles = f"field {names['title'].rpartition(':')[0]}"
    else:
        items = rows.select(pl.col("item").unique(), title=pl.lit(None, pl.String))
    return Source(
        interactions=rows,
        items=items,
        files=tuple(inter),
        item_files=tuple(files[len(inter) :]),
        titled=titled,
        guesses=tuple(dict.fromkeys(guesses)),
        card={"source": f"RecBole atomic files, {cfg.prefix}", "licence": cfg.licence, "titles": titles},
    )


def _interactions(cfg: RecboleConfig, path: Path, scanner: Scanner, guesses: list[str]) -> pl.LazyFrame:
    fields = {
        "user": cfg.user_field, "item": cfg.item_field, "timestamp": cfg.time_field, "rating": cfg.rating_field,
        "click": cfg.label_field, "review": cfg.review_field,
    }  # fmt: skip
    wanted = {kind: name for kind, name in fields.items() if name}
    names, missing = _fields(path, wanted, guesses)
    if missing:  # only a rating by its default name
        guesses.append(f"{path.name}: there is no field {cfg.rating_field}, so every row is a like")
    types = {kind: _KINDS[kind] for kind in names}
    rows = _read(path, names, types, scanner)
    if "timestamp" in names:
        time = pl.col("timestamp").fill_nan(None).floor()
        rows = rows.with_columns(time.clip(-_FAR, _FAR).cast(pl.Int64))  # the row checks refuse what was clipped
    if "click" in names:
        label = pl.col("click")
        # what is neither 0 nor 1 becomes -1, which the row checks refuse; a cast alone would round it
        click = pl.when(label.is_in([0.0, 1.0]) | label.is_null()).then(label).otherwise(-1.0).cast(pl.Int8)
        rows = rows.with_columns(click=click)
    return rows


def _fields(
    path: Path, wanted: dict[str, str], guesses: list[str], more: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Columns of the header by meaning, and those without one: at most a rating by its default name."""
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
    found = find_columns(path, wanted, list(header), _DEFAULTS, _KEYS, more)
    implicit = found.missing == ["rating"] and wanted["rating"] == _DEFAULTS["rating"] and "click" not in wanted
    if found.missing and not implicit:
        missing = ", ".join(wanted[kind] for kind in found.missing)
        there = f"{', '.join(header):.400}"
        raise DataError(
            f"{path}: line 1: no field {missing}; the header has {there}; set {_KEYS[found.missing[0]]}=NAME"
        )
    guesses += found.guessed
    return {kind: header[name] for kind, name in found.found.items()}, found.missing


def _read(path: Path, names: dict[str, str], types: dict[str, Any], scanner: Scanner) -> pl.LazyFrame:
    """The columns under their meanings, and ``line``."""
    rows = scanner.delimited(path, {names[kind]: types[kind] for kind in names}, separator="\t", quote=None)
    return rows.select("line", **{kind: pl.col(column) for kind, column in names.items()})
