"""Histories as padded index arrays: the items a user liked before each row, oldest first.

Shapes: n rows, H history items; 0 is padding, at the left, so column -1 is always the newest item.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def padded_histories(lists: pa.ChunkedArray, history_items: int) -> np.ndarray:
    """The last ``history_items`` of each list. int32 [n, H]"""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    return _windows(pc.list_flatten(lists).to_numpy(), ends - lengths, ends, history_items)


def earlier_likes(
    user: np.ndarray, item: np.ndarray, click: np.ndarray, timestamp: np.ndarray, history_items: int
) -> np.ndarray:
    """The last items that the user of each row clicked strictly before it (the same second is not before).

    Time order is among the rows given: pass only rows that the model may read. int32 [n, H]
    """
    order = np.lexsort((timestamp, user))
    fresh = np.empty(len(order), dtype=bool)
    fresh[:1] = True
    fresh[1:] = (np.diff(user[order]) != 0) | (np.diff(timestamp[order]) != 0)
    moment = np.empty(len(order), dtype=np.int64)  # rank of (user, timestamp) among the distinct ones
    moment[order] = np.cumsum(fresh)
    liked = order[click[order] > 0]
    ends = np.searchsorted(moment[liked], moment, side="left")
    starts = np.searchsorted(user[liked], user, side="left")
    return _windows(item[liked], starts, ends, history_items)


def without_item(histories: np.ndarray, item: np.ndarray) -> np.ndarray:
    """The histories [n, H] with the row's own item taken out (it becomes padding in its place)."""
    return np.where(histories == item[:, None], 0, histories)


def _windows(values: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int) -> np.ndarray:
    """``values[start:end]`` of each row, cut to the last ``width``. int32 [n, width]"""
    place = ends[:, None] - np.arange(width, 0, -1)
    inside = place >= starts[:, None]
    if not len(values):
        return np.zeros(place.shape, dtype=np.int32)
    return np.where(inside, values[np.where(inside, place, 0)], 0).astype(np.int32)
