"""Attention masks for answers as branches of one prompt and for shared prefixes, within sliding windows.

A family has either one mask for all layers (Llama, Gemma, Mistral) or one for each kind of layer (Qwen 2 and 3,
Gemma 2 and 3, whose layers alternate between full and sliding attention); ``transformers`` takes the latter as a
dictionary by the kind's name. Windows count positions, not columns: a branch comes after its neighbours in the
row, but its positions start right after the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Masks = Tensor | dict[str, Tensor]


def branch_allowed(branch_id: Tensor) -> Tensor:
    """Which query may attend to which key [B, T, T]: causal, and a branch attends to the prompt and itself alone.

    ``branch_id`` [B, T] is 0 for the prompt, k for the k-th branch, -1 for padding.
    """
    length = branch_id.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch_id.device).tril()
    same = branch_id[:, :, None] == branch_id[:, None, :]
    return causal & (same | (branch_id[:, None, :] == 0))


def prefixed_allowed(prefix_lengths: Tensor, width: int, length: int) -> Tensor:
    """Which query may attend to which key [B, length, width + length], in rows that continue a shared prefix.

    The first ``width`` keys are the prefix's, of which row b has ``prefix_lengths[b]``; the row's own follow.
    """
    shared = torch.arange(width, device=prefix_lengths.device) < prefix_lengths[:, None, None]
    own = torch.ones(length, length, dtype=torch.bool, device=prefix_lengths.device).tril()
    rows = len(prefix_lengths)
    return torch.cat([shared.expand(rows, length, width), own.expand(rows, length, length)], dim=2)


def attention_masks(
    config: Any, allowed: Tensor, position_ids: Tensor, dtype: torch.dtype, key_positions: Tensor | None = None
) -> Masks:
    """Additive masks [B, 1, T, K] for the decoder of ``config``, one for each kind of its layers.

    ``allowed`` [B, T, K] is True where a query may attend to a key, without windows; ``position_ids`` [B, T] are
    those of the queries, ``key_positions`` [B, K] those of the keys where they differ.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    near = _within(allowed, position_ids, position_ids if key_positions is None else key_positions, window)
    if not kinds:
        return _additive(near, dtype)
    masks = {"full_attention": allowed, "sliding_attention": near}
    return {kind: _additive(masks[kind], dtype) for kind in sorted(kinds)}


def _within(allowed: Tensor, position_ids: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Leave out keys that are ``window`` or more positions back, as ``transformers`` counts them."""
    if window is None:
        return allowed
    return allowed & (position_ids[:, :, None] - key_positions[:, None, :] < window)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min).unsqueeze(1)
