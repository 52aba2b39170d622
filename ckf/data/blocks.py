"""JSON lines too large for memory, read in blocks of whole lines: what is held does not grow with the file.

Polars maps a file whole, so the pages of the input would count as memory of the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from ckf.data.lines import LONGEST_LINE, open_bytes

BLOCK_BYTES = 16 * 2**20
_AHEAD = 2
"""Blocks that are parsed while the next one is unpacked."""


def scan_blocks(path: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    """Rows of a plain or gzipped file in their order; like ``scan_ndjson`` with a schema."""

    def frames(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        pool = ThreadPoolExecutor(_AHEAD)
        waiting: deque[Future[pl.DataFrame]] = deque()
        try:
            for block in _blocks(path):
                waiting.append(pool.submit(pl.read_ndjson, block, schema=dict(schema)))
                if len(waiting) > _AHEAD:
                    yield _asked(waiting.popleft().result(), columns, predicate)
            while waiting:
                yield _asked(waiting.popleft().result(), columns, predicate)
        finally:
            # an unfinished reader may be closed by one of these very threads, which cannot wait for itself
            pool.shutdown(wait=False, cancel_futures=True)

    return register_io_source(frames, schema=dict(schema))


def _asked(rows: pl.DataFrame, columns: list[str] | None, predicate: pl.Expr | None) -> pl.DataFrame:
    rows = rows if predicate is None else rows.filter(predicate)
    return rows if columns is None else rows.select(columns)


def _blocks(path: Path) -> Iterator[bytes]:
    """Bytes of whole lines; the byte order mark at the beginning is left out."""
    rest = b""
    with open_bytes(path) as file:
        first = file.read(3)
        rest = b"" if first == b"\xef\xbb\xbf" else first
        while data := file.read(BLOCK_BYTES):
            cut = data.rfind(b"\n") + 1
            rest, block = (data[cut:], rest + data[:cut]) if cut else (rest + data, b"")
            if len(rest) > LONGEST_LINE:
                raise pl.exceptions.ComputeError(f"{path}: a line of more than {LONGEST_LINE} bytes")
            if block.strip():
                yield block
    if rest.strip():
        yield rest
