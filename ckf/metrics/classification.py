"""Metrics of clicks: AUC overall and by user, likelihood, calibration, and ranking of a user's own rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half. NaN when only one class is there."""
    positive = np.asarray(labels) > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    from scipy.stats import rankdata  # a second to import, and `ckf --help` comes through here

    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def user_aucs(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> np.ndarray:
    """AUC of each user, in ascending order of user; NaN for a user with one class. Ties count one half.

    All users in one sort: the rank of a row among its user's rows is its place less the user's start.
    """
    order = np.lexsort((scores, users))
    user, score = np.asarray(users)[order], np.asarray(scores)[order]
    positive = (np.asarray(labels)[order] > 0).astype(float)
    starts = _starts(user)
    number = np.repeat(np.arange(len(starts)), np.diff([*starts, len(user)]))
    runs = _starts(user, score)
    sizes = np.diff([*runs, len(user)])
    rank = np.repeat(runs + (sizes + 1) / 2, sizes) - starts[number]
    n_positive = np.bincount(number, weights=positive, minlength=len(starts))
    n_negative = np.bincount(number, minlength=len(starts)) - n_positive
    above = np.bincount(number, weights=rank * positive, minlength=len(starts)) - n_positive * (n_positive + 1) / 2
    pairs = n_positive * n_negative
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def uauc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> tuple[float, int]:
    """Unweighted mean of per-user AUC over users with both classes, and their number."""
    return _mean_of_found(user_aucs(labels, scores, users))


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each row in nats; probabilities are clipped to [1e-7, 1 - 1e-7].

    NaN throughout when the scores are no probabilities.
    """
    if not are_probabilities(probabilities):
        return np.full(len(probabilities), np.nan)
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.where(np.asarray(labels) > 0, np.log(p), np.log1p(-p))


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether every score lies in [0, 1]."""
    return bool(np.all((np.asarray(scores) >= 0) & (np.asarray(scores) <= 1)))


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: in each bin that has rows, the mean probability, the share of positives and the rows."""

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Predicted against observed over equal-width bins; empty bins are left out (Guo et al. 2017, section 2)."""
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    found = np.flatnonzero(count)
    predicted = np.bincount(place, weights=probabilities, minlength=bins)[found] / count[found]
    positive = (np.asarray(labels) > 0).astype(float)
    return Reliability(
        predicted, np.bincount(place, weights=positive, minlength=bins)[found] / count[found], count[found]
    )


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error over equal-width bins (Naeini et al. 2015; Guo et al. 2017, eq. 3).

    NaN when the scores are no probabilities.
    """
    if not are_probabilities(probabilities):
        return float("nan")
    curve = reliability(labels, probabilities, bins)
    return float(np.abs(curve.predicted - curve.observed) @ curve.count / max(1, curve.count.sum()))


@dataclass(frozen=True)
class UserRankings:
    """Metrics of each user's rows in the order of their scores; users ascending, NaN without a positive."""

    ndcg: np.ndarray
    average_precision: np.ndarray
    reciprocal_rank: np.ndarray


def user_rankings(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> UserRankings:
    """NDCG, average precision and reciprocal rank of the first positive of each user; a tied negative comes first."""
    gain = (np.asarray(labels) > 0).astype(float)
    order = np.lexsort((gain, -np.asarray(scores, dtype=float), users))
    user, gain = np.asarray(users)[order], gain[order]
    starts = _starts(user)
    sizes = np.diff([*starts, len(user)])
    number = np.repeat(np.arange(len(starts)), sizes)
    place = np.arange(1, len(user) + 1) - starts[number]
    discount = 1.0 / np.log2(np.arange(2, sizes.max(initial=0) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    positives = np.bincount(number, weights=gain, minlength=len(starts))
    before = np.cumsum(gain) - gain
    hits = before - before[starts][number] + gain  # positives of the user so far, this row included

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, weights=values * gain, minlength=len(starts))

    some, n = positives > 0, np.maximum(positives, 1)
    first = (hits == 1) & (gain > 0)
    return UserRankings(
        np.where(some, total(discount[place - 1]) / np.maximum(ideal[positives.astype(int)], 1e-300), np.nan),
        np.where(some, total(hits / place) / n, np.nan),
        np.where(some, total(first / place), np.nan),
    )


def _mean_of_found(values: np.ndarray) -> tuple[float, int]:
    found = values[~np.isnan(values)]
    return (float(np.mean(found)) if len(found) else float("nan")), len(found)


def _starts(*keys: np.ndarray) -> np.ndarray:
    """First row of each run of equal keys in sorted rows."""
    if not len(keys[0]):
        return np.empty(0, dtype=int)
    changed = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])
