"""Metrics against scikit-learn and against loops, on random cases with ties, one-class users and empty groups."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from ckf import metrics
from ckf.metrics.classification import log_losses
from ckf.tasks.measure import compute_metrics
from tests.unit.metrics.resampled_auc import paired_auc

CASES = 1000


def random_case(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with many ties, and users of whom some have one class."""
    draw = np.random.default_rng(number)
    n = int(draw.integers(2, 60))
    return (
        (draw.random(n) < draw.uniform(0.1, 0.9)).astype(float),
        np.round(draw.random(n), int(draw.integers(1, 4))),
        draw.integers(0, max(2, n // 5), n),
    )


def test_auc_equals_scikit_learn():
    compared = 0
    for number in range(CASES):
        labels, scores, _ = random_case(number)
        if 0 < labels.sum() < len(labels):
            assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
            compared += 1
        else:
            assert math.isnan(metrics.auc(labels, scores))
    assert compared > CASES / 2


def pairs_won(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUC by its definition: over all pairs of a positive and a negative, a tie one half."""
    gaps = scores[labels > 0][:, None] - scores[labels <= 0][None, :]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_uauc_equals_a_loop_and_counts_its_users():
    one_class = 0
    for number in range(CASES):
        labels, scores, users = random_case(number)
        values = []
        for user in sorted(set(users.tolist())):
            mine = users == user
            both = 0 < labels[mine].sum() < mine.sum()
            one_class += not both
            values.append(pairs_won(labels[mine], scores[mine]) if both else math.nan)
        np.testing.assert_allclose(metrics.user_aucs(labels, scores, users), values, atol=1e-12)
        values = [value for value in values if value == value]
        value, n = metrics.uauc(labels, scores, users)
        assert n == len(values)
        assert (math.isnan(value) and not values) or value == pytest.approx(np.mean(values), abs=1e-12)
    assert one_class > CASES / 10


def test_log_losses_equal_scikit_learn():
    for number in range(CASES):
        labels, scores, _ = random_case(number)
        expected = sk_log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7), labels=[0, 1])
        assert np.mean(log_losses(labels, scores)) == pytest.approx(expected, rel=1e-9)


def test_ece_equals_a_loop():
    for number in range(CASES):
        labels, scores, _ = random_case(number)
        total = 0.0
        for b in range(15):
            inside = (scores >= b / 15) & ((scores < (b + 1) / 15) | (b == 14))
            if inside.any():
                total += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
        assert metrics.ece(labels, scores) == pytest.approx(total, abs=1e-9)


def test_user_ndcg_by_hand():
    labels, scores = np.asarray([1.0, 0, 1, 0]), np.asarray([0.9, 0.8, 0.1, 0.5])
    ideal = 1 + 1 / math.log2(3)
    assert metrics.user_rankings(labels, scores, np.zeros(4)).ndcg.item() == pytest.approx(
        (1 + 1 / math.log2(5)) / ideal
    )
    tied = metrics.user_rankings(np.asarray([1.0, 0.0]), np.asarray([0.5, 0.5]), np.zeros(2)).ndcg.item()
    assert tied == pytest.approx(1 / math.log2(3)), "a tied negative comes first"


def test_ranks_and_ranking_metrics_equal_a_loop():
    for number in range(CASES):
        draw = np.random.default_rng(number)
        lists, size = int(draw.integers(1, 8)), int(draw.integers(1, 12))
        scores = np.round(draw.random((lists, size)), 1)
        target = draw.integers(0, size, lists)
        expected = []
        for row, place in zip(scores, target, strict=True):
            others = np.delete(row, place)
            expected.append(1 + int((others >= row[place]).sum()))  # a tie is the worse rank
        hits = np.zeros((lists, size))
        hits[np.arange(lists), target] = 1
        order = draw.permutation(lists * size)
        keys = np.repeat(np.arange(lists), size)
        ranks = metrics.target_ranks(hits.ravel()[order], scores.ravel()[order], keys[order])
        assert ranks.tolist() == expected
        assert metrics.hit_rate(ranks, 3) == pytest.approx(np.mean([r <= 3 for r in expected]))
        assert metrics.ndcg(ranks, 5) == pytest.approx(
            np.mean([1 / math.log2(r + 1) if r <= 5 else 0 for r in expected])
        )
        assert metrics.mrr(ranks) == pytest.approx(np.mean([1 / r for r in expected]))


def rows(task: str, labels: list[float], scores: list[float], **columns: object) -> pd.DataFrame:
    n = len(labels)
    base = {
        "source": "model",
        "example_id": [f"{task}/{i}" for i in range(n)],
        "task": task,
        "user": [i % 2 for i in range(n)],
        "item": range(n),
        "label": labels,
        "score": scores,
        "position": -1,
        "answer": "",
        "warm_seen": True,
        "warm_3": [i < n // 2 for i in range(n)],
    }
    return pd.DataFrame({**base, **columns})


def test_compute_metrics_slices_and_names():
    table = pd.concat(
        [
            rows("ctr", [1, 0, 1, 0], [0.9, 0.2, 0.4, 0.6]),
            rows("rating", [4, 2], [3.5, 2.5], answer=["4", "3"]),
            rows("topk", [0, 1, 1, 0], [0.1, 0.9, 0.2, 0.7], example_id=["a", "a", "b", "b"]),
        ]
    )
    found = compute_metrics(table, "test", 2)
    assert found["test/ctr/auc"] == 0.75
    assert found["test/ctr/n"] == 4
    assert found["test/ctr/n@warm_3"] == 2
    assert found["test/ctr/n@cold_seen"] == 0
    assert "test/ctr/auc@cold_seen" not in found
    assert found["test/rating/rmse"] == found["test/rating/mae"] == 0.5
    assert found["test/rating/accuracy"] == 0.5
    assert found["test/topk/hr@1[c2]"] == 0.5
    assert found["test/topk/n"] == 2
    assert found["test/ctr/unusable"] == 0


def test_an_unusable_answer_is_counted_and_scored_as_the_worst():
    nan = float("nan")
    table = pd.concat(
        [
            rows("ctr", [1, 0], [nan, 0.3]),
            rows("rating", [5, 1], [nan, 1.0], answer=["", "1"]),
            rows("topk", [1, 0, 0], [nan, -5.0, -9.0], example_id=["a"] * 3),
        ]
    )
    found = compute_metrics(table, "test", 3)
    assert found["test/ctr/unusable"] == found["test/rating/unusable"] == found["test/topk/unusable"] == 1
    assert found["test/ctr/auc"] == 0.0
    assert found["test/ctr/n"] == 2, "nothing is dropped"
    assert found["test/rating/mae"] == 2.0, "the far end of the scale"
    assert found["test/topk/mrr[c3]"] == pytest.approx(1 / 3)


def test_paired_bootstrap():
    draw = np.random.default_rng(0)
    labels, users = (draw.random(400) < 0.5).astype(float), draw.integers(0, 40, 400)
    good, bad = labels + draw.normal(size=400), draw.normal(size=400)
    diff, low, high, p = paired_auc(labels, good, bad, users, 500, 0)
    assert diff == pytest.approx(metrics.auc(labels, good) - metrics.auc(labels, bad))
    assert 0 < low < diff < high
    assert p <= 0.01
    same = paired_auc(labels, good, good, users, 100, 0)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_an_order_alone_has_auc_but_no_likelihood_even_where_it_lies_between_0_and_1():
    rows = pd.DataFrame({"user": [1, 1, 2, 2], "label": [1.0, 0, 1, 0], "score": [0.9, 0.2, 0.4, 0.6], "task": "ctr"})
    rows = rows.assign(example_id=list("abcd"), item=[1, 2, 3, 4], answer="", warm_seen=True, warm_3=True)
    whole = compute_metrics(rows, "test", 10)
    order = compute_metrics(rows.assign(order_alone=True), "test", 10)
    assert order["test/ctr/auc"] == whole["test/ctr/auc"] == 0.75
    assert order["test/ctr/uauc"] == whole["test/ctr/uauc"]
    assert {"test/ctr/logloss", "test/ctr/ece"} <= set(whole)
    assert not {"test/ctr/logloss", "test/ctr/ece"} & set(order)
    assert "test/ctr/logloss" in compute_metrics(rows.assign(order_alone=[None, None, None, None]), "test", 10)
