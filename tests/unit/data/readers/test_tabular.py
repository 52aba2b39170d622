"""Own tables as people write them: parts, times, clicks, separators, names of columns."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from ckf.config.compose import compose
from ckf.config.schema import ColumnsConfig, ItemColumnsConfig, SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset, source_hashes

START = 1_600_000_000
HEAD = "user,item,rating,timestamp"


def rows(n: int = 40) -> list[tuple[str, str, int, int]]:
    return [(f"u{k % 7}", f"i{k // 7}", k % 5 + 1, START + 1000 * k) for k in range(n)]


def lines(table: list[Any], separator: str = ",") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in table)


def config(root: Path, name: str = "csv", **more: Any) -> TabularConfig:
    return TabularConfig(name, root=str(root), **{"interactions": f"interactions.{name}", **more})


def build(cfg: TabularConfig, out: Path) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Rows (raw user, raw item, rating, time) of the dataset, sorted; and its manifest."""
    out.mkdir()
    build_dataset(cfg, SplitConfig("leave_last_out"), out)
    log = pl.read_parquet(out / "interactions.parquet")
    for kind in ("user", "item"):
        ids = pl.read_parquet(out / f"{kind}s.parquet").select(kind, raw=pl.col("raw_id"))
        log = log.join(ids, on=kind).drop(kind).rename({"raw": kind})
    return sorted(log.select("user", "item", "rating", "timestamp").iter_rows()), read_json(out / "manifest.json")


EXPECTED = sorted((user, item, float(rating), time) for user, item, rating, time in rows())


# --- parts


def test_a_folder_of_parquet_parts(tmp_path: Path) -> None:
    for n, start in enumerate((0, 15, 30)):
        (folder := tmp_path / "log").mkdir(exist_ok=True)
        part = pd.DataFrame(rows()[start : start + 15], columns=HEAD.split(","))
        part.to_parquet(folder / f"part-{n:05}-c000.snappy.parquet")
    (tmp_path / "log" / "_SUCCESS").touch()
    (tmp_path / "log" / ".part-0.parquet.crc").write_bytes(b"crc")
    found, manifest = build(config(tmp_path, "parquet", interactions="log"), tmp_path / "out")
    assert found == EXPECTED
    assert len(manifest["files"]) == 3
    assert "3 files" in manifest["source"]


def test_key_value_folders_are_columns_and_every_part_counts_for_the_hash(tmp_path: Path) -> None:
    table = pd.DataFrame(rows(), columns=HEAD.split(","))
    for user, part in table.groupby("user"):
        (folder := tmp_path / "log" / f"user={user}").mkdir(parents=True)
        part.drop(columns="user").to_parquet(folder / "part-0.parquet")
    cfg = config(tmp_path, "parquet", interactions="log")
    assert len(source_hashes(cfg)) == 7  # of one name in seven folders
    assert build(cfg, tmp_path / "out")[0] == EXPECTED


def test_days_as_folders_are_times(tmp_path: Path) -> None:
    for day in ("2024-01-05", "2024-01-06", "2024-01-07"):
        (folder := tmp_path / "log" / f"date={day}").mkdir(parents=True)
        pd.DataFrame({"user": ["a", "b"], "item": [day, day], "rating": [1, 5]}).to_parquet(folder / "x.parquet")
    found, manifest = build(config(tmp_path, "parquet", interactions="log"), tmp_path / "out")
    assert {(item, time) for _, item, _, time in found} == {
        (f"2024-01-0{day}", int(datetime(2024, 1, day, tzinfo=UTC).timestamp())) for day in (5, 6, 7)
    }
    assert any("column 'date' is read as the timestamp" in line for line in manifest["warnings"])


@pytest.mark.parametrize("name", ["log", "log/*.csv*", "log/part-[0-9]*"])
def test_csv_parts_each_with_its_header(tmp_path: Path, name: str) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "part-0.csv").write_text(f"{HEAD}\n{lines(rows()[:20])}")
    turned = [(time, rating, item, user) for user, item, rating, time in rows()[20:]]
    (tmp_path / "log" / "part-1.csv.gz").write_bytes(
        gzip.compress(f"timestamp,rating,item,user\n{lines(turned)}".encode())
    )
    assert build(config(tmp_path, interactions=name), tmp_path / "out")[0] == EXPECTED


def test_a_bad_row_names_its_part(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.csv").write_text(f"{HEAD}\n{lines(rows()[:20])}")
    (tmp_path / "log" / "b.csv").write_text(f"{HEAD}\n{lines(rows()[20:])}u1,i1,9,{START}\n")
    with pytest.raises(DataError, match=r"log/b\.csv: line 22: the rating is 9"):
        build(config(tmp_path, interactions="log"), tmp_path / "out")


def test_three_hundred_parts(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for n in range(300):
        pl.DataFrame([(f"u{n % 9}", f"i{n}", 4.0, START + n)], schema=HEAD.split(","), orient="row").write_parquet(
            tmp_path / "log" / f"{n}.parquet"
        )
    assert len(build(config(tmp_path, "parquet", interactions="log"), tmp_path / "out")[0]) == 300


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", r"dataset\.interactions: .*none: no such file"),
        ("empty", r"dataset\.interactions: .*empty: the folder holds no \.csv"),
        ("x*", r"dataset\.interactions: .*: no file matches"),
    ],
)
def test_no_part(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        build(config(tmp_path, interactions=name), tmp_path / "out")


# --- times


@pytest.mark.parametrize(
    ("written", "back"),
    [
        ("%Y-%m-%d", 86_400),
        ("%Y-%m-%d %H:%M:%S", 1),
        ("%Y-%m-%dT%H:%M:%SZ", 1),
        ("%Y-%m-%dT%H:%M:%S.000+00:00", 1),
        ("%Y/%m/%d %H:%M", 60),
        ("%Y%m%d", 86_400),
        ("%Y%m%d%H%M%S", 1),
    ],
)
def test_written_times(tmp_path: Path, written: str, back: int) -> None:
    table = [
        (user, item, rating, datetime.fromtimestamp(time, UTC).strftime(written)) for user, item, rating, time in rows()
    ]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
    found, _ = build(config(tmp_path), tmp_path / "out")
    assert found == [(user, item, rating, time // back * back) for user, item, rating, time in EXPECTED]


def test_a_zone_is_reckoned_with(tmp_path: Path) -> None:
    table = [("a", f"i{n}", 3, f"2024-01-01T10:0{n}:00{zone}") for n, zone in enumerate(("Z", "+02:00", "-0530"))]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
    ten = int(datetime(2024, 1, 1, 10, tzinfo=UTC).timestamp())
    found, _ = build(config(tmp_path), tmp_path / "out")
    assert [time for *_, time in found] == [ten, ten + 60 - 7200, ten + 120 + 19_800]


def test_dates_as_numbers_are_said(tmp_path: Path) -> None:
    table = [(user, item, rating, f"202401{1 + n % 28:02}") for n, (user, item, rating, _) in enumerate(rows())]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
    _, manifest = build(config(tmp_path), tmp_path / "out")
    assert any("read as YYYYMMDD" in line for line in manifest["warnings"])


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_by_their_unit(tmp_path: Path, unit: str, factor: int) -> None:
    table = [(user, item, rating, time * factor) for user, item, rating, time in rows()]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
    assert build(config(tmp_path, timestamp_unit=unit), tmp_path / "out")[0] == EXPECTED
    if unit != "s":
        with pytest.raises(DataError, match=rf"dataset\.timestamp_unit={unit}\)"):
            build(config(tmp_path), tmp_path / "again")


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
@pytest.mark.parametrize("kind", ["datetime64[ns]", "datetime64[us]", "zone", "text", "date"])
def test_columns_of_dates_whatever_the_unit_says(tmp_path: Path, kind: str, unit: str) -> None:
    table = pd.DataFrame(rows(), columns=HEAD.split(","))
    when = pd.to_datetime(table["timestamp"], unit="s")
    back = 86_400 if kind == "date" else 1
    table["timestamp"] = {
        "zone": lambda: when.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        "text": lambda: when.dt.strftime("%Y-%m-%d %H:%M:%S"),
        "date": lambda: when.dt.date,
    }.get(kind, lambda: when.astype(kind))()
    table.to_parquet(tmp_path / "interactions.parquet")
    found, _ = build(config(tmp_path, "parquet", timestamp_unit=unit), tmp_path / "out")
    assert found == [(user, item, rating, time // back * back) for user, item, rating, time in EXPECTED]


def test_a_time_among_dates_that_is_none_is_a_bad_row(tmp_path: Path) -> None:
    table = [(user, item, rating, "2024-01-31") for user, item, rating, _ in rows()]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
    with (tmp_path / "interactions.csv").open("a") as file:
        file.write("u1,new,3,2024-01-31\n" * 200 + "u1,x,3,31.1.2024\n")
    with pytest.raises(DataError, match=r"interactions\.csv: line 242: the timestamp is no date or time as 2024-01-31"):
        build(config(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(("good", "bad"), [("20240131", "20249999"), ("2024-01-31", "soon")])
def test_a_bad_time_among_the_first_does_not_make_numbers_of_the_others(tmp_path: Path, good: str, bad: str) -> None:
    table = [(user, item, rating, good) for user, item, rating, _ in rows()]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\nu1,x,3,{bad}\n{lines(table)}")
    found, manifest = build(config(tmp_path, max_bad_rows=1), tmp_path / "out")
    assert {time for *_, time in found} == {int(datetime(2024, 1, 31, tzinfo=UTC).timestamp())}
    assert manifest["bad_rows"]["kinds"]["timestamp_unreadable"]["count"] == 1


# --- other types


def test_pandas_categories_and_ids_with_gaps(tmp_path: Path) -> None:
    table = pd.DataFrame(rows(), columns=HEAD.split(","))
    table["item"] = table["item"].astype("category")
    table["user"] = table["user"].str[1:].astype(float)
    table.to_parquet(tmp_path / "interactions.parquet")
    found, _ = build(config(tmp_path, "parquet"), tmp_path / "out")
    assert found == sorted((user[1:], *rest) for user, *rest in EXPECTED)


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("true", "false"), ("yes", "no"), ("1", "0"), (True, False)]
)
def test_booleans_are_clicks(tmp_path: Path, yes: Any, no: Any) -> None:
    table = [(user, item, yes if rating > 3 else no, time) for user, item, rating, time in rows()]
    more = {"columns": ColumnsConfig(rating=None, click="rating")}
    if isinstance(yes, bool):
        pd.DataFrame(table, columns=HEAD.split(",")).to_parquet(tmp_path / "interactions.parquet")
        build(config(tmp_path, "parquet", **more), tmp_path / "out")
    else:
        (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}")
        build(config(tmp_path, **more), tmp_path / "out")
    clicks = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["click"]
    assert clicks.sum() == sum(rating > 3 for *_, rating, _ in rows())


# --- text


@pytest.mark.parametrize("separator", [";", "\\t", "\t", "|"])
def test_separators_as_they_are_typed(tmp_path: Path, separator: str) -> None:
    true = separator.replace("\\t", "\t")
    (tmp_path / "interactions.csv").write_text(f"{HEAD.replace(',', true)}\n{lines(rows(), true)}")
    words = ["dataset=csv", f"dataset.root={tmp_path}", f"dataset.separator='{separator}'"]
    cfg = compose(words)[0].dataset
    assert isinstance(cfg, TabularConfig)
    assert build(cfg, tmp_path / "out")[0] == EXPECTED


def test_another_separator_is_named(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(f"{HEAD.replace(',', ';')}\n{lines(rows(), ';')}")
    with pytest.raises(DataError, match=r"looks separated by semicolons; set dataset\.separator=';'"):
        build(config(tmp_path), tmp_path / "out")


def test_no_header(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(lines(rows()))
    with pytest.raises(DataError, match=r"dataset\.header=false and dataset\.columns\.user=1"):
        build(config(tmp_path), tmp_path / "out")
    columns = ColumnsConfig(user="1", item="2", rating="3", timestamp="4")
    assert build(config(tmp_path, header=False, columns=columns), tmp_path / "again")[0] == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_wide_text(tmp_path: Path, encoding: str) -> None:
    table = [(f"ü{user}", *rest) for user, *rest in rows()]
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(table)}", encoding=encoding)
    found, _ = build(config(tmp_path, encoding=encoding), tmp_path / "out")
    assert found == sorted((f"ü{user}", *rest) for user, *rest in EXPECTED)


# --- names


@pytest.mark.parametrize(
    ("header", "title"),
    [
        ("userId,movieId,rating,timestamp", "movieId,title"),
        ("User,Item,Rating,Timestamp", "ITEM,Title"),
        ("user_id,business_id,stars,date", "business_id,name"),
        ("reviewerID,asin,overall,unixReviewTime", "asin,product_title"),
        ("uid,iid,score,ts", "id,item_name"),
        ("customer_id,product_id,ratings,created_at", "product_id,product_name"),
    ],
)
def test_usual_names_are_recognised_and_written_down(tmp_path: Path, header: str, title: str) -> None:
    (tmp_path / "interactions.csv").write_text(f"{header}\n{lines(rows())}")
    (tmp_path / "items.csv").write_text(f"{title}\n" + "".join(f"i{n},Thing {n}\n" for n in range(6)))
    found, manifest = build(config(tmp_path, items="items.csv"), tmp_path / "out")
    assert found == EXPECTED
    assert pl.read_parquet(tmp_path / "out" / "items.parquet")["title"].str.starts_with("Thing").all()
    card = (tmp_path / "out" / "card.md").read_text()
    for name, kind in zip(header.split(","), ("user", "item", "rating", "timestamp"), strict=True):
        if name != kind:
            assert f"interactions.csv: column '{name}' is read as the {kind} (dataset.columns.{kind})" in card
    assert manifest["title_join"]["titled"] == 6


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("user,asin,parent_asin,rating,timestamp", "asin, parent_asin could be meant; set dataset.columns.item=NAME"),
        ("who,item,x,rating,timestamp", "column user is missing; .* set dataset.columns.user=NAME"),
        ("user,item,x,mark,timestamp", "column rating is missing; .* set dataset.columns.rating=NAME"),
        ("user,item,x,rating,when", "column timestamp is missing; .* set dataset.columns.timestamp=NAME"),
    ],
)
def test_what_is_not_clear_names_the_key(tmp_path: Path, header: str, said: str) -> None:
    (tmp_path / "interactions.csv").write_text(f"{header}\nu,i,1,2,3\n")
    with pytest.raises(DataError, match=said):
        build(config(tmp_path), tmp_path / "out")


def test_a_name_of_ones_own_is_not_replaced_by_a_usual_one(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(f"{HEAD}\n{lines(rows())}")
    with pytest.raises(DataError, match=r"column visitor is missing.* set dataset\.columns\.user=NAME"):
        build(config(tmp_path, columns=ColumnsConfig(user="visitor")), tmp_path / "out")
    assert ItemColumnsConfig().title == "title"
