"""One linear map for each kind of slot."""

from __future__ import annotations

from ckf.model.fusion.base import VectorFusion


class LinearFusion(VectorFusion):
    """A linear map for each kind of slot; the history is not used.

    Parameters with user and item slots: ``2 (d + 1) k D``.
    """
