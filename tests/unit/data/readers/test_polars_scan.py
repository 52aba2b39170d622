"""Bad input: one line with file and line number, or a counted skip, by the quick reader and the slow one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from ckf.config.schema import ColumnsConfig, ItemColumnsConfig, SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset, write_dataset
from ckf.data.readers.base import Source
from ckf.data.readers.file_notes import FileNotes
from ckf.data.readers.line_reader import BadRow, Table
from ckf.data.readers.polars_scan import Scanner
from ckf.data.readers.salvage import records
from ckf.data.row_validation import collect_errors, row_checks

FIELDS = {"u": pl.String, "i": pl.String, "r": pl.Float64, "t": pl.Int64, "x": pl.String}
GOOD = [{"u": f"u{n % 4}", "i": f"i{n}", "r": 1 + n % 5, "t": 1_000_000_000 + n, "x": "fine"} for n in range(12)]


def jsonl(folder: Path, *bad: str | bytes, zipped: bool = False) -> Path:
    """Good lines with the bad ones after the third."""
    lines = [json.dumps(row).encode() for row in GOOD]
    lines[3:3] = [line.encode() if isinstance(line, str) else line for line in bad]
    data = b"\n".join(lines) + b"\n"
    path = folder / ("data.jsonl.gz" if zipped else "data.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


def build(path: Path, out: Path, **settings) -> dict:
    """A dataset from JSON lines; returns its manifest."""
    out.mkdir()

    def read(scan: Scanner) -> Source:
        rows = scan.json_lines(path, FIELDS)
        names = {"u": "user", "i": "item", "r": "rating", "t": "timestamp", "x": "review"}
        no_titles = pl.LazyFrame(schema={"item": pl.String, "title": pl.String})
        return Source(rows.rename(names), no_titles, files=(path,), titled=False)

    cfg = TabularConfig("csv", root="", interactions="", **settings)
    write_dataset(read, cfg, SplitConfig("temporal", val_fraction=0.2, test_fraction=0.2), out)
    return read_json(out / "manifest.json")


BAD = {
    "broken_json": ('{"u": "a", "i"', "line 4: not a JSON object"),
    "broken_json_": ("[1, 2]", "line 4: a JSON list, expected an object"),
    "r_of_wrong_type": ('{"u": "a", "i": "b", "r": "good", "t": 5}', "line 4: r is 'good', expected a number"),
    "r_of_wrong_type_": ('{"u": "a", "i": "b", "r": NaN, "t": 5}', "line 4: r is nan, expected a number"),
    "t_of_wrong_type": ('{"u": "a", "i": "b", "r": 3, "t": 1.5}', "line 4: t is 1.5, expected a whole number"),
    "user_missing": ('{"i": "b", "r": 3, "t": 5}', "line 4: the user id is missing"),
    "user_missing_": ('{"u": " ", "i": "b", "r": 3, "t": 5}', "line 4: the user id is missing"),
    "item_with_control_character": (
        '{"u": "a", "i": "b\\u0000", "r": 3, "t": 5}',
        r"line 4: the item id 'b\x00' holds a control character",
    ),
    "user_too_long": (json.dumps({**GOOD[0], "u": "x" * 600}), "line 4: the user id has more than 512 bytes"),
    "rating_missing": ('{"u": "a", "i": "b", "t": 5}', "line 4: the rating is missing"),
    "rating_outside_scale": (
        '{"u": "a", "i": "b", "r": 7, "t": 5}',
        "line 4: the rating is 7, outside dataset.rating_scale [1, 5]",
    ),
    "timestamp_missing": ('{"u": "a", "i": "b", "r": 3}', "line 4: the timestamp is missing"),
    "timestamp_in_another_unit": (
        '{"u": "a", "i": "b", "r": 3, "t": 1700000000000}',
        "line 4: the timestamp 1700000000000 is after the year 2100 in seconds; it looks like milliseconds",
    ),
    "broken_json__": (b'{"u": "\xff", "i": "b", "r": 3, "t": 5}', "line 4: not a JSON object"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_stops_with_its_number_or_is_counted(tmp_path, kind):
    line, text = BAD[kind]
    path = jsonl(tmp_path, line)
    with pytest.raises(DataError) as caught:
        build(path, tmp_path / "strict")
    assert str(caught.value).startswith(f"{path}: {text}")
    assert "\n" not in str(caught.value)
    manifest = build(path, tmp_path / "lenient", max_bad_rows=1)
    (name, found), *rest = manifest["bad_rows"]["kinds"].items()
    assert not rest
    assert name == kind.rstrip("_")
    assert found["count"] == 1
    assert found["first"][0].startswith(f"{path}: {text}")
    assert manifest["rows_read"] == len(GOOD) + 1
    assert manifest["interactions"] == len(GOOD)
    assert text.partition(":")[0] in (tmp_path / "lenient" / "card.md").read_text()


def test_a_line_of_fifty_megabytes(tmp_path):
    path = jsonl(tmp_path, json.dumps({**GOOD[0], "x": "y" * 50_000_000}))
    with pytest.raises(DataError, match=r"data.jsonl: line 4: the review is longer than 16 MiB"):
        build(path, tmp_path / "out")
    assert build(path, tmp_path / "lenient", max_bad_rows=1)["bad_rows"]["total"] == 1
    broken = jsonl(tmp_path, '{"u": "' + "y" * 50_000_000)
    with pytest.raises(DataError, match=r"data.jsonl: line 4: 47.7 MiB; at most 16 MiB"):
        build(broken, tmp_path / "again")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_fifty_megabytes_in_a_column_that_is_not_read_are_passed_over(tmp_path, form):
    """By the quick reader, and by the slow one that looks for another line's fault."""
    long = "y" * 50_000_000
    for name, fault, allowed in (("quick", [], 0), ("slow", ["broken"], 1)):
        if form == "json":
            path = jsonl(tmp_path, json.dumps({**GOOD[0], "i": "long", "unread": long}), *fault)
            manifest = build(path, tmp_path / name, max_bad_rows=allowed)
        else:
            text = csv_text(f"u0,long,3,{10**9},{long}", *fault).replace("at\n", "at,unread\n")
            text = "".join(line + ("," if line.count(",") == 3 else "") + "\n" for line in text.splitlines())
            manifest = prepared(own(tmp_path, text, max_bad_rows=allowed), tmp_path / name)
        assert manifest["bad_rows"]["total"] == allowed
        assert manifest["interactions"] == len(GOOD) + 1


def test_line_numbers_count_blank_lines(tmp_path):
    path = jsonl(tmp_path, "", "  ", '{"u": "a", "i": "b", "r": 9, "t": 5}')
    with pytest.raises(DataError, match=r"data.jsonl: line 6: the rating is 9"):
        build(path, tmp_path / "out")


def test_one_more_than_allowed_stops(tmp_path):
    path = jsonl(tmp_path, *['{"u": "a", "i": "b", "r": 9, "t": 5}'] * 3)
    with pytest.raises(DataError, match=r"line 4: .* \(3 bad rows in all, dataset.max_bad_rows=2\)"):
        build(path, tmp_path / "out", max_bad_rows=2)


@pytest.mark.parametrize("cut", [8, 40])
def test_a_truncated_gzip(tmp_path, cut):
    path = jsonl(tmp_path, zipped=True)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"data.jsonl.gz: truncated or broken gzip after line \d+"):
        build(path, tmp_path / "out", max_bad_rows=100)


def test_names_that_look_like_patterns_are_files(tmp_path):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    assert build(jsonl(folder), tmp_path / "out")["interactions"] == len(GOOD)


# --- csv


def own(folder: Path, text: str | bytes, name: str = "csv", **settings) -> TabularConfig:
    (folder / "ratings.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    columns = ColumnsConfig(user="who", item="what", rating="stars", timestamp="at", **settings.pop("columns", {}))
    return TabularConfig(name, root=str(folder), interactions="ratings.csv", columns=columns, **settings)


def csv_text(*bad: str, separator: str = ",") -> str:
    rows = [f"{row['u']},{row['i']},{row['r']},{row['t']}" for row in GOOD]
    rows[3:3] = bad
    return "\n".join(["who,what,stars,at", *rows]).replace(",", separator) + "\n"


def prepared(cfg: TabularConfig, out: Path, split: str = "temporal") -> dict:
    out.mkdir()
    build_dataset(cfg, SplitConfig(split, val_fraction=0.2, test_fraction=0.2), out)
    return read_json(out / "manifest.json")


@pytest.mark.parametrize("separator", [",", "\t", "::"])
def test_own_columns_in_csv(tmp_path, separator):
    cfg = own(tmp_path, csv_text(separator=separator), separator=separator)
    manifest = prepared(cfg, tmp_path / "out")
    assert manifest["interactions"] == len(GOOD)
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items["raw_id"].to_list() == [f"i{n}" for n in range(12)], "shorter ids first, then by text"
    assert items["title"].to_list() == items["raw_id"].to_list()
    assert manifest["reader"]["titles_missing_raw_id_instead"] == 12


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("u1,i9,lots,5", "line 5: stars is 'lots', expected a number"),
        ("u1,i9,3,5,6", "line 5: 5 fields, expected 4"),
        ("u1,i9", "line 5: "),
        (",i9,3,5", r"line 5: the user id is missing \(who\)"),
        ("u1,i9,3,1700000000000000", "line 5: the timestamp 1700000000000000 .* microseconds"),
        ('"u,1",i9,99,5', "line 5: the rating is 99"),
    ],
)
def test_bad_csv_lines(tmp_path, line, text):
    with pytest.raises(DataError, match=text):
        prepared(own(tmp_path, csv_text(line)), tmp_path / "out")
    assert prepared(own(tmp_path, csv_text(line), max_bad_rows=1), tmp_path / "more")["bad_rows"]["total"] == 1


def test_lines_after_a_quoted_line_end_are_numbered_as_in_the_file(tmp_path):
    text = csv_text('"u\n1",i9,3,5', "u1,i9,99,5")
    with pytest.raises(DataError, match=r"line 5: the user id 'u.n1' holds a control character"):
        prepared(own(tmp_path, text), tmp_path / "out")
    found = prepared(own(tmp_path, text, max_bad_rows=2), tmp_path / "more")["bad_rows"]["kinds"]
    assert ": line 7: " in found["rating_outside_scale"]["first"][0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", r"ratings.csv: the file is empty \(0 bytes\)"),
        ("\n\n", "ratings.csv: the file is empty; its first line must name the columns"),
        ("who,what,at\n", "line 1: column stars is missing; the header has who, what, at"),
        ("who,what,stars,at,at\n", "line 1: column at stands there 2 times"),
        ("who,what,stars,at\n", "ratings.csv: no row of data, a header alone"),
    ],
)
def test_headers(tmp_path, text, line):
    with pytest.raises(DataError, match=line):
        prepared(own(tmp_path, text), tmp_path / "out")


def test_units_of_time(tmp_path):
    text = "\n".join(line + ("000" if n else "") for n, line in enumerate(csv_text().splitlines()))
    assert prepared(own(tmp_path, text, timestamp_unit="ms"), tmp_path / "out")["first_timestamp"] == 1_000_000_000
    with pytest.raises(DataError, match="its unit may be seconds already"):
        prepared(own(tmp_path, csv_text(), timestamp_unit="ms"), tmp_path / "again")


def test_own_parquet_with_titles_and_a_split(tmp_path):
    rows = pl.DataFrame(GOOD).rename({"u": "who", "i": "what", "r": "stars", "t": "at"})
    rows = rows.with_columns(part=pl.Series(["train"] * 8 + ["val"] * 2 + ["test"] * 2))
    rows.write_parquet(tmp_path / "ratings.parquet")
    titles = {"id": ["i0", "i1", "i1", "i2", "zz"], "name": ["One", None, "Two", " a\nb ", "-"]}
    pl.DataFrame(titles).write_parquet(tmp_path / "items.parquet")
    cfg = own(tmp_path, "", "parquet", columns={"split": "part", "review": "x"})
    cfg.interactions, cfg.items, cfg.item_columns = "ratings.parquet", "items.parquet", ItemColumnsConfig("id", "name")
    manifest = prepared(cfg, tmp_path / "out", "provided")
    assert [manifest["splits"][name]["interactions"] for name in ("train", "val", "test")] == [8, 2, 2]
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items["title"].to_list()[:4] == ["One", "Two", "a b", "i3"]
    cfg.columns.rating, cfg.columns.review = "x", None
    with pytest.raises(DataError, match=r"ratings.parquet: column x is String, expected Float64"):
        prepared(cfg, tmp_path / "again", "provided")


def test_a_bad_row_is_a_value_and_its_text_comes_last(tmp_path):
    """The slow reader and the row checks both give file, row, column and reason apart."""
    path = jsonl(tmp_path, '{"u": "a", "i": "b", "r": "good", "t": 5}')
    bad = [row for _, row in records(Table(path, FIELDS), FileNotes(path)) if isinstance(row, BadRow)]
    assert bad == [BadRow(path, 4, "r_of_wrong_type", "r is 'good', expected a number", column="r")]
    assert str(bad[0]) == f"{path}: line 4: r is 'good', expected a number"

    checks = row_checks(["rating"], TabularConfig("csv", root="", interactions=""), oldest=0)
    number = next(place for place, check in enumerate(checks) if check.kind == "rating_outside_scale")
    columns = {"user": 0, "item": 0, "rating": 9.0, "line": 7, "file": 0, "fault": number}
    ids = {"user": pl.Series(["a"]), "item": pl.Series(["b"])}
    found, counts = collect_errors(pl.DataFrame([columns]), ids, checks, (path,), lambda file, rows: {7: 8})
    assert [(row.file, row.row, row.column) for row in found] == [(path, 8, "rating")]
    assert counts == {"rating_outside_scale": 1}
