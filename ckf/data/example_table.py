"""Reading prepared examples: columns in memory, one `Example` at a time on demand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckf.core.errors import ArtifactError, DataError

LISTS = ("candidates", "history", "history_ratings")
"""Columns of the examples that hold a list in each row."""


@dataclass(frozen=True)
class Example:
    """One prompt before wording: ids, history (oldest first), candidates and the label."""

    example_id: str
    task: str
    user: int
    item: int
    label: float
    candidates: np.ndarray
    position: int
    history: np.ndarray
    history_ratings: np.ndarray
    review: str | None

    @property
    def targets(self) -> list[int]:
        """The items that slots or codes represent: the candidates of a list, or the target."""
        return [int(item) for item in self.candidates] if len(self.candidates) else [self.item]


class ExampleTable:
    """The examples of one split, kept as flat columns (lists as offsets and values)."""

    def __init__(self, path: Path, split: str, tasks: list[str]) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file; build the examples first (ckf prepare)")
        # a row group holds one task of one split, so those of other splits are not even decoded
        table = pq.read_table(path, filters=[("split", "==", split), ("task", "in", tasks)]).combine_chunks()
        self.split = split
        self.tasks = tasks
        self.example_id = table["example_id"].to_pylist()
        self.task = np.asarray(table["task"].to_pylist(), dtype=object)
        self.task_index = np.asarray([tasks.index(name) for name in self.task], dtype=np.int64)
        self.user = table["user"].to_numpy().astype(np.int64)
        self.item = table["item"].to_numpy().astype(np.int64)
        self.label = table["label"].to_numpy().astype(np.float64)
        self.position = table["position"].to_numpy().astype(np.int64)
        self.review = table["review"].to_pylist()
        self.warm_seen = table["warm_seen"].to_numpy(zero_copy_only=False)
        self.warm_3 = table["warm_3"].to_numpy(zero_copy_only=False)
        self._lists = {name: _flat(table[name]) for name in LISTS}

    @classmethod
    def of(cls, examples: Sequence[Example], tasks: list[str], split: str) -> ExampleTable:
        """A table of examples that come from no file, without training counts."""
        table = cls.__new__(cls)
        table.split, table.tasks = split, tasks
        table.example_id = [x.example_id for x in examples]
        table.task = np.asarray([x.task for x in examples], dtype=object)
        table.task_index = np.asarray([tasks.index(x.task) for x in examples], dtype=np.int64)
        table.user, table.item, table.position = (
            np.asarray([getattr(x, name) for x in examples], dtype=np.int64) for name in ("user", "item", "position")
        )
        table.label = np.asarray([x.label for x in examples], dtype=np.float64)
        table.review = [x.review for x in examples]
        table.warm_seen = table.warm_3 = np.zeros(len(examples), dtype=bool)
        table._lists = {name: _joined([getattr(x, name) for x in examples]) for name in LISTS}
        return table

    def __len__(self) -> int:
        return len(self.example_id)

    def list_of(self, column: str, index: int) -> np.ndarray:
        """Return one row of a list column (``candidates``, ``history`` or ``history_ratings``)."""
        values, offsets = self._lists[column]
        return values[offsets[index] : offsets[index + 1]]

    def subset(self, rows: np.ndarray) -> ExampleTable:
        """The same table with only these rows, in this order."""
        other = copy.copy(self)
        for name in ("task", "task_index", "user", "item", "label", "position", "warm_seen", "warm_3"):
            setattr(other, name, getattr(self, name)[rows])
        for name in ("example_id", "review"):
            setattr(other, name, [getattr(self, name)[i] for i in rows])
        other._lists = {}
        for name in self._lists:
            other._lists[name] = _joined([self.list_of(name, int(i)) for i in rows])
        return other

    def with_candidates(self, lists: pd.DataFrame) -> ExampleTable:
        """The topk examples that ``lists`` names, with its ``candidates`` and ``position`` in place of their own.

        Raises:
            DataError: none of the lists is for an example of this table.
        """
        place = {name: row for row, name in enumerate(self.example_id)}
        lists = lists[lists["example_id"].isin(place)]
        if lists.empty:
            raise DataError(f"candidates: none of the lists is for a topk example of the {self.split} split")
        other = self.subset(np.asarray([place[name] for name in lists["example_id"]]))
        other.position = lists["position"].to_numpy(np.int64)
        other._lists["candidates"] = _joined([np.asarray(items, dtype=np.int64) for items in lists["candidates"]])
        return other

    def __getitem__(self, index: int) -> Example:
        return Example(
            example_id=self.example_id[index],
            task=self.task[index],
            user=int(self.user[index]),
            item=int(self.item[index]),
            label=float(self.label[index]),
            candidates=self.list_of("candidates", index),
            position=int(self.position[index]),
            history=self.list_of("history", index),
            history_ratings=self.list_of("history_ratings", index),
            review=self.review[index],
        )


def _joined(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lists as values and offsets."""
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return (np.concatenate(parts) if len(parts) else np.empty(0)), offsets


def _flat(column) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]  # pyarrow has no stubs
    """Flatten a chunked list column into values and offsets (null lists count as empty)."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pc.list_flatten(column).to_numpy(), offsets
