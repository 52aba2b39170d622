"""Paired tests between two sources on the same examples, and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from ckf import metrics
from ckf.tasks import BUILT_IN
from ckf.tasks.measure import task_statistics
from tests.unit.metrics.resampled_auc import paired_auc
from tests.unit.metrics.test_resampling import SAMPLES


@pytest.mark.parametrize("task", SAMPLES)
def test_differences_are_taken_within_each_resample(task):
    rows = SAMPLES[task]
    draw = np.random.default_rng(0)
    other = rows.assign(score=rows["score"] + draw.choice([-0.1, 0.0, 0.1], len(rows)))
    if task == "ctr":
        other = other.assign(score=other["score"].clip(0, 1))
    a, users = task_statistics(BUILT_IN[task], rows, 5)
    b, _ = task_statistics(BUILT_IN[task], other, 5)
    drawn_a, drawn_b = metrics.resample(a, users, 100, 0), metrics.resample(b, users, 100, 0)
    found = metrics.compare(a, b, users, 100, 0)
    assert {c.metric for c in found} == set(a)
    for c in found:
        differences = np.round(drawn_a[c.metric] - drawn_b[c.metric], 12)
        assert (c.low, c.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])))
        assert c.difference == pytest.approx(c.a - c.b)
        tail = min((differences <= 0).sum(), (differences >= 0).sum())
        assert c.p == pytest.approx(min(1.0, max(2 * tail, 1) / 100))


def clicks(users: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """ctr rows with scores that carry the label."""
    draw = np.random.default_rng(0)
    rows = {"task": "ctr", "example_id": np.arange(len(users)).astype(str), "user": users, "item": 1, "answer": "Yes"}
    return pd.DataFrame({**rows, "label": labels.astype(float), "score": 0.3 * labels + 0.5 * draw.random(len(users))})


def both_classes(users: int) -> pd.DataFrame:
    return clicks(np.repeat(np.arange(users), 4), np.tile([0, 1, 0, 1], users))


FEW = {
    "one user": (both_classes(1), "auc", 1),
    "one user short": (both_classes(19), "auc", 19),
    "two users of one class each": (clicks(np.repeat([0, 1], 50), np.repeat([0, 1], 50)), "auc", 1),
    "all dislikes of one user": (clicks(np.arange(100) % 40, (np.arange(100) % 40 != 7) * 1), "auc", 1),
    "three users with both classes": (
        pd.concat([both_classes(3), clicks(np.arange(10, 60), np.arange(50) % 2)]), "uauc", 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FEW)
def test_too_few_users_give_a_figure_and_nothing_of_it(case):
    """Resamples of one user are all alike: the interval would be a point and p the smallest there is."""
    rows, metric, units = FEW[case]
    a, users = task_statistics(BUILT_IN["ctr"], rows, 5, only=metric)
    b, _ = task_statistics(BUILT_IN["ctr"], rows.assign(score=1 - rows["score"]), 5, only=metric)
    (found,) = metrics.compare(a, b, users, 100, 0)
    assert found.units == a[metric].units == units < metrics.LEAST_USERS
    assert found.difference > 0
    assert np.isnan([found.low, found.high, found.p, found.p_wilcoxon]).all()
    assert np.isnan(metrics.intervals(a, users, 100, 0)[metric]).all()


def test_twenty_users_are_enough():
    rows = both_classes(metrics.LEAST_USERS)
    a, users = task_statistics(BUILT_IN["ctr"], rows, 5)
    b, _ = task_statistics(BUILT_IN["ctr"], rows.assign(score=1 - rows["score"]), 5)
    for found in metrics.compare(a, b, users, 100, 0):
        assert found.units == users == 20
        assert not np.isnan([found.low, found.high, found.p, found.p_wilcoxon]).any()
        assert not np.isnan(metrics.intervals(a, users, 100, 0)[found.metric]).any()


def test_a_real_difference_is_found_and_none_is_made_up():
    """Under the null a test at 5% may not be right much more often than that."""
    bootstrap, signed = 0, 0
    for number in range(200):
        draw = np.random.default_rng(number)
        users = np.repeat(np.arange(40), 5)
        labels, level = (draw.random(200) < 0.5).astype(float), draw.normal(size=40)[users]
        a, b = (labels + level + draw.normal(size=200) for _ in range(2))
        bootstrap += paired_auc(labels, a, b, users, 200, number)[3] < 0.05
        signed += (
            metrics.signed_rank(metrics.user_aucs(labels, a, users), metrics.user_aucs(labels, b, users))[0] < 0.05
        )
    assert bootstrap <= 22
    assert signed <= 22
    diff, low, _, p = paired_auc(labels, labels + draw.normal(size=200), a * 0, users, 500, 0)
    assert 0 < low < diff
    assert p <= 0.01


def test_the_signed_rank_test_is_over_users_with_both_values():
    nan = math.nan
    a, b = np.asarray([0.5, 0.9, nan, 0.7, 0.8, 0.6]), np.asarray([0.4, 0.9, 0.1, 0.3, nan, 0.9])
    p, n = metrics.signed_rank(a, b)
    assert n == 4
    assert p == pytest.approx(wilcoxon([0.1, 0.0, 0.4, -0.3], zero_method="pratt", method="approx").pvalue)
    assert metrics.signed_rank(a, a) == (1.0, 5)
    nothing, n = metrics.signed_rank(np.asarray([nan]), np.asarray([1.0]))
    assert math.isnan(nothing)
    assert n == 0


def test_holm_by_hand():
    """Holm 1979: smallest p times 4, next times 3, ...; never less than the one before, never above 1."""
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert metrics.holm([]) == []
    first, gap = metrics.holm([0.02, math.nan])
    assert first == 0.02, "no test, no correction"
    assert math.isnan(gap)


def test_holm_keeps_the_family_wise_error():
    draw = np.random.default_rng(0)
    wrong = sum(min(metrics.holm(list(draw.random(8)))) < 0.05 for _ in range(1000))
    assert wrong < 75
    assert sum(draw.random(8).min() < 0.05 for _ in range(1000)) > 250
