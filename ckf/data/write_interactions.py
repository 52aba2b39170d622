"""The dataset's interactions on disk, in their order: review texts go through in bounded portions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from ckf.data.ingest import LoadedInteractions

_GROUP_ROWS = 100_000
_SHARE = 12  # of dataset.memory_mb that one portion of text may take: one read, one sorted, some on their way out
_ROW_BYTES = 64
TYPES: dict[str, Any] = {
    "user": pl.Int32,
    "item": pl.Int32,
    "rating": pl.Float32,
    "click": pl.Int8,
    "timestamp": pl.Int64,
    "review": pl.String,
    "split": pl.String,
}


def write_interactions(
    rows: pl.DataFrame, data: LoadedInteractions, items: pl.DataFrame, memory_mb: int, path: Path
) -> None:
    """Write the rows with their reviews (and histories) in the order of ``rows``.

    ``rows``: row, user, item (final ids), rating, click, timestamp, review_bytes, split. Texts on disk are
    dealt into portions of consecutive places first, each of a size for memory, and sorted one by one.
    """
    types = TYPES | ({"history": pl.List(pl.Int32)} if data.has_histories else {})
    ids = [_history_ids(items)] if data.has_histories else []

    def finished(part: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        return part.hstack(texts).with_columns(ids).select(pl.col(name).cast(kind) for name, kind in types.items())

    def portions(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        start = 0
        for texts in _sorted_portions(rows, data, memory_mb * 2**20 // _SHARE):
            yield finished(rows[start : start + texts.height], texts)
            start += texts.height

    if isinstance(data.text, pl.DataFrame):
        whole = finished(rows, data.text[rows["row"]]).lazy()
    else:
        whole = register_io_source(portions, schema=types)
    whole.sink_parquet(path, compression="lz4", statistics=False, row_group_size=_GROUP_ROWS, engine="streaming")


def _history_ids(items: pl.DataFrame) -> pl.Expr:
    """Final item ids of the source's histories."""
    known = pl.element().cast(pl.Enum(items["raw_id"]), strict=False).to_physical().cast(pl.Int32) + 1
    return pl.col("history").list.eval(known).list.drop_nulls()


def _sorted_portions(rows: pl.DataFrame, data: LoadedInteractions, budget: int) -> Iterator[pl.DataFrame]:
    """Texts from the disk in the order of ``rows``, as many at a time as ``budget`` bytes hold."""
    sizes = (rows["review_bytes"].to_numpy().astype(np.int64) + _ROW_BYTES).cumsum()
    bounds = np.unique([0, *np.searchsorted(sizes, np.arange(budget, sizes[-1], budget)), rows.height])
    folder = data.scanner.scratch / "portions"
    folder.mkdir()
    _deal(rows, data, bounds, folder)
    for number in range(len(bounds) - 1):
        parts = sorted(folder.glob(f"{number}-*.arrow"))
        yield pl.concat(pl.read_ipc(part) for part in parts).sort("place").drop("place")
        for part in parts:
            part.unlink()


def _deal(rows: pl.DataFrame, data: LoadedInteractions, bounds: np.ndarray, folder: Path) -> None:
    """Read the texts once and put each into its portion; then delete the file that they came from."""
    for stretch, (places, texts) in enumerate(data.stretches(rows["row"])):
        order = places.arg_sort()
        ordered, texts = places.gather(order), texts[order]
        cuts = np.searchsorted(ordered.to_numpy(), bounds)
        for number, (first, stop) in enumerate(pairwise(cuts)):
            if first < stop:
                mine = texts[first:stop].with_columns(place=ordered[first:stop])
                mine.write_ipc(folder / f"{number}-{stretch}.arrow")
    if isinstance(data.text, Path):
        data.text.unlink()
