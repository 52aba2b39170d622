"""Intervals and paired tests of single arrays, from the package's own resampling."""

from __future__ import annotations

import numpy as np

from ckf.metrics import RankedAUC, Ratio, compare, intervals, with_worst_clicks


def mean_interval(values: np.ndarray, users: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """95% bootstrap interval of the mean of ``values`` [n], users drawn with replacement."""
    names, codes = np.unique(users, return_inverse=True)
    return intervals({"mean": Ratio.of_rows(values, codes, len(names))}, len(names), samples, seed)["mean"]


def auc_interval(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, samples: int, seed: int
) -> tuple[float, float]:
    """95% bootstrap interval of the AUC; a NaN score counts as the worst."""
    names, codes = np.unique(users, return_inverse=True)
    ranked = RankedAUC(labels, with_worst_clicks(labels, scores), codes)
    return intervals({"auc": ranked}, len(names), samples, seed)["auc"]


def paired_auc(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, users: np.ndarray, samples: int, seed: int
) -> tuple[float, float, float, float]:
    """AUC of a minus AUC of b on the same rows: difference, 95% interval and two-sided p-value."""
    names, codes = np.unique(users, return_inverse=True)
    a, b = ({"auc": RankedAUC(labels, with_worst_clicks(labels, s), codes)} for s in (scores_a, scores_b))
    (found,) = compare(a, b, len(names), samples, seed)
    return found.difference, found.low, found.high, found.p
