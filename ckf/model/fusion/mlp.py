"""CoLLM's map: a hidden layer of ten times the CF width (Zhang et al. 2023, arXiv 2310.19488)."""

from __future__ import annotations

from typing import Any

from ckf.model.fusion.base import VectorFusion


class MLPFusion(VectorFusion):
    """Linear d -> 10 d, ReLU, Linear 10 d -> D for each kind of slot; ignores the history.

    Departure: CoLLM has one map for users and items, here each kind of slot has its own.
    Parameters of a map: ``(in + 1) f d + (f d + 1) k D`` with f = ``hidden_factor``, in = d or 2 d + 1.
    """

    def __init__(self, cf_dim: int, llm_dim: int, *, hidden_factor: int = 10, **shared: Any) -> None:
        super().__init__(cf_dim, llm_dim, map_hidden=hidden_factor * cf_dim, **shared)
