"""Likes against drawn items: each like brings one, reproducibly, and none that its split may know to be liked."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ckf.config.schema import DatasetConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.core.rng import generator_for
from ckf.data.audit import LeakError, audit, raise_on_violation
from ckf.data.examples import build_examples
from ckf.data.prepare import write_dataset
from ckf.data.readers.base import Source
from tests.unit.data.planted import Planted

TASKS = ["ctr_sampled", "topk"]


def source(users: int = 30, items: int = 60) -> Source:
    """Views without label and time: eight items of each user."""
    draw = generator_for(0, "views")
    rows = [(f"u{user}", f"i{item}") for user in range(users) for item in draw.choice(items, 8, replace=False)]
    titles = pl.LazyFrame(
        {"item": [f"i{n}" for n in range(items)], "title": [f"Thing {n} it is" for n in range(items)]}
    )
    return Source(pl.LazyFrame(rows, schema=["user", "item"], orient="row"), titles)


def world(folder: Path, negatives: str = "uniform", seed: int = 0) -> tuple[Path, Path]:
    dataset, examples = folder / "dataset", folder / "examples"
    if not dataset.exists():
        dataset.mkdir(parents=True)
        write_dataset(source(), DatasetConfig(name="views"), SplitConfig(name="leave_last_out"), dataset)
    examples = folder / f"{negatives}{seed}"
    examples.mkdir()
    settings = {"history_items": 5, "candidates": 5, "review_words": 9, "seed": seed, "negatives": negatives}
    build_examples(dataset, TASKS, out=examples, **settings)
    return dataset, examples


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return world(tmp_path_factory.mktemp("sampled"))


def sampled(examples: Path) -> pl.DataFrame:
    return pl.read_parquet(examples / "examples.parquet").filter(pl.col("task") == "ctr_sampled")


def test_each_like_brings_one_drawn_item_with_its_user_time_and_history(made):
    rows = sampled(made[1])
    likes, drawn = (rows.filter(pl.col("label") == label) for label in (1, 0))
    assert likes.height == drawn.height == 240
    assert drawn["example_id"].to_list() == [f"{name}-n1" for name in likes["example_id"]]
    same = ["split", "user", "history", "timestamp"]
    assert drawn.select(same).equals(likes.select(same))
    assert (drawn["item"] != likes["item"]).all()
    names = pl.read_parquet(made[1] / "examples.parquet")["example_id"].to_list()
    assert names == sorted(names)
    assert len(names) == len(set(names))


def test_no_drawn_item_is_one_that_its_split_may_know_to_be_liked(made):
    rows = pl.read_parquet(made[0] / "interactions.parquet")
    liked = set(rows.select("user", "item").iter_rows())
    in_train = set(rows.filter(pl.col("split") == "train").select("user", "item").iter_rows())
    drawn = sampled(made[1]).filter(pl.col("label") == 0)
    training = set(drawn.filter(pl.col("split") == "train").select("user", "item").iter_rows())
    assert not training & in_train
    assert training & liked, "a training draw does not look at held-out likes"
    assert not set(drawn.filter(pl.col("split") != "train").select("user", "item").iter_rows()) & liked
    assert not drawn.filter(pl.col("history").list.contains(pl.col("item"))).height


def test_draws_are_repeatable_and_named(made, tmp_path):
    again = sampled(world(tmp_path)[1])
    assert again.equals(sampled(made[1]))
    other = sampled(world(tmp_path, "popularity")[1])
    assert other["item"].to_list() != again["item"].to_list()
    assert sampled(world(tmp_path, seed=1)[1])["item"].to_list() != again["item"].to_list()


def test_the_audit_finds_a_drawn_item_that_is_a_like(tmp_path):
    dataset, examples = world(tmp_path)
    raise_on_violation(audit(dataset, examples))
    planted = Planted(dataset, examples)
    rows = planted.examples
    row = rows[(rows["task"] == "ctr_sampled") & (rows["split"] == "test") & (rows["label"] == 0)].index[0]
    mine = planted.interactions
    others = mine[(mine["user"] == rows.loc[row, "user"]) & (mine["split"] == "val")]["item"]
    rows.loc[row, ["item", "history"]] = [others.iloc[0], []]
    planted.save()
    with pytest.raises(LeakError, match="drawn_item_is_positive"):
        raise_on_violation(audit(dataset, examples))


def test_a_like_with_no_item_left_to_draw_is_left_out_and_counted(tmp_path):
    """One user has taken the whole catalogue; the others are untouched."""
    views = source(users=10, items=20)
    busy = pl.LazyFrame([("all", f"i{n}") for n in range(20)], schema=["user", "item"], orient="row")
    dataset, examples = tmp_path / "dataset", tmp_path / "examples"
    dataset.mkdir()
    examples.mkdir()
    everything = Source(pl.concat([views.interactions, busy]), views.items)
    write_dataset(everything, DatasetConfig(name="views"), SplitConfig(name="leave_last_out"), dataset)
    build_examples(dataset, TASKS, out=examples, history_items=5, candidates=5, review_words=9, seed=0)
    made, user = sampled(examples), pl.read_parquet(dataset / "users.parquet").filter(pl.col("raw_id") == "all")["user"]
    left = read_json(examples / "manifest.json")["left_out"]["ctr_sampled"]
    assert left["examples"] == {"test": 1, "val": 1}
    assert "since fewer than 2 items can be on their list" in left["text"]
    assert made.filter(pl.col("user").is_in(user.to_list()))["split"].unique().to_list() == ["train"]
    assert made.height == 2 * (100 - 2)
