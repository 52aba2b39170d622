"""Co-occurrence of items among users: likes of both, and how likers of one item rated the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

from ckf.cf.data import CFData, Interactions
from ckf.cf.features.counts import Counts

PAIR_COUNTS = ("liked together, mean", "liked together, most", "opinion of likers", "likers who spoke")
_SHRINKAGE = 10.0


@dataclass(frozen=True)
class CoOccurrence:
    """Sparse [n_items + 1, n_items + 1] tables, row: an item of the history, column: the candidate.

    ``cosine``: users who liked both over the root of the product of likes (each with one more, so that
    rare pairs do not win), diagonal empty. ``opinion``: sum over the likers of the row's item of their
    click minus its expectation by counting; ``spoke``: how many of them have a row with the candidate.
    """

    cosine: sparse.csr_matrix
    opinion: sparse.csr_matrix
    spoke: sparse.csr_matrix

    @classmethod
    def of(cls, rows: Interactions, data: CFData, counts: Counts) -> CoOccurrence:
        """Count the pairs of some rows."""
        shape = data.n_users + 1, data.n_items + 1
        place = rows.user, rows.item
        mean = min(max(counts.mean, 1e-6), 1 - 1e-6)  # rows of one class, or none, have no finite logit
        logit = counts.items[rows.item, 0] + counts.users[rows.user, 0] - np.log(mean / (1 - mean))
        liked = sparse.csr_matrix((rows.click, place), shape=shape)
        liked.eliminate_zeros()
        left = sparse.csr_matrix((rows.click - expit(logit), place), shape=shape)
        seen = sparse.csr_matrix((np.ones(len(rows.user)), place), shape=shape)
        both = sparse.csr_matrix(liked.T @ liked)
        both.setdiag(0)
        scale = sparse.diags(1.0 / np.sqrt(np.asarray(liked.sum(axis=0)).ravel() + 1.0))
        return cls(
            sparse.csr_matrix(scale @ both @ scale),
            sparse.csr_matrix(liked.T @ left),
            sparse.csr_matrix(liked.T @ seen),
        )

    def of_histories(self, history: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Mean and most cosine, shrunk opinion and log(1 + who spoke), over each history [n, H]. [n, 4]"""
        together = at_pairs(self.cosine, history, item)
        opinion, spoke = (at_pairs(table, history, item).sum(axis=1) for table in (self.opinion, self.spoke))
        length = np.maximum(1, (history > 0).sum(axis=1))
        most = together.max(axis=1, initial=0.0)
        return np.stack([together.sum(axis=1) / length, most, opinion / (spoke + _SHRINKAGE), np.log1p(spoke)], axis=1)


def at_pairs(table: sparse.csr_matrix, history: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Entries (history item, candidate) of a sparse table; padding gives 0. [n, H]"""
    if not history.size:
        return np.zeros(history.shape)
    pairs = table[history.ravel(), np.repeat(item, history.shape[1])]
    return np.asarray(pairs).reshape(history.shape) * (history > 0)
