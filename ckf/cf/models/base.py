"""The interface of a fitted CF model."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ckf.cf.data import CFBatch

ORDER_ALONE = "order_alone"
"""Key of the manifest, and column of predictions: the scores are an order, no probabilities."""


class CFModel(Protocol):
    """Score user-item pairs for each task. Ids without training rows, or beyond the tables, get a defined score too.

    ``history_items``: how many history items the model reads, 0 for none. ``metadata``: facts of
    the fit for the artifact's manifest; its ``checkpoint_rule`` names metric and split.
    """

    metadata: dict[str, Any]
    history_items: int

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """P(click) of each pair. [n]"""

    def rating(self, batch: CFBatch) -> np.ndarray:
        """Expected rating of each pair, on the dataset's scale; NaN where train has no ratings. [n]"""

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Score by which candidates are ordered. [n]"""

    def vectors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """User table [n_users + 1, d] and item table [n_items + 1, d], row 0 for padding and the unknown; or None.

        Rows of ids without training rows are zero, or predicted from the title. Where ``history_items``
        is above 0 the user table is for an empty history: use ``user_vectors``.
        """

    def user_vectors(self, batch: CFBatch) -> np.ndarray | None:
        """The user side at the time of each pair [n, d], a function of the user and the history alone; or None."""
