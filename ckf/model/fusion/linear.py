"""One linear map for users and one for items."""

from __future__ import annotations

from torch import Tensor

from ckf.model.fusion.base import Fusion


class LinearFusion(Fusion):
    """The plainest fusion; ignores the history."""

    def __init__(
        self, cf_dim: int, llm_dim: int, *, embedding_norm: float, tokens_per_slot: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__(cf_dim, llm_dim, tokens_per_slot, dropout)
        self.user_map = self.make_map(embedding_norm)
        self.item_map = self.make_map(embedding_norm)

    def fuse(self, users: Tensor, items: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, d], [N, d] -> [B, k * D], [N, k * D]."""
        return self.user_map(users), self.item_map(items)
