"""The interface of every fusion, and what all share: standardised inputs, scale, dropout."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ckf.cf.vectors import VectorTables


class Fusion(nn.Module, ABC):
    """Maps CF vectors into the backbone's embedding space.

    Vectors are standardised per dimension by the statistics of the trained rows, so that the map
    starts at a known scale whatever the CF model's; a cold id (a row of zeros) stays zero, which
    is then the average user or item. Maps start so that a slot has the norm of a word embedding.
    """

    user_mean: Tensor
    user_std: Tensor
    item_mean: Tensor
    item_std: Tensor

    def __init__(self, cf_dim: int, llm_dim: int, tokens_per_slot: int, dropout: float) -> None:
        super().__init__()
        self.cf_dim, self.llm_dim, self.tokens_per_slot = cf_dim, llm_dim, tokens_per_slot
        self.dropout = nn.Dropout(dropout)
        for kind in ("user", "item"):
            self.register_buffer(f"{kind}_mean", torch.zeros(cf_dim))
            self.register_buffer(f"{kind}_std", torch.ones(cf_dim))

    def fit_scale(self, tables: VectorTables) -> None:
        """Take the mean and spread of the trained rows of both tables."""
        for kind, table in (("user", tables.users), ("item", tables.items)):
            trained = table[(table != 0).any(dim=1)].float()
            if len(trained) > 1:
                getattr(self, f"{kind}_mean").copy_(trained.mean(dim=0))
                getattr(self, f"{kind}_std").copy_(trained.std(dim=0).clamp_min(1e-6))

    def standardise(self, vectors: Tensor, kind: str) -> Tensor:
        """[..., d] -> [..., d] with unit spread per dimension; cold rows stay zero."""
        known = (vectors != 0).any(dim=-1, keepdim=True)
        return (vectors - getattr(self, f"{kind}_mean")) / getattr(self, f"{kind}_std") * known

    def make_map(self, embedding_norm: float) -> nn.Linear:
        """Linear d -> tokens_per_slot * D whose output starts with the norm of a word embedding."""
        layer = nn.Linear(self.cf_dim, self.tokens_per_slot * self.llm_dim)
        nn.init.normal_(layer.weight, std=embedding_norm / (self.cf_dim * self.llm_dim) ** 0.5)
        nn.init.zeros_(layer.bias)
        return layer

    def forward(self, users: Tensor, items: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Slot embeddings of the rows' users [B, k, D] and of the item slots [N, k, D].

        ``users`` [B, d], ``items`` [N, d], ``history`` [B, H, d] with ``mask`` [B, H]; k tokens per slot.
        """
        user, item = self.fuse(
            self.standardise(users, "user"), self.standardise(items, "item"), self.standardise(history, "item"), mask
        )
        shape = (-1, self.tokens_per_slot, self.llm_dim)
        return self.dropout(user).view(shape), self.dropout(item).view(shape)

    @abstractmethod
    def fuse(self, users: Tensor, items: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map standardised vectors to [B, k * D] and [N, k * D]."""
