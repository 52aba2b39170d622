"""Batches of prompts as tensors: padded token ids, slot positions and vectors, and the positions of answers.

Shapes use B rows, T tokens, S slot tokens, N item slots, P pair slots, H history items, A answer tokens,
d the width of a CF vector. Rows are padded on the right. A causal model never attends to that padding, so
training needs no attention mask. Scoring puts the possible answers of a row into branches (`branch_id`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ckf.config.schema import SlotKind


@dataclass
class SlotBatch:
    """What a fusion needs for one batch, and the positions that its embeddings go to.

    ``kinds`` is the order of the slots: all slots of the first kind in the batch, then those of the next.
    ``rows`` and ``positions`` [S] have one entry for each slot token in that order, and a fusion returns
    its embeddings in it.
    """

    kinds: tuple[SlotKind, ...]
    rows: Tensor
    positions: Tensor
    user_rows: Tensor  # [U] the batch row of each user slot
    item_rows: Tensor  # [N] the batch row of each item slot
    pair_rows: Tensor  # [P] the batch row of each pair slot
    soft_tasks: Tensor  # [F] the task index of each soft slot
    users: Tensor  # [B, d]
    items: Tensor  # [N, d] the item of each item slot
    pair_items: Tensor  # [P, d] the item of each pair slot
    history: Tensor  # [B, H, d]
    history_mask: Tensor  # [B, H] True where there is an item

    def to(self, device: torch.device) -> SlotBatch:
        """Move every tensor to ``device``."""
        return _moved(self, device)


@dataclass
class PromptBatch:
    """The input of one forward pass, and the answer tokens whose log-probability is wanted.

    An answer token ``answer_targets[a]`` is predicted at ``(answer_rows[a], answer_positions[a])``. In scoring
    several answers begin at one position: rows and positions are then the distinct positions [P], and
    ``logit_index`` [A] names each token's among them.
    """

    input_ids: Tensor  # [B, T]
    task_index: Tensor  # [B]
    answer_rows: Tensor  # [A] or [P]
    answer_positions: Tensor  # [A] or [P]
    answer_targets: Tensor  # [A]
    answer_weights: Tensor  # [A] the token's weight in the loss
    answer_index: Tensor  # [A] the token's answer, in the flat list of all answers of the batch
    position_ids: Tensor | None = None  # [B, T] with branches or a shared prefix; None: 0 to T - 1
    branch_id: Tensor | None = None  # [B, T]: 0 prompt, k >= 1 the k-th answer, -1 padding
    logit_index: Tensor | None = None
    prefix_lengths: Tensor | None = None  # [B] tokens of a text prompt that the row continues
    prefix_rows: Tensor | None = None  # [B] the row of that text prompt; None: the row of the same number
    slots: SlotBatch | None = None
    history_cut: int = 0  # prompts that lost history to the length limit
    example_ids: list[str] = field(default_factory=list)  # in training

    def to(self, device: torch.device) -> PromptBatch:
        """Move every tensor to ``device``."""
        return _moved(self, device)


def _moved(batch, device):  # type: ignore[no-untyped-def]  # the same dataclass type comes out as goes in
    values = {}
    for f in fields(batch):
        value = getattr(batch, f.name)
        if isinstance(value, Tensor):
            value = value.to(device, non_blocking=True)
        elif isinstance(value, SlotBatch):
            value = _moved(value, device)
        values[f.name] = value
    return type(batch)(**values)
