"""Times as people write them: ISO 8601 dates and times, YYYYMMDD and YYYYMMDDhhmmss, to seconds since 1970."""

from __future__ import annotations

import polars as pl

UNREADABLE = -(2**62)
"""Seconds of a text that is no date or time; the row checks refuse it."""
MOST = 0.9
"""Share of a sample that must be of a form, so that a few bad values do not hide it."""
_ISO = (
    r"^(?<y>\d{4})[-/](?<mo>\d{1,2})[-/](?<d>\d{1,2})"
    r"(?:[T ](?<h>\d{1,2}):(?<mi>\d{2})(?::(?<s>\d{2})(?:[.,]\d+)?)?\s*(?<z>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_DIGITS = r"^(?<y>\d{4})(?<mo>\d{2})(?<d>\d{2})(?:(?<h>\d{2})(?<mi>\d{2})(?<s>\d{2}))?$"


def seconds_of_text(text: pl.Expr) -> pl.Expr:
    """Seconds since 1970, in UTC where no zone is given; `UNREADABLE` for what is no time, null for null. Int64"""
    text = text.str.strip_chars()
    found = pl.coalesce(_seconds(text, _ISO, zone=True), _seconds(text, _DIGITS, zone=False))
    return pl.when(text.is_null() | (text == "")).then(None).otherwise(found.fill_null(UNREADABLE))


def is_written(sample: pl.Series, *, digits: bool) -> bool:
    """Whether `MOST` values of a sample (String) are such times; ``digits``: YYYYMMDD counts, if from 1970 to 2100.

    A value that is none does not make numbers of the others: it is a bad row.
    """
    sample = sample.drop_nulls().str.strip_chars()
    sample = sample.filter(sample != "").alias("text")
    if not len(sample):
        return False
    text = pl.col("text")
    number = text.str.contains(r"^\d+$")
    if digits:
        number &= ~text.str.slice(0, 4).cast(pl.Int32, strict=False).is_between(1970, 2100)
    found = sample.to_frame().select((seconds_of_text(text) != UNREADABLE) & ~number).to_series()
    return int(found.sum()) >= MOST * len(sample)


def _seconds(text: pl.Expr, pattern: str, *, zone: bool) -> pl.Expr:
    part = text.str.extract_groups(pattern).struct.field
    day = pl.concat_str(part("y"), part("mo"), part("d"), separator="-").str.to_date("%Y-%m-%d", strict=False)
    hour, minute, second = (part(name).cast(pl.Int64, strict=False).fill_null(0) for name in ("h", "mi", "s"))
    inside = (hour < 24) & (minute < 60) & (second <= 60)
    seconds = day.dt.epoch("s") + hour * 3600 + minute * 60 + second
    if zone:
        seconds -= _offset(part("z"))
    return pl.when(inside).then(seconds)


def _offset(zone: pl.Expr) -> pl.Expr:
    """Seconds by which a zone (+02:00, -0530, Z) is ahead of UTC."""
    hours = zone.str.extract(r"^[+-](\d{2})").cast(pl.Int64).fill_null(0)
    minutes = zone.str.extract(r"^[+-]\d{2}:?(\d{2})").cast(pl.Int64).fill_null(0)
    return (hours * 3600 + minutes * 60) * pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
