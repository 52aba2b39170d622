"""Attention over keys in two parts: those of a beginning that several rows share, and each row's own.

To put both into one tensor costs a copy of the beginning for every row and layer, which takes a CPU longer than the
arithmetic. Here the scores of both parts are joined in place of the keys, and all rows that go on from one beginning
are multiplied with it as one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "ckf_sdpa"


@dataclass(frozen=True)
class Parts:
    """Keys or values of one layer: ``before`` [G, H, K, d] of the beginnings, ``own`` [R, H, T, d] of the rows.

    ``counts`` [G]: how many rows, one after the other, go on from each beginning.
    """

    before: Tensor
    own: Tensor
    counts: Sequence[int]

    def joined(self) -> Tensor:
        """In one tensor [R, H, K + T, d]."""
        counts = torch.tensor(self.counts, device=self.before.device)
        before = self.before.repeat_interleave(counts, dim=0, output_size=len(self.own))
        return torch.cat([before, self.own], dim=2)

    def scores(self, queries: Tensor) -> Tensor:
        """``queries`` [R, H, N, d] with the keys of each row. [R, H, N, K + T]"""
        return torch.cat(
            [_times(queries, self.before.transpose(2, 3), self.counts), queries @ self.own.transpose(2, 3)], dim=3
        )

    def mixed(self, weights: Tensor) -> Tensor:
        """The values of each row by ``weights`` [R, H, N, K + T]. [R, H, N, d]"""
        before, own = weights.split([self.before.shape[2], self.own.shape[2]], dim=3)
        return _times(before, self.before, self.counts) + own @ self.own


def _times(rows: Tensor, beginnings: Tensor, counts: Sequence[int]) -> Tensor:
    """``rows`` [R, H, N, x] with the matrix [H, x, y] of their beginning, of ``beginnings`` [G, H, x, y]."""
    found = []
    for part, beginning in zip(rows.split(list(counts)), beginnings, strict=True):
        product = part.transpose(0, 1).flatten(1, 2) @ beginning  # [H, rows of it * N, y]
        found.append(product.unflatten(1, (len(part), -1)).transpose(0, 1))
    return torch.cat(found)


Keys = Tensor | Parts
"""Keys or values as an attention is given them."""


def attend_in_parts(
    module: Any,
    query: Tensor,
    key: Keys,
    value: Keys,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention of ``transformers``: its fused one, and for `Parts` on a CPU the same in two parts. [R, T, H, d]

    Parts are for scoring: nothing is dropped out of their weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(key, Parts) and isinstance(value, Parts):
        if query.device.type == "cpu" and attention_mask is not None:
            return _in_parts(query, key, value, attention_mask, scaling), None
        key, value = key.joined(), value.joined()  # what is saved is a CPU's; fused kernels take one tensor
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)


def _in_parts(query: Tensor, key: Parts, value: Parts, mask: Tensor, scaling: float | None) -> Tensor:
    heads, length, width = key.own.shape[1], *query.shape[2:]
    scale = width**-0.5 if scaling is None else scaling
    asked = (query * scale).unflatten(1, (heads, -1)).flatten(2, 3)  # to the keys, heads that share them are more rows
    scores = key.scores(asked).unflatten(2, (-1, length)).add_(mask[:, :, None])
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    found = value.mixed(weights.flatten(2, 3)).unflatten(2, (-1, length))
    return found.flatten(1, 2).transpose(1, 2).contiguous()


def take_parts(backbone: Any) -> bool:
    """Let a backbone with torch's fused attention take keys in parts; returns whether it can."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if backbone.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend_in_parts)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        backbone.set_attn_implementation(NAME)
    return bool(backbone.config._attn_implementation == NAME)
