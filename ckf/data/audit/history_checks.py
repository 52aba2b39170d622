"""Checks of histories and labels. A history may hold only the user's own interactions, all before the target."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ckf.data.audit.counters import Tally
from ckf.data.audit.example_batch import Block
from ckf.data.interactions import InteractionLog
from ckf.data.ragged import RaggedArray

_CHUNK = 2**16


class EarlierCounts:
    """How many of a user's pooled interactions are strictly earlier than a time."""

    def __init__(self, log: InteractionLog) -> None:
        self.log = log
        self.times = np.unique(log.timestamp)
        self.pool = cache(self._pool)

    def _pool(self, everything: bool, training: bool) -> np.ndarray:
        log = self.log
        rows = np.ones(len(log), dtype=bool) if everything else log.click == 1
        if training:
            rows &= log.known_in_training
        return np.sort(self._key(log.user[rows], log.timestamp[rows]))

    def _key(self, user: np.ndarray, time: np.ndarray) -> np.ndarray:
        return user * (len(self.times) + 1) + np.searchsorted(self.times, time)

    def count(self, user: np.ndarray, time: np.ndarray, *, everything: bool, training: bool) -> np.ndarray:
        """Number of earlier interactions of each (user, time). int64"""
        keys = self.pool(everything, training)
        return np.searchsorted(keys, self._key(user, time)) - np.searchsorted(keys, user * (len(self.times) + 1))


def check_past(block: Block, tally: Tally, earlier: EarlierCounts) -> None:
    """Count the faults in the histories of one block."""
    log, names, history = block.log, block.names, block.history
    owner, items = history.row_of, history.values
    same_item = items == block.item[owner]
    title = log.title_of(items)
    tally.add("target_in_history", history.any_of(same_item), names)
    same_title = (title == log.title_of(block.item)[owner]) & (title > 0) & ~same_item & ~block.drawn[owner]
    tally.add("target_title_in_history", history.any_of(same_title), names)
    tally.add("history_ids_in_tables", history.any_of(title == 0), names)
    row = log.pairs.rows(block.user[owner], items)
    known = row >= 0
    when, now = log.timestamp[row], block.time[owner]
    tally.add("history_not_earlier", history.any_of(known & (when > now)), names)
    tally.add("history_at_the_same_time", history.any_of(known & (when == now)), names)
    backwards = np.zeros(len(items), dtype=bool)
    backwards[1:] = known[1:] & known[:-1] & (owner[1:] == owner[:-1]) & (when[1:] < when[:-1])
    tally.add("history_out_of_order", history.any_of(backwards), names)
    tally.add("history_of_another_user", history.any_of(~known), names, history.lengths > 0)
    disliked = known & (log.click[row] == 0) & block.of(lambda task: task.history == "liked")[owner]
    tally.add("history_holds_disliked", history.any_of(disliked), names)
    held_out = known & np.isin(log.split[row], (1, 2))
    training = block.split == 0
    tally.add("train_history_from_held_out", history.any_of(held_out), names, training)
    tally.add("eval_history_from_held_out", history.any_of(held_out), names, ~training)
    tally.add("val_history_from_test", history.any_of(known & (log.split[row] == 2)), names, block.split == 1)
    tally.add("history_too_long", history.lengths > block.settings.longest_history, names)
    rated = block.of(lambda task: task.history_ratings)
    star = log.rating[row[block.history_in_rated]]
    differs = np.zeros(len(items), dtype=bool)
    if len(block.ratings.values) == len(star):
        differs[block.history_in_rated] = ~(
            (star == block.ratings.values) | (np.isnan(star) & np.isnan(block.ratings.values))
        )
    else:
        differs |= block.history_in_rated
    tally.add("history_ratings_differ", history.any_of(differs & known), names, rated)
    _check_lengths(block, tally, earlier)


def _check_lengths(block: Block, tally: Tally, earlier: EarlierCounts) -> None:
    """Histories made here hold the last n interactions. How imported ones were cut is known only to their source."""
    if block.log.history is not None:
        return
    last = block.settings.longest_history
    alone = block.title_is_its_own
    of_all = block.of(lambda task: task.history == "all")
    for everything in (False, True):
        for training in (False, True):
            rows = np.flatnonzero((of_all == everything) & ((block.split == 0) == training) & ~block.drawn)
            if not len(rows):
                continue
            there = earlier.count(block.user[rows], block.time[rows], everything=everything, training=training)
            names = block.names.take(rows)
            length = block.history.lengths[rows]
            tally.add("history_lacks_items", length < np.minimum(there, last), names, alone[rows])
            tally.add("histories_cut", there > last, names)


def check_labels(block: Block, tally: Tally, labels: Mapping[str, np.ndarray]) -> None:
    """Labels, splits, times and warm flags of one block, against the interactions they come from.

    ``labels`` holds what each task makes of each interaction.
    """
    log, names = block.log, block.names
    row = log.pairs.rows(block.user, block.item)
    known = row >= 0
    replaced = block.replaced | block.drawn  # a random item that nobody rated
    tally.add("example_without_interaction", ~known & ~replaced, names)
    look = known & ~replaced
    wrong_split = (log.split[row] != block.split) | (log.timestamp[row] != block.time)
    tally.add("example_in_another_split", wrong_split, names, look)
    label = np.zeros(len(row), dtype=np.float32)
    for name in np.unique(block.task):
        mine = block.task == name
        label[mine] = labels[str(name)][row[mine]]
    tally.add("labels_differ", ~(block.label == label), names, look)
    fewest = np.minimum(block.seen(log.user, block.user), block.seen(log.item, block.item))
    tally.add("warm_flags_from_train", (block.warm_seen != (fewest >= 1)) | (block.warm_3 != (fewest >= 3)), names)
    explain = block.of(lambda task: "review" in task.placeholders)
    tally.add("empty_reviews", block.review_bytes == 0, names, explain)
    tally.add("reviews_cut", block.review_words >= block.settings.review_words, names, explain)
    tally.add("reviews_name_the_rating", block.review_names_rating, names, explain)


def history_marks(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """A 64-bit mark of each ctr history of three items or more, and its user."""
    rows = np.flatnonzero((block.task == block.first_task) & (block.history.lengths >= 3))
    history: RaggedArray = block.history.take(rows)
    place = np.arange(len(history.values), dtype=np.uint64) - np.repeat(
        history.offsets[:-1].astype(np.uint64), history.lengths
    )
    mixed = (history.values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= (place + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(29)
    marks = np.add.reduceat(mixed, history.offsets[:-1]) if len(rows) else np.empty(0, np.uint64)
    return marks, block.user[rows]
