"""Splits: by time (fractions, dates, months), by user, by drawn users and items, and the source's own."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ckf.config.schema import SplitConfig
from ckf.core.errors import DataError
from ckf.data.splits import assign_split


def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {"user": [1, 1, 1, 1, 2, 2], "item": [1, 2, 3, 4, 1, 2], "timestamp": [10, 20, 30, 30, 5, 40]},
        schema={"user": pl.UInt32, "item": pl.UInt32, "timestamp": pl.Int64},
    )


def split_of(table: pl.DataFrame, cfg: SplitConfig) -> list[str | None]:
    names = [pl.Series([f"{kind}{n}" for n in range(1 + (table[kind].max() or 0))]) for kind in ("user", "item")]
    return assign_split(table, cfg, *names).to_list()


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def timed(*times: int) -> pl.DataFrame:
    n = range(len(times))
    types = {"user": pl.UInt32, "item": pl.UInt32, "timestamp": pl.Int64}
    return pl.DataFrame({"user": n, "item": n, "timestamp": times}, schema=types)


def test_leave_last_out():
    split = split_of(rows(), SplitConfig("leave_last_out"))
    assert split == ["train", "train", "val", "test", "train", "train"]
    order = [5, 3, 0, 2, 4, 1]
    assert split_of(rows()[order], SplitConfig("leave_last_out")) == [split[i] for i in order]


def test_temporal_cuts_once_for_all_and_never_inside_an_instant():
    split = split_of(rows(), SplitConfig("temporal", val_fraction=0.34, test_fraction=0.17))
    assert split == ["train", "train", "val", "val", "train", "test"]


def test_dates():
    table = timed(at(2001, 1, 1), at(2001, 2, 1) - 1, at(2001, 2, 1), at(2001, 3, 1))
    split = split_of(table, SplitConfig("temporal", val_from="2001-02-01", test_from="2001-03-01"))
    assert split == ["train", "train", "val", "test"]


def test_month_slots_count_from_the_first_month_and_leave_the_others_out():
    """CoLLM's split of ML-1M: data from 2000-04 on, months 14-23 are 2001-06 to 2002-03."""
    times = [at(2000, 4, 25), at(2001, 5, 31), at(2001, 6, 1), at(2002, 3, 31), at(2002, 4, 1), at(2002, 8, 31)]
    times += [at(2002, 9, 1), at(2003, 1, 31), at(2003, 2, 1)]
    cfg = SplitConfig("temporal", train_months=[14, 23], val_months=[24, 28], test_months=[29, 33])
    assert split_of(timed(*times), cfg) == [None, None, "train", "train", "val", "val", "test", "test", None]


def test_provided():
    table = rows().with_columns(split=pl.Series(["train", "val", "test", "train", "train", "test"]))
    assert split_of(table, SplitConfig("provided")) == table["split"].to_list()
    with pytest.raises(DataError, match="brings no split"):
        split_of(rows(), SplitConfig("provided"))


@pytest.mark.parametrize("kind", ["user", "item"])
def test_cold_splits_hold_out_whole_users_or_items_by_name(kind):
    draw = np.random.default_rng(0)
    table = pl.DataFrame({"user": draw.integers(0, 400, 5000), "item": draw.integers(0, 400, 5000)}).cast(pl.UInt32)
    table = table.with_columns(timestamp=pl.int_range(5000))
    cfg = SplitConfig(f"{kind}_cold", val_fraction=0.1, test_fraction=0.2)
    split = table.with_columns(split=pl.Series(split_of(table, cfg)))
    assert split.group_by(kind).agg(pl.col("split").n_unique())["split"].max() == 1
    share = split.unique(kind)["split"].value_counts(normalize=True)
    found = dict(share.iter_rows())
    assert found["test"] == pytest.approx(0.2, abs=0.06)
    assert found["val"] == pytest.approx(0.1, abs=0.05)
    half = table.filter(pl.col("timestamp") < 2500)
    assert split_of(half, cfg) == split["split"].to_list()[:2500], "other rows move no one"
    assert split_of(table, SplitConfig(cfg.name, split_seed=1, test_fraction=0.2)) != split["split"].to_list()


def test_users_with_few_interactions_go_wholly_into_test():
    split = split_of(rows(), SplitConfig("leave_last_out", cold_user_max_interactions=2))
    assert split == ["train", "train", "val", "test", "test", "test"]


def test_context_rows_are_history_alone():
    table = rows().with_columns(context=pl.Series([True, False, False, False, False, False]))
    assert split_of(table, SplitConfig("leave_last_out"))[0] == "history"


def test_a_split_without_rows_stops():
    with pytest.raises(DataError, match="split leave_last_out: no interaction is left for 'val' of 2"):
        split_of(rows()[4:], SplitConfig("leave_last_out"))


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (
            SplitConfig("temporal", val_from="2001-13-01", test_from="2002-01-01"),
            "val_from: '2001-13-01' is not a date",
        ),
        (SplitConfig("temporal", val_from="2001-01-01"), "val_from: a cut by dates needs val_from and test_from"),
        (SplitConfig("temporal", val_from="2002-01-01", test_from="2001-01-01"), "val_from: must be before test_from"),
        (SplitConfig("temporal", train_months=[0, 3]), "train_months: month slots need train_months, val_months and"),
        (
            SplitConfig("temporal", train_months=[0, 3], val_months=[3, 4], test_months=[5, 6]),
            "val_months: must be the first and last month",
        ),
    ],
)
def test_faulty_splits_are_refused(cfg, line):
    assert any(str(problem).startswith(line) for problem in cfg.problems())


@pytest.mark.parametrize(
    ("times", "cfg", "said"),
    [
        ((1, 2, *[9] * 8), SplitConfig("temporal"), r"'val' .*: 8 rows share the time 1970-01-01 00:00:09 "),
        ((9,) * 10, SplitConfig("temporal"), r"'train' .*: 10 rows share .* \(1 different times in all\); use"),
        ((1, 2, 3, 4), SplitConfig("temporal"), r"'val' .*: split.val_fraction=0.1 of 4 is no row; raise it"),
        (
            (at(2001, 1, 1), at(2001, 5, 1)),
            SplitConfig("temporal", val_from="2002-01-01", test_from="2003-01-01"),
            r"times go from 2001-01-01 00:00:00 to 2001-05-01 00:00:00, split.val_from is 2002-01-01",
        ),
        (
            (at(2001, 1, 1), at(2001, 5, 1)),
            SplitConfig("temporal", train_months=[0, 5], val_months=[6, 7], test_months=[8, 9]),
            r"the rows are of months 0 to 4, counted from that of the earliest row, and split.val_months is \[6, 7\]",
        ),
        ((1, 2, 3), SplitConfig("leave_last_out"), r"no user has three interactions, .* \(the most is 1\); use split="),
        ((1, 2, 3), SplitConfig("user_cold", val_fraction=0.0), r"none of the 3 users was drawn for it .*raise the"),
        ((1, 2, 3), SplitConfig("temporal", cold_user_max_interactions=1), r"split.cold_user_max_interactions=1 rows"),
    ],
)  # fmt: skip
def test_an_empty_split_is_explained_with_its_remedy(times, cfg, said):
    with pytest.raises(DataError, match=said):
        split_of(timed(*times), cfg)


def test_a_provided_split_without_val_names_what_there_is():
    table = rows().with_columns(split=pl.Series(["train", "test"] * 3))
    with pytest.raises(DataError, match="'val' of 6 in all: the source's own split holds test, train; use another"):
        split_of(table, SplitConfig("provided"))
