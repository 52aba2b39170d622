"""CKF's fusion: a meta-network turns the history into the user's own matrix (TKDE 2025, arXiv 2410.20642)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ckf.model.fusion.base import Fusion


class MetaFusion(Fusion):
    """``e_u W_u`` with ``W_u = meta(mean of the history's item vectors)``, then linear maps.

    As released: Linear d -> hidden -> d * d without activation, and linear maps for users and
    items. Departure: the last bias starts at the identity, so that training begins at `LinearFusion`
    rather than at a random personal matrix.
    """

    def __init__(
        self,
        cf_dim: int,
        llm_dim: int,
        *,
        embedding_norm: float,
        meta_hidden: int = 32,
        tokens_per_slot: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(cf_dim, llm_dim, tokens_per_slot, dropout)
        last = nn.Linear(meta_hidden, cf_dim * cf_dim)
        nn.init.normal_(last.weight, std=0.1 / (cf_dim * meta_hidden) ** 0.5)
        last.bias.data.copy_(torch.eye(cf_dim).flatten())
        self.meta = nn.Sequential(nn.Linear(cf_dim, meta_hidden), last)
        self.user_map = self.make_map(embedding_norm)
        self.item_map = self.make_map(embedding_norm)

    def personal_matrices(self, history: Tensor, mask: Tensor) -> Tensor:
        """[B, H, d] and [B, H] -> [B, d, d]; an empty history pools to zero."""
        count = mask.sum(dim=1, keepdim=True).clamp_min(1)
        pooled = (history * mask.unsqueeze(-1)).sum(dim=1) / count
        return self.meta(pooled).view(-1, self.cf_dim, self.cf_dim)

    def fuse(self, users: Tensor, items: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, d], [N, d], [B, H, d] -> [B, k * D], [N, k * D]."""
        personal = torch.einsum("bd,bde->be", users, self.personal_matrices(history, mask))
        return self.user_map(personal), self.item_map(items)
