"""Examples: histories from the past, clean candidates, the same whatever the order of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.example_table import ExampleTable
from ckf.data.interactions import normalised_titles
from tests.worlds import TASKS, small_source, write_world


def titles_of(dataset: Path) -> dict[int, str]:
    items = pd.read_parquet(dataset / "items.parquet")
    return normalised_titles(items["item"].tolist(), items["title"].tolist())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("world"), small_source())


@pytest.fixture
def parts(world: tuple[Path, Path]) -> tuple[pd.DataFrame, pd.DataFrame, dict[int, str]]:
    dataset, examples = world
    titles = titles_of(dataset)
    return pd.read_parquet(examples / "examples.parquet"), pd.read_parquet(dataset / "interactions.parquet"), titles


def test_row_order_of_the_source_does_not_matter(world, tmp_path):
    source = small_source()
    rows = source.interactions.collect()
    source.interactions = rows[np.random.default_rng(3).permutation(rows.height)].lazy()
    again = write_world(tmp_path, source)
    for name in ("interactions.parquet", "users.parquet", "items.parquet"):
        assert (world[0] / name).read_bytes() == (again[0] / name).read_bytes()
    assert (world[1] / "examples.parquet").read_bytes() == (again[1] / "examples.parquet").read_bytes()


def test_every_task_and_split_is_there_and_ids_are_unique(parts):
    examples, interactions, _ = parts
    assert set(examples["task"]) == set(TASKS)
    assert set(examples["split"]) == {"train", "val", "test"}
    assert examples["example_id"].is_unique
    assert (examples["task"] == "ctr").sum() == len(interactions)
    assert (examples["task"] == "topk").sum() == (interactions["click"] == 1).sum()


def test_histories_equal_a_loop(parts):
    examples, interactions, _ = parts
    for task in ("ctr", "rating"):
        for row in examples[examples["task"] == task].sample(80, random_state=0).itertuples():
            mine = interactions[(interactions["user"] == row.user) & (interactions["timestamp"] < row.timestamp)]
            if task == "ctr":
                mine = mine[mine["click"] == 1]
            expected = mine.sort_values(["timestamp", "item"])
            assert row.history.tolist() == expected["item"].tolist()[-5:]
            if task == "rating":
                assert row.history_ratings.tolist() == expected["rating"].tolist()[-5:]


def test_candidates_hold_the_target_once_and_no_other_positive(parts):
    examples, interactions, titles = parts
    liked = interactions[interactions["click"] == 1]
    places = []
    for row in examples[examples["task"] == "topk"].itertuples():
        listed = row.candidates.tolist()
        assert len(listed) == len({titles[i] for i in listed}) == 5
        assert listed[row.position] == row.item
        places.append(row.position)
        mine = liked[liked["user"] == row.user]
        barred = mine if row.split != "train" else mine[mine["split"] == "train"]
        assert not (set(listed) - {row.item}) & set(barred["item"])
    assert set(places) == {0, 1, 2, 3, 4}


def test_training_negatives_are_not_chosen_by_held_out_positives(parts):
    """A negative that is a later positive of the user must be as likely as any other item: some exist."""
    examples, interactions, _ = parts
    held_out = interactions[(interactions["click"] == 1) & (interactions["split"] != "train")]
    later = held_out.groupby("user")["item"].agg(set).to_dict()
    train = examples[(examples["task"] == "topk") & (examples["split"] == "train")]
    hits = sum(len(set(row.candidates) & later.get(row.user, set())) for row in train.itertuples())
    assert hits > 0


def test_named_draws_belong_to_their_names():
    keys = hash_ids([f"ctr/test/{i}-7" for i in range(500)])
    first = hashed_uniform(0, "negatives", keys, 20)
    order = np.random.default_rng(0).permutation(500)
    assert (hashed_uniform(0, "negatives", keys[order], 20) == first[order]).all()
    assert (hashed_uniform(0, "negatives", keys, 5) == first[:, :5]).all()
    assert not (hashed_uniform(1, "negatives", keys, 20) == first).any()
    assert not (hashed_uniform(0, "order", keys, 20) == first).any()
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.15


def test_the_reader_returns_what_was_written(world, parts):
    examples, _, _ = parts
    table = ExampleTable(world[1] / "examples.parquet", "test", TASKS)
    expected = examples[examples["split"] == "test"].reset_index(drop=True)
    assert table.example_id == expected["example_id"].tolist()
    for i in (0, len(table) // 2, len(table) - 1):
        assert table[i].history.tolist() == expected["history"][i].tolist()
        assert table[i].candidates.tolist() == expected["candidates"][i].tolist()
    part = table.subset(np.asarray([5, 2]))
    assert [part[0].example_id, part[1].example_id] == [table.example_id[5], table.example_id[2]]
    assert part[1].history.tolist() == table[2].history.tolist()
