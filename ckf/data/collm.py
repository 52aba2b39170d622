"""CoLLM's pickled split (arXiv 2310.19488): train, valid and test tables with histories of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ckf.config.schema import CollmConfig
from ckf.data.source import Source
from ckf.data.unpickle import read_pickled_table
from ckf.errors import DataError

FILES = {"train": "train_ood2.pkl", "val": "valid_ood2.pkl", "test": "test_ood2.pkl"}
_COLUMNS = ("uid", "iid", "label", "timestamp", "his", "his_title", "title")


def read_collm(cfg: CollmConfig) -> Source:
    """Read the three tables; user and item ids stay as they are (from 1, 0 is padding).

    ``his`` is each row's earlier positives with a leading 0. Titles are ``numpy.str_`` and become
    ``str``, since prompts would otherwise read ``np.str_('...')``.
    """
    parts = []
    titles: dict[int, str] = {}
    for split, name in FILES.items():
        path = Path(cfg.root) / name
        table = _checked(read_pickled_table(path), path)
        for items, names in zip(table["his"], table["his_title"], strict=True):  # of equal lengths: _checked
            titles.update((int(i), str(t)) for i, t in zip(items, names, strict=True) if i)
        titles.update((int(i), str(t)) for i, t in zip(table["iid"], table["title"], strict=True))
        parts.append(
            pd.DataFrame(
                {
                    "user": table["uid"].to_numpy(np.int32),
                    "item": table["iid"].to_numpy(np.int32),
                    "rating": np.float32("nan"),
                    "click": table["label"].to_numpy(np.int8),
                    "timestamp": table["timestamp"].to_numpy(np.int64),
                    "review": None,
                    "split": split,
                    "history": [[int(i) for i in items if i] for items in table["his"]],
                }
            )
        )
    interactions = pd.concat(parts, ignore_index=True)
    items = pd.DataFrame(sorted(titles.items()), columns=["item", "title"])
    users = np.unique(interactions["user"])
    return Source(
        interactions=interactions,
        items=items.assign(raw_id=items["item"].astype(str)),
        users=pd.DataFrame({"user": users, "raw_id": users.astype(str)}),
        card={
            "source": "CoLLM's processed MovieLens-1M",
            "licence": "GroupLens terms: research use, no redistribution without permission, no commercial use",
            "rows_read": {split: len(part) for split, part in zip(FILES, parts, strict=True)},
        },
    )


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, table.columns))}")
    for name in ("uid", "iid"):
        bad = np.flatnonzero(table[name].to_numpy() < 1)
        if len(bad):
            raise DataError(f"{path}: row {bad[0]}: {name} is {table[name].iloc[bad[0]]}; ids start at 1")
    uneven = (table["his"].map(_length) != table["his_title"].map(_length)) | (table["his"].map(_length) < 0)
    bad = np.flatnonzero(uneven.to_numpy())
    if len(bad):
        raise DataError(f"{path}: row {bad[0]}: his and his_title must be lists of one length")
    bad = np.flatnonzero(~table["label"].isin((0, 1)).to_numpy())
    if len(bad):
        raise DataError(f"{path}: row {bad[0]}: label is {table['label'].iloc[bad[0]]}; allowed are 0 and 1")
    return table


def _length(cell: object) -> int:
    """Length of a list cell, -1 for what is no list."""
    return len(cell) if isinstance(cell, (list, tuple, np.ndarray)) else -1
