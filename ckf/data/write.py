"""The dataset's tables on disk, in their order, with review texts streamed through in bounded portions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ckf.data.codes import review_text
from ckf.data.ingest import Ingested

_PORTION_ROWS = 200_000
_SHARE = 6  # of dataset.memory_mb that one portion of text may take: a part read, its sorted copy, the writer
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

    ``rows``: row, user, item (final ids), rating, click, timestamp, split. When the text is too much
    for memory, it is dealt into portions of consecutive places first; each is sorted by itself.
    """
    columns = {"review": review_text()}
    if "history" in data.rows.collect_schema().names():
        columns["history"] = _history_ids(items)
    if data.in_memory:
        text = data.rows.select("row", **columns).collect()
        _finish(_joined(rows, text)).write_parquet(path, compression="lz4", row_group_size=_PORTION_ROWS)
        return
    parts = _dealt(rows, data, columns, memory_mb, data.scanner.scratch / "portions")
    pl.scan_parquet(parts).sink_parquet(
        path, compression="lz4", row_group_size=_PORTION_ROWS, maintain_order=True, engine="streaming"
    )
    for part in parts:
        part.unlink()


def _history_ids(items: pl.DataFrame) -> pl.Expr:
    """Final item ids of the source's histories."""
    known = pl.element().cast(pl.Enum(items["raw_id"]), strict=False).to_physical().cast(pl.Int32) + 1
    return pl.col("history").list.eval(known).list.drop_nulls()


def _joined(rows: pl.DataFrame, text: pl.DataFrame) -> pl.DataFrame:
    """The text beside its rows: by place where every row of the source is there, else by number."""
    place = np.full(int(text["row"].max() or 0) + 1, -1, dtype=np.int64)  # type: ignore[arg-type]
    place[text["row"].to_numpy()] = np.arange(text.height)
    return rows.hstack(text.drop("row")[place[rows["row"].to_numpy()]])


def _finish(rows: pl.DataFrame) -> pl.DataFrame:
    extra = [name for name in ("history",) if name in rows.columns]
    return rows.select([pl.col(name).cast(dtype) for name, dtype in TYPES.items()] + [pl.col(name) for name in extra])


def _dealt(rows: pl.DataFrame, data: Ingested, columns: dict[str, pl.Expr], memory_mb: int, folder: Path) -> list[Path]:
    """Write portions of consecutive places, each sorted; together they are the whole in its order."""
    folder.mkdir()
    budget = memory_mb * 2**20 // _SHARE
    sizes = (rows["review_bytes"].to_numpy().astype(np.int64) + _ROW_BYTES).cumsum()
    portion_of_place = (sizes - 1) // budget
    portions = int(portion_of_place[-1]) + 1
    total = int(rows["row"].max() or 0) + 1  # type: ignore[arg-type]
    place_of_row = np.full(total, -1, dtype=np.int64)
    place_of_row[rows["row"].to_numpy()] = np.arange(rows.height)
    for seen in range(0, total, _PORTION_ROWS):  # each stretch is dealt to the portions its rows belong to
        text = data.portion(seen, _PORTION_ROWS).select("row", **columns).collect(engine="streaming")
        place = place_of_row[text["row"].to_numpy()]
        text = text.with_columns(place=pl.Series(place)).filter(pl.col("place") >= 0)
        text = text.with_columns(portion=pl.Series(portion_of_place[text["place"].to_numpy()]))
        for (portion,), part in text.partition_by("portion", as_dict=True, include_key=False).items():
            part.write_ipc(folder / f"{portion}-{seen}.arrow")
    return [_sorted_portion(rows, folder, number, portion_of_place) for number in range(portions)]


def _sorted_portion(rows: pl.DataFrame, folder: Path, number: int, portion_of_place: np.ndarray) -> Path:
    first, stop = np.searchsorted(portion_of_place, [number, number + 1])
    parts = sorted(folder.glob(f"{number}-*.arrow"))
    text = pl.concat(pl.read_ipc(part) for part in parts).sort("place")
    path = folder / f"{number}.parquet"
    whole = rows[int(first) : int(stop)].hstack(text.drop("row", "place"))
    _finish(whole).write_parquet(path, compression="lz4", statistics=False)
    for part in parts:
        part.unlink()
    return path
