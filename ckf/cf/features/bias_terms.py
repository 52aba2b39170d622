"""Bias terms of the embedding models: a logit for each user and each item, fitted on counts."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ckf.cf.data import CFData
from ckf.cf.features.counts import ITEM_COUNTS, Counts, out_of_fold
from ckf.cf.features.titles import Content
from ckf.cf.models.bias import logits

_ROWS = 500_000  # enough for nine weights


class Additive:
    """``s = mean + user[u] + item[v]`` in logits, a logistic regression on `Counts` of user and item.

    ``train_logit`` [n_train] is the same sum from the counts of the *other* folds: a model trained
    on top of it learns the remainder, not the overfitting of the counts. A user without training rows has 0, an
    item the value of its title. `none` is all zeros: no bias terms.
    """

    mean: float
    user: np.ndarray
    item: np.ndarray
    train_logit: np.ndarray

    def __init__(self, data: CFData, content: Content, shrinkage: float, folds: int, seed: int) -> None:
        train = data.train
        described = np.zeros((len(train.user), 9), dtype=np.float32)
        for mine, others in out_of_fold(train, folds, seed):
            described[mine] = Counts.of(others, data, content, shrinkage).of_pairs(train.user[mine], train.item[mine])
        counts = Counts.of(train, data, content, shrinkage)
        if len(np.unique(train.click)) < 2:  # nothing to weigh: the means as they are
            weights, constant = np.zeros(9), float(logits(counts.mean))
        else:
            scale = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            few = slice(None, None, max(1, len(train.user) // _ROWS))
            scale.fit(described[few], train.click[few])
            weights = scale[1].coef_[0] / scale[0].scale_
            constant = float(scale[1].intercept_[0] - weights @ scale[0].mean_)
        cut = len(ITEM_COUNTS)
        user, item = counts.users @ weights[cut:], counts.items @ weights[:cut]
        self.mean = constant + float(user[0] + item[0])
        self.user, self.item = user - user[0], item - item[0]
        self.train_logit = described @ weights + constant

    @classmethod
    def none(cls, data: CFData) -> Additive:
        """Return bias terms that are all 0."""
        empty = cls.__new__(cls)
        empty.mean, empty.train_logit = 0.0, np.zeros(len(data.train.user))
        empty.user, empty.item = np.zeros(data.n_users + 1), np.zeros(data.n_items + 1)
        return empty
