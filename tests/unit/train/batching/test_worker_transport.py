"""Batches that another process prepares: the same ones, in the same order, as plain bytes."""

from __future__ import annotations

import dataclasses

import torch

from ckf.train.batching import worker_transport as module
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.batches import StepBatch, StepDataModule, StepDataset
from ckf.train.batching.worker_transport import batch_workers, packed, unpacked
from ckf.train.curriculum import Curriculum
from tests.conftest import TASKS
from tests.worlds import collator_of

CPU, STEPS = torch.device("cpu"), 10


def same(mine: object, theirs: object) -> bool:
    """Whether two batches hold the same, tensors bit for bit and of one type."""
    if isinstance(mine, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    if dataclasses.is_dataclass(mine):
        names = [f.name for f in dataclasses.fields(mine)]
        return all(same(getattr(mine, name), getattr(theirs, name)) for name in names)
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(same(mine[key], theirs[key]) for key in mine)
    if isinstance(mine, list):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    return mine == theirs


def steps_of(world, encoder) -> StepDataset:
    table = world[1]
    return StepDataset(
        table, collator_of(world, encoder), BatchPlan(table.task_index, TASKS, [1.0] * 4, 16, 0), steps=STEPS,
        curriculum=Curriculum("sigmoid", STEPS), task_weights=[1.0] * 4, length_buckets=3, accumulation_steps=2,
        rank=0, world_size=1, share_prefix=True, own_buckets=True,
    )  # fmt: skip


def test_a_process_of_its_own_hands_over_the_same_batches(world, encoder):
    data = steps_of(world, encoder)
    loader = StepDataModule(data, 7, workers=1)
    found = [one for batch in loader.train_dataloader() for one in loader.transfer_batch_to_device(batch, CPU, 0)]
    assert [batch.step for batch in found] == [7, 7, 8, 8, 9, 9]
    assert all(same(mine, data[number]) for number, mine in enumerate(found, start=14))
    assert not same(found[0], data[15])


def test_bytes_hold_every_tensor_and_no_handle(world, encoder):
    batch = steps_of(world, encoder)[3]
    again = unpacked(packed(batch))
    assert isinstance(again, StepBatch)
    assert same(again, batch)
    slots = again.prompts[True][0].slots
    slots.users += 1.0  # what is unpacked can be written to
    assert not same(again, batch)


def test_a_process_of_its_own_where_there_is_a_core_for_it(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1})
    assert batch_workers(None) == 1
    assert (batch_workers(0), batch_workers(3)) == (0, 3)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0})
    assert batch_workers(None) == 0
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert batch_workers(None) == 0
