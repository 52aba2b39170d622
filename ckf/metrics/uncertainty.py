"""Intervals and paired tests from resamples of users, and Holm's correction over a table of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ckf.metrics.resampling import Statistic, resample

NAN = float("nan")
LEAST_USERS = 20
"""Fewest users for an interval, a test or a conclusion. Resamples of a few users know nothing of others."""


ROUNDING = 1e-12
"""A difference below it is none: equal answers are summed in another order."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two sources on the same examples: ``difference`` is ``a`` minus ``b``.

    ``p`` is of the paired bootstrap over users, ``p_wilcoxon`` of the signed-rank test on the users'
    own values (of ``users`` users who have one). ``units`` users are behind the metric (`Statistic`). Below
    `LEAST_USERS` of them interval and p are NaN.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_wilcoxon: float
    users: int
    units: int


def interval(values: np.ndarray) -> tuple[float, float]:
    """95% percentile interval of resampled values; NaN twice when there is none."""
    found = values[~np.isnan(values)]
    if not len(found):
        return NAN, NAN
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_p(differences: np.ndarray) -> float:
    """Two-sided p-value: twice the smaller share of resamples on either side of zero, at least 1 / resamples."""
    found = differences[~np.isnan(differences)]
    if not len(found):
        return NAN
    tail = min(np.mean(found <= 0), np.mean(found >= 0))
    return float(min(1.0, max(2 * tail, 1 / len(found))))


def intervals(
    statistics: Mapping[str, Statistic], users: int, samples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95% percentile bootstrap interval of each statistic, users drawn with replacement; NaN below `LEAST_USERS`."""
    drawn = resample({name: s for name, s in statistics.items() if s.units >= LEAST_USERS}, users, samples, seed)
    return {name: interval(drawn[name]) if name in drawn else (NAN, NAN) for name in statistics}


def compare(
    a: Mapping[str, Statistic], b: Mapping[str, Statistic], users: int, samples: int, seed: int
) -> list[Comparison]:
    """Every metric that both have, on the same resamples of users (Efron & Tibshirani 1993, chapter 16).

    A user's rows are not independent of one another, so users are drawn, not rows.
    """
    shared = [name for name in a if name in b]
    units = {name: min(a[name].units, b[name].units) for name in shared}
    enough = [name for name in shared if units[name] >= LEAST_USERS]
    both = {f"{side}/{name}": s[name] for side, s in (("a", a), ("b", b)) for name in enough}
    drawn = resample(both, users, samples, seed)
    found = []
    for name in shared:
        differences = drawn[f"a/{name}"] - drawn[f"b/{name}"] if name in enough else np.empty(0)
        differences[np.abs(differences) < ROUNDING] = 0.0
        mine, other = a[name].value(), b[name].value()
        signed, n = signed_rank(a[name].per_user(), b[name].per_user())
        low, high = interval(differences)
        p, signed = bootstrap_p(differences), signed if n >= LEAST_USERS else NAN
        found.append(Comparison(name, mine, other, mine - other, low, high, p, signed, n, units[name]))
    return found


def signed_rank(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Wilcoxon's signed-rank test of paired values (Pratt's way with zeros) and the number of pairs without NaN.

    p is 1 when all pairs are equal, NaN when there are none.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    differences, n = (a - b)[both], int(both.sum())
    if not n:
        return NAN, 0
    if not differences.any():
        return 1.0, n
    from scipy.stats import wilcoxon  # a second to import, and `ckf --help` comes through here

    return float(wilcoxon(differences, zero_method="pratt", method="approx").pvalue), n


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979); NaN stays NaN and does not count as a test."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
