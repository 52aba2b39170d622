"""All metrics of one source's rows of a predictions file, task by task, and what resampling needs of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ckf.metrics import ranking
from ckf.metrics.classification import auc, ece, log_losses, user_aucs, user_rankings
from ckf.metrics.ratings import mae, right_answers, rmse
from ckf.metrics.resampling import RankedAUC, Ratio, Statistic
from ckf.metrics.slices import fine_slices, warmth_slices
from ckf.metrics.unusable_answers import with_worst_scores

HIT_AT, NDCG_AT, TOP = (1, 3, 5, 10), (5, 10), (1, 5, 10)
ONE_TITLE = ("[gen]", "[trie]")
"""Protocols that name one title: there is no order beyond the first place."""


def protocol_tag(candidates: int | str) -> str:
    """How a ranking metric names its protocol: ``[c10]`` for ten candidates, ``[full]`` for ``full``."""
    return f"[c{candidates}]" if isinstance(candidates, int) else f"[{candidates}]"


def headline(task: str, candidates: int | str) -> str:
    """The one metric that a task is judged by."""
    return {"ctr": "auc", "topk": f"hr@1{protocol_tag(candidates)}"}.get(task, "rmse")


def compute_metrics(predictions: pd.DataFrame, split: str, candidates: int | str) -> dict[str, float]:
    """Flat metrics (``<split>/<task>/<metric>[@slice]``) of one source's rows of a predictions file.

    A NaN score is an unusable answer: it is counted (``unusable``) and scored as the worst one.
    Values that do not exist (AUC of one class, an empty slice) are left out; ``n`` (rows or lists)
    and ``users`` are always there. ``candidates`` names the protocol of ranking metrics. Quartiles,
    coverage and popularity need the columns ``user_quartile``, ``item_quartile``, ``item_n_train``
    and ``catalogue``, and are left out without them.
    """
    metrics: dict[str, float] = {}
    for name, rows in predictions.groupby("task", sort=False):
        task = str(name)
        metrics[f"{split}/{task}/unusable"] = int(rows["score"].isna().sum())
        rows = with_worst_scores(rows, task)
        units = ranking.list_table(rows) if task == "topk" else rows
        found = {(metric, ""): value for metric, value in catalogue_metrics(task, rows, candidates).items()}
        for part, members in warmth_slices(units).items():
            found.update({(metric, part): v for metric, v in unit_metrics(task, members, candidates).items()})
        for part, members in fine_slices(units).items():
            shown = unit_metrics(task, members, candidates, few=True)
            found.update({(metric, part): value for metric, value in shown.items()})
        metrics.update({f"{split}/{task}/{m}{part}": value for (m, part), value in found.items() if value == value})
    return metrics


def protocol_metrics(predictions: pd.DataFrame, split: str, protocol: str) -> dict[str, float]:
    """Metrics of one source's lists under a further protocol; counts carry its tag too, e.g. ``n[full]``.

    ``unusable`` counts lists without a usable answer.
    """
    tag, key = protocol_tag(protocol), f"{split}/topk/"
    found = compute_metrics(predictions, split, protocol)
    kept = {name: value for name, value in found.items() if tag in name}
    counts = {f"{key}{name}{tag}": found[f"{key}{name}"] for name in ("n", "users")}
    unusable = predictions.loc[predictions["score"].isna(), "example_id"].nunique()
    return {**kept, **counts, f"{key}unusable{tag}": int(unusable)}


def unit_metrics(task: str, units: pd.DataFrame, candidates: int | str, *, few: bool = False) -> dict[str, float]:
    """Metrics of rows (ctr, rating, explain) or lists (topk, see ``list_table``); ``few``: the main ones alone."""
    counts: dict[str, float] = {"n": len(units), "users": int(units["user"].nunique())}
    if units.empty:
        return counts
    if task == "topk":
        return {**_list_metrics(units["rank"].to_numpy(), protocol_tag(candidates), few), **counts}
    labels, scores = units["label"].to_numpy(dtype=float), units["score"].to_numpy(dtype=float)
    if task == "ctr":
        return {**_click_metrics(labels, scores, units["user"].to_numpy(), few), **counts}
    found = {"rmse": rmse(labels, scores), "mae": mae(labels, scores)}
    if not few:
        found["accuracy"] = float(right_answers(labels, units["answer"].to_numpy()).mean())
    return {**found, **counts}


def _click_metrics(labels: np.ndarray, scores: np.ndarray, users: np.ndarray, few: bool) -> dict[str, float]:
    by_user = user_aucs(labels, scores, users)
    found = {"auc": auc(labels, scores), "uauc": _mean(by_user), "uauc_users": int((~np.isnan(by_user)).sum())}
    if few:
        return found
    orders = user_rankings(labels, scores, users)
    return {
        **found,
        "logloss": float(np.mean(log_losses(labels, scores))),
        "ece": ece(labels, scores),
        "ndcg_user": _mean(orders.ndcg),
        "map_user": _mean(orders.average_precision),
        "mrr_user": _mean(orders.reciprocal_rank),
        "users_with_positive": int((~np.isnan(orders.ndcg)).sum()),
    }


def _list_metrics(ranks: np.ndarray, tag: str, few: bool) -> dict[str, float]:
    if tag in ONE_TITLE:
        return {f"hr@1{tag}": ranking.hit_rate(ranks, 1)}
    if few:
        return {f"hr@1{tag}": ranking.hit_rate(ranks, 1), f"mrr{tag}": ranking.mrr(ranks)}
    found = {f"hr@{k}{tag}": ranking.hit_rate(ranks, k) for k in HIT_AT}
    found.update({f"ndcg@{k}{tag}": ranking.ndcg(ranks, k) for k in NDCG_AT})
    found[f"map@10{tag}"] = ranking.mean_average_precision(ranks, 10)
    return {**found, f"mrr{tag}": ranking.mrr(ranks)}


def catalogue_metrics(task: str, rows: pd.DataFrame, candidates: int | str) -> dict[str, float]:
    """Coverage and popularity bias of the first k, for each k below the length of the lists."""
    tag = protocol_tag(candidates)
    if task != "topk" or rows.empty or "item_n_train" not in rows or "catalogue" not in rows or tag in ONE_TITLE:
        return {}
    longest = int(rows.groupby("example_id").size().max())
    targets = rows.loc[rows["label"].to_numpy(dtype=float) > 0, "item_n_train"].to_numpy()
    found: dict[str, float] = {"catalogue": int(rows["catalogue"].iloc[0])}
    tops = ranking.top_items(rows, max(TOP))
    place = tops.groupby("example_id", sort=False).cumcount()
    for k in (k for k in TOP if k < longest):
        top = tops[place < k]
        found[f"coverage@{k}{tag}"] = ranking.coverage(top["item"].to_numpy(), int(found["catalogue"]))
        found[f"popularity_bias@{k}{tag}"] = ranking.popularity_bias(top["item_n_train"].to_numpy(), targets)
    return found


def task_statistics(
    task: str, rows: pd.DataFrame, candidates: int | str, only: str | None = None
) -> tuple[dict[str, Statistic], int]:
    """Metrics of one task of one source as functions of user counts (``resample``), and the number of users.

    Users are numbered in ascending order, so two sources of the same examples pair up. ``only`` names
    one metric; without it all are there that are means over rows or users, and the AUC.
    """
    rows = with_worst_scores(rows, task)
    units = ranking.list_table(rows) if task == "topk" else rows
    names, codes = np.unique(units["user"].to_numpy(), return_inverse=True)
    found = _statistics(task, units, codes, len(names), protocol_tag(candidates))
    return {metric: s for metric, s in found.items() if only in (None, metric)}, len(names)


def _statistics(task: str, units: pd.DataFrame, codes: np.ndarray, users: int, tag: str) -> dict[str, Statistic]:
    def mean(values: np.ndarray, *, root: bool = False) -> Ratio:
        return Ratio.of_rows(values, codes, users, root=root)

    if task == "topk":
        ranks = units["rank"].to_numpy()
        found: dict[str, Statistic] = {f"hr@{k}{tag}": mean(ranking.hits_at(ranks, k)) for k in HIT_AT}
        found.update({f"ndcg@{k}{tag}": mean(ranking.gains_at(ranks, k)) for k in NDCG_AT})
        return {**found, f"mrr{tag}": mean(1.0 / ranks)}
    labels, scores = units["label"].to_numpy(dtype=float), units["score"].to_numpy(dtype=float)
    if task == "ctr":
        clicks: dict[str, Statistic] = {
            "auc": RankedAUC(labels, scores, codes),
            "uauc": Ratio.of_users(user_aucs(labels, scores, codes)),
            "ndcg_user": Ratio.of_users(user_rankings(labels, scores, codes).ndcg),
        }
        losses = log_losses(labels, scores)
        return clicks if np.isnan(losses).any() else {**clicks, "logloss": mean(losses)}
    return {
        "rmse": mean((labels - scores) ** 2, root=True),
        "mae": mean(np.abs(labels - scores)),
        "accuracy": mean(right_answers(labels, units["answer"].to_numpy()).astype(float)),
    }


def _mean(by_user: np.ndarray) -> float:
    found = by_user[~np.isnan(by_user)]
    return float(found.mean()) if len(found) else float("nan")
