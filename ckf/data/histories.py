"""Histories: the user's last items before the target, oldest first, for all rows at once."""

from __future__ import annotations

import numpy as np

from ckf.data.interactions import InteractionLog
from ckf.data.ragged import RaggedArray


class Histories:
    """The histories that one pool of interactions gives (the liked ones, or for the rating task all).

    Never the target, nor another item of its title: a second edition would name the answer.
    ``same_time``: ``exclude`` keeps strictly earlier items only; ``keep`` adds those of the target's own
    second that come before it in the dataset's order (time, then item), so no two targets see each other.
    """

    def __init__(self, log: InteractionLog, pool: np.ndarray, last: int, *, keep_same_time: bool) -> None:
        self.log, self.last, self.keep_same_time = log, last, keep_same_time
        order = np.lexsort((log.item, log.timestamp, log.user))
        user, time = log.user[order], log.timestamp[order]
        before = np.concatenate([[0], np.cumsum(pool[order])]).astype(np.int64)
        self.rows = order[pool[order]]  # the pool in each user's order
        new_user = np.r_[True, user[1:] != user[:-1]][: len(order)]
        cut = np.arange(len(order))
        if not keep_same_time:  # the same second is not earlier
            cut = np.maximum.accumulate(np.where(new_user | np.r_[True, time[1:] != time[:-1]][: len(order)], cut, 0))
        first = np.maximum.accumulate(np.where(new_user, np.arange(len(order)), 0))
        self.start, self.stop = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        self.start[order], self.stop[order] = before[first], before[cut]

    def of(self, rows: np.ndarray) -> RaggedArray:
        """History of each of these interactions, as rows of the log."""
        if self.log.history is not None:
            raise ValueError("the source brings its own histories; see imported_histories")
        targets = self.log.title[self.log.item[rows]]
        start, stop = self.start[rows], self.stop[rows]
        window = np.full(len(rows), self.last, dtype=np.int64)
        while True:
            found = RaggedArray.ranges(self.rows, np.maximum(start, stop - window), stop)
            found = found.kept(self.log.title[self.log.item[found.values]] != targets[found.row_of])
            # where items of the target's title were dropped, older items take their place
            short = (found.lengths < self.last) & (stop - window > start)
            if not short.any():
                return found.last(self.last)
            window[short] *= 2


def imported_histories(log: InteractionLog, rows: np.ndarray, last: int, *, keep_same_time: bool) -> RaggedArray:
    """The source's own histories as item ids, without the target and other items of its title.

    With ``keep_same_time`` False, items known to be of the target's own second go too.
    """
    assert log.history is not None
    found = log.history.take(rows)
    owner = found.row_of
    keep = log.title[found.values] != log.title[log.item[rows]][owner]
    if not keep_same_time:
        known = log.pairs.rows(log.user[rows][owner], found.values)
        keep &= ~((known >= 0) & (log.timestamp[known] == log.timestamp[rows][owner]))
    return found.kept(keep).last(last)
