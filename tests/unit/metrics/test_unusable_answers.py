"""An unusable answer (NaN) counts the same in a metric, in its interval and in a paired difference."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ckf import metrics
from ckf.tasks.measure import compute_metrics
from tests.unit.metrics.resampled_auc import auc_interval, paired_auc


def printed_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    columns = {"example_id": [str(i) for i in range(len(labels))], "task": "ctr", "label": labels, "score": scores}
    rest = {"source": "model", "user": 1, "item": 1, "position": -1, "answer": "", "warm_seen": True, "warm_3": True}
    return compute_metrics(pd.DataFrame({**columns, **rest}), "test", 10)["test/ctr/auc"]


def test_the_paired_difference_is_that_of_the_printed_values():
    """Some usable scores are exactly 0 or 1, so that the worst answers tie with them in both."""
    draw = np.random.default_rng(1)
    labels, users = (draw.random(300) < 0.5).astype(float), draw.integers(0, 40, 300)
    whole = np.clip(0.5 + 0.3 * (labels - 0.5) + 0.4 * draw.normal(size=300), 0, 1)
    broken = np.where(draw.random(300) < 0.2, np.nan, whole)
    assert ((whole == 0) | (whole == 1)).sum() > 20
    diff, low, high, p = paired_auc(labels, whole, broken, users, 200, 0)
    assert diff == pytest.approx(printed_auc(labels, whole) - printed_auc(labels, broken), abs=1e-12)
    assert 0 < low < diff < high
    assert p <= 0.01
    low, high = auc_interval(labels, broken, users, 200, 0)
    assert low < printed_auc(labels, broken) < high < metrics.auc(labels, whole)


def test_scores_need_not_be_probabilities():
    labels, logits = np.asarray([1.0, 1, 0, 0]), np.asarray([5.0, np.nan, -3.0, np.nan])
    filled = metrics.with_worst_clicks(labels, logits)
    assert filled.tolist() == [5.0, -np.inf, -3.0, np.inf]
    assert metrics.with_worst_clicks(labels, np.full(4, np.nan)).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_an_interval_of_one_class_is_nan_without_a_warning(recwarn):
    low, high = auc_interval(np.ones(6), np.arange(6.0), np.arange(6), 20, 0)
    assert math.isnan(low)
    assert math.isnan(high)
    assert not recwarn.list
