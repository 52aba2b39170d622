"""Row checks: find the interactions that cannot be used. Each kind of fault is one polars expression."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import DatasetConfig
from ckf.core.errors import DataError
from ckf.core.split_names import SPLITS
from ckf.data.readers.base import Source
from ckf.data.readers.line_reader import MAX_LINE_BYTES, BadRow
from ckf.data.readers.written_times import UNREADABLE

YEAR_2100 = 4_102_444_800
MAX_ID_BYTES = 512
NO_IDS = ("nan", "null", "none", "<na>", "nat", "n/a", "#n/a", "\\n")
"""Missing values as programs write them, in lower case."""
ROWS_LISTED = 5
"""How many bad rows of each kind the dataset card lists."""

COLUMNS: dict[str, Any] = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float64,
    "click": pl.Int8,
    "timestamp": pl.Int64,
    "review": pl.String,
}


@dataclass(frozen=True)
class RowCheck:
    """A kind of fault: its column, the rows that have it (``broken``) and the reason to give for such a row.

    With ``on_ids`` the expression is evaluated once for each different id instead of once for each row.
    """

    kind: str
    column: str
    broken: pl.Expr
    reason: Callable[[Mapping[str, Any]], str]
    on_ids: bool = False


def row_checks(
    columns: Collection[str],
    cfg: DatasetConfig,
    oldest: int,
    names: Mapping[str, str] | None = None,
    *,
    labelled: bool = True,
) -> list[RowCheck]:
    """Return every check of an interaction. A row with several faults is reported for the first in this order.

    ``names``: what the source's files call the columns. ``labelled``: rows must have a rating or a click.
    """
    called = {name: f" ({own})" for name, own in (names or {}).items() if own != name}
    found = [check for kind in ("user", "item") for check in _id_checks(kind, called.get(kind, ""))]
    low, high = cfg.rating_scale
    rating, click, time = pl.col("rating"), pl.col("click"), pl.col("timestamp")
    if labelled:
        missing = rating.is_null() & click.is_null()
        reason = f"the rating is missing{called.get('rating', '')}"
        found.append(RowCheck("rating_missing", "rating", missing, lambda row: reason))
    found += [
        RowCheck("rating_not_finite", "rating", ~rating.is_finite(), lambda row: f"the rating is {row['rating']}"),
        RowCheck(
            "rating_outside_scale",
            "rating",
            ~rating.is_between(low, high),
            lambda row: f"the rating is {row['rating']:g}, outside dataset.rating_scale [{low:g}, {high:g}]",
        ),
        RowCheck(
            "click_not_0_or_1",
            "click",
            ~click.is_in([0, 1]),
            lambda row: f"the click is {row['click']}; allowed are 0 and 1",
        ),
        RowCheck(
            "timestamp_missing",
            "timestamp",
            time.is_null(),
            lambda row: f"the timestamp is missing{called.get('timestamp', '')}",
        ),
        RowCheck(
            "timestamp_unreadable",
            "timestamp",
            time == UNREADABLE,
            lambda row: "the timestamp is no date or time as 2024-01-31, 2024-01-31T12:00:00Z or 20240131",
        ),
        RowCheck("timestamp_in_another_unit", "timestamp", time > YEAR_2100, lambda row: _unit_line(row["timestamp"])),
        RowCheck("timestamp_too_early", "timestamp", time < oldest, lambda row: _early_line(row["timestamp"], oldest)),
    ]
    most = MAX_LINE_BYTES // 2**20
    too_long = pl.col("review_bytes") > MAX_LINE_BYTES
    found.append(RowCheck("review_too_long", "review", too_long, lambda row: f"the review is longer than {most} MiB"))
    if "split" in columns:
        allowed = ", ".join(SPLITS)
        known = pl.col("split").is_in(SPLITS)
        found.append(
            RowCheck(
                "split_unknown",
                "split",
                ~known.fill_null(False),
                lambda row: f"the split is {row['split']}, not {allowed}",
            )
        )
    return found


def _id_checks(kind: str, called: str) -> list[RowCheck]:
    return [
        RowCheck(f"{kind}_missing", kind, pl.col(kind).is_null(), lambda row: f"the {kind} id is missing{called}"),
        RowCheck(
            f"{kind}_not_an_id",
            kind,
            pl.col(kind).str.to_lowercase().is_in(NO_IDS),
            lambda row: f"the {kind} id is {row[kind]!r}, which is how programs write a missing value",
            on_ids=True,
        ),
        RowCheck(
            f"{kind}_with_control_character",
            kind,
            pl.col(kind).str.contains("[\x00-\x1f\x7f]"),
            lambda row: f"the {kind} id {row[kind]!r:.60} holds a control character",
            on_ids=True,
        ),
        RowCheck(
            f"{kind}_with_byte_order_mark",
            kind,
            pl.col(kind).str.contains("\ufeff"),
            lambda row: f"the {kind} id {row[kind]!r:.60} holds a byte order mark; were two files joined?",
            on_ids=True,
        ),
        RowCheck(
            f"{kind}_too_long",
            kind,
            pl.col(kind).str.len_bytes() > MAX_ID_BYTES,
            lambda row: f"the {kind} id has more than {MAX_ID_BYTES} bytes",
            on_ids=True,
        ),
    ]


def _unit_line(value: int) -> str:
    name, unit = next(
        (name, unit)
        for name, unit, below in (
            ("milliseconds", "ms", 10**14),
            ("microseconds", "us", 10**17),
            ("nanoseconds", "ns", 2**63),
        )
        if value < below
    )
    return (
        f"the timestamp {value} is after the year 2100 in seconds; it looks like {name} "
        f"(tables of your own: dataset.timestamp_unit={unit})"
    )


def _early_line(value: int, oldest: int) -> str:
    if value < 0 or oldest <= 0:
        return f"the timestamp {value} is before 1970"
    return f"the timestamp is {value} seconds after 1970, too early for this source: its unit may be seconds already"


def normalize_columns(source: Source) -> pl.LazyFrame:
    """Cast the columns of `COLUMNS` to their types, and add ``line`` and ``file``. Absent columns become null.

    An absent ``timestamp`` becomes the place of the row among all rows, from 1. ``split`` and ``history`` are kept
    where the source has them. A blank review becomes null.
    """
    rows = source.interactions
    present = rows.collect_schema().names()
    if "line" not in present:
        rows = rows.with_row_index("line", offset=1)
    if "timestamp" not in present:
        rows = rows.with_row_index("timestamp", offset=1)
        present = [*present, "timestamp"]
    given = {name: pl.col(name).cast(dtype) for name, dtype in COLUMNS.items() if name in present}
    absent = {name: pl.lit(None, dtype=dtype) for name, dtype in COLUMNS.items() if name not in present}
    kept = [name for name in ("split", "history") if name in present]
    place = pl.col("file").cast(pl.UInt16) if "file" in present else pl.lit(0, dtype=pl.UInt16)
    rows = rows.select(*kept, pl.col("line").cast(pl.Int64), file=place, **given, **absent)
    return rows.with_columns(review=pl.when(pl.col("review").str.strip_chars() != "").then("review"))


def with_faults(table: pl.DataFrame, ids: Mapping[str, pl.Series], checks: list[RowCheck]) -> pl.DataFrame:
    """Add ``fault``: UInt8 index into the checks, null where a row is good.

    ``table`` has codes for user and item; ``ids`` has the raw id of each code.
    """
    fault: Any = pl
    for number, check in enumerate(checks):
        broken = check.broken
        if check.on_ids:
            names = ids[check.column].rename(check.column).to_frame().select(check.broken).to_series()
            broken = pl.lit(names).gather(pl.col(check.column)) if names.any() else pl.lit(False)
        fault = fault.when(broken).then(pl.lit(number, dtype=pl.UInt8))
    return table.with_columns(fault=fault)


@dataclass
class BadRows:
    """The rows left out, by kind of fault: how many, and the first few with their reasons."""

    allowed: int
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of rows left out."""
        return sum(kind["count"] for kind in self.kinds.values())

    def add(self, faults: Iterable[BadRow], counts: Mapping[str, int]) -> None:
        """Record bad rows. ``counts`` holds the true count of each kind of which only the first few rows are given."""
        for fault in faults:
            kind = self.kinds.setdefault(fault.kind, {"count": counts.get(fault.kind, 0), "first": []})
            if fault.kind not in counts:
                kind["count"] += 1
            if len(kind["first"]) < ROWS_LISTED:
                kind["first"].append(str(fault))

    def refuse_too_many(self, first: BadRow | None) -> None:
        """Stop when more rows are bad than the config allows.

        Raises:
            DataError: names the first bad line, what is wrong with it, and how many there are.
        """
        if self.total > self.allowed and first is not None:
            more = f" ({self.total} bad rows in all" if self.total > 1 else " ("
            joint = ", " if self.total > 1 else ""
            raise DataError(f"{first}{more}{joint}dataset.max_bad_rows={self.allowed})")


def collect_errors(
    rows: pl.DataFrame,
    ids: Mapping[str, pl.Series],
    checks: list[RowCheck],
    files: tuple[Path, ...],
    lines_of: Callable[[Path, Collection[int]], Mapping[int, int]],
) -> tuple[list[BadRow], dict[str, int]]:
    """Return the first bad rows of each kind, in the order of lines, and the count of each kind."""
    bad = rows.filter(pl.col("fault").is_not_null())
    if bad.is_empty():
        return [], {}
    bad = bad.with_columns(names.gather(bad[kind]).alias(kind) for kind, names in ids.items())
    counts = bad["fault"].value_counts(name="n")
    first = pl.concat(
        bad.filter(pl.col("fault") == number).bottom_k(ROWS_LISTED, by=["file", "line"]) for number in counts["fault"]
    )
    faults = []
    for place in first["file"].unique():
        path = files[place] if place < len(files) else Path("interactions")
        mine = first.filter(pl.col("file") == place)
        lines = lines_of(path, mine["line"].to_list())
        for row in mine.iter_rows(named=True):
            check = checks[row["fault"]]
            line = lines.get(row["line"], row["line"])
            faults.append(BadRow(path, line, check.kind, check.reason(row), check.column))
    faults.sort(key=lambda fault: (str(fault.file), fault.row))
    return faults, {checks[number].kind: count for number, count in counts.iter_rows()}
