"""Filters over coded rows: each a mask from counts or times, in the order of the config's list."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from ckf.config.schema import FilterConfig
from ckf.core.errors import DataError


@dataclass
class FilterLog:
    """Rows, users and items left after every step, as the manifest lists them."""

    counts: list[dict[str, Any]] = field(default_factory=list)

    def record(self, step: str, rows: pl.DataFrame) -> None:
        """Count what a step left; none left stops.

        Raises:
            DataError: names the step and how many rows there were before it.
        """
        left = {"rows": rows.height, "users": different(rows["user"]), "items": different(rows["item"])}
        if not rows.height:
            before = self.counts[-1]["rows"] if self.counts else 0
            raise DataError(f"{step}: no interaction is left of {before}")
        self.counts.append({"step": step, **left})


def different(codes: pl.Series) -> int:
    """Number of different codes or ids, which are small whole numbers."""
    return int(np.count_nonzero(np.bincount(codes.to_numpy())))


def seconds(date: str) -> int:
    """Seconds since 1970 of a date or time as ISO 8601 writes it; without a zone it is UTC."""
    when = datetime.fromisoformat(str(date))
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def apply_filters(rows: pl.DataFrame, filters: list[FilterConfig], steps: FilterLog) -> pl.DataFrame:
    """Run the filters in their order.

    ``rows`` has user and item codes, timestamp, and ``history_length`` where the source brings
    histories. Rows that ``min_history`` keeps as history only get ``context`` true.

    Raises:
        DataError: a step that leaves nothing.
    """
    wanted = {step.count_scope for step in filters}
    tables = {"start": rows.select("user", "item")} if "start" in wanted else {}
    for step in filters:
        counted = rows if step.count_scope == "now" else tables[step.count_scope]
        rows = _filtered(rows, step, counted)
        steps.record(_name(step), rows)
        if step.name in wanted:
            tables[step.name] = rows.select("user", "item")
    return rows


def _name(step: FilterConfig) -> str:
    parts = [f"{step.name} {step.value}"]
    if step.count_scope != "now":
        parts.append(f"counted {'at the start' if step.count_scope == 'start' else f'after {step.count_scope}'}")
    if step.name == "k_core":
        parts.append("iterated" if step.iterate else "single pass")
    return ", ".join(parts)


def _filtered(rows: pl.DataFrame, step: FilterConfig, counted: pl.DataFrame) -> pl.DataFrame:
    match step.name:
        case "since":
            return rows.filter(pl.col("timestamp") >= seconds(step.value))
        case "until":
            return rows.filter(pl.col("timestamp") < seconds(step.value))
        case "min_item_count":
            return rows.filter(_often(rows["item"], counted["item"], step.value))
        case "min_user_count":
            return rows.filter(_often(rows["user"], counted["user"], step.value))
        case "k_core":
            return k_core(rows, step.value, iterate=step.iterate)
        case "min_history":
            return _min_history(rows, step.value)
    raise ValueError(f"unknown filter '{step.name}'")


def _often(codes: pl.Series, counted: pl.Series, least: int) -> pl.Series:
    seen = np.bincount(counted.to_numpy(), minlength=int(codes.max() or 0) + 1)  # type: ignore[arg-type]
    return pl.Series(seen[codes.to_numpy()] >= least)


def k_core(rows: pl.DataFrame, k: int, *, iterate: bool) -> pl.DataFrame:
    """Rows whose user and item have at least ``k`` interactions each; iterated until that holds of the result."""
    user, item = (rows[kind].to_numpy().astype(np.intp) for kind in ("user", "item"))
    of_user, of_item = np.bincount(user), np.bincount(item)
    left = np.ones(rows.height, dtype=bool)
    while True:
        enough = (of_user >= k)[user] & (of_item >= k)[item]
        removed = np.flatnonzero(left & ~enough)
        if not len(removed):
            break
        left[removed] = False
        if not iterate:
            break
        # few rows go after the first pass, so subtracting them is cheaper than counting the others again
        of_user -= np.bincount(user[removed], minlength=len(of_user))
        of_item -= np.bincount(item[removed], minlength=len(of_item))
    return rows if left.all() else rows.filter(pl.Series(left))


def _min_history(rows: pl.DataFrame, least: int) -> pl.DataFrame:
    if "history_length" in rows.columns:
        return rows.filter(pl.col("history_length") >= least)
    earlier = pl.col("timestamp").rank("min").over("user") - 1  # the same second is not earlier
    short = rows.select(earlier < least).to_series()
    if short.all():
        return rows.clear()
    before = rows["context"] if "context" in rows.columns else pl.repeat(False, rows.height, eager=True)
    return rows.with_columns(context=before | short)
