"""Split assignment: which rows are train, val and test."""

from __future__ import annotations

import numpy as np
import polars as pl

from ckf.config.schema import SplitConfig
from ckf.core.errors import DataError
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.core.split_names import HISTORY_ONLY, SPLITS
from ckf.data.empty_split import why_empty
from ckf.data.filters import seconds


def assign_split(rows: pl.DataFrame, cfg: SplitConfig, users: pl.Series, items: pl.Series) -> pl.Series:
    """Name of the split of each row, null for a row that belongs to none. String [n]

    ``rows`` has user and item codes (places in ``users`` and ``items``, the raw ids), timestamp, and
    ``split`` where the source brings one. ``temporal``: one cut in time for all users; rows of one
    instant stay together. ``leave_last_out``: each user's last interaction is test, the one before
    val (users with fewer than three stay in train). ``user_cold``, ``item_cold``: a share of the
    users or items with all of their rows. ``provided``: the source's own.

    Raises:
        DataError: no split in the source, or a split that is left without rows.
    """
    split = _assigned(rows, cfg, users, items)
    if cfg.cold_user_max_interactions:
        sizes = np.bincount(rows["user"].to_numpy())
        few = pl.Series(sizes[rows["user"].to_numpy()] <= cfg.cold_user_max_interactions)
        split = pl.select(pl.when(few).then(pl.lit("test")).otherwise(split)).to_series()
    if "context" in rows.columns:
        split = pl.select(pl.when(rows["context"]).then(pl.lit(HISTORY_ONLY)).otherwise(split)).to_series()
    for name in SPLITS:
        if not (split == name).any():
            reason = why_empty(name, split, rows, cfg)
            raise DataError(f"split {cfg.name}: no interaction is left for '{name}' of {rows.height} in all: {reason}")
    return split.rename("split")


def in_training_share(rows: pl.DataFrame, cfg: SplitConfig, users: pl.Series, items: pl.Series) -> pl.Series:
    """Whether each row stays: every row but those of train beyond ``train_fraction``. Boolean [n]

    The draw of an interaction depends on its raw ids and the seed alone, so shares are nested.
    """
    raw = (users[rows["user"].to_numpy()].cast(pl.String), items[rows["item"].to_numpy()].cast(pl.String))
    keys = hash_ids([f"{user}/{item}" for user, item in zip(*raw, strict=True)])
    drawn = pl.Series(hashed_uniform(cfg.split_seed, "share of the training data", keys, 1)[:, 0])
    return (rows["split"] != "train") | (drawn < cfg.train_fraction)


def _assigned(rows: pl.DataFrame, cfg: SplitConfig, users: pl.Series, items: pl.Series) -> pl.Series:
    match cfg.name:
        case "provided":
            if "split" not in rows.columns:
                raise DataError("split.name: 'provided', but the source brings no split; use another, e.g. temporal")
            return rows["split"]
        case "temporal" if cfg.train_months is not None:
            return _by_months(rows["timestamp"], cfg)
        case "temporal":
            return _temporal(rows["timestamp"], cfg)
        case "leave_last_out":
            return _leave_last_out(rows)
        case "user_cold":
            return _held_out(rows["user"], users, cfg, "cold users")
        case "item_cold":
            return _held_out(rows["item"], items, cfg, "cold items")
    raise ValueError(f"unknown split '{cfg.name}'")


def _temporal(timestamps: pl.Series, cfg: SplitConfig) -> pl.Series:
    if cfg.val_from is not None and cfg.test_from is not None:
        val_from, test_from = seconds(cfg.val_from), seconds(cfg.test_from)
    else:
        ordered, n = timestamps.sort(), len(timestamps)
        test_from = ordered[min(n - 1, round(n * (1 - cfg.test_fraction)))]
        val_from = ordered[min(n - 1, round(n * (1 - cfg.test_fraction - cfg.val_fraction)))]
    return _three_ways(timestamps >= test_from, timestamps >= val_from)


def _by_months(timestamps: pl.Series, cfg: SplitConfig) -> pl.Series:
    """Calendar months counted from that of the earliest row, as CoLLM's notebook does (arXiv 2310.19488)."""
    when = timestamps.cast(pl.Datetime("us")) if timestamps.is_empty() else pl.from_epoch(timestamps)
    month = when.dt.year() * 12 + when.dt.month().cast(pl.Int32)
    slot = month - month.min()
    split = pl.repeat(None, len(slot), dtype=pl.String, eager=True)
    for name, bounds in (("train", cfg.train_months), ("val", cfg.val_months), ("test", cfg.test_months)):
        assert bounds is not None  # the config has all three or none
        inside = slot.is_between(bounds[0], bounds[1])
        split = pl.select(pl.when(inside).then(pl.lit(name)).otherwise(split)).to_series()
    return split


def _leave_last_out(rows: pl.DataFrame) -> pl.Series:
    place = rows.select("user", "timestamp", "item").with_row_index("place").sort("user", "timestamp", "item")
    from_end = pl.int_range(pl.len()).reverse().over("user")
    size = pl.len().over("user")
    place = place.with_columns(last=(from_end == 0) & (size >= 3), next_to_last=(from_end == 1) & (size >= 3))
    place = place.sort("place")
    return _three_ways(place["last"], place["last"] | place["next_to_last"])


def _held_out(codes: pl.Series, raw_ids: pl.Series, cfg: SplitConfig, purpose: str) -> pl.Series:
    """The draw of an id depends on its name and the seed alone, so other rows cannot move it."""
    draw = hashed_uniform(cfg.split_seed, purpose, hash_ids(raw_ids.to_list()), 1)[:, 0]
    drawn = pl.Series(draw[codes.to_numpy()])
    return _three_ways(drawn < cfg.test_fraction, drawn < cfg.test_fraction + cfg.val_fraction)


def _three_ways(test: pl.Series, val: pl.Series) -> pl.Series:
    choice = pl.when(test).then(pl.lit("test")).when(val).then(pl.lit("val")).otherwise(pl.lit("train"))
    return pl.select(choice).to_series()
