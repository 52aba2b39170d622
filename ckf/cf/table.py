"""What a CF model is fitted on and asked for: arrays of one dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Interactions:
    """Rows of one split as arrays [n]; ``rating`` is NaN where the source has none."""

    user: np.ndarray
    item: np.ndarray
    click: np.ndarray
    rating: np.ndarray

    @property
    def has_ratings(self) -> bool:
        """Whether every row is rated."""
        return bool(len(self.rating)) and not np.isnan(self.rating).any()


@dataclass(frozen=True)
class CFData:
    """Train and val interactions and the largest ids; CF models are never handed the test split."""

    train: Interactions
    val: Interactions
    n_users: int
    n_items: int

    @classmethod
    def load(cls, dataset: Path) -> CFData:
        """Read a dataset artifact."""
        columns = ["user", "item", "click", "rating", "split"]
        rows = pd.read_parquet(dataset / "interactions.parquet", columns=columns)
        largest = [
            int(pd.read_parquet(dataset / f"{kind}s.parquet", columns=[kind])[kind].max()) for kind in ("user", "item")
        ]
        return cls(_split(rows, "train"), _split(rows, "val"), *largest)


def _split(rows: pd.DataFrame, name: str) -> Interactions:
    part = rows[rows["split"] == name]
    return Interactions(
        user=part["user"].to_numpy(np.int64),
        item=part["item"].to_numpy(np.int64),
        click=part["click"].to_numpy(np.float64),
        rating=part["rating"].to_numpy(np.float64),
    )
