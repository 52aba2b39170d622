"""Titles that do not join, in every reader: the share is measured, shown, and 0% stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.schema import (
    AmazonConfig,
    DatasetConfig,
    MovieLensConfig,
    ProcessedJsonConfig,
    RecboleConfig,
    SplitConfig,
    TabularConfig,
)
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.audit.report import PASS, STOP, WARN
from ckf.data.audit.table_checks import table_lines
from ckf.data.interactions import InteractionLog
from ckf.data.prepare import build_dataset
from ckf.data.title_join import ABSENT

ITEMS = range(6)
START = 1_000_000_000
Names = Callable[[int], str]


def pairs() -> list[tuple[int, int]]:
    return [(user, item) for user in range(4) for item in ITEMS]


def own_tables(root: Path, item: Names, titled: Names) -> TabularConfig:
    lines = [f"u{user},{item(k)},4,{START + n}" for n, (user, k) in enumerate(pairs())]
    (root / "interactions.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    (root / "items.csv").write_text("item,title\n" + "".join(f"{titled(k)},Thing {k}\n" for k in ITEMS))
    return TabularConfig("csv", root=str(root), interactions="interactions.csv", items="items.csv")


def recbole(root: Path, item: Names, titled: Names) -> RecboleConfig:
    lines = [f"u{user}\t{item(k)}\t4\t{START + n}" for n, (user, k) in enumerate(pairs())]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (root / "x.inter").write_text("\n".join([head, *lines]) + "\n")
    titles = "".join(f"{titled(k)}\tThing {k}\n" for k in ITEMS)
    (root / "x.item").write_text("item_id:token\ttitle:token_seq\n" + titles)
    return RecboleConfig("recbole", root=str(root), prefix="x")


def movielens(root: Path, item: Names, titled: Names) -> MovieLensConfig:
    lines = [f"{user},{item(k)},4,{START + n}" for n, (user, k) in enumerate(pairs())]
    (root / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    (root / "movies.csv").write_text("movieId,title,genres\n" + "".join(f"{titled(k)},Thing {k},War\n" for k in ITEMS))
    return MovieLensConfig("ml20m", root=str(root))


def amazon(version: int) -> Callable[[Path, Names, Names], AmazonConfig]:
    def write(root: Path, item: Names, titled: Names) -> AmazonConfig:
        user, key, rating, text, time, factor = (
            ("user_id", "parent_asin", "rating", "text", "timestamp", 1000)
            if version == 2023
            else ("reviewerID", "asin", "overall", "reviewText", "unixReviewTime", 1)
        )
        reviews, meta = (
            {2014: "reviews_X_5.json", 2018: "X_5.json", 2023: "X.jsonl"}[version],
            f"meta_X.json{'l' * (version == 2023)}",
        )
        rows = [
            {user: f"U{u}", key: item(k), rating: 4.0, text: "fine", time: (START + n) * factor}
            for n, (u, k) in enumerate(pairs())
        ]
        (root / reviews).write_text("".join(json.dumps(row) + "\n" for row in rows))
        known = [{key: titled(k), "title": f"Thing {k}"} for k in ITEMS]
        (root / meta).write_text("".join((str(row) if version == 2014 else json.dumps(row)) + "\n" for row in known))
        return AmazonConfig("amazon", root=str(root), category="X", version=version)

    return write


def processed(root: Path, item: Names, titled: Names) -> ProcessedJsonConfig:
    sequences = {str(user): [user, *(item(k) for k in ITEMS)] for user in range(1, 5)}
    (root / "user_sequences_id.json").write_text(json.dumps(sequences))
    (root / "user_rating.json").write_text(json.dumps({user: [4.0] * len(ITEMS) for user in sequences}))
    (root / "id_2_title.json").write_text(json.dumps({titled(k): f"Thing {k}" for k in ITEMS}))
    return ProcessedJsonConfig("processed_json", root=str(root))


FORMATS = {
    "csv": own_tables,
    "recbole": recbole,
    "movielens": movielens,
    "amazon 2014": amazon(2014),
    "amazon 2018": amazon(2018),
    "amazon 2023": amazon(2023),
    "processed": processed,
}


def build(cfg: DatasetConfig, root: Path) -> dict[str, Any]:
    (out := root / "out").mkdir()
    build_dataset(cfg, SplitConfig("leave_last_out"), out)
    manifest: dict[str, Any] = read_json(out / "manifest.json")
    return manifest


def audit_line(root: Path) -> Any:
    lines = table_lines(root / "out", InteractionLog.load(root / "out"), "leave_last_out")
    return next(line for line in lines if line.name == "items_without_title")


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("item", "titled", "also"),
    [
        (lambda k: f"I{k}", lambda k: f"i{k}", "6 of them differ from one there only in case"),
        (
            lambda k: f"{k + 1}.0",
            lambda k: f"{k + 1}",
            "e.g. '1.0'; in the items file alone: e.g. '1'; 6 of them",
        ),
        (
            lambda k: f"00{k + 1}",
            lambda k: f"{k + 1}",
            "e.g. '001'; in the items file alone: e.g. '1'; 6 of them",
        ),
        (lambda k: f"I{k}", lambda k: f"X{k}", "in the items file alone: e.g. 'X0'; give the items file"),
    ],
    ids=["case", "form", "zeros", "another category"],
)
def test_no_title_stops_with_an_id_of_each_side(
    tmp_path: Path, write: Callable[..., DatasetConfig], item: Names, titled: Names, also: str
) -> None:
    with pytest.raises(DataError, match=r"0 of 6 items \(0\.0%\) have a title") as caught:
        build(write(tmp_path, item, titled), tmp_path)
    assert f"not in the items file: 6, e.g. '{item(0)}'" in str(caught.value)
    assert also in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_part_without_titles_is_counted_and_said(tmp_path: Path, write: Callable[..., DatasetConfig]) -> None:
    manifest = build(write(tmp_path, lambda k: f"I{k}", lambda k: f"{'I' if k < 4 else 'i'}{k}"), tmp_path)
    said = (
        "4 of 6 items (66.7%) have a title, the others have their raw id; not in the items file: 2, e.g. 'I4'; in the "
        "items file alone: e.g. 'i4'; 2 of them differ from one there only in case, punctuation, leading zeros or '.0'"
    )
    assert manifest["warnings"][0] == said
    assert f"- {said}\n" in (tmp_path / "out" / "card.md").read_text()
    line = audit_line(tmp_path)
    assert (line.level, line.count, line.of, line.first, line.message) == (WARN, 2, 6, "I4", said)
    titles = pl.read_parquet(tmp_path / "out" / "items.parquet").select("raw_id", "title").rows()
    assert [title for _, title in titles] == ["Thing 0", "Thing 1", "Thing 2", "Thing 3", "I4", "I5"]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_titles_that_join_say_nothing(tmp_path: Path, write: Callable[..., DatasetConfig]) -> None:
    manifest = build(write(tmp_path, lambda k: f"I{k}", lambda k: f"I{k}"), tmp_path)
    assert not any("title" in line for line in manifest["warnings"])
    assert manifest["title_join"] | {"items": 6, "joined": 6, "titled": 6} == manifest["title_join"]
    assert (audit_line(tmp_path).level, audit_line(tmp_path).count) == (PASS, 0)


@pytest.mark.parametrize("write", [own_tables, recbole, amazon(2014), amazon(2018), processed])
def test_white_space_around_ids_is_trimmed_on_both_sides_and_counted(
    tmp_path: Path, write: Callable[..., DatasetConfig]
) -> None:
    manifest = build(write(tmp_path, lambda k: f" I{k} " if k == 2 else f"I{k}", lambda k: f"I{k} "), tmp_path)
    assert manifest["ids_trimmed"] == {"user": 0, "item": 4}
    assert manifest["title_join"]["titled"] == manifest["items"] == 6
    assert "4 rows had white space around their item id; it is left out" in manifest["warnings"]


def test_an_id_with_and_without_white_space_is_one(tmp_path: Path) -> None:
    lines = [f"{'u1' if n % 2 else ' u1'},i{n},4,{START + n}" for n in range(8)]
    lines += [f"u2\u00a0,i{n},4,{START + n}" for n in range(3)]
    (tmp_path / "interactions.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    manifest = build(TabularConfig("csv", root=str(tmp_path), interactions="interactions.csv"), tmp_path)
    assert pl.read_parquet(tmp_path / "out" / "users.parquet")["raw_id"].to_list() == ["u1", "u2"]
    assert manifest["ids_trimmed"] == {"user": 7, "item": 0}


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NULL", "None", "<NA>", "", "  "])
@pytest.mark.parametrize("column", ["user", "item"])
def test_a_missing_value_is_no_id(tmp_path: Path, word: str, column: str) -> None:
    lines = [f"u{n % 3},i{n},4,{START + n}" for n in range(8)]
    lines.append(f"{word},i1,4,{START}" if column == "user" else f"u1,{word},4,{START}")
    (tmp_path / "interactions.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    cfg = TabularConfig("csv", root=str(tmp_path), interactions="interactions.csv", max_bad_rows=1)
    manifest = build(cfg, tmp_path)
    kind = f"{column}_not_an_id" if word.strip() else f"{column}_missing"
    assert {name: kind["count"] for name, kind in manifest["bad_rows"]["kinds"].items()} == {kind: 1}
    assert "interactions.csv: line 10: " in manifest["bad_rows"]["kinds"][kind]["first"][0]
    assert word not in pl.read_parquet(tmp_path / "out" / f"{column}s.parquet")["raw_id"].to_list()


def test_a_dataset_said_to_have_no_titles_is_made_with_a_warning(tmp_path: Path) -> None:
    cfg = own_tables(tmp_path, lambda k: f"I{k}", lambda k: f"X{k}")
    cfg.items = None
    assert build(cfg, tmp_path)["warnings"][0] == ABSENT
    assert (audit_line(tmp_path).level, audit_line(tmp_path).message) == (WARN, ABSENT)


def test_a_dataset_made_without_the_stop_is_stopped_by_the_audit(tmp_path: Path) -> None:
    manifest = build(own_tables(tmp_path, lambda k: f"I{k}", lambda k: f"I{k}"), tmp_path)
    manifest["title_join"]["titled"] = 0
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert audit_line(tmp_path).level == STOP


def test_cold_users_of_another_folder_stop(tmp_path: Path) -> None:
    cfg = processed(tmp_path, lambda k: f"I{k}", lambda k: f"I{k}")
    (tmp_path / "cold_user.json").write_text(json.dumps({"cold_users_id": ["901", "902"]}))
    with pytest.raises(DataError, match=r"none of the 2 cold users, e\.g\. '901', has a sequence .* e\.g\. '1'"):
        build(cfg, tmp_path)
