"""Bootstrap over users as arithmetic: a statistic is a function of how often each user was drawn.

Resamples come in blocks of user counts ``[resamples, users]``. Every ratio of sums over users
is then one matrix product for a whole block; a weighted AUC is two cumulative sums over rows that
were sorted once. Memory is bounded by the block, time grows as resamples × rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ckf.metrics.classification import auc, user_aucs

BLOCK = 2_000_000
"""Counts held at once (16 MB)."""


@dataclass(frozen=True)
class Ratio:
    """A mean over rows or over users: sum of ``total`` over sum of ``count``, both [users]; ``root`` for RMSE."""

    total: np.ndarray
    count: np.ndarray
    root: bool = False

    @classmethod
    def of_rows(cls, values: np.ndarray, codes: np.ndarray, users: int, *, root: bool = False) -> Ratio:
        """A mean over rows. values [n], codes [n] in 0..users-1"""
        total = np.bincount(codes, weights=np.asarray(values, dtype=float), minlength=users)
        return cls(total, np.bincount(codes, minlength=users).astype(float), root)

    @classmethod
    def of_users(cls, values: np.ndarray) -> Ratio:
        """A mean over users; NaN marks a user without a value. values [users]"""
        found = ~np.isnan(values)
        return cls(np.where(found, values, 0.0), found.astype(float))

    def finish(self, total: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Sums over the drawn users to values; NaN where nobody with a value was drawn."""
        mean = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
        return np.sqrt(np.maximum(mean, 0.0)) if self.root else mean

    def value(self) -> float:
        """On the sample itself."""
        return float(self.finish(self.total.sum(keepdims=True), self.count.sum(keepdims=True))[0])

    @property
    def units(self) -> int:
        """How many users the value rests on: those that have one."""
        return int((self.count > 0).sum())

    def per_user(self) -> np.ndarray:
        """Value of each user's own rows; NaN where a user has none."""
        return self.finish(self.total, self.count)


@dataclass
class RankedAUC:
    """AUC over all rows; sorted once, so that a weighted AUC is a cumulative sum and a few look-ups.

    labels [n], scores [n] (no NaN), codes [n] in 0..users-1.
    """

    labels: np.ndarray
    scores: np.ndarray
    codes: np.ndarray
    _positive: np.ndarray = field(init=False, repr=False)
    _negative: np.ndarray = field(init=False, repr=False)
    _below: np.ndarray = field(init=False, repr=False)
    _upto: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        scores, positive = np.asarray(self.scores, dtype=float), np.asarray(self.labels) > 0
        up, down = np.sort(scores[positive]), scores[~positive]
        order = np.argsort(down, kind="stable")
        self._positive = np.asarray(self.codes)[positive][np.argsort(scores[positive], kind="stable")]
        self._negative = np.asarray(self.codes)[~positive][order]
        self._below = np.searchsorted(down[order], up, side="left")
        self._upto = np.searchsorted(down[order], up, side="right")

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """AUC of each resample; NaN without both classes. weights [resamples, users]"""
        return np.asarray([self._one(row) for row in weights])

    def _one(self, weights: np.ndarray) -> float:
        passed = np.empty(len(self._negative) + 1)
        passed[0] = 0.0
        np.cumsum(weights[self._negative], out=passed[1:])
        positive = weights[self._positive]
        pairs = positive.sum() * passed[-1]
        # not `@`: threads of a BLAS dot cost more than they save at this length, and far more on a shared machine
        below = np.einsum("i,i->", positive, passed[self._below] + passed[self._upto])
        return float(below / (2 * pairs)) if pairs else float("nan")

    def value(self) -> float:
        """On the sample itself."""
        return auc(self.labels, self.scores)

    @property
    def units(self) -> int:
        """How many users the value rests on: the fewer of those with a positive row and those with a negative one."""
        return min(len(np.unique(self._positive)), len(np.unique(self._negative)))

    def per_user(self) -> np.ndarray:
        """AUC of each user's own rows [users]; NaN with one class. Every code must have a row."""
        return user_aucs(self.labels, self.scores, self.codes)


Statistic = Ratio | RankedAUC


def user_weights(users: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is drawn in each resample, in blocks [at most BLOCK // users, users]."""
    draw, block = np.random.default_rng(seed), max(1, BLOCK // max(1, users))
    for start in range(0, samples, block):
        size = min(block, samples - start)
        drawn = draw.integers(0, users, (size, users))
        drawn += np.arange(size)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users).astype(float)


def resample(statistics: Mapping[str, Statistic], users: int, samples: int, seed: int) -> dict[str, np.ndarray]:
    """Every statistic on the same ``samples`` resamples of the same users: name -> values [samples]."""
    ratios = {name: s for name, s in statistics.items() if isinstance(s, Ratio)}
    columns = [part for s in ratios.values() for part in (s.total, s.count)]
    table = np.stack(columns, axis=1) if columns else np.empty((users, 0))
    found: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in user_weights(users, samples, seed):
        sums = weights @ table
        for place, (name, ratio) in enumerate(ratios.items()):
            found[name].append(ratio.finish(sums[:, 2 * place], sums[:, 2 * place + 1]))
        for name, statistic in statistics.items():
            if isinstance(statistic, RankedAUC):
                found[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in found.items()}
