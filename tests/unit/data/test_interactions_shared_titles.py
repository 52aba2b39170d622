"""Two items of one title, pairs rated twice in one second, and draws pinned to their values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ckf.config.schema import CollmConfig
from ckf.core.errors import DataError
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.interactions import normalised_titles
from ckf.data.readers.collm import read_collm
from tests.worlds import small_source, write_collm_pickles, write_world

KEYS = [16380395436031534714, 5507281998082259375]
UNIFORM = [[0.37103059201427524, 0.10324417857251034], [0.7405160400684401, 0.17373486295830431]]


def twin_source():
    """The small world with its 20 first items in pairs of one title, differing in case alone."""
    source = small_source()
    items = source.items.collect()
    titles = items["title"].to_list()
    for even in range(0, 20, 2):
        titles[even + 1] = titles[even].upper()
    source.items = items.with_columns(title=pl.Series(titles)).lazy()
    return source


def test_histories_and_candidates_never_name_the_target_by_another_edition(tmp_path):
    dataset, folder = write_world(tmp_path, twin_source())  # the audit inside would raise
    items = pd.read_parquet(dataset / "items.parquet")
    titles = normalised_titles(items["item"].tolist(), items["title"].tolist())
    rows = pd.read_parquet(dataset / "interactions.parquet")
    examples = pd.read_parquet(folder / "examples.parquet")
    affected = 0
    for row in examples[(examples["task"] == "rating") & (examples["item"] <= 20)].itertuples():
        past = rows[(rows["user"] == row.user) & (rows["timestamp"] < row.timestamp)].sort_values(["timestamp", "item"])
        kept = past[past["item"].map(titles) != titles[row.item]]
        affected += len(kept) < len(past)
        assert row.history.tolist() == kept["item"].tolist()[-5:], "still full: the next older item takes the place"
        assert row.history_ratings.tolist() == kept["rating"].tolist()[-5:]
    assert affected > 50
    for listed in examples.loc[examples["task"] == "topk", "candidates"]:
        assert len({titles[i] for i in listed}) == len(listed)


def test_titles_without_letters_stay_apart():
    titles = normalised_titles([1, 2, 3, 4], ["!!!", "???", "Heat (1995)", "HEAT 1995"])
    assert titles[1] != titles[2]
    assert titles[3] == titles[4]


def test_a_pair_rated_twice_in_one_second_is_settled_by_its_content(tmp_path):
    source = small_source()
    rows = source.interactions.collect()
    changed = {"rating": pl.lit(1.0), "review": pl.lit("Changed my mind.")}
    again = rows[:40].with_columns(**{name: value.cast(rows.schema[name]) for name, value in changed.items()})
    both = pl.concat([rows, again])
    source.interactions = both.lazy()
    first = write_world(tmp_path / "a", source)
    source.interactions = both.reverse().lazy()
    second = write_world(tmp_path / "b", source)
    for number, name in ((0, "interactions.parquet"), (1, "examples.parquet")):
        assert (first[number] / name).read_bytes() == (second[number] / name).read_bytes()


def test_a_history_without_its_titles_is_a_named_row(tmp_path):
    write_collm_pickles(tmp_path)
    path = tmp_path / "test_ood2.pkl"
    table = pd.read_pickle(path)
    column = table.columns.get_loc("his_title")
    table.iat[3, column] = table.iat[3, column][:-1]
    table.to_pickle(path)
    with pytest.raises(DataError, match=r"test_ood2.pkl: row 4: his and his_title"):
        read_collm(CollmConfig("collm_ml1m", root=str(tmp_path)))


def test_draws_are_the_same_on_every_machine_and_in_every_version():
    """Pinned: another value here means that every published candidate list has changed."""
    keys = hash_ids(["ctr/test/1-2", "topk/train/3-4"])
    assert keys.tolist() == KEYS
    np.testing.assert_array_equal(hashed_uniform(0, "negatives", keys, 2), UNIFORM)
