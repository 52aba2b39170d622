"""Counted features of users and items, also out of fold, so that no row is described by its own label.

A training row's counts come from the rows of the *other* folds. A fold is drawn for each user and day,
since rows of one session resemble each other and a held-out split shares no session with train.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ckf.cf.data import CFData, Interactions
from ckf.cf.features.titles import Content
from ckf.cf.models.bias import logits, shrunk_mean
from ckf.core.rng import hashed_uniform

DAY = 86_400
ITEM_COUNTS = ("item mean", "item quality", "item count", "title words", "year", "year quality")
USER_COUNTS = ("user mean", "user level", "user count")


@dataclass(frozen=True)
class Counts:
    """Features by id, counted from some rows: ``items`` [n_items + 1, 6] and ``users`` [n_users + 1, 3].

    item mean and user mean: logits of the shrunk click means. item quality: shrunk mean of the click
    minus the user's mean, so that an item is not rated down for its strict users; user level: the
    same with the item's mean. count: log(1 + rows). title words, year quality: the shrunk user-centred
    click of the title's words and of the five years around it.
    """

    mean: float
    items: np.ndarray
    users: np.ndarray

    @classmethod
    def of(cls, rows: Interactions, data: CFData, content: Content, shrinkage: float) -> Counts:
        """Count some rows of a dataset."""
        user, item, click = rows.user, rows.item, rows.click
        mean = float(click.mean()) if len(click) else 0.5
        item_mean = shrunk_mean(item, click, data.n_items, mean, shrinkage)
        user_mean = shrunk_mean(user, click, data.n_users, mean, shrinkage)
        centred = click - user_mean[user]
        words, years = content.qualities(item, centred)
        items = (
            logits(item_mean),
            shrunk_mean(item, centred, data.n_items, 0.0, shrinkage),
            np.log1p(np.bincount(item, minlength=data.n_items + 1)),
            words,
            content.scaled_years,
            years,
        )
        users = (
            logits(user_mean),
            shrunk_mean(user, click - item_mean[item], data.n_users, 0.0, shrinkage),
            np.log1p(np.bincount(user, minlength=data.n_users + 1)),
        )
        return cls(mean, np.stack(items, axis=1), np.stack(users, axis=1))

    def of_pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The counts of each pair's user and item. [n, 9]"""
        return np.concatenate([self.items[item], self.users[user]], axis=1)


def fold_ids(rows: Interactions, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, the same for all rows of a user on one day. [n]"""
    timed = len(rows.timestamp) > 0 and rows.timed
    day = rows.times // DAY if timed else np.zeros(len(rows.user), dtype=np.int64)
    keys = rows.user.astype(np.uint64) * np.uint64(1 << 32) + day.astype(np.uint64)
    if not timed:  # no time, or an order alone: each row by itself
        keys = keys + (rows.item.astype(np.uint64) << np.uint64(8))
    return (hashed_uniform(seed, "count folds", keys, 1)[:, 0] * folds).astype(np.int64)


def out_of_fold(rows: Interactions, folds: int, seed: int) -> Iterator[tuple[np.ndarray, Interactions]]:
    """For each fold the indices of its rows, and the rows of all others."""
    fold = fold_ids(rows, folds, seed)
    for number in range(folds):
        mine = fold == number
        if mine.any():
            yield np.flatnonzero(mine), rows.rows(np.flatnonzero(~mine))
