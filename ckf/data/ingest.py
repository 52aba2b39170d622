"""From a reader's lazy tables to rows at hand: checked, numbers in memory, texts there or in a scratch file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import DatasetConfig
from ckf.data.clean import BadRows, Check, checked, found_faults
from ckf.data.lines import Fault
from ckf.data.scan import Scanner
from ckf.data.source import Source
from ckf.errors import DataError

Reader = Callable[[Scanner], Source]

_GZIP_FACTOR = 4  # how far text in a gzip grows, roughly
_COPIES = 2  # of the text: as read, and in the order written
_TEXTS = ("review", "history")
"""What a row holds besides numbers: as wide as its author liked, so kept apart."""


@dataclass
class Ingested:
    """Every row as read, and what goes with them.

    ``table``: the numbers of all rows, in memory: line, file, user and item (Categorical), rating, click,
    timestamp, review_bytes, ``fault`` where the row is bad, and where the source has them split and
    history_length. ``text``: review (null where blank) and history of the same rows in the same order,
    in memory or in a scratch file.
    """

    table: pl.DataFrame
    text: pl.DataFrame | Path
    source: Source
    scanner: Scanner
    bad: BadRows
    read: int
    reread: Reader = field(kw_only=True)

    @property
    def has_clicks(self) -> bool:
        """Whether the source brings clicks of its own beside ratings or without them."""
        return "click" in self.source.interactions.collect_schema().names()

    @property
    def has_histories(self) -> bool:
        """Whether the source brings its own histories."""
        return "history_length" in self.table.columns

    def texts(self, rows: pl.Series) -> pl.DataFrame:
        """Texts of these rows (places in ``table``), in this order; a few when they lie on disk."""
        if isinstance(self.text, pl.DataFrame):
            return self.text[rows]
        wanted = rows.alias("row").cast(pl.UInt32).to_frame()
        numbered = pl.scan_ipc(self.text).with_row_index("row")
        found = numbered.filter(pl.col("row").is_in(rows.implode())).collect(engine="streaming")
        return wanted.join(found, on="row", how="left", maintain_order="left").drop("row")

    def items(self, wanted: pl.Series) -> pl.DataFrame:
        """The source's rows of the wanted raw item ids, in the source's order.

        Raises:
            DataError: an items file that cannot be read, or more bad lines than are allowed.
        """
        try:
            return _items(self.source, wanted)
        except (pl.exceptions.PolarsError, OSError) as error:
            if disk_is_full(error) or not self.scanner.tables:
                raise
            # the reader must run anew to read the copies; its interactions are at hand already
            self.bad.add(self.scanner.salvage(self.bad.allowed - self.bad.total), {})
            try:
                self.source = self.reread(self.scanner)  # with a card of its own, which its items add to
                return _items(self.source, wanted)
            except (pl.exceptions.PolarsError, OSError) as again:
                raise DataError(_unreadable(again, [table.path for table in self.scanner.tables])) from None


def _items(source: Source, wanted: pl.Series) -> pl.DataFrame:
    table = source.items(wanted) if callable(source.items) else source.items
    left = wanted.rename("item").to_frame().lazy()
    found = table.with_row_index("_place").join(left, on="item", how="semi").collect(engine="streaming")
    return found.sort("_place").drop("_place")


def ingest(read: Reader, cfg: DatasetConfig, scratch: Path) -> Ingested:
    """Run the reader and check every row.

    Polars reads with strict types; when it stops, the files are walked line by line for the faulty
    lines, and what is left is read again.

    Raises:
        DataError: the first bad line when there are more than ``dataset.max_bad_rows``, or a file
            that cannot be read at all.
    """
    scanner = Scanner(scratch)
    faults: list[Fault] = []
    try:
        source, table, text, checks = _at_hand(read, cfg, scanner)
    except (pl.exceptions.PolarsError, OSError) as error:
        if disk_is_full(error):
            raise
        if not scanner.tables:
            raise DataError(_unreadable(error, [])) from None
        faults = scanner.salvage(cfg.max_bad_rows)
        try:
            source, table, text, checks = _at_hand(read, cfg, scanner)
        except (pl.exceptions.PolarsError, OSError) as again:
            if disk_is_full(again):
                raise
            raise DataError(_unreadable(again, [table.path for table in scanner.tables])) from None
    bad = BadRows(cfg.max_bad_rows)
    bad.add(faults, {})
    found, counts = found_faults(table, checks, source.files, scanner.lines_of)
    bad.add(found, counts)
    bad.refuse_too_many(next(iter(found or faults), None))
    total = table.height + len([f for f in faults if f.path in source.files])
    return Ingested(table, text, source, scanner, bad, total, reread=read)


def _at_hand(
    read: Reader, cfg: DatasetConfig, scanner: Scanner
) -> tuple[Source, pl.DataFrame, pl.DataFrame | Path, list[Check]]:
    """One pass over the files gives both tables."""
    source = read(scanner)
    rows, checks = checked(source, cfg)
    texts = [name for name in _TEXTS if name in rows.collect_schema().names()]
    codes: Any = {kind: pl.col(kind).cast(pl.Categorical(pl.Categories.random())) for kind in ("user", "item")}
    rows = rows.with_columns(**codes, review_bytes=pl.col("review").str.len_bytes().fill_null(0))
    if "history" in texts:
        rows = rows.with_columns(history_length=pl.col("history").list.len())
    if _text_bytes(source.files) * _COPIES < cfg.memory_mb * 2**20:
        whole = rows.collect(engine="streaming").rechunk()  # it comes in a thousand pieces, which makes rows far apart
        return source, whole.drop(texts), whole.select(texts), checks
    path = scanner.scratch / f"texts{len(scanner.salvaged)}.arrow"
    sink = rows.select(texts).sink_ipc(path, lazy=True)
    _, table = pl.collect_all([sink, rows.drop(texts)], engine="streaming")
    return source, table.rechunk(), path, checks


def _text_bytes(files: Iterable[Path]) -> int:
    total = 0
    for path in files:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        total += path.stat().st_size * (_GZIP_FACTOR if zipped else 1)
    return total


def _unreadable(error: Exception, paths: list[Path]) -> str:
    where = ", ".join(map(str, paths))
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return f"{where}: cannot be read ({first})" if where else f"the source cannot be read ({first})"


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: by errno, or as polars words it."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in ("No space left", "os error 28", "os error 27", "File too large"))
