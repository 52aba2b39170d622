"""Generated rubbish: either a valid dataset or a DataError, and no row disappears uncounted."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckf.config.schema import SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset, write_dataset
from ckf.data.readers.base import Source
from ckf.data.readers.polars_scan import Scanner

# mostly usable, so that many files get through to a dataset; the rest anything at all
_ids = st.one_of(st.sampled_from(["a", "b", "c", "10", "9", "é", "a b", "'"]), st.text(max_size=4), st.none())
_numbers = st.one_of(st.sampled_from([1, 2, 3.5, 5]), st.integers(-9, 9), st.floats(), st.text(max_size=3), st.none())
_times = st.one_of(
    st.integers(10**9, 10**9 + 50), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.none()
)
_texts = st.one_of(st.none(), st.text(max_size=8), st.lists(st.integers(), max_size=2))
_good = st.fixed_dictionaries(
    {
        "user": st.sampled_from("abcdef"),
        "item": st.sampled_from("uvwxyz"),
        "rating": st.sampled_from([1, 3, 5]),
        "timestamp": st.integers(10**9, 10**9 + 50),
        "review": st.sampled_from(["fine", "", "two\nlines"]),
    }
)
_odd = st.fixed_dictionaries(
    {}, optional={"user": _ids, "item": _ids, "rating": _numbers, "timestamp": _times, "review": _texts}
)
_rows = st.lists(st.one_of(_good, _good, _good, _odd), max_size=25)
# good rows before the rubbish, enough for a split, so that most files can become a dataset
_BASE = [
    {"user": "abcdef"[n % 6], "item": f"base{n}", "rating": 1 + n % 5, "timestamp": 10**9 + n, "review": None}
    for n in range(20)
]
_LIMIT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_COLUMNS = {
    "user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64, "review": pl.String
}  # fmt: skip


def check_artifact(out: Path, records: int | None) -> None:
    """What is written fits together, and rows in are rows out plus rows counted as dropped."""
    manifest = read_json(out / "manifest.json")
    rows, items, users = (pl.read_parquet(out / f"{name}.parquet") for name in ("interactions", "items", "users"))
    dropped = manifest["duplicates"]["exact_copies_dropped"] + manifest["duplicates"]["other_repeats_dropped"]
    assert manifest["rows_read"] == rows.height + dropped + manifest["bad_rows"]["total"]
    if records is not None:
        assert manifest["rows_read"] == records
    assert items["item"].to_list() == list(range(1, items.height + 1))
    assert users["user"].to_list() == list(range(1, users.height + 1))
    assert set(rows["item"]) == set(items["item"])
    assert set(rows["user"]) == set(users["user"])
    assert not rows.select("user", "item").is_duplicated().any()
    assert rows["rating"].is_between(1, 5).all()
    assert rows["timestamp"].is_sorted()
    assert (items["title"].str.strip_chars() != "").all()
    assert set(rows["split"]) == {"train", "val", "test"}
    assert not (out / ".scratch").exists()


def json_base() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _BASE).encode()


def one_line(error: DataError) -> None:
    assert "\n" not in str(error)


def split() -> SplitConfig:
    return SplitConfig("temporal", val_fraction=0.2, test_fraction=0.2)


def json_source(path: Path):  # type: ignore[no-untyped-def]
    def read(scan: Scanner) -> Source:
        items = pl.LazyFrame(schema={"item": pl.String, "title": pl.String})
        return Source(scan.json_lines(path, _COLUMNS), items, files=(path,))

    return read


def try_json(data: bytes, allowed: int, records: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "x.jsonl", Path(folder) / "out"
        path.write_bytes(data)
        out.mkdir()
        cfg = TabularConfig("csv", root="", interactions="", max_bad_rows=allowed)
        try:
            write_dataset(json_source(path), cfg, split(), out)
        except DataError as error:
            one_line(error)
        else:
            check_artifact(out, records)


@_LIMIT
@given(_rows, st.sampled_from([0, 100]))
def test_json_lines_of_odd_values(rows, allowed):
    try_json(json_base() + "".join(json.dumps(row) + "\n" for row in rows).encode(), allowed, 20 + len(rows))


@_LIMIT
@given(st.lists(st.one_of(_good.map(lambda row: json.dumps(row).encode()), st.binary(max_size=30)), max_size=25))
def test_json_lines_with_bytes_between(lines):
    try_json(json_base() + b"\n".join(lines), 100, None)


@_LIMIT
@given(st.lists(st.one_of(_good.map(lambda row: json.dumps(row)), st.text(max_size=20)), max_size=20), st.data())
def test_json_lines_cut_and_spliced(lines, data):
    text = "\n".join(lines).encode("utf-8", "replace")
    at = data.draw(st.integers(0, len(text)))
    drop = data.draw(st.integers(0, 30))
    try_json(json_base() + text[:at] + text[at + drop :], 100, None)


def try_csv(data: bytes, allowed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.csv").write_bytes(data)
        out = Path(folder) / "out"
        out.mkdir()
        cfg = TabularConfig("csv", root=folder, interactions="x.csv", max_bad_rows=allowed)
        try:
            build_dataset(cfg, split(), out)
        except DataError as error:
            one_line(error)
        else:
            check_artifact(out, None)


@_LIMIT
@given(_rows, st.sampled_from([0, 100]), st.booleans())
def test_csv_of_odd_values(rows, allowed, quoted):
    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = ["user,item,rating,timestamp"]
    lines += [",".join(cell(row.get(name)) for name in lines[0].split(",")) for row in _BASE + rows]
    try_csv("\n".join(lines).encode("utf-8", "replace"), allowed)


@_LIMIT
@given(st.lists(st.one_of(st.sampled_from([b"a,u,5,1000000001", b"b,v,1,1000000002", b"c,w,3,1000000003"]),
                          st.binary(max_size=30)), max_size=25))  # fmt: skip
def test_csv_with_bytes_between(lines):
    base = [f"{row['user']},{row['item']},{row['rating']},{row['timestamp']}".encode() for row in _BASE]
    try_csv(b"\n".join([b"user,item,rating,timestamp", *base, *lines]), 100)
