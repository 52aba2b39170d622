"""Length buckets: every row once, never more tokens than equal parts, and the best cuts of all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ckf.train.batching.length_buckets import computed_tokens, length_buckets


def cost(lengths: np.ndarray, buckets: list[np.ndarray]) -> int:
    return sum(len(rows) * lengths[rows].max(axis=0).sum() for rows in buckets)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_the_cuts_are_the_best_there_are(count):
    draw = np.random.default_rng(count)
    lengths = np.stack([draw.integers(1, 40, 8), draw.integers(1, 9, 8)], axis=1)
    found = length_buckets(lengths, count)
    assert sorted(np.concatenate(found).tolist()) == list(range(8))
    assert len(found) <= count
    order = np.argsort(lengths[:, 0], kind="stable")
    ways = [np.split(order, cuts) for k in range(min(count, 8)) for cuts in combinations(range(1, 8), k)]
    assert cost(lengths, found) == min(cost(lengths, way) for way in ways)
    assert computed_tokens(lengths, found) == cost(lengths, found)


def test_rows_of_one_length_are_one_bucket():
    (only,) = length_buckets(np.full((5, 2), 7), 4)
    assert only.tolist() == [0, 1, 2, 3, 4]
    assert computed_tokens(np.full((5, 2), 7), [only]) == 5 * 14, "no padding"


def test_every_rank_may_need_as_many_buckets():
    same, other = np.full((5, 2), 7), np.stack([np.arange(1, 6), np.ones(5, dtype=int)], axis=1)
    for lengths in (same, other):
        found = length_buckets(lengths, 3, exactly=True)
        assert [len(rows) > 0 for rows in found] == [True] * 3
        assert sorted(np.concatenate(found).tolist()) == [0, 1, 2, 3, 4]
    assert cost(other, found) == cost(other, length_buckets(other, 3))
    assert len(length_buckets(same, 9, exactly=True)) == 5


def test_a_bucket_more_has_to_save_its_worth():
    """Two lengths: a second bucket saves 3 x 10 tokens, a third nothing."""
    lengths = np.asarray([[10], [10], [10], [20], [20]])
    assert len(length_buckets(lengths, 4)) == 2
    assert len(length_buckets(lengths, 4, min_saved_tokens=29)) == 2
    assert len(length_buckets(lengths, 4, min_saved_tokens=31)) == 1
    assert len(length_buckets(lengths, 4, min_saved_tokens=31, exactly=True)) == 4
