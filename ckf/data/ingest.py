"""From a reader's lazy tables to rows at hand: checked, in memory or in a scratch file by their size."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Ingested:
    """Every row as read, with ``fault`` where it is bad; the source's other tables; what was left out."""

    table: pl.LazyFrame
    source: Source
    scanner: Scanner
    bad: BadRows
    read: int
    in_memory: bool

    @property
    def rows(self) -> pl.LazyFrame:
        """The good rows, numbered by their place in the table (``row``, from 0)."""
        return self.portion(0, None)

    def portion(self, start: int, count: int | None) -> pl.LazyFrame:
        """The good rows of a stretch of the table."""
        part = self.table.slice(start, count).with_row_index("row", offset=start)
        return part.filter(pl.col("fault").is_null()).drop("fault")

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

    reread: Reader = field(kw_only=True)


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
        source, table, checks, small = _materialised(read, cfg, scanner)
    except (pl.exceptions.PolarsError, OSError) as error:
        if disk_is_full(error):
            raise
        if not scanner.tables:
            raise DataError(_unreadable(error, [])) from None
        faults = scanner.salvage(cfg.max_bad_rows)
        try:
            source, table, checks, small = _materialised(read, cfg, scanner)
        except (pl.exceptions.PolarsError, OSError) as again:
            if disk_is_full(again):
                raise
            raise DataError(_unreadable(again, [table.path for table in scanner.tables])) from None
    bad = BadRows(cfg.max_bad_rows)
    bad.add(faults, {})
    found, counts = found_faults(table, checks, source.files, scanner.lines_of)
    bad.add(found, counts)
    bad.refuse_too_many(next(iter(found or faults), None))
    total = table.select(pl.len()).collect().item() + len([f for f in faults if f.path in source.files])
    return Ingested(table, source, scanner, bad, total, small, reread=read)


def _materialised(read: Reader, cfg: DatasetConfig, scanner: Scanner) -> tuple[Source, pl.LazyFrame, list[Check], bool]:
    source = read(scanner)
    rows, checks = checked(source, cfg)
    small = _text_bytes(source.files) * _COPIES < cfg.memory_mb * 2**20
    if small:
        return source, rows.collect(engine="streaming").lazy(), checks, True
    path = scanner.scratch / "rows.parquet"
    rows.sink_parquet(path, compression="lz4", statistics=False, row_group_size=100_000, engine="streaming")
    return source, pl.scan_parquet(path), checks, False


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
