"""Statistics of a finished dataset, for its manifest and its dataset card."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ckf.config.schema import SplitConfig
from ckf.core.split_names import HISTORY_ONLY, SPLITS
from ckf.data.filters import different
from ckf.data.interactions import normalised_titles


def describe(rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, split: SplitConfig) -> dict[str, Any]:
    """Counts of the finished dataset; ``rows`` in the artifact's ids and order, with ``review_bytes``."""
    of_user, of_item = (np.bincount(rows[kind].to_numpy()) for kind in ("user", "item"))
    pairs = np.count_nonzero(of_user) * np.count_nonzero(of_item)
    present = rows["split"].unique().to_list()
    earlier, at_once = _earlier(rows)
    lengths = rows["history_length"].to_numpy() if "history_length" in rows.columns else earlier
    return {
        "interactions": rows.height,
        "users": int(np.count_nonzero(of_user)),
        "items": items.height,
        "sparsity": round(1 - rows.height / float(pairs), 6),
        "first_timestamp": rows["timestamp"].min(),
        "last_timestamp": rows["timestamp"].max(),
        "split": split.name,
        "split_settings": _settings(split),
        "splits": {name: _part(rows, users, items, name) for name in (*SPLITS, HISTORY_ONLY) if name in present},
        "ratings": _histogram(rows["rating"].drop_nulls()),
        "interactions_per_user": _powers(of_user[of_user > 0]),
        "interactions_per_item": _powers(of_item[of_item > 0]),
        "history_lengths": _powers(lengths),
        "reviews": int((rows["review_bytes"] > 0).sum()),
        "rows_at_the_same_second_as_another_of_the_user": at_once,
        "titles": _titles(items),
    }


def _settings(split: SplitConfig) -> dict[str, Any]:
    """The keys that made the split: those of its kind, where they are set."""
    months, dates = ("train_months", "val_months", "test_months"), ("val_from", "test_from")
    keys: tuple[str, ...] = ("val_fraction", "test_fraction")
    if split.name == "temporal":
        keys = months if split.train_months else dates if split.val_from else keys
    elif split.name in ("user_cold", "item_cold"):
        keys += ("split_seed",)
    else:
        keys = ()
    found = {key: getattr(split, key) for key in keys}
    return found | (
        {"cold_user_max_interactions": split.cold_user_max_interactions} if split.cold_user_max_interactions else {}
    )


def _part(rows: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, name: str) -> dict[str, Any]:
    part = rows.filter(pl.col("split") == name)
    ids = part["user"].to_numpy(), part["item"].to_numpy()
    in_train = [table["n_train"].to_numpy()[mine - 1] for table, mine in zip((users, items), ids, strict=True)]
    fewest = np.minimum(*in_train)
    return {
        "interactions": part.height,
        "users": different(part["user"]),
        "items": different(part["item"]),
        "liked_share": round(float(part["click"].mean()), 4),  # type: ignore[arg-type]
        "warm_seen": int((fewest >= 1).sum()),
        "warm_3": int((fewest >= 3).sum()),
        "cold_users": different(part["user"].filter(pl.Series(in_train[0] == 0))),
        "cold_items": different(part["item"].filter(pl.Series(in_train[1] == 0))),
        "first_timestamp": part["timestamp"].min(),
        "last_timestamp": part["timestamp"].max(),
    }


def _earlier(rows: pl.DataFrame) -> tuple[np.ndarray, int]:
    """How many interactions of its user are earlier than each one, in any order (int64 [n]); and how many share
    their second with another of the user. ``rows`` are in the order of time.
    """
    second = np.cumsum(np.diff(rows["timestamp"].to_numpy(), prepend=0) > 0)
    ordered = np.sort(rows["user"].to_numpy().astype(np.int64) << 32 | second)
    new_user, new_second = (np.diff(part, prepend=-1) > 0 for part in (ordered >> 32, ordered))
    place = np.arange(len(ordered))
    of_second, of_user = (np.maximum.accumulate(np.where(new, place, 0)) for new in (new_second, new_user))
    alone = new_second & np.append(new_second[1:], True)
    return of_second - of_user, int((~alone).sum())


def _histogram(values: pl.Series) -> dict[str, int]:
    table = values.value_counts(name="n").sort(values.name)
    return {f"{value:g}": n for value, n in table.iter_rows()}


def _powers(values: np.ndarray) -> dict[str, int]:
    """Histogram by powers of two from the first that occurs: 0, 1, 2-3, 4-7, …"""
    found: dict[str, int] = {}
    counts = np.bincount(np.frexp(values.astype(np.float64))[1])  # 0 for 0, 1 for 1, 2 for 2 and 3, …
    for power, n in enumerate(counts.tolist()):
        low, high = (1 << power) >> 1, (1 << power) - 1
        if n or found:
            found[str(low) if high == low else f"{low}-{high}"] = n
    return found


def _titles(items: pl.DataFrame) -> dict[str, Any]:
    keys = normalised_titles(items["item"].to_list(), items["title"].to_list())
    names = pl.Series("key", [keys[item] for item in items["item"]], dtype=pl.String)
    shared = items.select("title").with_columns(names).filter(names.is_duplicated())
    first = shared.filter(pl.col("key") == shared["key"][0])["title"].to_list()[:3] if shared.height else []
    return {
        "different": names.n_unique(),
        "shared_by_several_items": shared["key"].n_unique(),
        "items_that_share_one": shared.height,
        "first_shared": first,
    }
