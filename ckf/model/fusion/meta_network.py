"""CKF's fusion: a meta-network makes the user's own matrix from the history (TKDE 2025, arXiv 2410.20642)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ckf.model.fusion.base import VectorFusion


class MetaFusion(VectorFusion):
    """``e_u W_u`` with ``W_u = meta(mean of the history's item vectors)``, then linear maps.

    As released: Linear d -> hidden -> d * d without activation, and linear maps for users and items.
    Departure: the last bias starts at the identity, so that training begins near `LinearFusion` rather than
    at a random personal matrix.
    Parameters besides those of the maps: ``(d + 1) h + (h + 1) d²`` with h = ``meta_hidden``.
    """

    def __init__(self, cf_dim: int, llm_dim: int, *, meta_hidden: int = 32, **shared: Any) -> None:
        super().__init__(cf_dim, llm_dim, **shared)
        last = nn.Linear(meta_hidden, cf_dim * cf_dim)
        nn.init.normal_(last.weight, std=0.1 / (cf_dim * meta_hidden) ** 0.5)
        last.bias.data.copy_(torch.eye(cf_dim).flatten())
        self.meta = nn.Sequential(nn.Linear(cf_dim, meta_hidden), last)

    def personal_matrices(self, users: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Matrices [B, d, d] from history [B, H, d] and mask [B, H]; an empty history has the mean zero."""
        count = mask.sum(dim=1, keepdim=True).clamp_min(1)
        pooled = (history * mask.unsqueeze(-1)).sum(dim=1) / count
        matrices: Tensor = self.meta(pooled).view(-1, self.cf_dim, self.cf_dim)
        return matrices
