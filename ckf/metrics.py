"""Metrics as pure functions, and all metrics of one source's predictions. Imports nothing of ckf."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import rankdata

SLICES: dict[str, tuple[str, bool]] = {
    "@warm_seen": ("warm_seen", True),
    "@cold_seen": ("warm_seen", False),
    "@warm_3": ("warm_3", True),
    "@cold_3": ("warm_3", False),
}


# --- classification


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half. NaN when only one class is there."""
    positive = np.asarray(labels) > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def uauc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> tuple[float, int]:
    """Unweighted mean of per-user AUC over users with both classes, and their number."""
    values = [auc(labels[rows], scores[rows]) for rows in _groups(users)]
    kept = [value for value in values if not np.isnan(value)]
    return (float(np.mean(kept)) if kept else float("nan")), len(kept)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped to [1e-7, 1 - 1e-7]."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(np.asarray(labels) > 0, np.log(p), np.log1p(-p))))


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, weights=probabilities, minlength=bins) - np.bincount(
        place, weights=(np.asarray(labels) > 0).astype(float), minlength=bins
    )
    return float(np.abs(gap).sum() / max(1, count.sum()))


def user_ndcg(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> float:
    """Mean over users with a positive of NDCG over all of the user's rows; a tied negative stands first."""
    values = []
    for rows in _groups(users):
        gains = (labels[rows] > 0).astype(float)
        if gains.any():
            order = np.lexsort((gains, -scores[rows]))
            discounts = 1.0 / np.log2(np.arange(2, len(rows) + 2))
            values.append((gains[order] @ discounts) / (np.sort(gains)[::-1] @ discounts))
    return float(np.mean(values)) if values else float("nan")


# --- ratings


def rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    """Root mean squared error, in stars."""
    return float(np.sqrt(np.mean((np.asarray(labels) - np.asarray(scores)) ** 2)))


def mae(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean absolute error, in stars."""
    return float(np.mean(np.abs(np.asarray(labels) - np.asarray(scores))))


# --- ranking


def target_ranks(hits: np.ndarray, scores: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Rank (from 1) of the target of each list. A tied target stands last among its ties: no luck counts."""
    order = np.lexsort((hits, -scores, lists))
    first = np.concatenate([[True], lists[order][1:] != lists[order][:-1]])
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rank = np.arange(len(order)) - start + 1
    return rank[hits[order] > 0]


def hit_rate(ranks: np.ndarray, k: int) -> float:
    """Share of lists whose target is among the first k."""
    return float(np.mean(ranks <= k))


def ndcg(ranks: np.ndarray, k: int) -> float:
    """NDCG@k with one relevant item a list."""
    return float(np.mean(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)))


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank."""
    return float(np.mean(1.0 / ranks))


# --- all metrics of one source


def compute_metrics(predictions: pd.DataFrame, split: str, candidates: int) -> dict[str, float]:
    """Flat metrics (``<split>/<task>/<metric>[@slice]``) of one source's rows of a predictions file.

    A NaN score is an unusable answer: it is counted (``unusable``) and scored as the worst one.
    Values that do not exist (AUC of one class, an empty slice) are left out; ``n`` is always there.
    """
    metrics: dict[str, float] = {}
    for task, rows in predictions.groupby("task", sort=False):
        metrics[f"{split}/{task}/unusable"] = int(rows["score"].isna().sum())
        rows = with_worst_scores(rows, str(task))
        slices = {"": rows, **{name: rows[rows[col] == value] for name, (col, value) in SLICES.items()}}
        for name, part in slices.items():
            for metric, value in _task_metrics(str(task), part, candidates).items():
                if not np.isnan(value):
                    metrics[f"{split}/{task}/{metric}{name}"] = value
    return metrics


def with_worst_scores(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Give every unusable answer the worst score: wrong with certainty, the far end of the scale, last.

    The scale is 1 to 5 stars, wider where the labels are: labels alone would make it a point in a
    sample of equal ratings, and an unusable answer there right.
    """
    missing = rows["score"].isna()
    if not missing.any():
        return rows
    label = rows["label"].to_numpy(dtype=float)
    if task == "ctr":
        worst = _with_worst_clicks(label, rows["score"].to_numpy(dtype=float))
    elif task == "topk":
        worst = np.full(len(rows), -np.inf)
    else:
        low, high = min(1.0, label.min()), max(5.0, label.max())
        worst = np.where(label - low > high - label, low, high)
    return rows.assign(
        score=np.where(missing, worst, rows["score"].to_numpy(dtype=float)),
        answer=np.where(missing, "", rows["answer"].astype(str)),
    )


def _with_worst_clicks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores in which a NaN is the wrong class with certainty: probability 0 or 1, or beyond every logit."""
    scores, missing = np.asarray(scores, dtype=float), np.isnan(scores)
    usable = scores[~missing]
    low, high = (0.0, 1.0) if ((usable >= 0) & (usable <= 1)).all() else (-np.inf, np.inf)
    return np.where(missing, np.where(np.asarray(labels) > 0, low, high), scores)


def _task_metrics(task: str, rows: pd.DataFrame, candidates: int) -> dict[str, float]:
    if task == "topk":
        return _topk_metrics(rows, candidates)
    if rows.empty:
        return {"n": 0}
    labels, scores = rows["label"].to_numpy(dtype=float), rows["score"].to_numpy(dtype=float)
    if task == "ctr":
        users = rows["user"].to_numpy()
        value, n_users = uauc(labels, scores, users)
        return {
            "auc": auc(labels, scores),
            "uauc": value,
            "uauc_users": n_users,
            "logloss": log_loss(labels, scores),
            "ece": ece(labels, scores),
            "ndcg_user": user_ndcg(labels, scores, users),
            "n": len(rows),
        }
    right = rows["answer"].astype(str).to_numpy() == np.asarray([f"{label:g}" for label in labels])
    return {
        "rmse": rmse(labels, scores),
        "mae": mae(labels, scores),
        "accuracy": float(right.mean()),
        "n": len(rows),
    }


def _topk_metrics(rows: pd.DataFrame, candidates: int) -> dict[str, float]:
    if rows.empty:
        return {"n": 0}
    lists = rows["example_id"].astype("category").cat.codes.to_numpy()
    ranks = target_ranks(rows["label"].to_numpy(dtype=float), rows["score"].to_numpy(dtype=float), lists)
    if not len(ranks):
        return {"n": 0}
    tag = f"[c{candidates}]"
    found: dict[str, float] = {f"hr@{k}{tag}": hit_rate(ranks, k) for k in (1, 3, 5, 10)}
    found.update({f"ndcg@{k}{tag}": ndcg(ranks, k) for k in (5, 10)})
    return {**found, f"mrr{tag}": mrr(ranks), "n": len(ranks)}


# --- uncertainty


def bootstrap_ci(values: np.ndarray, users: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of ``values`` [n], users drawn with replacement.

    For whatever is a mean over rows: hits, NDCG or reciprocal rank of a list, absolute errors; for
    RMSE give squared errors and take the roots of both ends.
    """
    codes, count = pd.factorize(users)[0], len(np.unique(users))
    total, rows = np.bincount(codes, weights=values, minlength=count), np.bincount(codes, minlength=count)
    draw = np.random.default_rng(seed)
    means = np.empty(samples)
    for sample in range(samples):
        times = np.bincount(draw.integers(0, count, count), minlength=count)
        means[sample] = (times @ total) / (times @ rows)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def auc_interval(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, samples: int, seed: int
) -> tuple[float, float]:
    """95% percentile bootstrap interval of the AUC, users drawn with replacement; a NaN score counts as the worst.

    NaN twice when no resample holds both classes.
    """
    ranked = _Ranked(labels, _with_worst_clicks(labels, scores))
    values = np.asarray([ranked.auc(weights) for weights in _user_weights(users, samples, seed)])
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_bootstrap_auc(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, users: np.ndarray, samples: int, seed: int
) -> tuple[float, float, float, float]:
    """AUC of a minus AUC of b on the same rows: difference, 95% interval and two-sided p-value.

    Users are drawn with replacement, since a user's rows are not independent; p is twice the
    smaller share of resamples on either side of zero (at least 1 / samples). A NaN score is an
    unusable answer and counts as the worst one, as in ``compute_metrics``.
    """
    scores_a, scores_b = _with_worst_clicks(labels, scores_a), _with_worst_clicks(labels, scores_b)
    ranked_a, ranked_b = _Ranked(labels, scores_a), _Ranked(labels, scores_b)
    weights = list(_user_weights(users, samples, seed))
    differences = np.asarray([ranked_a.auc(w) - ranked_b.auc(w) for w in weights])
    differences = differences[~np.isnan(differences)]
    point = auc(labels, scores_a) - auc(labels, scores_b)
    if not len(differences):
        return point, float("nan"), float("nan"), float("nan")
    low, high = np.percentile(differences, [2.5, 97.5])
    tail = min(np.mean(differences <= 0), np.mean(differences >= 0))
    return point, float(low), float(high), float(min(1.0, max(2 * tail, 1 / len(differences))))


class _Ranked:
    """Rows sorted once by score, so that a weighted AUC is two cumulative sums."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = np.asarray(scores)[self.order]
        self.positive = (np.asarray(labels)[self.order] > 0).astype(float)
        self.ties = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])

    def auc(self, weights: np.ndarray) -> float:
        """AUC with each row counted ``weights`` times. weights [n]"""
        w = weights[self.order]
        positive = np.add.reduceat(w * self.positive, self.ties)
        negative = np.add.reduceat(w * (1 - self.positive), self.ties)
        below = np.cumsum(negative) - negative
        total = positive.sum() * negative.sum()
        return float((positive * (below + negative / 2)).sum() / total) if total else float("nan")


def _user_weights(users: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn in each resample of users."""
    codes, count = pd.factorize(users)[0], len(np.unique(users))
    draw = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(draw.integers(0, count, count), minlength=count)[codes].astype(float)


def _groups(keys: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each group."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.asarray(keys)[order][1:] != np.asarray(keys)[order][:-1]) + 1
    return np.split(order, cuts)
