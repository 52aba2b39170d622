"""Bias baseline: item mean plus user mean, shrunk (after Koren, Bell and Volinsky 2009, eq. 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit

from ckf.cf.data import CFBatch, CFData


class BiasModel:
    """Shrunk means of the training split.

    Clicks: ``logit(item mean) + logit(user mean) - logit(global mean)``, each mean shrunk towards the
    global one by ``shrinkage`` pseudo-counts. Ratings: global mean plus the shrunk deviations of item and user.
    Ranking: the item's training positives. The click rate would rank an item that was seen and liked once
    above the most popular one.
    """

    history_items = 0

    def __init__(self, data: CFData, shrinkage: float) -> None:
        train = data.train
        self.sizes = data.n_users, data.n_items
        self.mean = float(train.click.mean())
        self.item_mean = shrunk_mean(train.item, train.click, data.n_items, self.mean, shrinkage)
        self.user_mean = shrunk_mean(train.user, train.click, data.n_users, self.mean, shrinkage)
        self.positives = np.bincount(train.item, weights=train.click, minlength=data.n_items + 1)
        self.rated = train.has_ratings
        if self.rated:
            self.low, self.high = train.rating.min(), train.rating.max()
            self.rating_mean = float(train.rating.mean())
            self.item_rating = shrunk_mean(train.item, train.rating, data.n_items, self.rating_mean, shrinkage)
            self.user_rating = shrunk_mean(train.user, train.rating, data.n_users, self.rating_mean, shrinkage)
        self.metadata: dict[str, Any] = {"checkpoint_rule": "none: counts of the training split"}

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """P(click) of each pair. [n]"""
        batch = batch.within(*self.sizes)
        return expit(logits(self.item_mean)[batch.item] + logits(self.user_mean)[batch.user] - logits(self.mean))

    def rating(self, batch: CFBatch) -> np.ndarray:
        """Expected rating of each pair. [n]"""
        if not self.rated:
            return np.full(len(batch), np.nan)
        batch = batch.within(*self.sizes)
        value = self.item_rating[batch.item] + self.user_rating[batch.user] - self.rating_mean
        return np.clip(value, self.low, self.high)

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Training positives of the item. [n]"""
        return self.positives[batch.within(*self.sizes).item]

    def vectors(self) -> None:
        """None: this model has no vectors."""
        return

    def user_vectors(self, batch: CFBatch) -> None:
        """None: this model has no vectors."""
        return


def logits(means: np.ndarray | float) -> np.ndarray:
    """Logits of click means, in nats; a mean of 0 or 1 (no pseudo-counts, or one class) stays finite."""
    return logit(np.clip(means, 1e-6, 1 - 1e-6))


def shrunk_mean(ids: np.ndarray, values: np.ndarray, largest: int, prior: float, shrinkage: float) -> np.ndarray:
    """Mean of ``values`` by id, shrunk towards ``prior``; ids without rows get ``prior``. [largest + 1]"""
    total = np.bincount(ids, weights=values, minlength=largest + 1) + shrinkage * prior
    count = np.bincount(ids, minlength=largest + 1) + shrinkage
    return np.where(count > 0, total / np.maximum(count, 1e-12), prior)
