"""Group rows of similar length into one forward pass, so that little of a batch is padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def length_buckets(
    lengths: np.ndarray, count: int, *, exactly: bool = False, min_saved_tokens: int = 0
) -> list[np.ndarray]:
    """Rows in at most (or exactly) ``count`` buckets, none empty, so that the fewest tokens are computed.

    ``lengths`` [n, k] are each row's tokens in k passes (the text prompt, the slot prompt or continuation); a
    bucket's passes are as long as their longest row. Rows are ordered by the first pass, and the best cuts of
    that order are found exactly, by dynamic programming. One bucket more must save ``min_saved_tokens``.
    """
    order = np.argsort(lengths[:, 0], kind="stable")
    n, costs = len(order), _costs(lengths[order])
    fewest, starts = costs[0], []  # fewest[j]: tokens of the first j rows; starts[.][j]: where their last bucket starts
    for _ in range(min(count, n) - 1):  # with one bucket more each time, where that saves something
        further = fewest[:, None] + costs + min_saved_tokens
        saves = (further.min(axis=0) < fewest) | exactly
        starts.append(np.where(saves, further.argmin(axis=0), np.arange(n + 1)))
        fewest = np.where(saves, further.min(axis=0), fewest)
    cuts = [n]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1]]))
    return [order[start:stop] for start, stop in pairwise(sorted({0, *cuts}))]


def _costs(ordered: np.ndarray) -> np.ndarray:
    """Tokens [n + 1, n + 1] computed for rows i to j - 1 in one bucket; infinite where there are no such rows."""
    n = len(ordered)
    places = np.arange(n)
    later = places[:, None] <= places  # [i, j]: row j is not before row i
    longest = sum(np.maximum.accumulate(np.where(later, one, 0), axis=1) for one in ordered.T)  # of rows i to j
    costs = np.full((n + 1, n + 1), np.inf)
    costs[:n, 1:] = np.where(later, longest * (places - places[:, None] + 1), np.inf)
    return costs


def computed_tokens(lengths: np.ndarray, buckets: list[np.ndarray]) -> int:
    """Tokens of all passes over ``buckets`` of rows with ``lengths`` [n, k], padding included."""
    return int(sum(len(rows) * lengths[rows].max(axis=0).sum() for rows in buckets))
