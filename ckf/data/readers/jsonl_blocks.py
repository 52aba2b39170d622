"""JSON lines in blocks of whole lines: unpacked in one thread, parsed in others, never whole in memory.

Polars' own reader maps a plain file whole, and its pages count as memory of the process; a gzip costs ISA-L less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import polars as pl
from polars.io.plugins import register_io_source

from ckf.data.readers.line_reader import BROKEN_GZIP, LONGEST_LINE, open_bytes

BLOCK_BYTES = 8 * 2**20
"""So many that the calls between blocks do not count, so few that the allocator hands the same memory out again."""
_PARSERS = min(pl.thread_pool_size(), 8)
"""More would wait for the one that unpacks, and each holds a block."""
_BOM = b"\xef\xbb\xbf"


def scan_blocks(path: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    """Rows of a plain or gzipped file in their order; like ``scan_ndjson`` with a schema."""

    def frames(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        for rows in _parsed(path, schema):
            if n_rows is not None:
                rows = rows.head(n_rows)
                n_rows -= rows.height
            rows = rows if predicate is None else rows.filter(predicate)
            yield rows if columns is None else rows.select(columns)
            if n_rows == 0:
                return

    return register_io_source(frames, schema=dict(schema))


def _parsed(path: Path, schema: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """The blocks' rows, some blocks at a time."""
    pool = ThreadPoolExecutor(_PARSERS)
    waiting: deque[Future[pl.DataFrame]] = deque()
    try:
        for block in _blocks(path):
            waiting.append(pool.submit(pl.read_ndjson, block, schema=dict(schema)))
            if len(waiting) > _PARSERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # an unfinished reader may be closed by one of these very threads, which cannot wait for itself
        pool.shutdown(wait=False, cancel_futures=True)


def _blocks(path: Path) -> Iterator[bytes]:
    """Bytes of whole lines; the byte order mark at the beginning is left out."""
    first = True
    for block in _lines(path):
        text = block.removeprefix(_BOM) if first else block
        first = False
        if text and not text.isspace():
            yield text


def _lines(path: Path) -> Iterator[bytes]:
    """What is read at a time, each to the end of its last line."""
    held: list[bytes | memoryview] = []  # a line without its end
    with open_bytes(path) as file:
        while piece := _read(path, file):
            cut = piece.rfind(b"\n") + 1
            if cut:
                yield b"".join([*held, memoryview(piece)[:cut]])
                held = []
            held.append(memoryview(piece)[cut:])
            if sum(map(len, held)) > LONGEST_LINE:
                raise pl.exceptions.ComputeError(f"{path}: a line of more than {LONGEST_LINE} bytes")
    yield b"".join(held)


def _read(path: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(BLOCK_BYTES)
    except BROKEN_GZIP as error:
        raise pl.exceptions.ComputeError(f"{path}: broken gzip ({error})") from None
