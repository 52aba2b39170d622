"""A user's repeated interactions with one item: exact copies, and those that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ckf.core.errors import DataError
from ckf.data.ingest import LoadedInteractions


def drop_duplicates(rows: pl.DataFrame, data: LoadedInteractions, policy: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Keep one row of each (user, item), and return how many were dropped.

    The order among them is by timestamp, rating, click and the review's digest, so that the order of
    lines in a file settles nothing. Policy ``first`` or ``last`` keeps that one; ``refuse`` stops.

    Raises:
        DataError: ``refuse``, and a pair occurs twice. The message names the pair and its first two rows.
    """
    counts: dict[str, Any] = {"policy": policy, "exact_copies_dropped": 0, "other_repeats_dropped": 0}
    places = _repeated(rows)
    if not len(places):
        return rows, counts
    repeated = rows[places].select("row", "user", "item", "timestamp", "rating", "click").with_columns(place=places)
    if policy == "refuse":
        _refuse(repeated, data)
    content = ["timestamp", "rating", "click", "review"]
    tied = repeated.select("user", "item", *content[:-1]).is_duplicated()
    reviews = data.digests(repeated.filter(tied)["row"])
    repeated = repeated.join(repeated.filter(tied).select("row", review=reviews), on="row", how="left")
    ordered = repeated.sort("user", "item", *content, "row")
    same_pair = (pl.col("user").diff() == 0) & (pl.col("item").diff() == 0)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in content)
    dropped = same_pair if policy == "first" else same_pair.shift(-1)
    ordered = ordered.select("place", dropped=dropped.fill_null(False), copy=(same_pair & same).fill_null(False))
    dropped_places = ordered.filter("dropped")["place"].to_numpy()
    counts["exact_copies_dropped"] = int(ordered["copy"].sum())
    counts["other_repeats_dropped"] = len(dropped_places) - counts["exact_copies_dropped"]
    kept = np.ones(rows.height, dtype=bool)
    kept[dropped_places] = False
    return rows.filter(pl.Series(kept)), counts


def _repeated(rows: pl.DataFrame) -> np.ndarray:
    """Return the places of the rows whose pair occurs more than once. int64"""
    pair = rows["user"].to_numpy().astype(np.int64) << 32 | rows["item"].to_numpy()
    order = np.argsort(pair)
    same = pair[order[1:]] == pair[order[:-1]]
    return np.sort(order[np.append(same, False) | np.append(False, same)])


def _refuse(repeated: pl.DataFrame, data: LoadedInteractions) -> None:
    pair = data.table[repeated["row"]].select("user", "item", "file", "line").sort("user", "item", "file", "line")
    first = pair.row(0, named=True)
    pair = pair.filter((pl.col("user") == first["user"]) & (pl.col("item") == first["item"]))
    user, item = (data.ids[kind][first[kind]] for kind in ("user", "item"))
    files = data.source.files
    path = files[first["file"]] if first["file"] < len(files) else "interactions"
    lines = data.scanner.lines_of(Path(path), pair["line"].to_list())
    places = " and ".join(str(lines.get(line, line)) for line in pair["line"].to_list()[:2])
    raise DataError(
        f"{path}: lines {places}: user {user} and item {item} occur {pair.height} times "
        "(dataset.duplicates=refuse; first or last keeps one)"
    )
