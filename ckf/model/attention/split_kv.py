"""Attention over keys in two parts: those of a prefix that several rows share, and each row's own.

Joining both in one tensor copies the prefix for every row and layer, which takes a CPU longer than the
arithmetic. Here the scores of both parts are joined in place of the keys, and all rows of one prefix are
multiplied with it as one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "ckf_sdpa"


@dataclass(frozen=True)
class SplitKV:
    """Keys or values of one layer: ``prefix`` [G, H, K, d] of the prefixes, ``own`` [R, H, T, d] of the rows.

    ``counts`` [G]: how many consecutive rows continue each prefix.
    """

    prefix: Tensor
    own: Tensor
    counts: Sequence[int]

    def joined(self) -> Tensor:
        """Both parts in one tensor [R, H, K + T, d]."""
        counts = torch.tensor(self.counts, device=self.prefix.device)
        prefix = self.prefix.repeat_interleave(counts, dim=0, output_size=len(self.own))
        return torch.cat([prefix, self.own], dim=2)

    def scores(self, queries: Tensor) -> Tensor:
        """Products [R, H, N, K + T] of ``queries`` [R, H, N, d] with the keys of each row."""
        return torch.cat(
            [_times(queries, self.prefix.transpose(2, 3), self.counts), queries @ self.own.transpose(2, 3)], dim=3
        )

    def weighted(self, weights: Tensor) -> Tensor:
        """Sums [R, H, N, d] of the values of each row with ``weights`` [R, H, N, K + T]."""
        prefix, own = weights.split([self.prefix.shape[2], self.own.shape[2]], dim=3)
        return _times(prefix, self.prefix, self.counts) + own @ self.own


def _times(rows: Tensor, prefixes: Tensor, counts: Sequence[int]) -> Tensor:
    """Products [R, H, N, y] of ``rows`` [R, H, N, x] with the matrix [H, x, y] of their prefix, of [G, H, x, y]."""
    found = []
    for part, prefix in zip(rows.split(list(counts)), prefixes, strict=True):
        product = part.transpose(0, 1).flatten(1, 2) @ prefix  # [H, rows of the prefix * N, y]
        found.append(product.unflatten(1, (len(part), -1)).transpose(0, 1))
    return torch.cat(found)


KVTensor = Tensor | SplitKV
"""Keys or values of one layer, in one tensor or in two parts."""


def split_kv_attention(
    module: Any,
    query: Tensor,
    key: KVTensor,
    value: KVTensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function given to ``transformers``: its fused one, or for `SplitKV` on a CPU ours. [R, T, H, d]

    `SplitKV` is used in scoring alone, so there is no dropout.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(key, SplitKV) and isinstance(value, SplitKV):
        if query.device.type == "cpu" and attention_mask is not None:
            return _split_kv(query, key, value, attention_mask, scaling), None
        key, value = key.joined(), value.joined()  # only a CPU saves time; fused kernels take one tensor
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)


def _split_kv(query: Tensor, key: SplitKV, value: SplitKV, mask: Tensor, scaling: float | None) -> Tensor:
    heads, length, width = key.own.shape[1], *query.shape[2:]
    scale = width**-0.5 if scaling is None else scaling
    grouped = (query * scale).unflatten(1, (heads, -1)).flatten(2, 3)  # heads that share keys are more rows to them
    scores = key.scores(grouped).unflatten(2, (-1, length)).add_(mask[:, :, None])
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    found = value.weighted(weights.flatten(2, 3)).unflatten(2, (-1, length))
    return found.flatten(1, 2).transpose(1, 2).contiguous()


def enable_split_kv(backbone: Any) -> bool:
    """Let a backbone with torch's fused attention take `SplitKV`; returns whether it can."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if backbone.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, split_kv_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        backbone.set_attn_implementation(NAME)
    return bool(backbone.config._attn_implementation == NAME)
