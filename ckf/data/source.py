"""What every reader returns: one shape for all sources, before splits and checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass
class Source:
    """Interactions with ids from 1, and the tables that name them.

    ``interactions``: user, item, rating (NaN where there is none), click (1 = liked), timestamp
    (seconds), review (text or None); optionally split and history (the source's own, oldest first).
    ``known`` (built-in data only): user, item, truth, text, counting.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    known: pd.DataFrame | None = None
    card: dict[str, Any] = field(default_factory=dict)
