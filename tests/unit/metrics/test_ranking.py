"""Ranking, calibration and catalogue metrics against loops, scikit-learn and torchmetrics, with ties and gaps."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.retrieval import retrieval_reciprocal_rank

from ckf import metrics
from ckf.metrics.classification import log_losses
from ckf.tasks.measure import compute_metrics
from tests.unit.metrics.test_classification import CASES, random_case


def test_user_rankings_equal_a_loop_over_sorted_rows():
    """Ties: the negative stands first, as if the model had preferred it."""
    without = 0
    for number in range(CASES):
        labels, scores, users = random_case(number)
        expected: list[list[float]] = []
        for user in sorted(set(users.tolist())):
            mine = sorted(zip(-scores[users == user], labels[users == user], strict=True))
            places = [place for place, (_, label) in enumerate(mine, start=1) if label > 0]
            if not places:
                without += 1
                expected.append([math.nan] * 3)
                continue
            gain = sum(1 / math.log2(place + 1) for place in places)
            best = sum(1 / math.log2(place + 1) for place in range(1, len(places) + 1))
            precision = sum(count / place for count, place in enumerate(places, start=1)) / len(places)
            expected.append([gain / best, precision, 1 / places[0]])
        found = metrics.user_rankings(labels, scores, users)
        rows = np.stack([found.ndcg, found.average_precision, found.reciprocal_rank], axis=1)
        np.testing.assert_allclose(rows, expected, atol=1e-12)
    assert without > CASES / 10


def test_without_ties_they_equal_scikit_learn_and_torchmetrics():
    for number in range(100):
        draw = np.random.default_rng(number)
        labels, scores = (draw.random(12) < 0.4).astype(float), draw.random(12)
        if not labels.any():
            continue
        found = metrics.user_rankings(labels, scores, np.zeros(12))
        assert found.ndcg[0] == pytest.approx(ndcg_score([labels], [scores]))
        assert found.average_precision[0] == pytest.approx(average_precision_score(labels, scores))
        other = retrieval_reciprocal_rank(torch.tensor(scores), torch.tensor(labels).bool())
        assert found.reciprocal_rank[0] == pytest.approx(float(other))


def test_calibration_equals_scikit_learn_and_torchmetrics():
    """Scores off the bins' edges, where the two take a different side."""
    for number in range(CASES):
        draw = np.random.default_rng(number)
        n = int(draw.integers(2, 80))
        labels, scores = (draw.random(n) < 0.5).astype(float), np.round(draw.random(n), 2) * 0.98 + 0.0013
        curve = metrics.reliability(labels, scores)
        observed, predicted = calibration_curve(labels, scores, n_bins=15)
        np.testing.assert_allclose(curve.observed, observed)
        np.testing.assert_allclose(curve.predicted, predicted)
        assert curve.count.sum() == n
        other = binary_calibration_error(torch.tensor(scores), torch.tensor(labels).long(), n_bins=15, norm="l1")
        assert metrics.ece(labels, scores) == pytest.approx(float(other), abs=1e-6)


def test_scores_that_are_no_probabilities_have_no_likelihood_and_no_calibration():
    labels, logits = np.asarray([1.0, 0.0]), np.asarray([2.0, -1.0])
    assert math.isnan(metrics.ece(labels, logits))
    assert np.isnan(log_losses(labels, logits)).all()
    assert metrics.auc(labels, logits) == 1.0


def test_map_is_the_reciprocal_rank_cut_at_k():
    for number in range(CASES):
        ranks = np.random.default_rng(number).integers(1, 30, 20).astype(float)
        expected = sum(1 / rank for rank in ranks if rank <= 10) / 20
        assert metrics.mean_average_precision(ranks, 10) == pytest.approx(expected)


def test_a_list_without_its_target_counts_as_the_worst():
    """Retrieval missed it: no hit at any k, and the list stays in the mean."""
    lists = np.asarray([0, 0, 1, 1, 2])
    ranks = metrics.target_ranks(np.asarray([0, 1, 0, 0, 1]), np.asarray([0.9, 0.1, 0.5, 0.4, 0.3]), lists)
    assert ranks.tolist() == [2, math.inf, 1]
    assert metrics.hit_rate(ranks, 10) == pytest.approx(2 / 3)
    assert metrics.mrr(ranks) == pytest.approx(0.5)
    assert metrics.ndcg(ranks, 5) == pytest.approx((1 / math.log2(3) + 1) / 3)
    assert not len(metrics.target_ranks(np.empty(0), np.empty(0), np.empty(0)))


def candidate_rows(number: int) -> pd.DataFrame:
    """Candidate lists of many ties, some without their target, in any order."""
    draw = np.random.default_rng(number)
    rows = []
    for example in range(int(draw.integers(1, 9))):
        items = draw.choice(20, int(draw.integers(2, 8)), replace=False) + 1
        target = int(draw.integers(0, len(items))) if draw.random() < 0.9 else -1
        rows += [
            {"example_id": f"e{example}", "item": item, "label": float(place == target), "position": place,
             "score": float(draw.integers(0, 4)), "item_n_train": int(item) ** 2, "user": example % 3,
             "warm_seen": True, "warm_3": example % 2 == 0, "user_quartile": 1 + example % 4,
             "item_quartile": 1 + item // 6, "catalogue": 20, "task": "topk", "answer": ""}
            for place, item in enumerate(items)
        ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=number)


def test_top_items_coverage_and_popularity_equal_a_loop():
    for number in range(CASES):
        rows = candidate_rows(number)
        shown: list[int] = []
        for _, part in rows.groupby("example_id"):
            best = sorted(zip(-part["score"], part["label"], part["item"], strict=True))[:2]
            shown += [item for _, _, item in best]
        top = metrics.top_items(rows, 2)
        assert sorted(top["item"]) == sorted(shown)
        assert metrics.coverage(top["item"].to_numpy(), 20) == len(set(shown)) / 20
        wanted = rows.loc[rows["label"] > 0, "item_n_train"].to_numpy()
        found = metrics.popularity_bias(top["item_n_train"].to_numpy(), wanted)
        if len(wanted):
            assert found == pytest.approx(np.mean([item**2 for item in shown]) / wanted.mean())
        else:
            assert math.isnan(found)


def test_slices_of_lists_are_by_their_targets_and_add_up():
    for number in range(60):
        rows = candidate_rows(number)
        found = compute_metrics(rows, "test", "full")
        targets = rows[rows["label"] > 0]
        for quartile in (1, 2, 3, 4):
            mine = rows[rows["user_quartile"] == quartile]
            assert found[f"test/topk/n@users_q{quartile}"] == mine["example_id"].nunique()
            assert found[f"test/topk/users@users_q{quartile}"] == mine["user"].nunique()
            ids = targets.loc[targets["item_quartile"] == quartile, "example_id"]
            assert found[f"test/topk/n@items_q{quartile}"] == len(ids)
            if len(ids):
                again = compute_metrics(rows[rows["example_id"].isin(ids)], "test", "full")
                key = "test/topk/mrr[full]"
                assert found[f"{key}@items_q{quartile}"] == pytest.approx(again[key])
        if len(targets):
            places = targets["position"].value_counts()
            for place in range(int(targets["position"].max()) + 1):
                assert found[f"test/topk/n@position_{place}"] == places.get(place, 0)
        longest = rows.groupby("example_id").size().max()
        assert ("test/topk/coverage@5[full]" in found) == (longest > 5), "all candidates are no choice of the model"


def test_a_whole_catalogue_has_no_slices_by_position():
    n = 30
    rows = pd.DataFrame({"example_id": "a", "item": range(1, n + 1), "label": [0.0] * (n - 1) + [1.0], "user": 1})
    rows = rows.assign(position=range(n), score=0.0, task="topk", answer="", warm_seen=True, warm_3=True)
    assert not any("@position" in key for key in compute_metrics(rows, "test", "full"))


def test_quartiles_share_ties_and_hold_a_quarter_each():
    assert metrics.quartiles(np.asarray([5, 1, 3, 7])).tolist() == [3, 1, 2, 4]
    assert metrics.quartiles(np.asarray([2, 2, 2, 9])).tolist() == [1, 1, 1, 4]
    assert metrics.quartiles(np.arange(100)).tolist() == np.repeat([1, 2, 3, 4], 25).tolist()
    for number in range(CASES):
        counts = np.random.default_rng(number).integers(0, 9, 30)
        expected = [1 + int(4 * np.mean(counts < count)) for count in counts]
        assert metrics.quartiles(counts).tolist() == expected


def test_every_metric_is_the_same_in_any_order_of_rows():
    """Row order follows batches and processes; no tie may be broken by it."""
    for number in range(40):
        labels, scores, users = random_case(number)
        clicks = pd.DataFrame({"task": "ctr", "label": labels, "score": scores, "user": users, "item": 1})
        clicks = clicks.assign(example_id=[f"c{i}" for i in range(len(labels))], position=-1, answer="Yes")
        clicks = clicks.assign(warm_seen=users % 2 == 0, warm_3=False, user_quartile=1 + users % 4, item_quartile=1)
        ratings = clicks.assign(task="rating", label=1 + 4 * labels, answer="5", example_id="r" + clicks["example_id"])
        rows = pd.concat([candidate_rows(number), clicks, ratings])
        one = compute_metrics(rows, "test", 10)
        other = compute_metrics(rows.sample(frac=1, random_state=1), "test", 10)
        assert one == pytest.approx(other, abs=1e-12)
        assert one["test/ctr/users"] == len(set(users.tolist()))
