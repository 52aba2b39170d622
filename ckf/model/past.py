"""What the backbone has read before: beginnings that several prompts share, and text as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Past:
    """Keys and values of K columns that R rows have behind them.

    ``cache`` is one of ``transformers``; the next forward pass appends to it. ``allowed`` [R, K] says which
    columns a row may look at (not the padding), ``positions`` [R, K] where they stand.
    """

    cache: Any
    allowed: Tensor
    positions: Tensor

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> Past:
        """An empty past. No layer drops what its window has left behind: the masks see to windows."""
        from transformers import DynamicCache

        none = torch.zeros(rows, 0, device=device)
        return cls(DynamicCache(), none.bool(), none.long())

    def append(self, allowed: Tensor, positions: Tensor) -> None:
        """Note the columns [R, T] that a forward pass has put into the cache."""
        self.allowed = torch.cat([self.allowed, allowed], dim=1)
        self.positions = torch.cat([self.positions, positions], dim=1)

    def of_rows(self, owner: Tensor) -> Past:
        """The past of row ``owner[r]`` for each r: several rows may go on from one."""
        from transformers import DynamicCache

        layers = [(layer.keys[owner], layer.values[owner]) for layer in self.cache.layers]
        return Past(DynamicCache(layers), self.allowed[owner], self.positions[owner])
