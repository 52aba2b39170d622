"""Keys and values of tokens that the backbone has computed before, for scoring and generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ckf.model.attention.split_kv import KVTensor, SplitKV


@dataclass
class KVCacheState:
    """Keys and values of K tokens before those of the next pass, for each of R rows.

    ``cache`` is a cache of ``transformers``; the next forward pass appends to it. ``allowed`` [R, K] is True
    where a row may attend to a token (False for padding); ``positions`` [R, K] are the tokens' position ids.
    """

    cache: Any
    allowed: Tensor
    positions: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> KVCacheState:
        """No tokens yet. The cache keeps all tokens in every layer; sliding windows are left to the masks."""
        from transformers import DynamicCache

        none = torch.zeros(rows, 0, device=device)
        return cls(DynamicCache(), none.bool(), none.long())

    def append(self, allowed: Tensor, positions: Tensor) -> None:
        """Add the tokens [R, T] that a forward pass has put into the cache."""
        self.allowed = torch.cat([self.allowed, allowed], dim=1)
        self.positions = torch.cat([self.positions, positions], dim=1)

    def expand_rows(self, counts: Sequence[int], *, split_kv: bool) -> KVCacheState:
        """The state of sum(counts) rows, of which ``counts[k]`` consecutive ones continue row k of this state.

        A pass over them is not appended. ``split_kv``: the attention takes `SplitKV`, so that nothing is copied.
        """
        layers = {number: (layer.keys, layer.values) for number, layer in enumerate(self.cache.layers)}
        owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(self.allowed.device)
        return KVCacheState(_SharedCache(layers, counts, split_kv), self.allowed[owner], self.positions[owner])


class _SharedCache:
    """Puts keys and values that several rows share before those of a pass."""

    def __init__(self, layers: Mapping[int, tuple[Tensor, Tensor]], counts: Sequence[int], split_kv: bool) -> None:
        self._layers, self._counts, self._split_kv = layers, counts, split_kv

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[KVTensor, KVTensor]:
        """Keys and values of both; every attention layer calls this."""
        both = zip(self._layers[layer_idx], (keys, values), strict=True)
        key, value = (SplitKV(prefix, own, self._counts) for prefix, own in both)
        return (key, value) if self._split_kv else (key.joined(), value.joined())
