"""RecBole's atomic files: typed headers, titles, three parts as the split, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckf.config.schema import RecboleConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset
from ckf.data.readers.base import Source
from ckf.data.readers.polars_scan import Scanner
from ckf.data.readers.recbole import read_recbole, recbole_files

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"


def config(root: Path, **more: Any) -> RecboleConfig:
    return RecboleConfig(name="recbole", root=str(root), prefix="x", **more)


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows(n: int = 12) -> list[str]:
    return [f"u{k % 3}\ti{k % 4}\t{k % 5 + 1}\t{1_000_000_000 + k}.0" for k in range(n)]


def read(root: Path, **more: Any) -> Source:
    return read_recbole(config(root, **more), Scanner(root))


def test_interactions_and_titles(tmp_path: Path) -> None:
    write(tmp_path, "x.inter", HEADER, "u1\ti 1\t4.5\t881250949.0", 'u"2\ti2\t3\t8.8e8')
    write(tmp_path, "x.item", "item_id:token\tmovie_title:token_seq\tyear:float", 'i 1\tToy "Story"\t1995', "i2\t\t")
    source = read(tmp_path, title_field="movie_title")
    assert source.interactions.collect().select("line", "user", "item", "rating", "timestamp").rows() == [
        (1, "u1", "i 1", 4.5, 881250949),
        (2, 'u"2', "i2", 3.0, 880000000),
    ]
    assert isinstance(source.items, pl.LazyFrame)
    assert source.items.select("item", "title").collect().rows() == [("i 1", 'Toy "Story"'), ("i2", None)]


def test_fields_by_the_config(tmp_path: Path) -> None:
    write(tmp_path, "x.inter", "t:float\tb:token\ta:token\ty:float\tr:token_seq", "5\tB\tA\t1\tfine words")
    names = {"user_field": "a", "item_field": "b", "time_field": "t", "rating_field": None, "label_field": "y"}
    source = read(tmp_path, **names, review_field="r")
    row = source.interactions.select("user", "item", "timestamp", "click", "review").collect().row(0)
    assert row == ("A", "B", 5, 1, "fine words")
    assert source.card["titles"] == "none: the raw ids"


def test_three_parts_are_the_split(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("valid", 12), ("test", 24)):
        write(tmp_path, f"x.{part}.inter", HEADER, *(f"u{k % 3}\ti{start + k}\t3\t{start + k}" for k in range(12)))
    build_dataset(config(tmp_path, parts=["train", "valid", "test"]), SplitConfig(name="provided"), made(tmp_path))
    log = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert log["split"].value_counts().sort("split").rows() == [("test", 12), ("train", 12), ("val", 12)]
    assert log.filter(pl.col("split") == "val")["timestamp"].to_list() == list(range(12, 24))
    assert set(read_json(tmp_path / "out" / "manifest.json")["files"]) == {
        f"x.{p}.inter" for p in ("train", "valid", "test")
    }


def made(root: Path) -> Path:
    out = root / "out"
    out.mkdir(exist_ok=True)
    return out


def build(root: Path, **more: Any) -> dict[str, Any]:
    build_dataset(config(root, **more), SplitConfig(name="temporal"), made(root))
    return read_json(root / "out" / "manifest.json")


def test_without_an_items_file_the_ids_are_the_titles(tmp_path: Path) -> None:
    write(tmp_path, "x.inter", HEADER, *rows())
    build(tmp_path)
    assert sorted(pl.read_parquet(tmp_path / "out" / "items.parquet")["title"]) == ["i0", "i1", "i2", "i3"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["user_id\titem_id\trating\ttimestamp", *rows()], "x.inter: line 1: 'user_id' is not FIELD:TYPE with one of"),
        (["user_id:int\titem_id:token", *rows()], "line 1: 'user_id:int' is not FIELD:TYPE"),
        ([HEADER.replace("timestamp", "when"), *rows()], "line 1: no field timestamp; the header has user_id, item_id"),
        ([HEADER, *rows(), "u1\ti9\tgood\t1000000000"], "x.inter: line 14: rating"),
        ([HEADER, *rows(), "u1\ti9\t3"], "x.inter: line 14: "),
        ([HEADER, *rows(), "u1\ti9\t3\tnan"], "x.inter: line 14: "),
        ([HEADER, *rows(), "\ti9\t3\t1000000000"], "x.inter: line 14: the user id is missing"),
        ([HEADER, *rows(), "u1\ti9\t77\t1000000000"], "x.inter: line 14: the rating is 77, outside"),
        ([HEADER, *rows(), "u1\ti9\t3\t1000000000000"], "x.inter: line 14: the timestamp 1000000000000 is after"),
        ([HEADER], "x.inter: no row of data, a header alone"),
        ([], "x.inter: the file is empty"),
    ],
)
def test_refused(tmp_path: Path, lines: list[str], problem: str) -> None:
    (tmp_path / "x.inter").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_between_0_and_1_is_not_rounded(tmp_path: Path) -> None:
    write(
        tmp_path,
        "x.inter",
        HEADER.replace("rating", "label"),
        *(f"u\ti{k}\t{k % 2}\t{k}" for k in range(9)),
        "u\tj\t0.7\t9",
    )
    with pytest.raises(DataError, match=r"x\.inter: line 11: the click is"):
        build(tmp_path, rating_field=None, label_field="label")


def test_missing_files(tmp_path: Path) -> None:
    write(tmp_path, "ml.inter", HEADER)
    with pytest.raises(DataError, match=r"lacks x\.inter; there are ml\.inter"):
        recbole_files(config(tmp_path))
    with pytest.raises(DataError, match=r"lacks x\.a\.inter, x\.b\.inter, x\.c\.inter"):
        recbole_files(config(tmp_path / "none", parts=["a", "b", "c"]))


CELLS = st.sampled_from(
    ["u1", "i1", "", "3", "-1", "nan", "1e400", "5.5", "\x00", "é", '"', "1e9", "99999999999999999999"]
)


@given(st.lists(st.lists(CELLS, min_size=0, max_size=5).map("\t".join), max_size=6), st.integers(0, 3))
@example(["\t\t\t"], 3)
@example(["u1\ti1\t3\t99999999999999999999"], 0)
@example(["u1\ti1\t3\t-1e400", "u1\ti1\t3\tnan"], 3)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rubbish_is_a_dataset_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], allowed: int
) -> None:
    root = tmp_path_factory.mktemp("rubbish")
    write(root, "x.inter", HEADER, *rows(), *lines)
    manifest, message = {}, "x.inter: line "
    try:
        manifest = build(root, max_bad_rows=allowed)
    except DataError as error:
        message = str(error)
    assert "x.inter: line " in message
    if not manifest:
        return
    blank = sum(not line for line in lines)
    assert manifest["rows_read"] == 12 + len(lines) - blank
    assert manifest["bad_rows"]["total"] <= allowed


OWN_HEADERS = {
    "ml-100k": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "{u}\t{i}\t{r}\t{t}",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "{i}\tThing {i}\t1995\tDrama",
    ),
    "ml-10m": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "{u}\t{i}\t{r}\t{t}",
        "item_id:token\tmovie_name:token_seq\ttype:token_seq",
        "{i}\tThing {i}\tDrama",
    ),
    "Amazon_Books": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "{u}\t{i}\t{r}\t{t}",
        "item_id:token\ttitle:token\tprice:float\tsales_type:token\tsales_rank:float\tbrand:token\tcategories:token_seq",
        "{i}\tThing {i}\t1\tBooks\t2\tB\tC",
    ),
    "yelp": (
        "review_id:token\tuser_id:token\tbusiness_id:token\tstars:float\tuseful:float\tfunny:float\tcool:float\tdate:float",
        "r\t{u}\t{i}\t{r}\t0\t0\t0\t{t}",
        "business_id:token\titem_name:token_seq\taddress:token_seq\tcity:token_seq\titem_stars:float",
        "{i}\tThing {i}\tA\tC\t4",
    ),
    "steam": (
        "user_id:token\tplay_hours:float\tproducts:token\tproduct_id:token\tpage_order:float\ttimestamp:float",
        "{u}\t2\t3\t{i}\t1\t{t}",
        "app_name:token\tdeveloper:token\tgenres:token_seq\tid:token\tprice:float",
        "Thing {i}\tD\tG\t{i}\t9",
    ),
}


@pytest.mark.parametrize("name", OWN_HEADERS)
def test_recboles_own_datasets_need_a_prefix_alone(tmp_path: Path, name: str) -> None:
    head, row, item_head, item_row = OWN_HEADERS[name]
    cells = [{"u": f"u{k % 5}", "i": f"i{k // 5}", "r": k % 5 + 1, "t": 1_000_000_000 + 60 * k} for k in range(30)]
    write(tmp_path, f"{name}.inter", head, *(row.format(**cell) for cell in cells))
    write(tmp_path, f"{name}.item", item_head, *(item_row.format(i=f"i{k}") for k in range(6)))
    build_dataset(
        RecboleConfig("recbole", root=str(tmp_path), prefix=name), SplitConfig(name="temporal"), made(tmp_path)
    )
    log = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    titles = pl.read_parquet(tmp_path / "out" / "items.parquet")["title"]
    assert sorted(titles) == [f"Thing i{k}" for k in range(6)]
    assert log["timestamp"].to_list() == [cell["t"] for cell in cells]
    manifest = read_json(tmp_path / "out" / "manifest.json")
    if name == "steam":
        assert log["click"].to_list() == [1] * 30
        assert any("there is no field rating, so every row is a like" in line for line in manifest["warnings"])
        assert manifest["feedback"] == "implicit"
    else:
        assert log["rating"].to_list() == [cell["r"] for cell in cells]
    guessed = sum("is read as the" in line for line in manifest["warnings"])
    assert guessed == {"ml-100k": 1, "ml-10m": 1, "Amazon_Books": 0, "yelp": 5, "steam": 3}[name]
