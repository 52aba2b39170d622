"""Which way the two streams of a run go: one prefix with two branches, or two passes; and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ckf.data.example_table import ExampleTable
from ckf.prompts.collate import Collator
from ckf.train.curriculum import Curriculum

SAMPLE, ENOUGH = 32, 0.1
"""Examples of each task that are looked at, and the share of the slot prompts' tokens that must be common."""
SMALL = 16 * 2**20
"""Bytes of a micro-batch's keys and values up to which its branches get buckets of their own.

Those of all text prompts are then held at once, and branches of like length go through in fewer passes: a gain where
a step is bound by the number of calls (64 wide), a loss where it is bound by arithmetic (256 wide).
"""


@dataclass(frozen=True)
class StreamMode:
    """``shared``: both streams of a step share their prefix; ``joined``: branches have buckets of their own.

    ``why`` is told to the user.
    """

    shared: bool
    why: str
    joined: bool = False

    def __str__(self) -> str:
        return f"{'shared prefix' if self.shared else 'two passes' if self.why else 'one stream'}{self.why}"


def stream_path(
    curriculum: Curriculum, table: ExampleTable, collator: Collator, *, rows: int, token_bytes: int
) -> StreamMode:
    """Choose the way of a run: the same on every rank, and for every step of it.

    ``rows`` is the size of a micro-batch, ``token_bytes`` that of a token's keys and values in all layers.
    The prefix can be shared where every step has both streams and adapters learn from the text alone,
    the fusion from the slots alone: then nothing that is learned from the slots reaches back into it.
    """
    streams = curriculum.streams(0)
    kinds = {curriculum_streams(curriculum, step) for step in (0, curriculum.total_steps - 1)}
    if len(streams) < 2 or len(kinds) > 1:
        return StreamMode(False, "")
    if kinds != {((False, True, False), (True, False, True))}:
        return StreamMode(False, " (adapters or fusion learn from both)")
    common, slots, text = sample_tokens(table, collator)
    said = f"{common / slots:.0%} of the slot prompts' tokens are the text prompts' too"
    if common < ENOUGH * slots:
        return StreamMode(False, f" (slots stand early: {said})")
    if rows * text * token_bytes > SMALL:
        return StreamMode(True, f" ({said})")
    return StreamMode(True, f" ({said}; the rest is in buckets of its own)", joined=True)


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in all layers of a ``transformers`` config."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head * dtype.itemsize)


def curriculum_streams(curriculum: Curriculum, step: int) -> tuple[tuple[bool, bool, bool], ...]:
    """What each stream of a step is: (has slots, adapters learn, fusion learns)."""
    return tuple((s.slots, s.learn_adapters, s.learn_fusion) for s in curriculum.streams(step))


def sample_tokens(table: ExampleTable, collator: Collator) -> tuple[float, float, float]:
    """Tokens a row over a sample: those that both prompts begin with, the slot prompt's, and the text prompt's."""
    found = []
    for task in range(len(table.tasks)):
        some = [table[int(i)] for i in np.flatnonzero(table.task_index == task)[:SAMPLE]]
        for row in collator.rows(some, [1.0] * len(some), (False, True)):
            found.append([row.shared, len(row.prompts[True].token_ids), len(row.prompts[False].token_ids)])
    common, slots, text = np.mean(found, axis=0)
    return float(common), float(slots), float(text)
