"""Popularity baseline: one order of the items for all users."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from ckf.cf.data import CFBatch, CFData
from ckf.cf.models.bias import BiasModel, logits


class PopularityModel(BiasModel):
    """Ranks by the item's training positives; clicks and ratings by the item's shrunk mean alone."""

    def __init__(self, data: CFData, shrinkage: float) -> None:
        super().__init__(data, shrinkage)
        self.user_mean = np.full(data.n_users + 1, self.mean)
        if self.rated:
            self.user_rating = np.full(data.n_users + 1, self.rating_mean)

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """The item's shrunk click rate. [n]"""
        return expit(logits(self.item_mean)[batch.within(*self.sizes).item])
