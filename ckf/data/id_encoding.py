"""Raw ids to numbers: codes for the work in memory, and the final ids from 1.

Ids follow the raw ids by (length, text), so that numeric raw ids sort as numbers, and tell nothing
of time or popularity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl


def sorted_ids(values: pl.Series) -> pl.Series:
    """Unique raw ids, shorter ones first, then by text. String [n]"""
    table = values.alias("id").unique().drop_nulls().to_frame()
    return table.sort(pl.col("id").str.len_chars(), "id").to_series()


def encode_ids(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Codes of a Categorical column of raw ids (UInt32, null where the id is missing or blank), and those ids.

    A code is the id's place among all in the order of `sorted_ids`, independent of the order they came in.
    """
    seen = column.to_physical()
    top: Any = seen.max()
    places = pl.DataFrame({"seen": np.arange(0 if top is None else top + 1, dtype=np.uint32)})
    names = places.select("seen", id=pl.col("seen").cat.to(column.dtype).cast(pl.String))
    names = names.sort(pl.col("id").str.len_chars(), "id")
    code_of = names.select(pl.col("seen").arg_sort()).to_series().cast(pl.UInt32)
    codes = code_of.gather(seen)
    blank = names["id"].str.strip_chars() == ""
    if blank.any():
        codes = pl.select(pl.when(~blank.gather(codes)).then(codes)).to_series()
    return codes.alias(column.name), names["id"]


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
