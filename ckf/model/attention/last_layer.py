"""The last decoder layer at answer positions; its keys and values at all positions.

Nothing after the last layer uses the hidden states of other positions, so their queries, output projection and
MLP are left out, forward and backward. Of a model of n layers this saves about 0.8 / n of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ckf.model.attention.split_kv import KVTensor


@dataclass(frozen=True)
class OutputPositions:
    """The positions [B, Q] of each row whose hidden states are needed, padded with position 0."""

    positions: Tensor

    @classmethod
    def of(cls, rows: Tensor, positions: Tensor, count: int) -> tuple[OutputPositions, Tensor]:
        """Arrange flat (row, position) pairs [A], grouped by row, for ``count`` rows.

        Also returns the column [A] of each pair among the Q of its row.
        """
        per_row = torch.bincount(rows, minlength=count)
        first = per_row.cumsum(0) - per_row
        column = torch.arange(len(rows), device=rows.device) - first[rows]
        table = positions.new_zeros(count, int(per_row.max()))
        return cls(table.index_put((rows, column), positions)), column

    def rows(self) -> Tensor:
        """Row numbers [B, 1], to index with together with ``positions``."""
        return torch.arange(len(self.positions), device=self.positions.device)[:, None]


class _FixedCache:
    """A cache that gives a layer the keys and values of all positions, also of those it does not compute."""

    def __init__(self, keys: KVTensor, values: KVTensor) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[KVTensor, KVTensor]:
        """The given keys and values; the attention layer calls this."""
        return self.keys, self.values


class LastLayer:
    """Runs a decoder's last layer at some positions alone, by a hook before it, while such positions are set."""

    def __init__(self, layer: nn.Module) -> None:
        self._outputs: OutputPositions | None = None
        layer.register_forward_pre_hook(self._narrow, with_kwargs=True)

    @contextmanager
    def only(self, outputs: OutputPositions | None) -> Iterator[None]:
        """Within this context the decoder returns hidden states [B, Q, D] of these positions; None: of all."""
        self._outputs = outputs
        try:
            yield
        finally:
            self._outputs = None

    def _narrow(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self._outputs is None:
            return None
        (hidden,), rows, positions = args, self._outputs.rows(), self._outputs.positions
        cos, sin = kwargs["position_embeddings"]
        keys: KVTensor
        values: KVTensor
        keys, values = keys_and_values(layer, hidden, cos, sin)
        if kwargs.get("past_key_values") is not None:
            keys, values = kwargs["past_key_values"].update(keys, values, layer.self_attn.layer_idx)
        count = len(hidden)
        narrowed = {
            "past_key_values": _FixedCache(keys, values),
            "position_embeddings": tuple(x.expand(count, -1, -1)[rows, positions] for x in (cos, sin)),
            "position_ids": kwargs["position_ids"].expand(count, -1)[rows, positions],
            "attention_mask": _mask_rows(kwargs.get("attention_mask"), rows, positions, hidden.shape[1]),
        }
        return (hidden[rows, positions],), {**kwargs, **narrowed}


def keys_and_values(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [B, H, T, d] of a decoder layer's input [B, T, D], as every supported family computes them.

    Normalised and projected; the keys normalised by head where the family does so (Qwen 3, Gemma 3), and rotated
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
    rotated = torch.cat([-keys[..., half:], keys[..., :half]], dim=-1)
    return keys * cos.unsqueeze(1) + rotated * sin.unsqueeze(1), values


def _mask_rows(mask: Tensor | None, rows: Tensor, positions: Tensor, keys: int) -> Tensor:
    """The mask [B, 1, Q, K] of the queries at ``positions``."""
    if mask is None:  # only fused attention has no mask, where it would only be causal; it takes booleans
        return (torch.arange(keys, device=positions.device) <= positions[..., None])[:, None]
    return mask.expand(len(positions), -1, -1, -1)[rows, 0, positions][:, None]
