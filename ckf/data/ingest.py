"""From a reader's lazy tables to rows at hand: checked, numbers in memory, texts there or in a scratch file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import DatasetConfig
from ckf.core.errors import DataError, first_line
from ckf.data.id_encoding import encode_ids
from ckf.data.readers.base import Source
from ckf.data.readers.line_reader import BadRow
from ckf.data.readers.polars_scan import Scanner, text_bytes
from ckf.data.row_validation import BadRows, RowCheck, collect_errors, normalize_columns, row_checks, with_faults

Reader = Callable[[Scanner], Source]

_COPIES = 2  # of the text: as read, and in the order written
STRETCH_ROWS = 100_000
"""Rows whose texts are read from the disk at a time."""
_TEXTS = ("review", "history")
"""The columns of unbounded width. They are kept apart from the numbers."""


@dataclass
class LoadedInteractions:
    """Every row as read, and what goes with them.

    ``table``: the numbers of all rows, in memory: line, file, user and item (codes: places in ``ids``), rating,
    click, timestamp, review_bytes (0 = no review), ``fault`` where the row is bad, and where the source has them
    split and history_length. ``text``: review (null where blank) and history of the same rows in the same order,
    in memory or in a scratch file. ``trimmed``: rows whose user or item id had white space around it.
    """

    table: pl.DataFrame
    text: pl.DataFrame | Path
    ids: dict[str, pl.Series]
    checks: list[RowCheck]
    source: Source
    scanner: Scanner
    reread: Reader
    bad: BadRows
    trimmed: dict[str, int]
    read: int = 0

    @property
    def has_clicks(self) -> bool:
        """Whether the source has a click column, with ratings or without."""
        return "click" in self.source.interactions.collect_schema().names()

    @property
    def is_labelled(self) -> bool:
        """Whether the source has ratings or clicks. Without either every row is a like."""
        return is_labelled(self.source)

    @property
    def is_timed(self) -> bool:
        """Whether the source has times. Without them timestamps are an order alone."""
        return self.source.timed and "timestamp" in self.source.interactions.collect_schema().names()

    @property
    def has_histories(self) -> bool:
        """Whether the source brings its own histories."""
        return "history_length" in self.table.columns

    def good_rows(self, like_threshold: float) -> pl.DataFrame:
        """The rows that can be used, some 30 bytes each.

        Columns: row (place in ``table``), user, item, rating Float32, click Int8 (where the source has none: whether
        the rating is ``like_threshold`` or more; 1 where it has no ratings either), timestamp, review_bytes, and
        where the source has them split and history_length.
        """
        table = self.table.drop("line", "file").with_row_index("row")
        if table["fault"].null_count() < table.height:
            table = table.filter(pl.col("fault").is_null())
        liked = (pl.col("rating") >= like_threshold).cast(pl.Int8)
        labels = ["click", liked] if self.is_labelled else [pl.lit(1, dtype=pl.Int8).alias("click")]
        return table.drop("fault").with_columns(pl.coalesce(labels), pl.col("rating").cast(pl.Float32))

    def stretches(self, rows: pl.Series) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
        """Texts of these rows (places in ``table``), a stretch of the table at a time: places in ``rows``, texts.

        From the disk each stretch is read once, and only one is in memory.
        """
        if isinstance(self.text, pl.DataFrame):
            yield pl.int_range(len(rows), eager=True), self.text[rows]
            return
        order = rows.arg_sort()
        ordered = rows.gather(order)
        starts = range(0, self.table.height, STRETCH_ROWS)
        cuts = [*(int(ordered.search_sorted(start)) for start in starts), len(rows)]
        for start, (first, stop) in zip(starts, pairwise(cuts), strict=True):
            if first < stop:
                part = pl.scan_ipc(self.text).slice(start, STRETCH_ROWS).collect(engine="streaming")
                yield order[first:stop], part[ordered[first:stop] - start]

    def digests(self, rows: pl.Series) -> pl.Series:
        """Digests of these rows' reviews, null where there is none: equal ones, equal texts. Binary, 16 bytes"""
        found: list[bytes | None] = [None] * len(rows)
        for places, texts in self.stretches(rows):
            for place, text in zip(places, texts["review"], strict=True):
                found[place] = None if text is None else blake2b(text.encode(), digest_size=16).digest()
        return pl.Series("review", found, dtype=pl.Binary)

    def history_items(self, rows: pl.Series) -> pl.Series | None:
        """Raw item ids in the histories of these rows; None where the source has no histories."""
        if not self.has_histories:
            return None
        parts = [
            texts.select(pl.col("history").explode(keep_nulls=False, empty_as_null=False).unique()).to_series()
            for _, texts in self.stretches(rows)
        ]
        return pl.concat(parts).drop_nulls()

    def items(self, wanted: pl.Series) -> pl.DataFrame:
        """The source's rows of the wanted raw item ids, in the source's order.

        Raises:
            DataError: an items file that cannot be read, or more bad lines than are allowed.
        """
        return self._read_items(lambda source: _items(source, wanted))

    def other_item_ids(self, known: pl.Series) -> pl.Series:
        """The different ids of the items file that are none of ``known``, in the file's order.

        Raises:
            DataError: an items file that cannot be read, or more bad lines than are allowed.
        """
        return self._read_items(lambda source: _other_item_ids(source, known))

    def _read_items(self, read: Callable[[Source], Any]) -> Any:
        try:
            return read(self.source)
        except (pl.exceptions.PolarsError, OSError) as error:
            if disk_is_full(error) or not self.scanner.tables:
                raise
            # the reader must run again to read the copies; its interactions are loaded already
            self.bad.add(self.scanner.salvage(self.bad.allowed - self.bad.total), {})
            try:
                self.source = self.reread(self.scanner)  # with a card of its own, which its items add to
                return read(self.source)
            except (pl.exceptions.PolarsError, OSError) as again:
                raise DataError(_unreadable(again, [table.path for table in self.scanner.tables])) from None


def _items(source: Source, wanted: pl.Series) -> pl.DataFrame:
    table = source.items(wanted) if callable(source.items) else source.items
    table = table.with_columns(pl.col("item").str.strip_chars())
    left = wanted.rename("item").to_frame().lazy()
    found = table.with_row_index("_place").join(left, on="item", how="semi").collect(engine="streaming")
    return found.sort("_place").drop("_place")


def _other_item_ids(source: Source, known: pl.Series) -> pl.Series:
    table = source.items if source.item_ids is None else source.item_ids()
    if callable(table):
        return pl.Series("item", [], dtype=pl.String)
    ids = table.select(pl.col("item").str.strip_chars()).filter(pl.col("item") != "")
    others = ids.join(known.rename("item").to_frame().lazy(), on="item", how="anti")
    return others.collect(engine="streaming").to_series().unique(maintain_order=True)


def ingest(read: Reader, cfg: DatasetConfig, scratch: Path) -> LoadedInteractions:
    """Run the reader and check every row.

    Polars reads with strict types; when it stops, the files are walked line by line for the faulty
    lines, and what is left is read again.

    Raises:
        DataError: the first bad line when there are more than ``dataset.max_bad_rows``, or a file
            that cannot be read at all.
    """
    scanner = Scanner(scratch, room=cfg.memory_mb * 2**20 / _COPIES, allowed=cfg.max_bad_rows)
    try:
        data = _at_hand(read, cfg, scanner)
    except (pl.exceptions.PolarsError, OSError) as error:
        if disk_is_full(error):
            raise
        if not scanner.tables:
            raise DataError(_unreadable(error, [])) from None
        scanner.salvage(cfg.max_bad_rows - len(scanner.faults))
        try:
            data = _at_hand(read, cfg, scanner)
        except (pl.exceptions.PolarsError, OSError) as again:
            if disk_is_full(again):
                raise
            raise DataError(_unreadable(again, [table.path for table in scanner.tables])) from None
    files, faults = data.source.files, scanner.faults
    data.bad.add(faults, {})
    found, counts = collect_errors(data.table, data.ids, data.checks, files, scanner.lines_of)
    data.bad.add(found, counts)
    data.bad.refuse_too_many(next(iter(found or faults), None))
    data.read = data.table.height + len([f for f in faults if f.file in files])
    _refuse_nothing(data, next(iter(found or faults), None))
    return data


def _refuse_nothing(data: LoadedInteractions, first: BadRow | None) -> None:
    """Stop where no row can be used, and say of which files."""
    names = ", ".join(map(str, data.source.files)) or "the source"
    if not data.read:
        headers = any(table.header for table in data.scanner.tables if table.path in data.source.files)
        raise DataError(f"{names}: no row of data{', a header alone' if headers else ''}")
    if data.table["fault"].null_count() == 0:
        raise DataError(f"{names}: none of {data.read} rows can be used; the first: {first}")


def _at_hand(read: Reader, cfg: DatasetConfig, scanner: Scanner) -> LoadedInteractions:
    """One pass over the files gives both tables."""
    source = read(scanner)
    rows = normalize_columns(source)
    names = rows.collect_schema().names()
    texts = [name for name in _TEXTS if name in names]
    codes: Any = {kind: pl.col(kind).cast(pl.Categorical(pl.Categories.random())) for kind in ("user", "item")}
    rows = rows.with_columns(**codes, review_bytes=pl.col("review").str.len_bytes().fill_null(0))
    if "history" in texts:
        rows = rows.with_columns(history_length=pl.col("history").list.len())
    text: pl.DataFrame | Path
    if sum(map(text_bytes, source.files)) < scanner.room:
        table = rows.collect(engine="streaming").rechunk()  # it comes in a thousand pieces, each with its own overhead
        table, text = table.drop(texts), table.select(texts)
    else:
        text = scanner.scratch / f"texts{len(scanner.salvaged)}.arrow"
        sink = rows.select(texts).sink_ipc(text, lazy=True)
        table = pl.collect_all([sink, rows.drop(texts)], engine="streaming")[1].rechunk()
    encoded = {kind: encode_ids(table[kind]) for kind in ("user", "item")}
    ids = {kind: one.names for kind, one in encoded.items()}
    trimmed = {kind: one.trimmed for kind, one in encoded.items()}
    called, labelled = source.names, is_labelled(source)
    checks = row_checks(table.columns, cfg, source.oldest_timestamp, called, labelled=labelled)
    table = with_faults(table.with_columns(one.codes for one in encoded.values()), ids, checks)
    return LoadedInteractions(table, text, ids, checks, source, scanner, read, BadRows(cfg.max_bad_rows), trimmed)


def is_labelled(source: Source) -> bool:
    """Whether a source has ratings or clicks."""
    return bool({"rating", "click"} & set(source.interactions.collect_schema().names()))


def _unreadable(error: Exception, paths: list[Path]) -> str:
    where = ", ".join(map(str, paths))
    first = first_line(error)
    return f"{where}: cannot be read ({first})" if where else f"the source cannot be read ({first})"


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: by errno, or as polars words it."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in ("No space left", "os error 28", "os error 27", "File too large"))
