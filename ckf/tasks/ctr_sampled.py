"""Click prediction against sampled negatives: a like, or an item that was drawn? For data that hold likes alone.

A protocol of its own: an AUC against drawn items says how well the likes are told from the catalogue, which is
easier than to tell them from what users looked at and disliked. No table puts it beside the AUC of `ctr`.
"""

from __future__ import annotations

import numpy as np

from ckf.tasks.base import Interactions
from ckf.tasks.ctr import Ctr


class CtrSampled(Ctr):
    """Will the user like the candidate? Every No is a drawn item (``tasks.negatives``)."""

    likes_suffice = True
    drawn_negatives = 1
    worded_as = "ctr"
    random_targets_when_released = False
    has_oracle = False

    def wanted(self, rows: Interactions) -> np.ndarray:
        """Liked interactions; each brings its drawn items. bool [n]"""
        found: np.ndarray = rows.click == 1
        return found
