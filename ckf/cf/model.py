"""The interface of a fitted CF model."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class CFModel(Protocol):
    """Scores pairs for each task; ``vectors`` is None for models without embeddings."""

    card: dict[str, Any]

    def click_probability(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """P(click) of each pair. [n]"""

    def rating(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected rating of each pair, on the dataset's scale. [n]"""

    def rank_score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Score by which candidates are ordered. [n]"""

    def vectors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """User table [n_users + 1, d] and item table [n_items + 1, d]; rows of ids not in train are zero."""
