"""Negatives of implicit feedback: items drawn for each like, so that models of likes and dislikes can be fitted.

A training draw avoids what its user liked in train (to look at held-out rows would leak them), a val draw also what
the user liked in val; the test split is never read. Items that train never met are not drawn: a model would learn
that the new is disliked. A draw depends on the seed, the user and the item of its like alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ckf.cf.data import CFBatch, CFData, Interactions, ValLists
from ckf.cf.features.padded_histories import without_item
from ckf.core.rng import hashed_uniform

UNIFORM, POPULARITY = "uniform", "popularity"
PER_LIKE = 4
"""Negatives of each training like for the models with vectors; models that count have one."""
CANDIDATES, LISTS = 50, 2_000
"""Length of the lists that choose an epoch (the like and the items drawn for it), and most of them."""
_ATTEMPTS = 20


def with_drawn_negatives(data: CFData, seed: int, drawn_by: str = UNIFORM, per_like: int = 1) -> CFData:
    """The data of implicit feedback with drawn rows in train (``per_like`` a like) and val (one), and lists for val.

    A drawn row has its like's user, time and history, and no rating. ``drawn_by``: ``uniform``, or by an item's
    ``popularity``, its number of training rows.
    """
    draw = _Draw(data, seed, drawn_by)
    train = _with_rows(data.train, draw.items(data.train, per_like, "train"))
    val = _with_rows(data.val, draw.items(data.val, 1, "val"))
    return replace(data, train=train, val=val, lists=_lists(data.val, draw, seed), negatives=drawn_by)


class _Draw:
    """Items for likes, none of them liked by the user."""

    def __init__(self, data: CFData, seed: int, drawn_by: str) -> None:
        self.seed, self.drawn_by, self.width = seed, drawn_by, data.n_items + 1
        self.known, counts = np.unique(data.train.item, return_counts=True)
        weights = counts if drawn_by == POPULARITY else np.ones(len(counts))
        self.cumulative = np.cumsum(weights) / weights.sum()
        self.liked = {"train": self._keys(data.train), "val": np.union1d(self._keys(data.train), self._keys(data.val))}

    def _keys(self, rows: Interactions) -> np.ndarray:
        return np.unique(rows.user * self.width + rows.item)

    def items(self, rows: Interactions, count: int, split: str) -> np.ndarray:
        """``count`` items for each row; 0 where the user liked all that was drawn. [n, count]"""
        keys, found = rows.user * self.width + rows.item, np.zeros((len(rows.user), count), dtype=np.int64)
        left = np.arange(len(keys))
        for attempt in range(_ATTEMPTS):
            purpose = f"cf negatives by {self.drawn_by}, {split} {count}, {attempt}"
            uniform = hashed_uniform(self.seed, purpose, keys[left].astype(np.uint64), count)
            drawn = self.known[np.minimum(np.searchsorted(self.cumulative, uniform, side="right"), len(self.known) - 1)]
            liked = np.isin(rows.user[left, None] * self.width + drawn, self.liked[split])
            found[left] = np.where((found[left] == 0) & ~liked, drawn, found[left])
            left = left[(found[left] == 0).any(axis=1)]
            if not len(left):
                break
        return found


def _with_rows(rows: Interactions, drawn: np.ndarray) -> Interactions:
    """The rows, and after them a row of click 0 for each drawn item (0 is none)."""
    like, place = np.nonzero(drawn)  # of each like in turn, so that its draws do not depend on the other rows
    more = rows.rows(like)
    item = drawn[like, place]
    return Interactions(
        user=np.concatenate([rows.user, more.user]),
        item=np.concatenate([rows.item, item]),
        click=np.concatenate([rows.click, np.zeros(len(item))]),
        rating=np.concatenate([rows.rating, np.full(len(item), np.nan)]),
        timestamp=np.concatenate([rows.timestamp, more.timestamp]),
        history=np.concatenate([rows.history, without_item(more.history, item) if len(more.history) else more.history]),
        timed=rows.timed,
    )


def _lists(val: Interactions, draw: _Draw, seed: int) -> ValLists:
    """Up to `LISTS` likes of val, the same ones whatever the model, each before the items drawn for it."""
    keys = (val.user * draw.width + val.item).astype(np.uint64)
    order = np.argsort(hashed_uniform(seed, "val likes that choose an epoch", keys, 1)[:, 0], kind="stable")
    chosen = val.rows(np.sort(order[:LISTS]))
    drawn = np.sort(draw.items(chosen, CANDIDATES - 1, "val"), axis=1)
    drawn[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = 0  # an item counts once
    items = np.concatenate([chosen.item[:, None], drawn], axis=1)
    wide = np.repeat(np.arange(len(items)), CANDIDATES)
    batch = chosen.batch
    return ValLists(CFBatch(batch.user[wide], items.ravel(), batch.history[wide]), CANDIDATES)
