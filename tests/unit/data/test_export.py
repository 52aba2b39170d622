"""Export: the processed folder there and back, and the released training lines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.schema import CollmConfig, ProcessedJsonConfig, SplitConfig
from ckf.core.errors import DataError
from ckf.data import export
from ckf.data.examples import build_examples
from ckf.data.export import SLOT, export_dataset
from ckf.data.prepare import build_dataset
from tests.worlds import small_source, write_collm_pickles, write_world

KEYS = ["input", "output", "user_id", "candidate_item", "task_type", "history_items_id"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("world"), small_source(), split="leave_last_out")


def log_of(dataset: Path) -> pl.DataFrame:
    """Interactions by raw ids and titles, in the order of each user."""
    users = pl.read_parquet(dataset / "users.parquet").select("user", user_id=pl.col("raw_id"))
    items = pl.read_parquet(dataset / "items.parquet").select("item", "title", item_id=pl.col("raw_id"))
    log = pl.read_parquet(dataset / "interactions.parquet").join(users, on="user").join(items, on="item")
    return log.sort("user", "timestamp", "item")


def read_back(folder: Path, out: Path, split: str = "leave_last_out") -> pl.DataFrame:
    out.mkdir()
    cfg = ProcessedJsonConfig(name="processed_json", root=str(folder))
    build_dataset(cfg, SplitConfig(name=split), out)
    return log_of(out)


def test_there_and_back(world: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, examples = world
    folder = export_dataset(dataset, examples, "processed_json", tmp_path / "a" / "b")
    before, after = log_of(dataset), read_back(folder, tmp_path / "again")
    assert after.height == before.height > 1000
    names = ["rating", "review", "title", "split"]
    assert after["user_id"].cast(pl.Int64).to_list() == before["user"].to_list()  # the exported ids are the raw ids now
    assert after["item_id"].cast(pl.Int64).to_list() == before["item"].to_list()
    assert after.select(names).equals(before.select(names))
    assert after["timestamp"].to_list() == [
        n for size in before.group_by("user", maintain_order=True).len()["len"] for n in range(1, size + 1)
    ]
    again = export_dataset(tmp_path / "again", examples, "processed_json", tmp_path / "c")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_released_layout(world: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, examples = world
    folder = export_dataset(dataset, examples, "processed_json", tmp_path / "out")
    found = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    assert set(found) == {
        "user_sequences_id.json", "user_sequences_title.json", "user_rating.json", "user_review.json",
        "id_2_title.json", "cold_user.json", "cold_users.json",
    }  # fmt: skip
    assert found["cold_user.json"] == found["cold_users.json"] == {"cold_users_id": []}
    for user, row in found["user_sequences_id.json"].items():
        assert row[0] == int(user) >= 1
        assert min(row) >= 1
        assert found["user_sequences_title.json"][user] == [found["id_2_title.json"][str(item)] for item in row[1:]]
        assert len(found["user_rating.json"][user]) == len(found["user_review.json"][user]) == len(row) - 1


def test_cold_users_are_listed(tmp_path: Path) -> None:
    dataset, examples = write_world(tmp_path, small_source())  # temporal: some users come late
    users = pl.read_parquet(dataset / "users.parquet")
    cold = users.filter(pl.col("n_train") == 0)["user"].sort().to_list()
    users.with_columns(cold=pl.col("user") <= 2).write_parquet(dataset / "users.parquet")
    folder = export_dataset(dataset, examples, "processed_json", tmp_path / "out")
    assert json.loads((folder / "cold_users.json").read_text()) == {"cold_users_id": [1, 2]}
    users.drop("cold").write_parquet(dataset / "users.parquet")
    folder = export_dataset(dataset, examples, "processed_json", tmp_path / "out2")
    assert json.loads((folder / "cold_users.json").read_text()) == {"cold_users_id": cold}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_training_lines(world: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, examples = world
    folder = export_dataset(dataset, examples, "jsonl", tmp_path / "out")
    made = pl.read_parquet(examples / "examples.parquet")
    titles = dict(pl.read_parquet(dataset / "items.parquet").select("item", "title").iter_rows())
    kinds = {"ctr": "ctr", "topk": "sequential", "rating": "rating", "explain": "exp"}
    for split in ("train", "val", "test"):
        rows = made.filter(pl.col("split") == split).to_dicts()
        slotted, plain = lines(folder / f"{split}.jsonl"), lines(folder / f"all_title_{split}.jsonl")
        assert len(slotted) == len(plain) == len(rows) > 0
        for row, line, text in zip(rows, slotted, plain, strict=True):
            assert list(line) == KEYS
            assert line["task_type"] == kinds[row["task"]]
            assert line["user_id"] == row["user"]
            assert line["input"].count(SLOT) == 1 + sum(item != 0 for item in line["candidate_item"])
            assert SLOT not in text["input"]
            assert "".join(line["input"].replace(SLOT, "").split()) == "".join(text["input"].split())
            assert {k: v for k, v in line.items() if k != "input"} == {k: v for k, v in text.items() if k != "input"}
            assert len(line["candidate_item"]) == 10
            if row["task"] == "topk":
                assert line["candidate_item"][:5] == row["candidates"]
                assert line["output"] == titles[row["item"]]
                assert titles[row["candidates"][row["position"]]] == line["output"]
            else:
                assert line["candidate_item"] == [row["item"]] + [0] * 9
                assert line["output"] == (("No.", "Yes.")[int(row["label"])] if row["task"] == "ctr" else row["label"])
            assert line["history_items_id"] == ([row["item"]] if row["task"] == "explain" else row["history"])
            assert all(titles[item] in line["input"] for item in line["history_items_id"])


def test_half_stars_are_kept(world: tuple[Path, Path]) -> None:
    row = {
        "task": "rating",
        "user": 1,
        "item": 2,
        "label": 4.5,
        "candidates": [],
        "history": [1],
        "history_ratings": [0.5],
        "review": None,
    }
    line = export.released_line(row, {1: "A", 2: "B"}, SLOT)
    assert line["output"] == 4.5
    assert "A (0.5)" in line["input"]
    assert export.released_line({**row, "label": 4.0}, {1: "A", 2: "B"}, SLOT)["output"] == 4


def test_clicks_alone_fit_the_lines_only(tmp_path: Path) -> None:
    (root := tmp_path / "in").mkdir()
    write_collm_pickles(root)
    for name in ("dataset", "examples"):
        (tmp_path / name).mkdir()
    cfg = CollmConfig(name="collm_ml1m", root=str(root))
    build_dataset(cfg, SplitConfig(name="provided"), tmp_path / "dataset")
    build_examples(
        tmp_path / "dataset", ["ctr"], history_items=5, candidates=5, review_words=9, seed=0, out=tmp_path / "examples"
    )
    with pytest.raises(DataError, match="has no ratings, which the format needs; use export=jsonl"):
        export_dataset(tmp_path / "dataset", tmp_path / "examples", "processed_json", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert lines(export_dataset(tmp_path / "dataset", tmp_path / "examples", "jsonl", tmp_path / "out") / "train.jsonl")


def test_nothing_is_overwritten_and_nothing_half_written(
    world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, examples = world
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="out holds something already"):
        export_dataset(dataset, examples, "jsonl", tmp_path / "out")
    with pytest.raises(DataError, match="'xml' is not a format; one of processed_json, jsonl"):
        export_dataset(dataset, examples, "xml", tmp_path / "out3")

    def full(*arguments: object) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "released_line", full)
    with pytest.raises(DataError, match="No space left on device"):
        export_dataset(dataset, examples, "jsonl", tmp_path / "out2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    shutil.rmtree(tmp_path / "out")
