"""One linear map for each kind of slot."""

from __future__ import annotations

from ckf.model.fusion.base import VectorFusion


class LinearFusion(VectorFusion):
    """A linear map for each kind of slot; ignores the history. ``2 (d + 1) k D`` parameters with user and item slots."""
