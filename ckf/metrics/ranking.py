"""Metrics of candidate lists: the target's rank, and what the top of the lists is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # its import takes half a second, and `ckf --help` comes through here


def protocol_tag(candidates: int | str) -> str:
    """How a ranking metric names its protocol: ``[c10]`` for ten candidates, ``[full]`` for ``full``."""
    return f"[c{candidates}]" if isinstance(candidates, int) else f"[{candidates}]"


NEVER = np.inf
"""Rank of a target that its list does not hold: no hit at any k, reciprocal rank 0."""


def target_ranks(hits: np.ndarray, scores: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Rank (from 1) of the target of each list, in ascending order of list.

    A tied target is ranked last among its ties, so ties never help. A list without its target (retrieval
    missed it) has rank infinity, which every metric counts as the worst.
    """
    order = np.lexsort((hits, -np.asarray(scores, dtype=float), lists))
    ordered, hit = np.asarray(lists)[order], np.asarray(hits)[order] > 0
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else np.empty(0, int)
    number = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
    ranks = np.full(len(starts), NEVER)
    np.minimum.at(ranks, number[hit], (np.arange(len(order)) - starts[number] + 1.0)[hit])
    return ranks


def hit_rate(ranks: np.ndarray, k: int) -> float:
    """Share of lists whose target is among the first k."""
    return float(np.mean(hits_at(ranks, k)))


def ndcg(ranks: np.ndarray, k: int) -> float:
    """NDCG@k with one relevant item a list."""
    return float(np.mean(gains_at(ranks, k)))


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank of the whole list."""
    return float(np.mean(1.0 / np.asarray(ranks)))


def mean_average_precision(ranks: np.ndarray, k: int) -> float:
    """MAP@k; with one relevant item a list it is the reciprocal rank, cut at k."""
    return float(np.mean(np.where(np.asarray(ranks) <= k, 1.0 / np.asarray(ranks), 0.0)))


def hits_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 for each list whose target is among the first k, else 0."""
    return (np.asarray(ranks) <= k).astype(float)


def gains_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Discounted gain of each list cut at k: 1 / log2(rank + 1)."""
    return np.where(np.asarray(ranks) <= k, 1.0 / np.log2(np.asarray(ranks) + 1.0), 0.0)


def top_items(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k best rows of each list (``example_id``); ties go to the candidate that is not the target, then by id."""
    order = np.lexsort((rows["item"], rows["label"], -rows["score"].to_numpy(dtype=float), rows["example_id"]))
    ordered = rows.iloc[order]
    return ordered[ordered.groupby("example_id", sort=False).cumcount() < k]


def coverage(recommended: np.ndarray, catalogue: int) -> float:
    """Share of the catalogue's items that are recommended to anybody (Ge et al. 2010). recommended: item ids."""
    return len(np.unique(recommended)) / catalogue


def popularity_bias(recommended: np.ndarray, targets: np.ndarray) -> float:
    """Mean training count of the recommended items over that of the targets; above 1: more popular than chosen.

    NaN when no target was seen in training.
    """
    wanted = float(np.mean(targets)) if len(targets) else 0.0
    return float(np.mean(recommended)) / wanted if wanted else float("nan")


def list_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Candidate rows to one row for each list, sorted by ``example_id``: ``rank`` and what is known of its target.

    Where a list does not hold its target, item, position and the item's group are those of no item (0 and -1).
    A column ``rank`` holds the targets' ranks where the rows hold only the top of each ranking.
    """
    import pandas as pd

    lists, names = pd.factorize(rows["example_id"], sort=True)
    ranks = target_ranks(rows["label"].to_numpy(dtype=float), rows["score"].to_numpy(dtype=float), lists)
    shared = [name for name in ("user", "warm_seen", "warm_3", "user_quartile") if name in rows]
    if "rank" in rows:
        whole = rows["rank"].to_numpy(dtype=float)[rows["label"].to_numpy(dtype=float) > 0]
        ranks[lists[rows["label"].to_numpy(dtype=float) > 0]] = whole
    own = [name for name in ("item", "position", "item_quartile") if name in rows]
    heads = rows.assign(list=lists).drop_duplicates("list").set_index("list")[shared].sort_index()
    targets = rows.assign(list=lists)[rows["label"].to_numpy(dtype=float) > 0].drop_duplicates("list").set_index("list")
    table = heads.join(targets[own]).fillna({"item": 0, "position": -1, "item_quartile": 0})
    return table.assign(example_id=names, rank=ranks).astype(dict.fromkeys(own, int)).reset_index(drop=True)
