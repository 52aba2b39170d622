"""Bootstrap intervals over users: equal to rows drawn by hand, of the nominal coverage, in bounded memory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from ckf import metrics
from ckf.metrics import resampling
from ckf.tasks import BUILT_IN
from ckf.tasks.measure import compute_metrics, task_statistics
from tests.unit.metrics.resampled_auc import auc_interval, mean_interval, paired_auc


def sample(task: str, number: int, n: int = 110, **columns: object) -> pd.DataFrame:
    """Rows of one task with ties, users of one class and users of one row."""
    draw = np.random.default_rng(number)
    labels = (draw.random(n) < 0.5).astype(float) if task == "ctr" else draw.integers(1, 6, n).astype(float)
    scores = np.round(draw.random(n), 1) if task == "ctr" else draw.integers(2, 10, n) / 2
    rows = {"task": task, "example_id": [f"{i:03}" for i in range(n)], "user": draw.integers(0, 30, n), "item": 1}
    rest = {"label": labels, "score": scores, "position": -1, "answer": [f"{s:g}" for s in scores]}
    return pd.DataFrame({**rows, **rest, "warm_seen": True, "warm_3": True, **columns})


def lists(number: int, count: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(number)
    rows = []
    for example in range(count):
        target, user = int(draw.integers(0, 5)), int(draw.integers(0, 30))
        for place in range(5):
            hit, score = float(place == target), float(draw.integers(0, 6))
            rows.append({"example_id": f"{example:02}", "user": user, "item": place + 1, "label": hit, "score": score})
    columns = {"task": "topk", "answer": "", "warm_seen": True, "warm_3": True}
    return pd.DataFrame(rows).assign(**columns, position=lambda t: t["item"] - 1)


SAMPLES = {"ctr": sample("ctr", 1), "rating": sample("rating", 2), "topk": lists(3)}


@pytest.mark.parametrize("task", SAMPLES)
def test_a_resample_of_every_metric_is_that_of_the_rows_drawn(task):
    """The rows of the drawn users are written out, a user drawn twice as two users, and scored as ever."""
    rows = SAMPLES[task]
    statistics, users = task_statistics(BUILT_IN[task], rows, 5)
    drawn = metrics.resample(statistics, users, 25, 4)
    names = np.unique(rows["user"])
    weights = np.concatenate(list(metrics.user_weights(users, 25, 4)))
    assert weights.shape == (25, len(names))
    assert (weights.sum(axis=1) == len(names)).all()
    for number, times in enumerate(weights.astype(int)):
        parts = [
            rows[rows["user"] == user].assign(
                user=100 * user + copy, example_id=lambda t, copy=copy: t["example_id"] + f"-{copy}"
            )
            for user, n in zip(names, times, strict=True)
            for copy in range(n)
        ]
        expected = compute_metrics(pd.concat(parts), "test", 5)
        for name, values in drawn.items():
            assert values[number] == pytest.approx(expected[f"test/{task}/{name}"], abs=1e-12), name


@pytest.mark.parametrize("task", SAMPLES)
def test_on_the_sample_itself_a_statistic_is_the_metric(task):
    rows = SAMPLES[task]
    statistics, _ = task_statistics(BUILT_IN[task], rows, 5)
    expected = compute_metrics(rows, "test", 5)
    assert {"ctr": "auc", "rating": "rmse", "topk": "hr@1[c5]"}[task] == BUILT_IN[task].headline.key("[c5]")
    assert BUILT_IN[task].headline.key("[c5]") in statistics
    assert {name: s.value() for name, s in statistics.items()} == pytest.approx(
        {name: expected[f"test/{task}/{name}"] for name in statistics}
    )
    for name, statistic in statistics.items():
        alone = []
        for user in np.unique(rows["user"]):
            found = compute_metrics(rows[rows["user"] == user], "test", 5)
            alone.append(found.get(f"test/{task}/{name}", math.nan))
        np.testing.assert_allclose(statistic.per_user(), alone, atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    labels, scores, users = (sample("ctr", 7, 200)[name].to_numpy() for name in ("label", "score", "user"))
    whole = auc_interval(labels, scores, users, 50, 0), mean_interval(scores, users, 50, 0)
    monkeypatch.setattr(resampling, "BLOCK", 1)
    again = auc_interval(labels, scores, users, 50, 0), mean_interval(scores, users, 50, 0)
    np.testing.assert_allclose(whole, again, rtol=1e-12)
    assert not np.isnan(whole).any()


def test_intervals_do_not_depend_on_the_order_of_rows():
    labels, scores, users = (sample("ctr", 8, 200)[name].to_numpy() for name in ("label", "score", "user"))
    order = np.random.default_rng(0).permutation(len(labels))
    one = auc_interval(labels, scores, users, 200, 0)
    assert one == pytest.approx(auc_interval(labels[order], scores[order], users[order], 200, 0))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Users with levels of their own: an interval that took rows for independent would be far too narrow."""
    means, aucs, by_rows = 0, 0, 0
    for number in range(200):
        draw = np.random.default_rng(number)
        users = np.repeat(np.arange(40), 10)
        values = draw.normal(size=40)[users] + draw.normal(size=400)
        low, high = mean_interval(values, users, 200, number)
        means += low < 0 < high
        low, high = mean_interval(values, np.arange(400), 200, number)
        by_rows += low < 0 < high
        low, high = auc_interval((draw.random(400) < 0.5).astype(float), values, users, 200, number)
        aucs += low < 0.5 < high
    assert means >= 175
    assert aucs >= 175
    assert by_rows < 140


def test_memory_does_not_grow_with_the_resamples():
    """40,000 resamples of 1,000 users would be 320 MB of counts at once."""
    users = np.arange(1000)
    tracemalloc.start()
    mean_interval(np.random.default_rng(0).random(1000), users, 4_000, 0)
    few = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    mean_interval(np.random.default_rng(0).random(1000), users, 40_000, 0)
    many = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert many < few + 10e6
    assert many < 150e6


def test_a_missing_score_never_helps_in_a_paired_comparison():
    draw = np.random.default_rng(1)
    labels, users = (draw.random(400) < 0.5).astype(float), draw.integers(0, 40, 400)
    score = labels + draw.normal(size=400)
    gaps = np.where(draw.random(400) < 0.3, np.nan, score)
    diff, low, high, p = paired_auc(labels, gaps, score, users, 200, 0)
    assert low < diff < high < 0
    assert p <= 0.02
    worst = np.where(np.isnan(gaps), np.where(labels > 0, -1e9, 1e9), gaps)
    assert diff == pytest.approx(metrics.auc(labels, worst) - metrics.auc(labels, score))
