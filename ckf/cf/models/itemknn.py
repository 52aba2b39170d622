"""Item-based nearest neighbours on likes (Sarwar et al. 2001)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.features.cooccurrence import at_pairs
from ckf.cf.features.counts import out_of_fold
from ckf.cf.models.bias import BiasModel, logits
from ckf.cf.popularity_prior import Ranking
from ckf.cf.val_choice import refuse_one_class
from ckf.config.schema import ItemKNNConfig


class ItemKNNModel:
    """Sum of the shrunk cosines of the history's items with the candidate, k nearest neighbours of each item kept.

    P(click) is a logistic regression on that sum, that sum divided by the history's length, and the item's and the
    user's mean of the bias baseline. It is fitted on training rows whose features come from the other folds.
    """

    def __init__(self, data: CFData, cfg: ItemKNNConfig, seed: int) -> None:
        self.data, self.cfg = data, cfg
        self.history_items = cfg.history_items
        train = data.train
        refuse_one_class("itemknn", data)
        described = np.zeros((len(train.user), 4))
        for mine, others in out_of_fold(train, cfg.folds, seed):
            described[mine] = self._describe(train.batch.rows(mine), *self._tables(others))
        self.near, self.bias = self._tables(train)
        self.model = LogisticRegression(C=1.0, max_iter=1000).fit(described, train.click)
        self.ranking = Ranking.fit(data, self._logit, seed)
        self.metadata: dict[str, Any] = {
            "checkpoint_rule": "none: counts of the training split",
            "ranking": self.ranking.metadata,
        }

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """P(click) of each pair. [n]"""
        return expit(self._logit(batch))

    def rating(self, batch: CFBatch) -> np.ndarray:
        """Rating of the bias baseline, as likes do not predict ratings. [n]"""
        return self.bias.rating(batch)

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Weighted sum of popularity and click logit, weights fitted on val. [n]"""
        known = batch.within(self.data.n_users, self.data.n_items)
        return self.ranking.score(known.item, self._logit(batch))

    def vectors(self) -> None:
        """None: this model has no vectors."""
        return

    def user_vectors(self, batch: CFBatch) -> None:
        """None: this model has no vectors."""
        return

    def _logit(self, batch: CFBatch) -> np.ndarray:
        known = batch.within(self.data.n_users, self.data.n_items)
        return self.model.decision_function(self._describe(known, self.near, self.bias))

    def _tables(self, rows: Interactions) -> tuple[sparse.csr_matrix, BiasModel]:
        near = top_neighbours(rows, self.data, self.cfg.neighbours, self.cfg.shrinkage)
        part = CFData(rows, rows, self.data.n_users, self.data.n_items)
        return near, BiasModel(part, shrinkage=5.0)

    @staticmethod
    def _describe(batch: CFBatch, near: sparse.csr_matrix, bias: BiasModel) -> np.ndarray:
        """Summed and mean similarity, logits of the item's and the user's mean click. [n, 4]"""
        close = at_pairs(near, batch.history, batch.item).sum(axis=1)
        length = np.maximum(1, (batch.history > 0).sum(axis=1))
        means = logits(bias.item_mean)[batch.item], logits(bias.user_mean)[batch.user]
        return np.stack([close, close / length, *means], axis=1)


def top_neighbours(rows: Interactions, data: CFData, neighbours: int, shrinkage: float) -> sparse.csr_matrix:
    """Sparse item similarities [n_items + 1, n_items + 1]: cosine times n / (n + shrinkage), n users in common.

    Each row keeps its ``neighbours`` largest entries.
    """
    liked = sparse.csr_matrix((rows.click, (rows.user, rows.item)), shape=(data.n_users + 1, data.n_items + 1))
    liked.eliminate_zeros()
    both = sparse.csr_matrix(liked.T @ liked)
    both.setdiag(0)
    both.eliminate_zeros()
    likes = np.asarray(liked.sum(axis=0)).ravel()
    table = both.tocoo()
    close = table.data / np.sqrt(likes[table.row] * likes[table.col]) * table.data / (table.data + shrinkage)
    order = np.lexsort((table.col, -close, table.row))  # ties by item id: the same on every machine
    row = table.row[order]
    first = np.searchsorted(row, row, side="left")
    keep = order[np.arange(len(row)) - first < neighbours]
    return sparse.csr_matrix((close[keep], (table.row[keep], table.col[keep])), shape=both.shape)
