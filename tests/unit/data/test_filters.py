"""Filters: each mask, their order, what they count in, and the steps on record."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ckf.config.schema import DatasetConfig, FilterConfig
from ckf.core.errors import DataError
from ckf.data.filters import FilterLog, apply_filters, k_core, seconds

DAY = 86_400


def table(pairs: list[tuple[int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"user": pl.UInt32, "item": pl.UInt32, "timestamp": pl.Int64}, orient="row")


def random_rows(seed: int, rows: int = 400, users: int = 40, items: int = 30) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    pairs = {(int(draw.integers(users)), int(draw.integers(items) ** 2 // items)) for _ in range(rows)}
    return table([(u, i, n * DAY) for n, (u, i) in enumerate(sorted(pairs))])


def run(rows: pl.DataFrame, *filters: FilterConfig) -> tuple[pl.DataFrame, FilterLog]:
    steps = FilterLog()
    steps.record("read", rows)
    return apply_filters(rows, list(filters), steps), steps


def test_dates_cut_at_midnight_utc():
    start = seconds("2014-01-01")
    assert start == 1_388_534_400
    rows = table([(0, 0, start - 1), (0, 1, start), (0, 2, start + DAY - 1), (0, 3, start + DAY)])
    left, _ = run(rows, FilterConfig("since", "2014-01-01"), FilterConfig("until", "2014-01-02"))
    assert left["item"].to_list() == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_iterated_core_equals_a_loop(seed):
    rows = random_rows(seed)
    kept = set(rows.select("user", "item").iter_rows())
    while True:
        users = {u: sum(a == u for a, _ in kept) for u, _ in kept}
        items = {i: sum(b == i for _, b in kept) for _, i in kept}
        smaller = {(u, i) for u, i in kept if users[u] >= 4 and items[i] >= 4}
        if smaller == kept:
            break
        kept = smaller
    assert set(k_core(rows, 4, iterate=True).select("user", "item").iter_rows()) == kept


def test_single_pass_counts_users_and_items_on_the_same_table():
    rows = table([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 2, 4), (2, 2, 5)])
    once = k_core(rows, 2, iterate=False)
    assert set(once.select("user", "item").iter_rows()) == {(0, 0), (1, 0), (1, 2)}
    assert k_core(rows, 2, iterate=True).is_empty()


def test_counts_in_the_table_of_an_earlier_step():
    """The released Books recipe: users are counted after the date, before the items go."""
    old, new = seconds("2013-06-01"), seconds("2014-06-01")
    rows = table(
        [(0, 0, old), (0, 1, new), (0, 2, new), (1, 1, new), (1, 3, new), (1, 1, old), (2, 1, new), (2, 4, old)]
    )
    recent, popular = FilterConfig("since", "2014-01-01"), FilterConfig("min_item_count", 3)
    released, _ = run(rows, recent, popular, FilterConfig("min_user_count", 2, count_scope="since"))
    assert set(released.select("user", "item").iter_rows()) == {(0, 1), (1, 1)}
    at_start, _ = run(rows, recent, popular, FilterConfig("min_user_count", 2, count_scope="start"))
    assert set(at_start.select("user", "item").iter_rows()) == {(0, 1), (1, 1), (2, 1)}
    with pytest.raises(DataError, match="min_user_count 2: no interaction is left of 3"):
        run(rows, recent, popular, FilterConfig("min_user_count", 2))


def test_short_histories_become_context():
    rows = table([(0, 0, 1), (0, 1, 2), (0, 2, 2), (0, 3, 3), (1, 0, 9)])
    left, _ = run(rows, FilterConfig("min_history", 1))
    assert left["context"].to_list() == [True, False, False, False, True]
    left, _ = run(rows, FilterConfig("min_history", 2))
    assert left["context"].to_list() == [True, True, True, False, True]
    with pytest.raises(DataError, match="min_history 9: no interaction is left of 5"):
        run(rows, FilterConfig("min_history", 9))


def test_histories_of_the_source_count_by_their_own_length():
    rows = table([(0, 0, 1), (0, 1, 2), (1, 2, 3)]).with_columns(history_length=pl.Series([0, 3, 2]))
    left, _ = run(rows, FilterConfig("min_history", 2))
    assert left["item"].to_list() == [1, 2]


def test_every_step_is_on_record():
    rows = random_rows(1)
    left, steps = run(rows, FilterConfig("min_item_count", 3), FilterConfig("k_core", 3, iterate=False))
    assert [step["step"] for step in steps.counts] == ["read", "min_item_count 3", "k_core 3, single pass"]
    last = {"rows": left.height, "users": left["user"].n_unique(), "items": left["item"].n_unique()}
    assert {key: steps.counts[-1][key] for key in last} == last


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (FilterConfig("sinze", 1), "name: 'sinze' is not allowed"),
        (FilterConfig("since", 2014), "value: 2014 is not a date in quotes"),
        (FilterConfig("k_core", 0), "value: must be a whole number of at least 1, got 0"),
        (FilterConfig("k_core", 5, count_scope="start"), "count_scope: 'start' has a meaning for"),
    ],
)
def test_faulty_filters_are_refused(step, line):
    assert any(str(problem).startswith(line) for problem in step.problems())


def test_counting_after_a_step_that_is_not_earlier_is_refused():
    filters = [FilterConfig("min_user_count", 2, count_scope="since"), FilterConfig("since", "2014-01-01")]
    (problem,) = DatasetConfig("x", filters=filters).problems()
    assert str(problem) == "filters[0].count_scope: 'since' is no earlier step; one of now, start"
