"""Raw ids to numbers: codes for the work in memory, and the final ids from 1.

Ids follow the raw ids by (length, text), so that numeric raw ids sort as numbers, and tell nothing
of time or popularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl


def sorted_ids(values: pl.Series) -> pl.Series:
    """Unique raw ids, shorter ones first, then by text. String [n]"""
    table = values.alias("id").unique().drop_nulls().to_frame()
    return table.sort(pl.col("id").str.len_chars(), "id").to_series()


@dataclass(frozen=True)
class EncodedIds:
    """One column of raw ids as codes.

    ``codes``: UInt32 [rows], null where the id is missing or blank: the id's place in ``names``, which are the
    different ids without white space around them, in the order of `sorted_ids`. ``trimmed``: rows whose id had some.
    """

    codes: pl.Series
    names: pl.Series
    trimmed: int


def encode_ids(column: pl.Series) -> EncodedIds:
    """Encode a Categorical column of raw ids; the codes do not depend on the order of the rows."""
    seen = column.to_physical()
    top: Any = seen.max()
    places = pl.DataFrame({"seen": np.arange(0 if top is None else top + 1, dtype=np.uint32)})
    table = places.select("seen", raw=pl.col("seen").cat.to(column.dtype).cast(pl.String))
    table = table.with_columns(id=pl.col("raw").str.strip_chars())
    names = sorted_ids(table["id"])
    table = table.join(names.to_frame().with_row_index("code"), on="id", how="left", maintain_order="left")
    codes = table["code"].gather(seen)
    padded = table["raw"] != table["id"]
    trimmed = int(padded.gather(seen).sum() or 0) if padded.any() else 0
    if len(names) and names[0] == "":
        codes = pl.select(pl.when(codes > 0).then(codes)).to_series()
    return EncodedIds(codes.alias(column.name), names, trimmed)


def id_mapping(codes: pl.Series, raw_ids: pl.Series, more: pl.Series | None = None) -> pl.DataFrame:
    """The ids that are left: ``id`` Int32 from 1, ``raw_id``; ``more`` raw ids (of histories) are added.

    ``raw_ids`` are in the order of `sorted_ids`, as `encode_ids` gives them.
    """
    ordered = raw_ids.filter(pl.Series(np.bincount(codes.to_numpy(), minlength=len(raw_ids)) > 0))
    if more is not None:
        ordered = sorted_ids(pl.concat([ordered.rename("id"), more.rename("id")]))
    return pl.DataFrame({"id": pl.int_range(1, len(ordered) + 1, dtype=pl.Int32, eager=True), "raw_id": ordered})


def to_final(codes: pl.Series, raw_ids: pl.Series, final: pl.DataFrame) -> pl.Series:
    """Final id of each code. Int32"""
    table = raw_ids.alias("raw_id").to_frame().join(final, on="raw_id", how="left", maintain_order="left")
    return table["id"].gather(codes)
