"""Attention masks of our own: answers as branches of one prompt, inside the windows of the backbone's layers.

A family either has one mask for all layers (Llama, Gemma, Mistral) or one for each kind of layer
(Qwen 2 and 3, Gemma 2 and 3, whose layers alternate between full and sliding attention);
``transformers`` takes the latter as a dictionary by the kind's name. Windows count positions, not
columns: a branch lies behind its neighbours in the row, but starts right after the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Masks = Tensor | dict[str, Tensor]


def branch_allowed(branch_of: Tensor) -> Tensor:
    """Who may look at whom [B, T, T]: causal, and a branch sees the prompt and itself alone.

    ``branch_of`` [B, T] is 0 for the prompt, k for the k-th branch, -1 for padding (as `PromptBatch`).
    """
    length = branch_of.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch_of.device).tril()
    same = branch_of[:, :, None] == branch_of[:, None, :]
    return causal & (same | (branch_of[:, None, :] == 0))


def after_prefix_allowed(prefix: Tensor, width: int, length: int) -> Tensor:
    """Who may look at whom [B, length, width + length] in branches that go on where a shared beginning ends.

    The first ``width`` keys are the other prompt's, of which row b shares ``prefix[b]``; then come the branch's own.
    """
    shared = torch.arange(width, device=prefix.device) < prefix[:, None, None]
    own = torch.ones(length, length, dtype=torch.bool, device=prefix.device).tril()
    rows = len(prefix)
    return torch.cat([shared.expand(rows, length, width), own.expand(rows, length, length)], dim=2)


def attention_masks(
    config: Any, allowed: Tensor, position_ids: Tensor, dtype: torch.dtype, key_positions: Tensor | None = None
) -> Masks:
    """Additive masks [B, 1, T, K] for the decoder of ``config``, one for each kind of its layers.

    ``allowed`` [B, T, K] says who may look at whom before any window; ``position_ids`` [B, T] are those of
    the queries, ``key_positions`` [B, K] those of the keys where these are others.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    near = _within(allowed, position_ids, position_ids if key_positions is None else key_positions, window)
    if not kinds:
        return _additive(near, dtype)
    masks = {"full_attention": allowed, "sliding_attention": near}
    return {kind: _additive(masks[kind], dtype) for kind in sorted(kinds)}


def _within(allowed: Tensor, position_ids: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Leave out what lies ``window`` positions back or further, as ``transformers`` counts it."""
    if window is None:
        return allowed
    return allowed & (position_ids[:, :, None] - key_positions[:, None, :] < window)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min).unsqueeze(1)
