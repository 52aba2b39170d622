"""Fusion: CF vectors and histories in, slot embeddings out. One module a variant, one interface."""

from ckf.model.fusion.base import Fusion
from ckf.model.fusion.linear import LinearFusion
from ckf.model.fusion.meta import MetaFusion

__all__ = ["Fusion", "LinearFusion", "MetaFusion"]
