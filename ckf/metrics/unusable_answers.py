"""Unusable answers: a NaN score is counted, and scored as the worst answer that could have been given."""

from __future__ import annotations

import numpy as np
import pandas as pd


def with_worst_scores(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Give every unusable answer the worst score: wrong with certainty, the far end of the scale, last.

    The scale is 1 to 5 stars, wider where the labels are: labels alone would make it a point in a
    sample of equal ratings, and an unusable answer there right.
    """
    missing = rows["score"].isna()
    if not missing.any():
        return rows
    label = rows["label"].to_numpy(dtype=float)
    if task == "ctr":
        worst = with_worst_clicks(label, rows["score"].to_numpy(dtype=float))
    elif task == "topk":
        worst = np.full(len(rows), -np.inf)
    else:
        low, high = min(1.0, label.min()), max(5.0, label.max())
        worst = np.where(label - low > high - label, low, high)
    return rows.assign(
        score=np.where(missing, worst, rows["score"].to_numpy(dtype=float)),
        answer=np.where(missing, "", rows["answer"].astype(str)),
    )


def with_worst_clicks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores in which a NaN is the wrong class with certainty: probability 0 or 1, or beyond every logit."""
    scores, missing = np.asarray(scores, dtype=float), np.isnan(scores)
    usable = scores[~missing]
    low, high = (0.0, 1.0) if ((usable >= 0) & (usable <= 1)).all() else (-np.inf, np.inf)
    return np.where(missing, np.where(np.asarray(labels) > 0, low, high), scores)
