"""Raw ids to numbers: codes for the work in memory, and the final ids from 1.

Ids follow the raw ids by (length, text), so that numeric raw ids sort as numbers, and tell nothing
of time or popularity.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from ckf.data.ingest import Ingested


def sorted_ids(values: pl.Series) -> pl.Series:
    """Unique raw ids, shorter ones first, then by text. String [n]"""
    table = values.alias("id").unique().drop_nulls().to_frame()
    return table.sort(pl.col("id").str.len_chars(), "id").to_series()


def code_of(column: str, ids: pl.Series) -> pl.Expr:
    """Place of a raw id in ``ids``. UInt32"""
    return pl.col(column).cast(pl.Enum(ids)).to_physical().cast(pl.UInt32)


def coded_rows(data: Ingested) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """Rows without their text, some 30 bytes each, and the raw ids of the user and item codes.

    Columns: row, user, item (codes), rating Float32, click, timestamp, review_bytes (0 = no review),
    and where the source has them split and history_length.
    """
    present = data.rows.collect_schema().names()
    users, items = (
        sorted_ids(data.rows.select(pl.col(kind).unique()).collect(engine="streaming").to_series())
        for kind in ("user", "item")
    )
    extra: dict[str, pl.Expr] = {}
    if "split" in present:
        extra["split"] = pl.col("split")
    if "history" in present:
        extra["history_length"] = pl.col("history").list.len()
    rows = data.rows.select(
        "row",
        code_of("user", users).alias("user"),
        code_of("item", items).alias("item"),
        pl.col("rating").cast(pl.Float32),
        "click",
        "timestamp",
        review_bytes=review_text().str.len_bytes().fill_null(0),
        **extra,
    ).collect(engine="streaming")
    return rows, users, items


def review_text() -> pl.Expr:
    """The review, null where it is blank: an empty text is no review."""
    blank = pl.col("review").str.strip_chars() == ""
    return pl.when(~blank).then(pl.col("review"))


def cells_of(data: Ingested, rows: pl.Series, columns: dict[str, pl.Expr]) -> pl.DataFrame:
    """``columns`` of a few rows, by row number, read from wherever the rows lie."""
    wanted = pl.col("row").is_in(rows.implode())
    return data.rows.filter(wanted).select("row", **columns).collect(engine="streaming")


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
    if "history" not in data.rows.collect_schema().names():
        return None
    found: Any = data.rows.filter(pl.col("row").is_in(rows.implode()))
    found = found.select(pl.col("history").explode(keep_nulls=False, empty_as_null=False).unique())
    return found.collect(engine="streaming").to_series().drop_nulls()
