"""Data of CF models: the interactions to fit on and the pairs to score, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ckf.cf.features.padded_histories import earlier_likes, padded_histories, without_item
from ckf.core.artifact_store import read_json
from ckf.data.titles import read_item_titles
from ckf.metrics.ranking import gains_at

VAL_NDCG = "val_ndcg@10"


@dataclass(frozen=True)
class CFBatch:
    """Pairs to score, each with the items that its user liked earlier.

    ``user`` and ``item`` [n]; ``history`` int32 [n, H], oldest first, padded with 0 at the left. An id
    without training rows, or beyond a model's tables, is cold: every model scores it.
    """

    user: np.ndarray
    item: np.ndarray
    history: np.ndarray

    @classmethod
    def of_pairs(cls, user: np.ndarray, item: np.ndarray) -> CFBatch:
        """Pairs without histories, for models that read none."""
        return cls(np.asarray(user), np.asarray(item), np.zeros((len(user), 0), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.user)

    def within(self, n_users: int, n_items: int) -> CFBatch:
        """The same pairs with ids beyond the tables made 0, the id of what is unknown."""
        return CFBatch(
            np.where(self.user <= n_users, self.user, 0),
            np.where(self.item <= n_items, self.item, 0),
            np.where(self.history <= n_items, self.history, 0),
        )

    def rows(self, chosen: np.ndarray | slice) -> CFBatch:
        """Some of the pairs."""
        return CFBatch(self.user[chosen], self.item[chosen], self.history[chosen])


@dataclass(frozen=True)
class Interactions:
    """Rows of one split as arrays [n]; ``rating`` is NaN where the source has none.

    ``timestamp`` is in seconds (0 where unknown), or an order alone where ``timed`` is false; ``history`` int32
    [n, H], empty (H = 0) for models that do not read it.
    """

    user: np.ndarray
    item: np.ndarray
    click: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    history: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.int32))
    timed: bool = True

    @property
    def has_ratings(self) -> bool:
        """Whether every row is rated."""
        return bool(len(self.rating)) and not np.isnan(self.rating).any()

    @property
    def batch(self) -> CFBatch:
        """The rows as pairs to score."""
        histories = self.history if len(self.history) else np.zeros((len(self.user), 0), dtype=np.int32)
        return CFBatch(self.user, self.item, histories)

    @property
    def times(self) -> np.ndarray:
        """Timestamps [n], 0 where there are none."""
        return self.timestamp if len(self.timestamp) else np.zeros(len(self.user), dtype=np.int64)

    def rows(self, chosen: np.ndarray) -> Interactions:
        """Some of the rows."""
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in ("user", "item", "click", "rating")},
            timestamp=self.timestamp[chosen] if len(self.timestamp) else self.timestamp,
            history=self.history[chosen] if len(self.history) else self.history,
        )


@dataclass(frozen=True)
class ValLists:
    """Val likes of implicit feedback, each the first of ``width`` pairs of its user; ``batch`` [lists * width]."""

    batch: CFBatch
    width: int

    def figures(self, score: np.ndarray) -> dict[str, float]:
        """NDCG@10 of the likes; a tied item is ahead; id 0 is no item."""
        by_list = np.where(self.batch.item > 0, score, -np.inf).reshape(-1, self.width)
        ranks = (by_list >= by_list[:, :1]).sum(axis=1)
        return {VAL_NDCG: round(float(gains_at(ranks, 10).mean()), 6)}


@dataclass(frozen=True)
class CFData:
    """Train and val interactions, the largest ids and the titles; CF models are never handed the test split.

    ``implicit``: every row of the dataset is a like. Models are then fitted with drawn negatives
    (`ckf.cf.drawn_negatives`), which add rows to train and val, ``lists`` and how they were drawn (``negatives``).
    ``like_fault``: why an explicit dataset has one class alone, for messages.
    """

    train: Interactions
    val: Interactions
    n_users: int
    n_items: int
    titles: list[str] = field(default_factory=list)  # by item id, "" where there is none; empty: no titles
    implicit: bool = False
    like_fault: str | None = None
    lists: ValLists | None = None
    negatives: str | None = None

    @classmethod
    def load(cls, dataset: Path, history_items: int = 0) -> CFData:
        """Read a dataset artifact, with histories of up to ``history_items`` for models that read them.

        Histories are the dataset's own where it brings some, else the user's earlier clicks of train and val.
        """
        path = dataset / "interactions.parquet"
        columns = ["user", "item", "click", "rating", "timestamp", "split"]
        own = history_items > 0 and "history" in pq.read_schema(path).names
        table = pq.read_table(
            path, columns=[*columns, "history"] if own else columns, filters=[("split", "!=", "test")]
        )
        rows = table.select(columns).to_pandas()
        item = rows["item"].to_numpy(np.int64)
        if own:
            histories = without_item(padded_histories(table["history"], history_items), item)
        elif history_items:
            user, click, when = (rows[name].to_numpy() for name in ("user", "click", "timestamp"))
            histories = without_item(earlier_likes(user, item, click, when, history_items), item)
        else:
            histories = np.zeros((len(rows), 0), dtype=np.int32)
        titles = read_item_titles(dataset)
        n_users = int(pd.read_parquet(dataset / "users.parquet", columns=["user"])["user"].max())
        manifest = read_json(dataset / "manifest.json") if (dataset / "manifest.json").is_file() else {}
        timed = manifest.get("times", "seconds") == "seconds"
        train, val = (_split(rows, histories, name, timed=timed) for name in ("train", "val"))
        implicit, fault = manifest.get("feedback") == "implicit", manifest.get("like_fault")
        return cls(train, val, n_users, len(titles) - 1, titles, implicit, fault)


def _split(rows: pd.DataFrame, histories: np.ndarray, name: str, *, timed: bool) -> Interactions:
    keep = (rows["split"] == name).to_numpy()
    part = rows[keep]
    return Interactions(
        user=part["user"].to_numpy(np.int64),
        item=part["item"].to_numpy(np.int64),
        click=part["click"].to_numpy(np.float64),
        rating=part["rating"].to_numpy(np.float64),
        timestamp=part["timestamp"].to_numpy(np.int64),
        history=histories[keep],
        timed=timed,
    )
