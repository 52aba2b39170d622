"""One linear map for each kind of slot."""

from __future__ import annotations

from ckf.model.fusion.base import VectorFusion


class LinearFusion(VectorFusion):
    """The plainest fusion; ignores the history. Parameters: ``2 (d + 1) k D`` with user and item slots."""
