"""Bootstrap intervals, and unusable answers inside a paired comparison."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ckf import metrics


def test_interval_of_a_mean_equals_resampled_rows():
    draw = np.random.default_rng(0)
    values, users = draw.random(200), draw.integers(0, 25, 200)
    means = []
    for weights in metrics._user_weights(users, 300, 4):
        means.append(np.repeat(values, weights.astype(int)).mean())
    assert metrics.bootstrap_ci(values, users, 300, 4) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Users with levels of their own: an interval that took rows for independent would be far too narrow."""
    means, aucs = 0, 0
    for number in range(100):
        draw = np.random.default_rng(number)
        users = np.repeat(np.arange(40), 10)
        values = draw.normal(size=40)[users] + draw.normal(size=400)
        low, high = metrics.bootstrap_ci(values, users, 200, number)
        means += low < 0 < high
        low, high = metrics.auc_interval((draw.random(400) < 0.5).astype(float), values, users, 100, number)
        aucs += low < 0.5 < high
    assert means >= 85
    assert aucs >= 85


def test_a_missing_score_never_helps_in_a_paired_comparison():
    draw = np.random.default_rng(1)
    labels, users = (draw.random(400) < 0.5).astype(float), draw.integers(0, 40, 400)
    score = labels + draw.normal(size=400)
    gaps = np.where(draw.random(400) < 0.3, np.nan, score)
    diff, low, high, p = metrics.paired_bootstrap_auc(labels, gaps, score, users, 200, 0)
    assert low < diff < high < 0
    assert p <= 0.02
    worst = np.where(np.isnan(gaps), np.where(labels > 0, -1e9, 1e9), gaps)
    assert diff == pytest.approx(metrics.auc(labels, worst) - metrics.auc(labels, score))


def test_a_thousand_samples_of_ten_thousand_rows_take_seconds():
    draw = np.random.default_rng(2)
    labels, users = (draw.random(10_000) < 0.5).astype(float), draw.integers(0, 500, 10_000)
    started = time.perf_counter()
    metrics.paired_bootstrap_auc(labels, draw.random(10_000), draw.random(10_000), users, 1000, 0)
    assert time.perf_counter() - started < 20
