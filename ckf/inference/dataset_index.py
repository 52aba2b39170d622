"""Raw ids, titles and each user's history, for prompts outside the prepared examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ckf.data.example_table import Example
from ckf.data.interaction_keys import id_text, ids_by_raw, raw_ids
from ckf.data.titles import read_item_titles
from ckf.tasks import Task

UNKNOWN = 0
"""An id that no table holds: its vector is zero, its history empty."""


@dataclass(frozen=True)
class DatasetIndex:
    """Raw ids and titles by ckf's own ids, and all interactions sorted by user and time.

    ``first`` [n_users + 2]: where each user's interactions begin.
    """

    raw_users: np.ndarray
    raw_items: np.ndarray
    titles: list[str]
    first: np.ndarray
    item: np.ndarray
    click: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    history_items: int

    @classmethod
    def load(cls, dataset: Path, history_items: int) -> DatasetIndex:
        """Read a dataset artifact; prompts are given the last ``history_items`` of a user's past."""
        users, items = (raw_ids(dataset, kind) for kind in ("user", "item"))
        rows = pd.read_parquet(
            dataset / "interactions.parquet", columns=["user", "item", "click", "rating", "timestamp"]
        )
        rows = rows.sort_values(["user", "timestamp"], kind="stable")
        first = np.searchsorted(rows["user"].to_numpy(), np.arange(len(users) + 1))
        columns = {name: rows[name].to_numpy() for name in ("item", "click", "rating", "timestamp")}
        return cls(users, items, read_item_titles(dataset), first, history_items=history_items, **columns)

    @cached_property
    def _numbers(self) -> dict[str, dict[str, int]]:
        return {"user": ids_by_raw(self.raw_users), "item": ids_by_raw(self.raw_items)}

    def user(self, name: object) -> int:
        """ckf's id of a user by the source's own id; `UNKNOWN` where the source has no such id.

        A number is never taken for ckf's id: it would be another user's.
        """
        return self._numbers["user"].get(id_text(name), UNKNOWN)

    @property
    def user_id_examples(self) -> str:
        """The first few of the source's user ids, for messages about an unknown one."""
        return ", ".join(list(self._numbers["user"])[:3])

    def item_number(self, name: object) -> int | None:
        """ckf's id of an item by the source's own id."""
        return self._numbers["item"].get(id_text(name))

    def seen_items(self, user: int) -> np.ndarray:
        """Items that a user has interacted with."""
        return self.item[self.first[user] : self.first[user + 1]]

    def example(self, name: str, task: Task, user: int, item: int, before: int | None = None) -> Example:
        """A prompt about a user and an item, with the user's past strictly before a time (all of it where None)."""
        rows = np.arange(self.first[user], self.first[user + 1]) if user else np.empty(0, dtype=int)
        rows = rows[self.item[rows] != item]
        if task.history == "liked":
            rows = rows[self.click[rows] > 0]
        if task.history_ratings:
            rows = rows[~np.isnan(self.rating[rows])]
        if before is not None:
            rows = rows[self.timestamp[rows] < before]
        rows = rows[-self.history_items :]
        ratings = self.rating[rows] if task.history_ratings else np.empty(0)
        none = np.empty(0, dtype=np.int64)
        return Example(
            f"{name}/own/{user}-{item}", name, user, item, 0.0, none, -1,
            self.item[rows].astype(np.int64), ratings.astype(np.float32), None,
        )  # fmt: skip
