"""Pairs for BPR (Rendle et al. 2009): what a user liked over what the user did not."""

from __future__ import annotations

import numpy as np

from ckf.cf.data import CFData
from ckf.cf.features.bias_terms import Additive
from ckf.core.rng import generator_for

_CELLS = (
    1 << 26
)  # most bytes of the table of liked pairs; with more pairs some share a cell, and a few unliked ones are skipped
_TRIES = 20  # of drawing an item that the user has not liked


class BPRSampler:
    """For a liked row: another row of its user that was not liked, or, where the user dislikes nothing, a drawn item.

    ``liked``: the rows that BPR trains on. ``negatives``: ``disliked`` as above; with ``sampled`` the item is always
    drawn, from all that the user has not liked, with ``popularity`` by its number of training rows.
    """

    def __init__(self, data: CFData, seed: int, negatives: str = "disliked") -> None:
        train = self.train = data.train
        self.n_items = data.n_items
        self.generator = generator_for(seed, "bpr negatives")
        self.liked = np.flatnonzero(train.click > 0)
        disliked = np.flatnonzero((train.click <= 0) & (negatives == "disliked"))
        self.disliked = disliked[np.argsort(train.user[disliked], kind="stable")]
        self.count = np.bincount(train.user[disliked], minlength=data.n_users + 1)
        self.first = np.cumsum(self.count) - self.count
        cells = (data.n_users + 1) * (data.n_items + 1)
        self.taken = np.zeros(min(cells, _CELLS), dtype=bool)
        self.taken[self._cells(train.user[self.liked], train.item[self.liked])] = True
        counts = np.bincount(train.item[self.liked], minlength=data.n_items + 1)
        self.cumulative = np.cumsum(counts) / max(1, counts.sum()) if negatives == "popularity" else None

    def draw(self, rows: np.ndarray, additive: Additive) -> tuple[np.ndarray, np.ndarray]:
        """An item less liked for each row, and its additive logit (out of fold where it is a row). [n], [n]"""
        user = self.train.user[rows]
        has = self.count[user] > 0
        if has.all():
            own = self._own(user)
            return self.train.item[own], additive.train_logit[own]
        drawn = np.zeros(len(rows), dtype=np.int64)
        drawn[~has] = self._not_liked(user[~has])
        offset = additive.mean + additive.user[user] + additive.item[drawn]
        own = self._own(user[has])
        drawn[has], offset[has] = self.train.item[own], additive.train_logit[own]
        return drawn, offset

    def _own(self, user: np.ndarray) -> np.ndarray:
        """A row of each user that was not liked."""
        count = self.count[user]
        return self.disliked[self.first[user] + (self.generator.random(len(user)) * count).astype(np.int64)]

    def _not_liked(self, user: np.ndarray) -> np.ndarray:
        """An item for each user, redrawn while it is one that the user liked in train."""
        drawn = self._items(len(user))
        left = np.arange(len(user))
        for _ in range(_TRIES):
            left = left[self.taken[self._cells(user[left], drawn[left])]]
            if not len(left):
                break
            drawn[left] = self._items(len(left))
        return drawn

    def _items(self, n: int) -> np.ndarray:
        """Items drawn uniformly or by popularity. [n]"""
        if self.cumulative is None:
            return self.generator.integers(1, self.n_items + 1, n)
        found = np.searchsorted(self.cumulative, self.generator.random(n), side="right")
        return np.clip(found, 1, self.n_items)

    def _cells(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Index of each pair in ``taken``; modulo its size where there are more pairs than cells."""
        cells: np.ndarray = user * (self.n_items + 1) + item
        return cells % _CELLS if len(self.taken) == _CELLS else cells
