"""What the backbone has read before: beginnings that several prompts share, and text as it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ckf.model.attention.split_kv import Keys, Parts


@dataclass
class KVCacheState:
    """Keys and values of K columns that R rows have behind them.

    ``cache`` is one of ``transformers``; the next forward pass appends to it. ``allowed`` [R, K] says which
    columns a row may look at (not the padding), ``positions`` [R, K] where they stand.
    """

    cache: Any
    allowed: Tensor
    positions: Tensor

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> KVCacheState:
        """An empty past. No layer drops what its window has left behind: the masks see to windows."""
        from transformers import DynamicCache

        none = torch.zeros(rows, 0, device=device)
        return cls(DynamicCache(), none.bool(), none.long())

    def append(self, allowed: Tensor, positions: Tensor) -> None:
        """Note the columns [R, T] that a forward pass has put into the cache."""
        self.allowed = torch.cat([self.allowed, allowed], dim=1)
        self.positions = torch.cat([self.positions, positions], dim=1)

    def of_rows(self, counts: Sequence[int], *, in_parts: bool) -> KVCacheState:
        """The past of each row: ``counts[k]`` rows, one after the other, go on from row k of this one.

        A pass over them is not appended. ``in_parts``: the attention takes `Parts`, so that nothing is copied.
        """
        layers = {number: (layer.keys, layer.values) for number, layer in enumerate(self.cache.layers)}
        owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(self.allowed.device)
        return KVCacheState(_Shared(layers, counts, in_parts), self.allowed[owner], self.positions[owner])


class _Shared:
    """Keys and values that several rows have behind them, put before a pass's own."""

    def __init__(self, layers: Mapping[int, tuple[Tensor, Tensor]], counts: Sequence[int], in_parts: bool) -> None:
        self._layers, self._counts, self._in_parts = layers, counts, in_parts

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Keys, Keys]:
        """Called by every attention layer."""
        both = zip(self._layers[layer_idx], (keys, values), strict=True)
        key, value = (Parts(before, own, self._counts) for before, own in both)
        return (key, value) if self._in_parts else (key.joined(), value.joined())
