"""A block of examples as flat columns, together with the interactions that they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ckf.core.split_names import SPLITS
from ckf.data.example_settings import ExampleSettings
from ckf.data.interactions import InteractionLog, lists_of
from ckf.tasks import Task

_RATING_SAID = r"\b[0-9](\.[05])? ?(stars?\b|out of (5|10|five|ten)\b|/ ?(5|10)\b)"


class Block:
    """Examples [n] of any task and split."""

    def __init__(
        self, table: pa.Table, log: InteractionLog, settings: ExampleSettings, train_counts: dict[str, np.ndarray],
        tasks: Mapping[str, Task],
    ):  # fmt: skip
        self.log, self.settings, self.train_counts, self.tasks = log, settings, train_counts, tasks
        self.names = table["example_id"].combine_chunks()
        self.task = np.asarray(table["task"].to_pylist(), dtype=str)
        self.split = pc.fill_null(pc.index_in(table["split"], value_set=pa.array(SPLITS)), -1).to_numpy()
        self.user = table["user"].to_numpy().astype(np.int64)
        self.item = table["item"].to_numpy().astype(np.int64)
        self.label = table["label"].to_numpy()
        self.time = table["timestamp"].to_numpy()
        self.position = table["position"].to_numpy().astype(np.int64)
        self.warm_seen = table["warm_seen"].to_numpy()
        self.warm_3 = table["warm_3"].to_numpy()
        self.history, self.ratings, self.candidates = (
            lists_of(table[name]) for name in ("history", "history_ratings", "candidates")
        )
        self.review = table["review"]
        self.first_task = ""

    def __len__(self) -> int:
        return len(self.user)

    def of(self, chosen: Callable[[Task], bool]) -> np.ndarray:
        """Which examples are of a task that is chosen. bool [n]"""
        return np.isin(self.task, [name for name, task in self.tasks.items() if chosen(task)])

    def seen(self, known: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Training interactions of each user or item id, 0 for unknown ids."""
        counts = self.train_counts["user" if known is self.log.user else "item"]
        inside = ids < len(counts)
        return np.where(inside, counts[np.where(inside, ids, 0)], 0)

    @property
    def drawn(self) -> np.ndarray:
        """Examples whose target is an item drawn for a like. bool [n]"""
        return self.of(lambda task: task.drawn_negatives > 0) & (self.label == 0)

    @property
    def replaced(self) -> np.ndarray:
        """Released ctr examples whose target was replaced by a random item. bool [n]"""
        if not self.settings.released or self.log.history is not None:
            return np.zeros(len(self), dtype=bool)
        return self.of(lambda task: task.random_targets_when_released) & (self.label == 0)

    @cached_property
    def history_in_rated(self) -> np.ndarray:
        """Which history values come with a rating. bool [values]"""
        return self.of(lambda task: task.history_ratings)[self.history.row_of]

    @property
    def title_is_its_own(self) -> np.ndarray:
        """Whether no other item has the target's title. bool [n]"""
        codes = self.log.title_of(self.item)
        return self.train_counts["titles"][codes] == 1

    @property
    def review_bytes(self) -> np.ndarray:
        """Length of the review without outer white space, 0 where there is none."""
        return pc.fill_null(pc.binary_length(pc.utf8_trim_whitespace(self.review)), 0).to_numpy()

    @property
    def review_words(self) -> np.ndarray:
        """Number of words; examples hold them with single spaces between."""
        return pc.fill_null(pc.count_substring(self.review, " "), -1).to_numpy() + 1

    @property
    def review_names_rating(self) -> np.ndarray:
        """Whether the review names a number of stars, or a mark such as 4/5."""
        found = pc.match_substring_regex(self.review, _RATING_SAID, ignore_case=True)
        return pc.fill_null(found, False).to_numpy(zero_copy_only=False)
