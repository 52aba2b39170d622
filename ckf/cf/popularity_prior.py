"""Combine click logits with item popularity into a ranking score.

A click model estimates whether a shown item is liked; a ranking also depends on how often an item is met at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ckf.cf.data import CFBatch, CFData
from ckf.core.rng import generator_for

_ROWS = 20_000


@dataclass(frozen=True)
class Ranking:
    """``popularity * log(1 + training positives) + liking * click logit``, both weights set on val.

    They come from a logistic regression of val's positives against items drawn uniformly. Popularity alone
    ranks random candidates better than the click rate does, and both together better than either.
    """

    log_positives: np.ndarray
    popularity: float
    liking: float

    @classmethod
    def fit(cls, data: CFData, logit: Callable[[CFBatch], np.ndarray], seed: int) -> Ranking:
        """Set the weights for a model's click logits; equal ones where val has no positive."""
        from sklearn.linear_model import LogisticRegression

        train = data.train
        log_positives = np.log1p(np.bincount(train.item, weights=train.click, minlength=data.n_items + 1))
        draw = generator_for(seed, "ranking negatives")
        liked = np.flatnonzero(data.val.click > 0)
        if len(liked) > _ROWS:
            liked = np.sort(draw.choice(liked, _ROWS, replace=False))
        if not len(liked):
            return cls(log_positives, 1.0, 1.0)
        positive = data.val.batch.rows(liked)
        negative = CFBatch(positive.user, draw.integers(1, data.n_items + 1, len(liked)), positive.history)
        features = np.concatenate(
            [np.stack([log_positives[batch.item], logit(batch)], axis=1) for batch in (positive, negative)]
        )
        labels = np.repeat([1, 0], len(liked))
        weights = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels).coef_[0]
        return cls(log_positives, float(weights[0]), float(weights[1]))

    @classmethod
    def by_score(cls, data: CFData) -> Ranking:
        """The model's score alone, no popularity."""
        return cls(np.zeros(data.n_items + 1), 0.0, 1.0)

    def score(self, item: np.ndarray, logit: np.ndarray) -> np.ndarray:
        """Score by which candidates are ordered. [n]"""
        return self.popularity * self.log_positives[item] + self.liking * logit

    @property
    def metadata(self) -> dict[str, float]:
        """The weights, for the manifest."""
        return {"popularity": round(self.popularity, 4), "liking": round(self.liking, 4)}
