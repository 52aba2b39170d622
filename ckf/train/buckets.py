"""Rows of like length into one pass, so that little of a batch is padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def length_buckets(lengths: np.ndarray, count: int, *, exactly: bool = False) -> list[np.ndarray]:
    """Rows in at most (or exactly) ``count`` buckets such that the fewest tokens are computed; none is empty.

    ``lengths`` [n, k] are each row's tokens in k passes (the text prompt, the branch or slot prompt); a
    bucket's passes are as long as their longest row. Rows are ordered by the first pass, and the best cuts
    of that order are found exactly, over all places and numbers of cuts.
    """
    order = np.argsort(lengths[:, 0], kind="stable")
    n, costs = len(order), _costs(lengths[order])
    fewest, starts = costs[0], []  # fewest[j]: tokens of the first j rows; starts[.][j]: where their last bucket starts
    for _ in range(min(count, n) - 1):  # with one bucket more each time, where that saves something
        further = fewest[:, None] + costs
        saves = (further.min(axis=0) < fewest) | exactly
        starts.append(np.where(saves, further.argmin(axis=0), np.arange(n + 1)))
        fewest = np.where(saves, further.min(axis=0), fewest)
    cuts = [n]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1]]))
    return [order[start:stop] for start, stop in pairwise(sorted({0, *cuts}))]


def _costs(ordered: np.ndarray) -> np.ndarray:
    """Tokens computed for rows i to j - 1 in one bucket [n + 1, n + 1]; infinite where there are none."""
    n = len(ordered)
    costs = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        longest = np.maximum.accumulate(ordered[i:], axis=0).sum(axis=1)
        costs[i, i + 1 :] = longest * np.arange(1, n - i + 1)
    return costs


def padding_share(lengths: np.ndarray, buckets: list[np.ndarray]) -> float:
    """Share of the computed tokens that are padding."""
    computed = sum(len(rows) * lengths[rows].max(axis=0).sum() for rows in buckets)
    return float(1.0 - lengths.sum() / computed)
