"""A fusion of one's own: CF vectors mapped as `linear` maps them, times a gate that the history opens."""

from typing import Any

import torch
from torch import Tensor, nn

from ckf.model.fusion import VectorFusion


class GatedFusion(VectorFusion):
    """``e_u * sigmoid(G p_u)`` in place of CKF's ``e_u W_u``, with p_u the mean of the history's item vectors."""

    def __init__(self, cf_dim: int, llm_dim: int, *, sharpness: float = 1.0, **shared: Any) -> None:
        super().__init__(cf_dim, llm_dim, **shared)
        self.gate, self.sharpness = nn.Linear(cf_dim, cf_dim), sharpness

    def personal_matrices(self, users: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Diagonal matrices [B, d, d] from the history [B, H, d]; an empty one leaves the gate half open."""
        pooled = (history * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.diag_embed(torch.sigmoid(self.sharpness * self.gate(pooled)))
