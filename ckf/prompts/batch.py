"""Batches of prompts as tensors: padded ids, slot coordinates and vectors, and where logits are needed.

Shapes use B rows, T tokens, S slot tokens, N item slots, P pair slots, H history items, A answer tokens,
d the width of a CF vector. Padding stands on the right, so a causal model never sees it and training
needs no attention mask; scoring lays the possible answers out as branches (`branch_of`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass
class SlotBatch:
    """Everything the fusion needs for one batch, and where its output goes.

    ``rows``/``cols`` [S] are the slot tokens in the order of `SLOTS`: user, item, pair, soft slots.
    """

    rows: Tensor
    cols: Tensor
    user_rows: Tensor  # [U] the batch row of each user slot
    item_rows: Tensor  # [N] the batch row of each item slot
    pair_rows: Tensor  # [P] the batch row of each pair slot
    soft_tasks: Tensor  # [F] the task index of each soft slot
    users: Tensor  # [B, d]
    items: Tensor  # [N, d] the item of each item slot
    pair_items: Tensor  # [P, d] the item of each pair slot
    history: Tensor  # [B, H, d]
    history_mask: Tensor  # [B, H] True where there is an item


@dataclass
class PromptBatch:
    """One forward pass. ``answer_*`` [A] name the answer tokens and the positions whose next token they are.

    With ``answer_read`` the rows and columns are the distinct positions [P], and it is each token's among them.
    """

    input_ids: Tensor  # [B, T]
    task_index: Tensor  # [B]
    answer_rows: Tensor
    answer_cols: Tensor
    answer_targets: Tensor
    answer_weights: Tensor  # the token's share of the loss
    answer_branch: Tensor  # index into the flat list of scored answers
    position_ids: Tensor | None = None  # [B, T], only with branches and prefixes
    branch_of: Tensor | None = None  # [B, T]: 0 prompt, k >= 1 the k-th answer, -1 padding
    answer_read: Tensor | None = None
    prefix: Tensor | None = None  # [B]: the row goes on after so many tokens of a text prompt,
    prefix_rows: Tensor | None = None  # [B]: of this row of the text prompts; None: of its own number
    slots: SlotBatch | None = None
    history_cut: int = 0
    example_ids: list[str] = field(default_factory=list)  # of training rows

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
