"""A meta-network with attention over the history, a hidden activation and a residual around the identity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ckf.model.fusion.base import VectorFusion


class MetaAttentionFusion(VectorFusion):
    """``e_u (I + ΔW_u)`` with ``ΔW_u = meta([attended history; e_u])``, then the maps.

    The history is pooled by one attention head whose query is the user: weights
    ``softmax((Q e_u) · (K e_v) / sqrt(h))``. The meta-network is Linear 2d -> h, GELU, Linear h -> d².
    Departures from the release, where the attention is commented out and the network is linear: this one
    takes the user's own vector as well, and its last layer starts at zero, so that training starts exactly at
    `LinearFusion`.
    Parameters besides those of the maps: ``2 (d + 1) h + (2 d + 1) h + (h + 1) d²`` with h = ``meta_hidden``.
    """

    def __init__(self, cf_dim: int, llm_dim: int, *, meta_hidden: int = 32, **shared: Any) -> None:
        super().__init__(cf_dim, llm_dim, **shared)
        self.query, self.key = nn.Linear(cf_dim, meta_hidden), nn.Linear(cf_dim, meta_hidden)
        last = nn.Linear(meta_hidden, cf_dim * cf_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.meta = nn.Sequential(nn.Linear(2 * cf_dim, meta_hidden), nn.GELU(), last)

    def attended(self, users: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Pooled history [B, d]; zero where it is empty."""
        scores = torch.einsum("bh,bth->bt", self.query(users), self.key(history)) / self.query.out_features**0.5
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1) * mask
        return torch.einsum("bt,btd->bd", weights, history)

    def personal_matrices(self, users: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Matrices [B, d, d] from users [B, d], history [B, H, d] and mask [B, H]."""
        change = self.meta(torch.cat([self.attended(users, history, mask), users], dim=1))
        return torch.eye(self.cf_dim, device=change.device) + change.view(-1, self.cf_dim, self.cf_dim)
