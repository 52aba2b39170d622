"""Unusable answers: a NaN score becomes the worst answer that could have been given."""

from __future__ import annotations

import numpy as np


def with_worst_clicks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores in which a NaN is the wrong class with certainty: probability 0 or 1, or beyond every logit."""
    scores, missing = np.asarray(scores, dtype=float), np.isnan(scores)
    usable = scores[~missing]
    low, high = (0.0, 1.0) if ((usable >= 0) & (usable <= 1)).all() else (-np.inf, np.inf)
    return np.where(missing, np.where(np.asarray(labels) > 0, low, high), scores)


def with_worst_ratings(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores in which a NaN is the end of the scale that is farther from the label.

    The scale is 1 to 5 stars, wider where the labels are: labels alone would make it a point in a
    sample of equal ratings, and an unusable answer there right.
    """
    low, high = min(1.0, labels.min()), max(5.0, labels.max())
    return np.where(np.isnan(scores), np.where(labels - low > high - labels, low, high), scores)
