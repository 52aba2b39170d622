"""JSON lines in blocks: every row once and in order, however the blocks fall and whatever holds them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckf.data.readers import jsonl_blocks as blocks
from ckf.data.readers.jsonl_blocks import scan_blocks

SCHEMA = {"n": pl.Int64, "text": pl.String}
WORDS = [{"n": n, "text": "wörter " * (n % 23)} for n in range(500)]


def written(path: Path, rows: list[dict], start: bytes = b"", end: bytes = b"\n") -> Path:
    path.write_bytes(start + b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows) + end)
    return path


@pytest.mark.parametrize("size", [2, 7, 64, 1000, 2**20])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n  \n"])
def test_every_row_once_and_in_order(tmp_path, monkeypatch, size, end):
    path = written(tmp_path / "a.jsonl", WORDS, end=end)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    assert scan_blocks(path, SCHEMA).collect(engine="streaming").to_dicts() == WORDS


def test_a_file_as_long_as_a_block(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", WORDS)
    for size in (path.stat().st_size - 1, path.stat().st_size, path.stat().st_size + 1):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        assert scan_blocks(path, SCHEMA).collect().height == len(WORDS)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=40)), st.integers(2, 200), st.booleans())
def test_any_texts_at_any_size(tmp_path, texts, size, zipped):
    rows = [{"n": n, "text": text} for n, text in enumerate(texts)]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        assert scan_blocks(path, SCHEMA).collect().to_dicts() == rows


def test_a_byte_order_mark_is_no_text(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", WORDS, start=b"\xef\xbb\xbf")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2)
    assert scan_blocks(path, SCHEMA).collect().height == len(WORDS)


def test_a_gzip_of_several_members(tmp_path):
    """As pigz, bgzip and ``cat a.gz b.gz`` write them."""
    data = written(tmp_path / "a.jsonl", WORDS).read_bytes()
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"".join(gzip.compress(data[at : at + 999]) for at in range(0, len(data), 999)))
    assert scan_blocks(path, SCHEMA).collect().to_dicts() == WORDS


@pytest.mark.parametrize("cut", [1, 9, 60, 2000])
def test_a_broken_gzip_is_an_error_of_polars(tmp_path, cut):
    """So that the caller walks the file and names the line."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(written(tmp_path / "a.jsonl", WORDS).read_bytes())[:-cut])
    with pytest.raises(pl.exceptions.ComputeError, match="broken gzip"):
        scan_blocks(path, SCHEMA).collect(engine="streaming")


def test_the_first_rows_alone(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", WORDS)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    rows = scan_blocks(path, SCHEMA)
    assert rows.head(3).collect().to_dicts() == WORDS[:3]
    assert rows.filter(pl.col("n") > 5).head(2).select("n").collect()["n"].to_list() == [6, 7]
    assert rows.with_row_index("line").slice(4, 2).collect()["n"].to_list() == [4, 5]


def test_a_line_without_end_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "LONGEST_LINE", 100)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 16)
    path = written(tmp_path / "a.jsonl", [{"n": 1, "text": "x" * 500}])
    with pytest.raises(pl.exceptions.ComputeError, match="a line of more than 100 bytes"):
        scan_blocks(path, SCHEMA).collect()
