"""Texts too large for memory go through the disk: the same artifact, and a full disk leaves none."""

from __future__ import annotations

import gzip
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ckf.config.schema import CollmConfig, DatasetConfig, FilterConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data import ingest
from ckf.data import write_interactions as write
from ckf.data.prepare import build_dataset
from ckf.data.readers import jsonl_blocks as blocks
from tests.unit.data.amazon_dumps import META, config, review
from tests.unit.data.amazon_dumps import write as write_dump
from tests.worlds import write_collm_pickles

TABLES = ("interactions", "users", "items")


def through_the_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every source counts as too large and portions hold some rows; returns the portions of each dataset made."""
    dealt: list[int] = []
    deal = write._deal
    monkeypatch.setattr(ingest, "text_bytes", lambda path: 2**60)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(write, "_SHARE", 2**16)  # of 2 GiB
    monkeypatch.setattr(ingest, "STRETCH_ROWS", 100)
    monkeypatch.setattr(write, "_deal", lambda *args: dealt.append(len(args[2]) - 1) or deal(*args))
    return dealt


def made(cfg: DatasetConfig, split: str, out: Path) -> Path:
    out.mkdir()
    build_dataset(cfg, SplitConfig(split), out)
    assert not (out / ".scratch").exists()
    return out


def assert_same(one: Path, other: Path) -> None:
    for table in TABLES:
        left, right = (pl.read_parquet(folder / f"{table}.parquet") for folder in (one, other))
        assert left.schema == right.schema
        assert left.equals(right), table
    assert read_json(one / "manifest.json") == read_json(other / "manifest.json")
    assert (one / "card.md").read_text() == (other / "card.md").read_text()


def dump(root: Path) -> DatasetConfig:
    """Reviews of all lengths with repeats, blanks, bad lines and rows that the filters take away."""
    draw = np.random.default_rng(7)
    rows = []
    for n in range(3000):
        text = None if n % 17 == 0 else "  " if n % 19 == 0 else f"{n} " + "wörter " * int(draw.integers(0, 400))
        user, item, star = draw.integers(0, 300), draw.integers(0, 80), int(draw.integers(1, 6))
        rows.append(review(2018, f"U{user}", f"I{item}", star, int(draw.integers(10**9, 10**9 + 400)), text))
    rows += [*rows[:40], review(2018, "U1", "I1", 9, 10**9)]
    write_dump(root, 2018, rows, META[2018])
    return config(root, 2018, filters=[FilterConfig("k_core", 9)], max_bad_rows=1)


def test_the_artifact_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = dump(tmp_path)
    in_memory = made(cfg, "temporal", tmp_path / "memory")
    dealt = through_the_disk(monkeypatch)
    on_disk = made(cfg, "temporal", tmp_path / "disk")
    assert dealt
    assert dealt[0] > 10
    assert_same(in_memory, on_disk)
    counts = read_json(on_disk / "manifest.json")
    assert counts["duplicates"]["exact_copies_dropped"] >= 40
    assert counts["reviews"] < counts["interactions"] < counts["rows_read"]


def test_broken_lines_and_files_are_named_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = dump(tmp_path)
    through_the_disk(monkeypatch)
    cfg.max_bad_rows = 0
    with pytest.raises(DataError, match=r"Toys_5\.json\.gz: line 3041: the rating is 9"):
        made(cfg, "temporal", tmp_path / "strict")
    path = tmp_path / "Toys_5.json.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()[:-1]
    path.write_bytes(gzip.compress(b"\n".join([*lines[:2000], b'{"reviewerID": "U', b"", *lines[2000:]])))
    with pytest.raises(DataError, match=r"Toys_5\.json\.gz: line 2001: not a JSON object"):
        made(cfg, "temporal", tmp_path / "broken")
    cfg.max_bad_rows = 1
    assert read_json(made(cfg, "temporal", tmp_path / "lenient") / "manifest.json")["rows_read"] == 3041
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"Toys_5\.json\.gz: truncated or broken gzip after line \d+"):
        made(cfg, "temporal", tmp_path / "truncated")


def test_histories_go_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_collm_pickles(tmp_path)
    cfg = CollmConfig("collm_ml1m", root=str(tmp_path))
    in_memory = made(cfg, "provided", tmp_path / "memory")
    dealt = through_the_disk(monkeypatch)
    assert_same(in_memory, made(cfg, "provided", tmp_path / "disk"))
    assert dealt
    assert pl.read_parquet(in_memory / "interactions.parquet")["history"].list.len().max() > 2


@pytest.mark.parametrize("policy", ["refuse", "last"])
def test_repeats_are_found_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    rows = [review(2018, f"U{n % 7}", f"I{n}", 3, 10**9 + n, f"text {n}") for n in range(60)]
    rows.append(review(2018, "U3", "I3", 5, 10**9 + 99, "text again"))
    write_dump(tmp_path, 2018, rows, META[2018])
    cfg = config(tmp_path, 2018, duplicates=policy)
    through_the_disk(monkeypatch)
    if policy == "refuse":
        with pytest.raises(DataError, match=r"Toys_5\.json\.gz: lines 4 and 61: user U3 and item I3 occur"):
            made(cfg, "temporal", tmp_path / "out")
        return
    made(cfg, "temporal", tmp_path / "out")
    log = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert log.filter(pl.col("review").str.contains("again")).height == 1
    assert log.height == 60


@pytest.mark.parametrize(("rows", "where"), [(40_000, "in memory"), (400_000, "through the disk")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, rows: int, where: str) -> None:
    """A limit on the size of files stands for a disk without room."""
    text = "u,i,r,t,x\n" + "".join(f"u{n},i{n % 999},3,{10**9 + n},{n * 7919} {'y' * 70}\n" for n in range(rows))
    (tmp_path / "ratings.csv").write_text(text)
    assert (len(text) * 2 > 64 * 2**20) == (where == "through the disk")
    command = [sys.executable, "-m", "ckf", "prepare", "dataset=csv", f"dataset.root={tmp_path}"]
    command += ["dataset.interactions=ratings.csv", "dataset.memory_mb=64", f"paths.cache={tmp_path / 'cache'}"]
    names = {"user": "u", "item": "i", "rating": "r", "timestamp": "t", "review": "x"}
    command += [f"dataset.columns.{kind}={name}" for kind, name in names.items()]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the disk is full; make room, or set paths.cache to another disk" in done.stderr
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
