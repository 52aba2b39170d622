"""Why a split is left without rows, and what to change: the end of the message that stops."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from ckf.config.schema import SplitConfig


def why_empty(name: str, split: pl.Series, rows: pl.DataFrame, cfg: SplitConfig) -> str:
    """Reason and remedy. ``split`` [n] holds the names of the splits, among which ``name`` is missing."""
    most = int(np.bincount(rows["user"].to_numpy()).max(initial=0))
    if name == "train" and most <= cfg.cold_user_max_interactions:
        return (
            f"all users have at most split.cold_user_max_interactions={cfg.cold_user_max_interactions} rows, "
            "which puts them wholly into test; lower it, or set it to 0"
        )
    match cfg.name:
        case "temporal" if cfg.train_months is not None:
            return _months(name, rows["timestamp"], cfg)
        case "temporal" if cfg.val_from is not None:
            first, last = (_time(seconds) for seconds in (rows["timestamp"].min(), rows["timestamp"].max()))
            return (
                f"times go from {first} to {last}, split.val_from is {cfg.val_from} and split.test_from "
                f"{cfg.test_from}; move them"
            )
        case "temporal":
            return _fractions(name, rows["timestamp"], cfg)
        case "leave_last_out":
            return (
                f"no user has three interactions, of which the last two are held out (the most is {most}); "
                "use split=temporal, user_cold"
            )
        case "user_cold" | "item_cold":
            kind = cfg.name.removesuffix("_cold")
            return (
                f"none of the {rows[kind].n_unique()} {kind}s was drawn for it (split.val_fraction "
                f"{cfg.val_fraction:g}, split.test_fraction {cfg.test_fraction:g}); raise the fractions, or change "
                "split.split_seed"
            )
    there = ", ".join(sorted(split.drop_nulls().unique().to_list()))
    return f"the source's own split holds {there or 'nothing'}; use another split, e.g. temporal or leave_last_out"


def _fractions(name: str, times: pl.Series, cfg: SplitConfig) -> str:
    """Rows of one time stay together, so a cut falls before all of them, and two cuts may fall on one time."""
    n = len(times)
    share = {"val": cfg.val_fraction, "test": cfg.test_fraction}.get(name, 1.0)
    if share * n < 0.5:
        return f"split.{name}_fraction={share:g} of {n} is no row; raise it"
    after = cfg.test_fraction if name == "val" else cfg.test_fraction + cfg.val_fraction
    cut = times.sort()[min(n - 1, round(n * (1 - after)))]
    tied = int((times == cut).sum())
    return (
        f"{tied} rows share the time {_time(cut)} at which it would be cut, and rows of one time stay together "
        f"({times.n_unique()} different times in all); use split=leave_last_out, user_cold, or cut elsewhere with "
        "split.val_from and split.test_from"
    )


def _months(name: str, times: pl.Series, cfg: SplitConfig) -> str:
    when = pl.from_epoch(times)
    month = when.dt.year() * 12 + when.dt.month().cast(pl.Int32)
    months = month.to_numpy()
    last = int(months.max() - months.min())
    return (
        f"the rows are of months 0 to {last}, counted from that of the earliest row, and split.{name}_months is "
        f"{list(getattr(cfg, f'{name}_months'))}; move it"
    )


def _time(seconds: Any) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
