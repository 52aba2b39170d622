"""Raw ids to numbers: codes for the work in memory, and the final ids from 1.

Ids follow the raw ids by (length, text), so that numeric raw ids sort as numbers, and tell nothing
of time or popularity.
"""

from __future__ import annotations

import polars as pl

from ckf.data.ingest import Ingested


def sorted_ids(values: pl.Series) -> pl.Series:
    """Unique raw ids, shorter ones first, then by text. String [n]"""
    table = values.alias("id").unique().drop_nulls().to_frame()
    return table.sort(pl.col("id").str.len_chars(), "id").to_series()


def coded_rows(data: Ingested) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """The good rows as numbers, some 30 bytes each, and the raw ids of the user and item codes.

    Columns: row (place in ``data.table``), user, item (codes), rating Float32, click, timestamp,
    review_bytes (0 = no review), and where the source has them split and history_length.
    """
    table = data.table.drop("line", "file").with_row_index("row")
    if table["fault"].null_count() < table.height:
        table = table.filter(pl.col("fault").is_null())
    (users, user_names), (items, item_names) = (_coded(table[kind]) for kind in ("user", "item"))
    rows = table.drop("fault").with_columns(users, items, pl.col("rating").cast(pl.Float32))
    return rows, user_names, item_names


def _coded(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Place of each raw id among the sorted ones (UInt32), and those; categories come in any order."""
    seen = column.to_physical()
    top = seen.max()
    places = pl.int_range(0 if top is None else top + 1, dtype=pl.UInt32, eager=True).alias("seen")  # type: ignore[operator]
    names = places.to_frame().select("seen", id=pl.col("seen").cat.to(column.dtype).cast(pl.String))
    names = names.sort(pl.col("id").str.len_chars(), "id")
    code_of = names.select(pl.col("seen").arg_sort()).to_series().cast(pl.UInt32)
    return code_of.gather(seen).alias(column.name), names["id"]


def final_ids(codes: pl.Series, raw_ids: pl.Series, more: pl.Series | None = None) -> pl.DataFrame:
    """The ids that are left: ``id`` Int32 from 1, ``raw_id``; ``more`` raw ids (of histories) are added."""
    left = raw_ids.gather(codes.unique())
    if more is not None:
        left = pl.concat([left.rename("id"), more.rename("id")])
    ordered = sorted_ids(left)
    return pl.DataFrame({"id": pl.int_range(1, len(ordered) + 1, dtype=pl.Int32, eager=True), "raw_id": ordered})


def to_final(codes: pl.Series, raw_ids: pl.Series, final: pl.DataFrame) -> pl.Series:
    """Final id of each code. Int32"""
    table = raw_ids.alias("raw_id").to_frame().join(final, on="raw_id", how="left", maintain_order="left")
    return table["id"].gather(codes)


def history_items(data: Ingested, rows: pl.Series) -> pl.Series | None:
    """Raw ids that stand in the histories of these rows; None where the source brings none."""
    if not data.has_histories:
        return None
    found = data.texts(rows).select(pl.col("history").explode(keep_nulls=False, empty_as_null=False).unique())
    return found.to_series().drop_nulls()
