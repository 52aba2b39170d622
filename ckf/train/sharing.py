"""Which way the two streams of a run go: one prefix with two branches, or two passes; and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ckf.data.records import ExampleTable
from ckf.prompts.collate import Collator
from ckf.train.curriculum import Curriculum

SAMPLE, ENOUGH = 32, 0.1
"""Examples of each task that are looked at, and the share of the slot prompts' tokens that must be common."""


@dataclass(frozen=True)
class StreamPath:
    """``shared``: both streams of a step share their prefix. ``why`` is told to the user."""

    shared: bool
    why: str

    def __str__(self) -> str:
        return f"{'shared prefix' if self.shared else 'two passes' if self.why else 'one stream'}{self.why}"


def stream_path(curriculum: Curriculum, table: ExampleTable, collator: Collator) -> StreamPath:
    """Choose the way of a run: the same on every rank, and for every step of it.

    The prefix can be shared where every step has both streams and adapters learn from the text alone,
    the fusion from the slots alone: then nothing that is learned from the slots reaches back into it.
    """
    streams = curriculum.streams(0)
    kinds = {curriculum_streams(curriculum, step) for step in (0, curriculum.total_steps - 1)}
    if len(streams) < 2 or len(kinds) > 1:
        return StreamPath(False, "")
    if kinds != {((False, True, False), (True, False, True))}:
        return StreamPath(False, " (adapters or fusion learn from both)")
    share = common_share(table, collator)
    said = f"{share:.0%} of the slot prompts' tokens are the text prompts' too"
    if share < ENOUGH:
        return StreamPath(False, f" (slots stand early: {said})")
    return StreamPath(True, f" ({said})")


def curriculum_streams(curriculum: Curriculum, step: int) -> tuple[tuple[bool, bool, bool], ...]:
    """What each stream of a step is: (has slots, adapters learn, fusion learns)."""
    return tuple((s.slots, s.learn_adapters, s.learn_fusion) for s in curriculum.streams(step))


def common_share(table: ExampleTable, collator: Collator) -> float:
    """Share of the slot prompts' tokens that lie in the beginning common with the text prompts, over a sample."""
    common = total = 0
    for task in range(len(table.tasks)):
        some = [table[int(i)] for i in np.flatnonzero(table.task_index == task)[:SAMPLE]]
        for row in collator.rows(some, [1.0] * len(some), (False, True)):
            common += row.shared
            total += len(row.prompts[True].token_ids)
    return common / max(1, total)
