"""Choose how the two streams of a run are computed: with a shared prefix or in two passes; and say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ckf.data.example_table import ExampleTable
from ckf.prompts.collate import Collators
from ckf.train.curriculum import Curriculum

SAMPLED_EXAMPLES_PER_TASK = 32
"""Examples of each task whose prompts are compared."""
MIN_SHARED_TOKEN_FRACTION = 0.1
"""Fraction of the slot prompts' tokens that the text prompts must share."""
MAX_OWN_BUCKETS_KV_BYTES = 16 * 2**20
"""Largest size of a micro-batch's keys and values with which continuations get buckets of their own.

The keys and values of all text prompts are then in memory at once, and continuations of similar length need fewer
passes. This pays where the number of calls limits a step (width 64), not where arithmetic does (width 256).
"""


@dataclass(frozen=True)
class StreamMode:
    """``share_prefix``: both streams of a step share their prefix; ``own_buckets``: continuations have their own.

    ``reason`` is shown to the user; it is empty where the curriculum has one stream.
    """

    share_prefix: bool
    reason: str
    own_buckets: bool = False

    def __str__(self) -> str:
        if not self.reason:
            return "one stream"
        return f"{'shared prefix' if self.share_prefix else 'two passes'} ({self.reason})"


def choose_stream_mode(
    curriculum: Curriculum, table: ExampleTable, collators: Collators, *, rows: int, token_bytes: int
) -> StreamMode:
    """Choose the mode of a run: the same on every rank and for every step.

    ``rows`` is the size of a micro-batch, ``token_bytes`` the size of a token's keys and values in all layers.
    The prefix can be shared where every step has both streams, adapters learn from the text alone and the
    fusion from the slots alone: then no gradient of the slot prompts goes back through the prefix.
    """
    streams = curriculum.streams(0)
    kinds = {curriculum_streams(curriculum, step) for step in (0, curriculum.total_steps - 1)}
    if len(streams) < 2 or len(kinds) > 1:
        return StreamMode(False, "")
    if kinds != {((False, True, False), (True, False, True))}:
        return StreamMode(False, "adapters or fusion learn from both")
    common, slots, text = mean_token_counts(table, collators)
    shared = f"{common / slots:.0%} of the slot prompts' tokens are the text prompts' too"
    if common < MIN_SHARED_TOKEN_FRACTION * slots:
        return StreamMode(False, f"slots come early: {shared}")
    if rows * text * token_bytes > MAX_OWN_BUCKETS_KV_BYTES:
        return StreamMode(True, shared)
    return StreamMode(True, f"{shared}; the rest is in buckets of its own", own_buckets=True)


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in all layers of a ``transformers`` config."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head * dtype.itemsize)


def curriculum_streams(curriculum: Curriculum, step: int) -> tuple[tuple[bool, bool, bool], ...]:
    """Of each stream of a step: whether it has slots, adapters learn, and the fusion learns."""
    return tuple((s.slots, s.learn_adapters, s.learn_fusion) for s in curriculum.streams(step))


def mean_token_counts(table: ExampleTable, collators: Collators) -> tuple[float, float, float]:
    """Mean tokens over a sample: shared by both prompts, of the slot prompt, and of the text prompt."""
    found = []
    for task in range(len(table.tasks)):
        sample = [table[int(i)] for i in np.flatnonzero(table.task_index == task)[:SAMPLED_EXAMPLES_PER_TASK]]
        for row in collators.training.encode(sample, [1.0] * len(sample), (False, True)):
            found.append([row.shared_tokens, len(row.prompts[True].token_ids), len(row.prompts[False].token_ids)])
    common, slots, text = np.mean(found, axis=0)
    return float(common), float(slots), float(text)
