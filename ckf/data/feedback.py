"""What counts as a like: looked at on the rows that are left, since a threshold may fit no rating or every one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ckf.config.schema import DatasetConfig
from ckf.data.ingest import LoadedInteractions

IMPLICIT, EXPLICIT = "implicit", "explicit"


@dataclass(frozen=True)
class Feedback:
    """``kind``: ``implicit`` where every row is a like by what the source is, else ``explicit``.

    ``fault``: why an explicit source has no like, or nothing but likes; None where it has both.
    """

    kind: str
    fault: str | None = None
    why: str | None = None

    @property
    def warnings(self) -> list[str]:
        """Lines for the command line and the dataset card."""
        return [line for line in (self.why, self.fault) if line]


def feedback_of(rows: pl.DataFrame, data: LoadedInteractions, cfg: DatasetConfig) -> Feedback:
    """The feedback that the rows hold, from their columns click and rating."""
    likes, n = int((rows["click"] == 1).sum()), rows.height
    if 0 < likes < n:
        return Feedback(EXPLICIT)
    if likes and (data.has_clicks or not data.is_labelled):
        why = "every click is 1" if data.has_clicks else "the source has neither ratings nor clicks"
        line = f"implicit feedback: {why}, so all {n:,} rows are likes; a No is a drawn item (docs/implicit.md)"
        return Feedback(IMPLICIT, why=line)
    if data.has_clicks:
        return Feedback(EXPLICIT, f"no row of {n:,} is a like: every click is 0, so there is nothing to rank")
    return Feedback(EXPLICIT, _threshold(rows["rating"], cfg.like_threshold, likes))


def _threshold(ratings: pl.Series, threshold: float, likes: int) -> str:
    """What the threshold does to the ratings at hand, and the one that comes nearest to half."""
    values = np.sort(ratings.drop_nulls().unique().to_numpy())
    does = f"makes all {len(ratings):,} ratings likes" if likes else f"makes none of {len(ratings):,} ratings a like"
    what = f"dataset.like_threshold={threshold:g} {does}"
    if len(values) == 1:
        return (
            f"{what}: every rating is {values[0]:g}, which tells nothing apart; views or purchases need no ratings: "
            "docs/implicit.md"
        )
    shares = {value: float((ratings >= value).mean()) for value in values[1:]}
    best = min(shares, key=lambda value: abs(shares[value] - 0.5))
    return (
        f"{what}, which go from {values[0]:g} to {values[-1]:g}; e.g. {best:g} makes {shares[best]:.0%} of them likes"
    )
