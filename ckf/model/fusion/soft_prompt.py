"""Soft prompts: trained vectors for each task, without CF vectors (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ckf.model.fusion.base import Fusion
from ckf.prompts.batch import SlotBatch


class SoftPromptFusion(Fusion):
    """``tokens_per_slot`` vectors for each task, the same for all users and items: no CF knowledge.

    Parameters: ``T k D`` for T tasks.
    """

    def __init__(
        self,
        tasks: int,
        llm_dim: int,
        *,
        embedding_norm: float,
        tokens_per_slot: int = 8,
        dropout: float = 0.0,
        match_embedding_norm: bool = True,
    ) -> None:
        super().__init__(0, llm_dim, tokens_per_slot, ("soft",))
        self.dropout = nn.Dropout(dropout)
        self.vectors = nn.Parameter(torch.randn(tasks, tokens_per_slot, llm_dim))
        if match_embedding_norm:
            self.vectors.data.mul_(embedding_norm / self.vectors.data.norm(dim=-1).mean())

    def forward(self, slots: SlotBatch) -> Tensor:
        """Embeddings [S, D] of the rows' soft slots, by the rows' tasks."""
        self.check_kinds(slots)
        return self.dropout(self.vectors[slots.soft_tasks]).view(-1, self.llm_dim)
