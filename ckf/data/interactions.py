"""A dataset artifact in memory: interactions as flat columns, titles as codes."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckf.core.errors import ArtifactError
from ckf.core.split_names import HISTORY_ONLY, SPLITS
from ckf.data.ragged import PairIndex, RaggedArray
from ckf.tasks.base import Interactions

_COLUMNS = ("user", "item", "rating", "click", "timestamp", "split")


@dataclass(frozen=True)
class InteractionLog:
    """Interactions as columns [n], without their reviews.

    ``split`` is an index into `SPLITS`, 3 for context rows, -1 for any other name. ``catalogue`` holds the
    item ids in order; ``title[i]`` is the code of item ``i``'s normalised title (0 where there is no
    such item): equal codes, equal titles. ``history`` are the source's own, where it brings some.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    click: np.ndarray
    timestamp: np.ndarray
    split: np.ndarray
    catalogue: np.ndarray
    title: np.ndarray
    history: RaggedArray | None = None

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def load(cls, dataset: Path) -> InteractionLog:
        """Read a dataset artifact.

        Raises:
            ArtifactError: a table is missing or lacks a column.
        """
        items = read_table(dataset / "items.parquet", ("item", "title"))
        path = dataset / "interactions.parquet"
        imported = ("history",) if path.is_file() and "history" in pq.read_schema(path).names else ()
        table = read_table(path, (*_COLUMNS, *imported))
        codes = {
            name: table[name].to_numpy().astype(kind, copy=False)
            for name, kind in (("user", np.int64), ("item", np.int64), ("click", np.int8), ("timestamp", np.int64))
        }
        rating = pc.fill_null(table["rating"].cast(pa.float32()), np.nan).to_numpy()
        split = pc.fill_null(pc.index_in(table["split"], value_set=pa.array([*SPLITS, HISTORY_ONLY])), -1).to_numpy()
        history = lists_of(table["history"]) if imported else None
        catalogue = np.sort(items["item"].to_numpy().astype(np.int64))
        largest = max([int(part.max(initial=0)) for part in (codes["item"], catalogue)])
        if history is not None:
            largest = max(largest, int(history.values.max(initial=0)))
        title = np.zeros(largest + 1, dtype=np.int32)
        names = normalised_titles(items["item"].to_pylist(), items["title"].to_pylist())
        known: dict[str, int] = {}
        title[list(names)] = [known.setdefault(name, len(known) + 1) for name in names.values()]
        return cls(
            **codes, rating=rating, split=split.astype(np.int8), catalogue=catalogue, title=title, history=history
        )

    @cached_property
    def pairs(self) -> PairIndex:
        """Look-up of interactions by (user, item)."""
        return PairIndex(self.user, self.item)

    @property
    def train(self) -> np.ndarray:
        """Which interactions are for training. bool [n]"""
        return self.split == 0

    @property
    def known_in_training(self) -> np.ndarray:
        """Which interactions a training prompt may show: training rows and context rows. bool [n]"""
        return (self.split == 0) | (self.split == 3)

    def columns(self, has_review: np.ndarray | None = None) -> Interactions:
        """What a task may select and label its examples by; without ``has_review``, no row has a review."""
        known = np.zeros(len(self), dtype=bool) if has_review is None else has_review
        return Interactions(self.user, self.item, self.click, self.rating, self.timestamp, known)

    def all_liked(self) -> InteractionLog:
        """The same with every interaction counted as a positive, as the released code does."""
        return replace(self, click=np.ones_like(self.click))

    def title_of(self, items: np.ndarray) -> np.ndarray:
        """Title code of each item id, 0 for ids that name no item. int32"""
        inside = (items >= 0) & (items < len(self.title))
        return np.where(inside, self.title[np.where(inside, items, 0)], 0)

    def train_counts(self, kind: str) -> np.ndarray:
        """Number of training interactions of each user or item id. int64 [largest id + 1]"""
        ids: np.ndarray = getattr(self, kind)
        length = len(self.title) if kind == "item" else int(ids.max(initial=0)) + 1
        return np.bincount(ids[self.train], minlength=length)


def read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Read columns of a table of ours.

    Raises:
        ArtifactError: the file is missing or lacks a column.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; build the dataset first (ckf prepare)")
    missing = [name for name in columns if name not in pq.read_schema(path).names]
    if missing:
        raise ArtifactError(f"{path}: column {', '.join(missing)} is missing; another version of ckf wrote it")
    return pq.read_table(path, columns=list(columns))


def lists_of(column: pa.ChunkedArray | pa.Array) -> RaggedArray:
    """Flatten a list column (null lists count as empty)."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return RaggedArray(pc.list_flatten(column).to_numpy(zero_copy_only=False), offsets)


def normalised_titles(items: list[int], titles: list[str]) -> dict[int, str]:
    """Titles as a reader would compare them: no case, no punctuation, one form of each letter.

    A title of punctuation alone ("!!!") is compared unchanged; else all such titles would be equal.
    """
    found = {}
    for item, title in zip(items, titles, strict=True):
        folded = unicodedata.normalize("NFKC", title or "").casefold()
        found[int(item)] = "".join(filter(str.isalnum, folded)) or folded
    return found
