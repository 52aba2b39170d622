"""Dataset to examples: one row per prompt, every draw by name, audited before it is written."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ckf.artifacts import write_json
from ckf.data.audit import audit_examples, refuse_violations
from ckf.data.seeds import named_keys, named_uniform
from ckf.errors import DataError


def build_examples(
    dataset: Path, tasks: list[str], *, history_items: int, candidates: int, review_words: int, seed: int, out: Path
) -> None:
    """Write ``examples.parquet`` (sorted by example id) and its ``manifest.json`` to ``out``.

    Raises:
        DataError: too few items for the candidate lists, or an example that leaks.
    """
    interactions = pq.read_table(dataset / "interactions.parquet").to_pandas()
    items = pd.read_parquet(dataset / "items.parquet")
    base = interactions.assign(**_warmth(interactions))
    keys = normalised_titles(items)
    parts = []
    for task in tasks:
        rows = _rows_of(base, task)
        rows = _with_histories(rows, base, task, history_items, keys)
        rows["example_id"] = [
            f"{task}/{s}/{u}-{i}" for s, u, i in zip(rows["split"], rows["user"], rows["item"], strict=True)
        ]
        rows["candidates"], rows["position"] = (
            _candidates(rows, base, keys, candidates, seed) if task == "topk" else ([[]] * len(rows), -1)
        )
        rows["review"] = (
            [" ".join(text.split()[:review_words]) for text in rows["review"]] if task == "explain" else None
        )
        parts.append(rows.assign(task=task))
    examples = pd.concat(parts, ignore_index=True).sort_values("example_id", kind="stable").reset_index(drop=True)
    found = audit_examples(examples, interactions, keys)
    write_examples(examples, out / "examples.parquet")
    counts = (examples["task"] + "/" + examples["split"]).value_counts().sort_index()
    write_json(
        out / "manifest.json",
        {"audit": found, "examples": {str(name): int(n) for name, n in counts.items()}},
    )
    refuse_violations(found)


def normalised_titles(items: pd.DataFrame) -> dict[int, str]:
    """Titles as a reader would compare them: no case, no punctuation, one form of each letter.

    A title of punctuation alone ("!!!") is compared as it stands; else all such titles would be one.
    """
    found = {}
    for item, title in zip(items["item"], items["title"], strict=True):
        folded = unicodedata.normalize("NFKC", title).casefold()
        found[int(item)] = "".join(c for c in folded if c.isalnum()) or folded
    return found


def _warmth(interactions: pd.DataFrame) -> dict[str, np.ndarray]:
    """Whether user and item are both met in train at least once (seen) and three times."""
    train = interactions[interactions["split"] == "train"]
    fewest = np.minimum(
        *(interactions[kind].map(train[kind].value_counts()).fillna(0).to_numpy() for kind in ("user", "item"))
    )
    return {"warm_seen": fewest >= 1, "warm_3": fewest >= 3}


def _rows_of(base: pd.DataFrame, task: str) -> pd.DataFrame:
    match task:
        case "ctr":
            return base.assign(label=base["click"].astype("float32"))
        case "topk":
            return base[base["click"] == 1].assign(label=np.float32(1.0))
        case "rating":
            return base[base["rating"].notna()].assign(label=lambda rows: rows["rating"])
        case "explain":
            return base[base["rating"].notna() & base["review"].notna()].assign(label=lambda rows: rows["rating"])
    raise ValueError(f"unknown task '{task}'")


def _with_histories(
    rows: pd.DataFrame, base: pd.DataFrame, task: str, last: int, titles: dict[int, str]
) -> pd.DataFrame:
    """Add ``history`` and ``history_ratings``: the user's strictly earlier items, oldest first.

    Never the target, nor another item of its title (a second edition would name the answer).
    """
    rated = task == "rating"
    twins = _items_of_shared_titles(titles)
    histories: list[Any] = []
    ratings: list[Any] = []
    if "history" in base:
        for item, history in zip(rows["item"], rows["history"], strict=True):
            same = twins.get(item, {item})
            histories.append([int(i) for i in history if i not in same][-last:])
            ratings.append([])
        return rows.assign(history=histories, history_ratings=ratings)
    pool = base if rated else base[base["click"] == 1]
    by_user = {
        user: (group["timestamp"].to_numpy(), group["item"].to_numpy(), group["rating"].to_numpy())
        for user, group in pool.groupby("user")
    }
    nothing = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    for user, item, when in zip(rows["user"], rows["item"], rows["timestamp"], strict=True):
        times, items, stars = by_user.get(user, nothing)
        stop = int(np.searchsorted(times, when, side="left"))  # the same second is not earlier
        if item in twins:
            kept = np.flatnonzero(~np.isin(items[:stop], list(twins[item])))[-last:]
        else:
            kept = np.arange(max(0, stop - last), stop)
        histories.append(items[kept])
        ratings.append(stars[kept] if rated else [])
    return rows.assign(history=histories, history_ratings=ratings)


def _items_of_shared_titles(titles: dict[int, str]) -> dict[int, set[int]]:
    """For each item whose title is not its own alone, all items of that title."""
    items = pd.Series(list(titles), index=list(titles.values()))
    shared = items[items.index.duplicated(keep=False)]
    groups = shared.groupby(level=0).agg(set)
    return {int(item): group for group in groups for item in group}


def _candidates(
    rows: pd.DataFrame, base: pd.DataFrame, titles: dict[int, str], count: int, seed: int
) -> tuple[list[list[int]], list[int]]:
    """Target and ``count - 1`` negatives in an order drawn by example id.

    Training negatives avoid the user's *training* positives only: to look at held-out ones would
    leak them. Evaluation candidates avoid the user's positives of every split.
    """
    liked = base[base["click"] == 1]
    everywhere = liked.groupby("user")["item"].agg(set).to_dict()
    in_train = liked[liked["split"] == "train"].groupby("user")["item"].agg(set).to_dict()
    catalogue = np.sort(np.fromiter(titles, dtype=np.int64))
    keys = named_keys(rows["example_id"].tolist())
    order = named_uniform(seed, "candidate order", keys, count)
    draws = named_uniform(seed, "negatives", keys, 4 * count)
    lists, positions = [], []
    for number, (user, item, split, history) in enumerate(
        zip(rows["user"], rows["item"], rows["split"], rows["history"], strict=True)
    ):
        known = in_train if split == "train" else everywhere
        barred = {*known.get(user, ()), *map(int, history), int(item)}
        chosen = _draw_negatives(catalogue, draws[number], keys[number], barred, titles, int(item), count - 1, seed)
        listed = [int(item), *chosen]
        shuffle = np.argsort(order[number], kind="stable")
        lists.append([listed[place] for place in shuffle])
        positions.append(int(np.flatnonzero(shuffle == 0)[0]))
    return lists, positions


def _draw_negatives(
    catalogue: np.ndarray,
    draws: np.ndarray,
    key: np.uint64,
    barred: set[int],
    titles: dict[int, str],
    target: int,
    count: int,
    seed: int,
) -> list[int]:
    said = {titles[target]}
    chosen: list[int] = []
    attempt = 0
    while len(chosen) < count:
        for item in catalogue[(draws * len(catalogue)).astype(np.int64)]:
            if int(item) not in barred and titles[int(item)] not in said and len(chosen) < count:
                chosen.append(int(item))
                said.add(titles[int(item)])
                barred.add(int(item))
        attempt += 1
        if attempt > 200:
            raise DataError(f"tasks.candidates: item {target} has too few items left for {count} negatives")
        draws = named_uniform(seed, f"negatives, again {attempt}", np.asarray([key]), len(draws))[0]
    return chosen


def write_examples(examples: pd.DataFrame, path: Path) -> None:
    """Write examples with fixed column types."""
    types = {
        "example_id": pa.string(),
        "task": pa.string(),
        "split": pa.string(),
        "user": pa.int32(),
        "item": pa.int32(),
        "label": pa.float32(),
        "candidates": pa.list_(pa.int32()),
        "position": pa.int32(),
        "history": pa.list_(pa.int32()),
        "history_ratings": pa.list_(pa.float32()),
        "review": pa.string(),
        "timestamp": pa.int64(),
        "warm_seen": pa.bool_(),
        "warm_3": pa.bool_(),
    }
    columns = {name: pa.array(examples[name].tolist(), kind, from_pandas=True) for name, kind in types.items()}
    pq.write_table(pa.table(columns), path)
