"""The items table: one row with a title for each item that is left."""

from __future__ import annotations

from typing import Any

import polars as pl

from ckf.data.ingest import LoadedInteractions
from ckf.data.title_join import TitleJoin, measure_titles

MAX_TITLE_CHARS = 2000


def item_table(data: LoadedInteractions, final: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int], TitleJoin]:
    """Rows ``item`` (final id), ``raw_id``, ``title`` and the source's further columns, sorted; counts; the join.

    A title that is missing, blank or longer than a page falls back to the raw id. Control characters
    and runs of white space in a title become one space, since a line end would break a prompt.

    Raises:
        DataError: no item has a title, though the source should have some.
    """
    found = data.items(final["raw_id"])
    title = pl.col("title") if "title" in found.columns else pl.lit(None, dtype=pl.String)
    raw = title.cast(pl.String).fill_null("")
    joined = raw.str.replace_all(r"[\p{Cc}\s]+", " ").str.strip_chars()
    long = joined.str.len_chars() > MAX_TITLE_CHARS
    found = found.with_columns(
        usable=pl.when(~long & (joined != "")).then(joined), changed=joined != raw, long=long
    )  # the first usable title of an item wins, the other columns come from its first row
    place = pl.int_range(pl.len())
    first = found.with_columns(_place=place).sort(pl.col("usable").is_null(), "_place").unique("item", keep="first")
    table = final.rename({"id": "item"}).join(first.rename({"item": "raw_id"}), on="raw_id", how="left")
    table = table.sort("item")
    counts = {
        "item_rows_repeated": found.height - first.height,
        "titles_missing_raw_id_instead": int(table["usable"].is_null().sum()),
        "titles_too_long_raw_id_instead": int((table["long"] & table["usable"].is_null()).sum()),
        "titles_with_white_space_joined": int((table["changed"] & table["usable"].is_not_null()).sum()),
    }
    join = measure_titles(data, table["raw_id"], first["item"], table.height - table["usable"].null_count())
    table = table.with_columns(title=pl.coalesce("usable", "raw_id"))
    extra = [name for name in found.columns if name not in ("item", "title", "usable", "changed", "long")]
    return table.select("item", "raw_id", "title", *extra), counts, join


def user_table(data: LoadedInteractions, final: pl.DataFrame, train: pl.Series) -> pl.DataFrame:
    """Rows ``user`` (final id), ``raw_id``, ``n_train``, ``cold``, and the source's further columns."""
    table = with_train_counts(final.rename({"id": "user"}), "user", train)
    table = table.with_columns(cold=pl.col("n_train") == 0)
    if data.source.users is None:
        return table
    own: Any = data.source.users.collect().unique("user", keep="first").rename({"user": "raw_id"})
    if "cold" in own.columns:
        table = table.drop("cold")
    return table.join(own, on="raw_id", how="left", maintain_order="left")


def with_train_counts(table: pl.DataFrame, kind: str, train: pl.Series) -> pl.DataFrame:
    """Add ``n_train``: how often each id occurs in ``train``. Int32"""
    seen = train.rename(kind).value_counts(name="n_train").cast({"n_train": pl.Int32})
    return table.join(seen, on=kind, how="left", maintain_order="left").with_columns(pl.col("n_train").fill_null(0))
