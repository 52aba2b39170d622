"""The dataset's interactions on disk, in their order: review texts go through in bounded portions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from ckf.data.ingest import Ingested

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


def write_interactions(rows: pl.DataFrame, data: Ingested, items: pl.DataFrame, memory_mb: int, path: Path) -> None:
    """Write the rows with their reviews (and histories) in the order of ``rows``.

    ``rows``: row, user, item (final ids), rating, click, timestamp, review_bytes, split. Texts on disk are
    dealt into portions of consecutive places first, each of a size for memory, and sorted one by one.
    """
    types = TYPES | ({"history": pl.List(pl.Int32)} if data.has_histories else {})
    ids = [_history_ids(items)] if data.has_histories else []

    def portions(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        start = 0
        for texts in _texts(rows, data, memory_mb * 2**20 // _SHARE):
            part = rows[start : start + texts.height].hstack(texts).with_columns(ids)
            yield part.select(pl.col(name).cast(dtype) for name, dtype in types.items())
            start += texts.height

    whole = register_io_source(portions, schema=types)
    whole.sink_parquet(path, compression="lz4", row_group_size=_GROUP_ROWS, engine="streaming")


def _history_ids(items: pl.DataFrame) -> pl.Expr:
    """Final item ids of the source's histories."""
    known = pl.element().cast(pl.Enum(items["raw_id"]), strict=False).to_physical().cast(pl.Int32) + 1
    return pl.col("history").list.eval(known).list.drop_nulls()


def _texts(rows: pl.DataFrame, data: Ingested, budget: int) -> Iterator[pl.DataFrame]:
    """Texts in the order of ``rows``, some at a time."""
    if isinstance(data.text, pl.DataFrame):
        for start in range(0, rows.height, _GROUP_ROWS):
            yield data.text[rows["row"][start : start + _GROUP_ROWS]]
        return
    sizes = (rows["review_bytes"].to_numpy().astype(np.int64) + _ROW_BYTES).cumsum()
    bounds = np.unique([0, *np.searchsorted(sizes, np.arange(budget, sizes[-1], budget)), rows.height])
    folder = data.scanner.scratch / "portions"
    folder.mkdir()
    _deal(rows["row"].to_numpy(), data.text, data.table.height, bounds, folder)
    for number in range(len(bounds) - 1):
        parts = sorted(folder.glob(f"{number}-*.arrow"))
        yield pl.concat(pl.read_ipc(part) for part in parts).sort("place").drop("place")
        for part in parts:
            part.unlink()


def _deal(order: np.ndarray, text: Path, height: int, bounds: np.ndarray, folder: Path) -> None:
    """Read the texts once and put each into its portion; afterwards the file that they came from is gone."""
    place_of_row = np.full(height, -1, dtype=np.int32)
    place_of_row[order] = np.arange(len(order), dtype=np.int32)
    for start in range(0, height, _GROUP_ROWS):
        place = place_of_row[start : start + _GROUP_ROWS]
        part = pl.scan_ipc(text).slice(start, _GROUP_ROWS).collect(engine="streaming")
        by_place = np.argsort(place)
        places = place[by_place]
        cuts = np.searchsorted(places, bounds)
        for number, (first, stop) in enumerate(pairwise(cuts)):
            if first < stop:
                mine = part[by_place[first:stop]].with_columns(place=pl.Series(places[first:stop]))
                mine.write_ipc(folder / f"{number}-{start}.arrow")
    text.unlink()
