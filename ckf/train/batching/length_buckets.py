"""Rows of like length into one pass, so that little of a batch is padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def length_buckets(lengths: np.ndarray, count: int, *, exactly: bool = False, worth: int = 0) -> list[np.ndarray]:
    """Rows in at most (or exactly) ``count`` buckets such that the fewest tokens are computed; none is empty.

    ``lengths`` [n, k] are each row's tokens in k passes (the text prompt, the branch or slot prompt); a
    bucket's passes are as long as their longest row. Rows are ordered by the first pass, and the best cuts
    of that order are found exactly, over all places and numbers of cuts. A bucket more has to save ``worth`` tokens.
    """
    order = np.argsort(lengths[:, 0], kind="stable")
    n, costs = len(order), _costs(lengths[order])
    fewest, starts = costs[0], []  # fewest[j]: tokens of the first j rows; starts[.][j]: where their last bucket starts
    for _ in range(min(count, n) - 1):  # with one bucket more each time, where that saves something
        further = fewest[:, None] + costs + worth
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
    places = np.arange(n)
    later = places[:, None] <= places  # [i, j]: row j is not before row i
    longest = sum(np.maximum.accumulate(np.where(later, one, 0), axis=1) for one in ordered.T)  # of rows i to j
    costs = np.full((n + 1, n + 1), np.inf)
    costs[:n, 1:] = np.where(later, longest * (places - places[:, None] + 1), np.inf)
    return costs


def computed_tokens(lengths: np.ndarray, buckets: list[np.ndarray]) -> int:
    """Tokens of all passes over ``buckets`` of rows with ``lengths`` [n, k], the padding with them."""
    return int(sum(len(rows) * lengths[rows].max(axis=0).sum() for rows in buckets))
