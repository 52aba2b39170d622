"""The last decoder layer at the positions that are read; its keys and values at all positions.

Only answers are scored, so after the last layer's keys and values nothing of the other positions is ever
read: their queries, output projection and MLP are left out, forward and backward. The result is the same;
of a model of n layers about 0.8 / n of the arithmetic is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ckf.model.attention.split_kv import Keys


@dataclass(frozen=True)
class OutputPositions:
    """Positions that are read: the columns [B, Q] of each row (padded with column 0)."""

    cols: Tensor

    @classmethod
    def of(cls, rows: Tensor, cols: Tensor, count: int) -> tuple[OutputPositions, Tensor]:
        """From flat (row, column) pairs [A] grouped by row, over ``count`` rows; and the place [A] of each there."""
        per_row = torch.bincount(rows, minlength=count)
        first = per_row.cumsum(0) - per_row
        place = torch.arange(len(rows), device=rows.device) - first[rows]
        table = cols.new_zeros(count, int(per_row.max()))
        return cls(table.index_put((rows, place), cols)), place

    def rows(self) -> Tensor:
        """Row numbers [B, 1], to index with beside ``cols``."""
        return torch.arange(len(self.cols), device=self.cols.device)[:, None]


class _Given:
    """A cache that hands a layer the keys and values of all positions in place of those of its few."""

    def __init__(self, keys: Keys, values: Keys) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Keys, Keys]:
        """Called by the attention layer."""
        return self.keys, self.values


class LastLayer:
    """Narrows the calls of a decoder's last layer, by a hook before it, while positions to read are set."""

    def __init__(self, layer: nn.Module) -> None:
        self._reads: OutputPositions | None = None
        layer.register_forward_pre_hook(self._narrow, with_kwargs=True)

    @contextmanager
    def reading(self, reads: OutputPositions | None) -> Iterator[None]:
        """Within, the layer (and so the decoder) gives hidden states [B, Q, d] of these positions, or (None) of all."""
        self._reads = reads
        try:
            yield
        finally:
            self._reads = None

    def _narrow(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self._reads is None:
            return None
        (hidden,), rows, cols = args, self._reads.rows(), self._reads.cols
        cos, sin = kwargs["position_embeddings"]
        keys: Keys
        values: Keys
        keys, values = keys_and_values(layer, hidden, cos, sin)
        if kwargs.get("past_key_values") is not None:
            keys, values = kwargs["past_key_values"].update(keys, values, layer.self_attn.layer_idx)
        count = len(hidden)
        narrowed = {
            "past_key_values": _Given(keys, values),
            "position_embeddings": tuple(x.expand(count, -1, -1)[rows, cols] for x in (cos, sin)),
            "position_ids": kwargs["position_ids"].expand(count, -1)[rows, cols],
            "attention_mask": _mask_of(kwargs.get("attention_mask"), rows, cols, hidden.shape[1]),
        }
        return (hidden[rows, cols],), {**kwargs, **narrowed}


def keys_and_values(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [B, H, T, d] of a decoder layer's input [B, T, D], as every family of ours computes them.

    Normalised, projected, the keys normalised by head where the family does so (Qwen 3, Gemma 3), and rotated
    (rotary embeddings in halves: Su et al. 2021, eq. 34).
    """
    attention = layer.self_attn
    hidden = layer.input_layernorm(hidden)
    heads = (*hidden.shape[:-1], -1, attention.head_dim)
    keys = attention.k_proj(hidden).view(heads)
    if hasattr(attention, "k_norm"):
        keys = attention.k_norm(keys)
    keys, values = keys.transpose(1, 2), attention.v_proj(hidden).view(heads).transpose(1, 2)
    half = keys.shape[-1] // 2
    turned = torch.cat([-keys[..., half:], keys[..., :half]], dim=-1)
    return keys * cos.unsqueeze(1) + turned * sin.unsqueeze(1), values


def _mask_of(mask: Tensor | None, rows: Tensor, cols: Tensor, keys: int) -> Tensor:
    """The mask's lines [B, 1, Q, K] of the positions that are read."""
    if mask is None:  # only fused attention goes without, where all it would say is "causal"; it takes booleans
        return (torch.arange(keys, device=cols.device) <= cols[..., None])[:, None]
    return mask.expand(len(cols), -1, -1, -1)[rows, 0, cols][:, None]
