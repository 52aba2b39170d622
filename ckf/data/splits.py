"""Train, val and test."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ckf.config.schema import SplitConfig
from ckf.errors import DataError

SPLITS = ("train", "val", "test")


def assign_split(interactions: pd.DataFrame, cfg: SplitConfig) -> np.ndarray:
    """Name of the split of each row.

    ``temporal``: one cut in time for all users; rows of one instant stay together. ``leave_last_out``:
    each user's last interaction is test, the one before val (users with fewer than three stay in
    train). ``provided``: the source's own.
    """
    match cfg.name:
        case "provided":
            if "split" not in interactions:
                raise DataError(
                    "split.name: 'provided', but the source brings no split; use temporal or leave_last_out"
                )
            return interactions["split"].to_numpy(dtype=object)
        case "temporal":
            return _temporal(interactions["timestamp"].to_numpy(), cfg)
        case "leave_last_out":
            return _leave_last_out(interactions)
    raise ValueError(f"unknown split '{cfg.name}'")


def _temporal(timestamps: np.ndarray, cfg: SplitConfig) -> np.ndarray:
    ordered = np.sort(timestamps)
    n = len(ordered)
    test_from = ordered[min(n - 1, round(n * (1 - cfg.test_fraction)))]
    val_from = ordered[min(n - 1, round(n * (1 - cfg.test_fraction - cfg.val_fraction)))]
    return np.where(timestamps >= test_from, "test", np.where(timestamps >= val_from, "val", "train")).astype(object)


def _leave_last_out(interactions: pd.DataFrame) -> np.ndarray:
    ordered = interactions.sort_values(["user", "timestamp", "item"], kind="stable")
    from_end = ordered.groupby("user").cumcount(ascending=False)
    size = ordered.groupby("user")["item"].transform("size")
    split = np.where((size >= 3) & (from_end == 0), "test", np.where((size >= 3) & (from_end == 1), "val", "train"))
    return pd.Series(split, index=ordered.index).reindex(interactions.index).to_numpy(dtype=object)
