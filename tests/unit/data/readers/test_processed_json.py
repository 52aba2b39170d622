"""The released processed folder: what is read, both spellings of the cold file, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckf.config.schema import ProcessedJsonConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset
from ckf.data.readers.processed_json import processed_json_files, read_processed_json

FILES: dict[str, Any] = {
    "user_sequences_id.json": {"1": [1, 3, 1, 2], "2": [2, 2, 3, 1, 4], "3": [3, 4]},
    "user_sequences_title.json": {"1": ["C", "A", "B"], "2": ["B", "C", "A", "D"], "3": ["D"]},
    "user_rating.json": {"1": [5.0, 3.0, 4.0], "2": [1, 2, 3, 4], "3": [5]},
    "user_review.json": {"1": ["x", "", "z"], "2": ["a", "b", "c", "d"], "3": ["only"]},
    "id_2_title.json": {"1": "A", "2": "B", "3": "C", "4": "D"},
    "cold_user.json": {"cold_users_id": [3]},
}


def config(root: Path, **more: Any) -> ProcessedJsonConfig:
    return ProcessedJsonConfig(name="processed_json", root=str(root), **more)


def write(root: Path, **changes: Any) -> Path:
    """The files with some of them changed (``user_rating=…``), replaced as text, or left out (None)."""
    root.mkdir(exist_ok=True)
    for name, value in FILES.items():
        value = changes.get(name.removesuffix(".json"), value)
        if value is not None:
            (root / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return root


def test_sequences_become_interactions_in_their_order(tmp_path: Path) -> None:
    source = read_processed_json(config(write(tmp_path)))
    table = source.interactions.collect()
    assert table.filter(pl.col("user") == "1").select("item", "timestamp", "rating", "review").rows() == [
        ("3", 1, 5.0, "x"),
        ("1", 2, 3.0, ""),
        ("2", 3, 4.0, "z"),
    ]
    assert table.height == 8
    assert isinstance(source.items, pl.LazyFrame)
    assert dict(source.items.collect().rows()) == {"1": "A", "2": "B", "3": "C", "4": "D"}
    assert source.users is not None
    assert source.users.collect().rows() == [("1", False), ("2", False), ("3", True)]
    assert "stands for the time" in source.card["time"]


@pytest.mark.parametrize("spelling", ["cold_user.json", "cold_users.json"])
def test_both_spellings_of_the_cold_file(tmp_path: Path, spelling: str) -> None:
    write(tmp_path, cold_user=None)
    (tmp_path / spelling).write_text('{"cold_users_id": ["3", 99]}')
    source = read_processed_json(config(tmp_path))
    assert source.card["cold_users_listed"] == 2
    assert source.card["cold_users_without_sequence"] == 1
    assert source.users is not None
    assert source.users.collect()["cold"].sum() == 1


def test_two_spellings_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "cold_users.json").write_text('{"cold_users_id": [1]}')
    with pytest.raises(DataError, match=r"cold_user\.json and cold_users\.json name different users"):
        read_processed_json(config(tmp_path))


def test_what_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, cold_user=None, user_review=None, user_sequences_title=None)
    source = read_processed_json(config(tmp_path))
    assert source.users is None
    assert source.interactions.collect()["review"].null_count() == 8
    with pytest.raises(DataError, match=r"lacks user_rating\.json, id_2_title\.json; it must hold user_seq"):
        processed_json_files(config(write(tmp_path / "b", user_rating=None, id_2_title=None)))


def test_titles_come_from_the_sequences_where_the_table_lacks_them(tmp_path: Path) -> None:
    write(tmp_path, id_2_title={"1": "A", "2": "", "3": "other"})
    source = read_processed_json(config(tmp_path))
    assert isinstance(source.items, pl.LazyFrame)
    assert dict(source.items.collect().rows()) == {"1": "A", "2": "B", "3": "other", "4": "D"}
    assert source.card["titles_that_differ_between_files"] == 2


def test_prepared(tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    build_dataset(config(write(tmp_path / "in")), SplitConfig(name="leave_last_out"), out)
    assert pl.read_parquet(out / "items.parquet")["title"].to_list() == ["A", "B", "C", "D"]
    assert pl.read_parquet(out / "users.parquet")["cold"].to_list() == [False, False, True]
    log = pl.read_parquet(out / "interactions.parquet").filter(pl.col("user") == 2)
    assert log.sort("timestamp").select("item", "split").rows() == [
        (2, "train"),
        (3, "train"),
        (1, "val"),
        (4, "test"),
    ]
    assert "stands for the time" in read_json(out / "manifest.json")["reader"]["time"]
    assert "stands for the time" in (out / "card.md").read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"user_sequences_id": "{"}, "user_sequences_id.json: not valid JSON (Expecting"),
        ({"user_sequences_id": "[]"}, "user_sequences_id.json: holds a list; an object by user"),
        ({"user_sequences_id": "{}"}, "user_sequences_id.json: no user has an interaction"),
        ({"user_sequences_id": "[" * 100_000}, "user_sequences_id.json: not UTF-8 JSON (RecursionError)"),
        ({"user_sequences_id": '{"1": [1, 2], "1": [1, 3]}'}, "user_sequences_id.json: key '1' stands twice"),
        ({"user_sequences_id": {"1": [2, 3]}}, "user '1': must be a list that begins with the user"),
        ({"user_sequences_id": {"1": "12"}}, "user '1': must be a list that begins with the user"),
        ({"user_sequences_id": {"1": [1, 0]}}, "user '1': entry 1 is 0; an item id is needed (0 pads)"),
        ({"user_sequences_id": {"1": [1, None]}}, "user '1': entry 1 is None"),
        ({"user_sequences_id": {"1": [1, True]}}, "user '1': entry 1 is True"),
        ({"user_rating": {**FILES["user_rating.json"], "1": [5]}}, "user_rating.json: user '1': 3 entries are needed"),
        ({"user_rating": {"1": [1, 2, 3], "2": [1, 2, 3, 4]}}, "user_rating.json: user '3': 1 entries are needed"),
        ({"user_rating": {**FILES["user_rating.json"], "9": [5]}}, "user_rating.json: user '9' has no sequence in"),
        ({"user_rating": {**FILES["user_rating.json"], "3": ["x"]}}, "user_rating.json: user '3': entry 1 is 'x'"),
        ({"user_rating": {**FILES["user_rating.json"], "3": [[5]]}}, "user_rating.json: user '3': entry 1 is [5]"),
        ({"user_review": {**FILES["user_review.json"], "3": [5]}}, "user_review.json: user '3': entry 1 is 5"),
        ({"user_sequences_title": {"1": ["C"]}}, "user_sequences_title.json: user '1': 3 titles are needed"),
        ({"id_2_title": {"1": 5}}, "id_2_title.json: item '1': the title is 5, not text"),
        ({"cold_user": {"cold": []}}, "cold_user.json: 'cold_users_id' must be a list of users"),
        ({"cold_user": {"cold_users_id": [[1]]}}, "cold_user.json: 'cold_users_id' must be a list of users"),
        (
            {"user_rating": {**FILES["user_rating.json"], "3": [9]}},
            "user_sequences_id.json: line 8: the rating is 9, outside",
        ),
        ({"user_rating": {**FILES["user_rating.json"], "3": [None]}}, "line 8: the rating is missing"),
        ({"user_rating": '{"1": [1, 2, 3], "2": [1, 2, 3, 4], "3": [NaN]}'}, "line 8: the rating is "),
    ],
)
def test_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (out := tmp_path / "out").mkdir()
    write(tmp_path / "in", **changes)
    with pytest.raises(DataError) as caught:
        build_dataset(config(tmp_path / "in"), SplitConfig(name="leave_last_out"), out)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "id_2_title.json").write_bytes(b'{"1": "\xff"}')
    with pytest.raises(DataError, match=r"id_2_title\.json: not UTF-8 JSON"):
        read_processed_json(config(tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["1", "2", "x", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(FILES)), st.sampled_from(["whole", "user"]), JSON)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rubbish_is_a_dataset_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: str, value: Any
) -> None:
    root = tmp_path_factory.mktemp("rubbish")
    changed = value if place == "whole" else {**FILES[name], "1": value}
    write(root / "in", **{name.removesuffix(".json"): json.dumps(changed)})
    (out := root / "out").mkdir()
    message = ""
    try:
        build_dataset(config(root / "in"), SplitConfig(name="leave_last_out"), out)
    except DataError as error:
        message = str(error)
    assert bool(message) != (out / "manifest.json").is_file()
    assert "\n" not in message
