"""Parts of the rows that a metric is given for: warm and cold, quartiles of users and items, candidate position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # its import takes half a second, and `ckf --help` comes through here

WARMTH: dict[str, tuple[str, bool]] = {
    "@warm_seen": ("warm_seen", True),
    "@cold_seen": ("warm_seen", False),
    "@warm_3": ("warm_3", True),
    "@cold_3": ("warm_3", False),
}
QUARTILES = {"users": "user_quartile", "items": "item_quartile"}
MOST_POSITIONS = 20
"""Lists longer than this (a whole catalogue) have no slices by position."""


def quartiles(counts: np.ndarray) -> np.ndarray:
    """Quartile (1 fewest .. 4 most) of each count among all of them; equal counts share the lower quartile.

    counts [n] -> int8 [n]
    """
    counts = np.asarray(counts)
    fewer = np.searchsorted(np.sort(counts), counts, side="left")
    return (1 + (4 * fewer) // max(1, len(counts))).astype(np.int8)


def warmth_slices(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All rows, and the warm and the cold ones under both definitions."""
    return {"": rows, **{name: rows[rows[column] == value] for name, (column, value) in WARMTH.items()}}


def fine_slices(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Quartiles of user activity and item popularity where the rows say them, and the target's position in its list."""
    found = {}
    for kind, column in QUARTILES.items():
        if column in rows:
            found.update({f"@{kind}_q{quartile}": rows[rows[column] == quartile] for quartile in (1, 2, 3, 4)})
    places = rows["position"].to_numpy() if "position" in rows else np.empty(0)
    if len(places) and 0 <= places.max() < MOST_POSITIONS:
        found.update({f"@position_{place}": rows[places == place] for place in range(int(places.max()) + 1)})
    return found
