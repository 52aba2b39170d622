"""Batches: a pure function of seed and step, every example met equally often, shards that add up."""

from __future__ import annotations

import numpy as np
import pytest

from ckf.core.errors import DataError
from ckf.train.batching.batch_plan import BatchPlan, quotas

INDEX = np.asarray([0] * 50 + [1] * 30 + [2] * 7)
NAMES = ["ctr", "rating", "topk"]


def plan(seed: int = 0) -> BatchPlan:
    return BatchPlan(INDEX, NAMES, [2.0, 1.0, 1.0], 16, seed)


def test_each_batch_has_the_tasks_shares():
    for step in range(12):
        assert np.bincount(INDEX[plan().batch(step)], minlength=3).tolist() == [8, 4, 4]


def test_quotas_add_up_and_leave_no_task_out():
    assert quotas([1, 1, 1], 8) in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert quotas([100, 1, 1], 10) == [8, 1, 1]
    assert sum(quotas([0.3, 0.7], 17)) == 17


def test_batches_depend_on_seed_and_step_alone():
    forward = [plan().batch(step) for step in range(10)]
    backward = [plan().batch(step) for step in reversed(range(10))][::-1]
    assert all((a == b).all() for a, b in zip(forward, backward, strict=True))
    assert not (plan(1).batch(0) == forward[0]).all()


def test_every_example_is_met_once_a_pass():
    one = BatchPlan(INDEX, NAMES, [50, 30, 7], 87, 0)
    assert sorted(one.batch(0).tolist()) == list(range(87))
    assert sorted(one.batch(1).tolist()) == list(range(87))
    assert not (one.batch(0) == one.batch(1)).all()


def test_shards_partition_the_batch_with_every_task_in_each():
    parts = [plan().batch(3)[k::4] for k in range(4)]  # as `StepDataset` does for ranks and micro-batches
    assert sorted(np.concatenate(parts).tolist()) == sorted(plan().batch(3).tolist())
    assert all(set(INDEX[part]) == {0, 1, 2} for part in parts)


def test_steps_count_passes_of_the_longest_task():
    assert plan().steps(1.0) == 8  # 30 rating examples, 4 a step
    assert plan().steps(3.0) == 23


def test_a_task_without_training_examples_is_refused():
    with pytest.raises(DataError, match="explain"):
        BatchPlan(INDEX, [*NAMES, "explain"], [1, 1, 1, 1], 16, 0)
