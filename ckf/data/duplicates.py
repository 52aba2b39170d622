"""A user's repeated interactions with one item: exact copies, and those that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from ckf.data.codes import cells_of, review_text
from ckf.data.ingest import Ingested
from ckf.errors import DataError


def without_duplicates(rows: pl.DataFrame, data: Ingested, policy: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Keep one row of each (user, item) and say how many went.

    The order among them is by timestamp, rating, click and review, so that the order of lines in a
    file settles nothing. Policy ``first`` or ``last`` keeps that one; ``refuse`` stops.

    Raises:
        DataError: ``refuse``, and a pair stands twice; names the pair and its first two rows.
    """
    pair = pl.col("user").cast(pl.UInt64) * 2**32 + pl.col("item")
    twice = rows.select(pair.is_duplicated()).to_series()
    counts = {"policy": policy, "exact_copies_dropped": 0, "other_repeats_dropped": 0}
    if not twice.any():
        return rows, counts
    repeated = rows.filter(twice).select("row", "user", "item", "timestamp", "rating", "click")
    text = cells_of(data, repeated["row"], {"review": review_text(), "line": pl.col("line"), "file": pl.col("file")})
    repeated = repeated.join(text, on="row")
    content = ["timestamp", "rating", "click", "review"]
    if policy == "refuse":
        _refuse(repeated.sort("user", "item", "file", "line"), data)
    exact = repeated.height - repeated.select("user", "item", *content).n_unique()
    ordered = repeated.sort("user", "item", *content, "row")
    kept = ordered.unique(["user", "item"], keep="first" if policy == "first" else "last", maintain_order=True)
    counts["exact_copies_dropped"] = exact
    counts["other_repeats_dropped"] = repeated.height - kept.height - exact
    gone = ordered.join(kept, on="row", how="anti")["row"]
    return rows.filter(~pl.col("row").is_in(gone.implode())), counts


def _refuse(repeated: pl.DataFrame, data: Ingested) -> None:
    first = repeated.row(0, named=True)
    raw = cells_of(data, repeated["row"][:1], {"user": pl.col("user"), "item": pl.col("item")}).row(0, named=True)
    files = data.source.files
    path = files[first["file"]] if first["file"] < len(files) else "interactions"
    pair = repeated.filter((pl.col("user") == first["user"]) & (pl.col("item") == first["item"]))
    lines = data.scanner.lines_of(Path(path), pair["line"].to_list())
    places = " and ".join(str(lines.get(line, line)) for line in pair["line"].to_list()[:2])
    raise DataError(
        f"{path}: lines {places}: user {raw['user']} and item {raw['item']} stand there {pair.height} times "
        "(dataset.duplicates=refuse; first or last keeps one)"
    )
