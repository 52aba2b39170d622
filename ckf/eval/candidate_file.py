"""Candidate lists of a user's own: a Parquet file with ``user``, ``item`` (the target) and ``candidates``.

Ids are the source's own. A row is for the topk example of its user and target; lists hold the target once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ckf.core.errors import DataError, first_line
from ckf.data.interaction_keys import id_text, ids_by_raw, raw_ids

_COLUMNS = ("user", "item", "candidates")


def read_candidates(path: Path, dataset: Path, split: str) -> pd.DataFrame:
    """The lists as ``example_id`` of the split, ``candidates`` (ckf's ids) and ``position`` of the target.

    Raises:
        DataError: names the file, the row and what is wrong with it.
    """
    try:
        rows = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: no Parquet file ({first_line(error)})") from None
    missing = [name for name in _COLUMNS if name not in rows]
    if missing:
        raise DataError(f"{path}: lacks the column {missing[0]}; a list has {', '.join(_COLUMNS)}")
    if rows.empty:
        raise DataError(f"{path}: holds no rows")
    users, items = (ids_by_raw(raw_ids(dataset, kind)) for kind in ("user", "item"))
    lists: list[tuple[str, list[int], int]] = []
    first: dict[str, int] = {}
    for number, (user, item, candidates) in enumerate(zip(*(rows[name] for name in _COLUMNS), strict=True), start=1):
        where = f"{path}: row {number}"
        if not isinstance(candidates, (list, tuple, np.ndarray)):
            raise DataError(f"{where}: candidates: needs a list of items, got '{candidates}'")
        user, item, *candidates = map(id_text, (user, item, *candidates))
        if user not in users:
            raise DataError(f"{where}: user '{user}' is not in the data")
        unknown = [name for name in [item, *candidates] if name not in items]
        if unknown:
            raise DataError(f"{where}: item '{unknown[0]}' is not in the catalogue")
        listed, target = [items[name] for name in candidates], items[item]
        if len(listed) < 2:
            raise DataError(f"{where}: a list needs two candidates at least, got {len(listed)}")
        if listed.count(target) != 1 or len(set(listed)) < len(listed):
            raise DataError(f"{where}: a list holds its target once and no item twice")
        name = f"topk/{split}/{users[user]}-{target}"
        if name in first:
            raise DataError(f"{where}: user '{user}' and item '{item}' have a list already, in row {first[name]}")
        first[name] = number
        lists.append((name, listed, listed.index(target)))
    return pd.DataFrame(lists, columns=["example_id", "candidates", "position"])
