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

from ckf.data.lines import BROKEN_GZIP, LONGEST_LINE, open_bytes

BLOCK_BYTES = 16 * 2**20
"""So many that the calls between blocks do not count."""
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
    buffer, held, start = bytearray(BLOCK_BYTES), 0, True
    with open_bytes(path) as file:
        while True:
            held = _fill(path, file, buffer, held)
            last = held < len(buffer)
            cut = held if last else buffer.rfind(b"\n") + 1
            first = len(_BOM) if start and buffer.startswith(_BOM) else 0
            block = bytes(memoryview(buffer)[first:cut])
            if block and not block.isspace():
                yield block
            if last:
                return
            if cut:
                held -= cut
                buffer[:held] = buffer[cut:]
                start = False
            elif held > LONGEST_LINE:
                raise pl.exceptions.ComputeError(f"{path}: a line of more than {LONGEST_LINE} bytes")
            else:
                buffer.extend(bytes(held))


def _fill(path: Path, file: IO[bytes], buffer: bytearray, held: int) -> int:
    """Read until the buffer is full or the file ends; returns how many bytes the buffer holds."""
    view = memoryview(buffer)
    try:
        # both kinds of file have readinto; typing's IO does not say so
        while held < len(buffer) and (count := file.readinto(view[held:])):  # type: ignore[attr-defined]
            held += count
    except BROKEN_GZIP as error:
        raise pl.exceptions.ComputeError(f"{path}: broken gzip ({error})") from None
    return held
